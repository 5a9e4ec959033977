"""What a pool of workers is: the calls it takes, the events it posts, and the device of a worker."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from sweeper.data.source import Source
from sweeper.scheduling.events import WorkerDraining, WorkerJoined, WorkerLost
from sweeper.training.legs import LegOrder, LegResult

if TYPE_CHECKING:
    from sweeper.training.objective_legs import ObjectiveOrder


@dataclass(frozen=True)
class LegReturned:
    """A worker answered an order."""

    worker: str
    result: LegResult


@dataclass(frozen=True)
class LegRaised:
    """A worker's leg raised an exception; the worker lives on without rows."""

    worker: str
    leg: int
    kind: Literal["oom", "error"]
    detail: str


PoolEvent = WorkerJoined | WorkerLost | WorkerDraining | LegReturned | LegRaised
Order: TypeAlias = "LegOrder | ObjectiveOrder"  # as text: who trains networks imports no more
Post = Callable[[PoolEvent], None]


@dataclass(frozen=True)
class Device:
    """What one worker trains on. ``free_bytes`` is the memory a cohort may take, ``pid`` the process that trains.

    ``arithmetic`` names what its numbers are computed in (``sweeper.models.arithmetic``), and ``eager`` what those of
    trials are that its compiled path does not train (empty: the same). ``cores`` are what it may keep busy. For
    ``mixes`` and ``pads`` see ``WorkerJoined``.
    """

    kind: str
    free_bytes: int
    pid: int
    arithmetic: str = ""
    eager: str = ""
    cores: int = 1

    @property
    def mixes(self) -> bool:
        """Whether its rows train one after another."""
        return self.kind == "cpu"

    @property
    def pads(self) -> bool:
        """Whether rows of several widths train as one tensor program."""
        return self.kind == "cuda"

    def joined(self, worker: str) -> WorkerJoined:
        """What the scheduler is told of a worker with this device."""
        return WorkerJoined(worker, self.arithmetic, self.eager, self.mixes, self.pads)


class Pool(Protocol):
    """Workers that come, run legs and may go; everything they have to say is posted as a ``PoolEvent``.

    ``address`` is that of their Ray cluster, for other processes (None: there is none, or it is not known yet).
    """

    address: str | None

    def start(self) -> None:
        """Begin to bring workers up; returns at once."""
        ...

    def load(self, sweep: str, source: Source) -> None:
        """Make a sweep's data available to every worker."""
        ...

    def unload(self, sweep: str) -> None:
        """Let go of a sweep's data."""
        ...

    def run(self, worker: str, order: Order) -> None:
        """Start a leg; its result is posted later."""
        ...

    def device(self, worker: str) -> Device:
        """The device of a worker that has joined."""
        ...

    def replace(self, worker: str, reason: str) -> None:
        """End a worker that does not answer and start another in its place."""
        ...

    def close(self) -> None:
        """End all workers."""
        ...


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception of a leg says that the device's memory did not suffice."""
    text = f"{type(error).__name__} {error}".lower()
    return isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text


def free_memory() -> int:
    """Free main memory in bytes."""
    with contextlib.suppress(OSError, ValueError):
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 2 << 30


def local_device(cores: int | None = None) -> Device:
    """The device of this process: the first CUDA device when there is one, else the CPU.

    ``cores`` are this worker's (None: all that this process may use).
    """
    import torch

    from sweeper.models.arithmetic import arithmetic_of

    if torch.cuda.is_available():
        free, arithmetic = torch.cuda.mem_get_info()[0], arithmetic_of("cuda")
        return Device("cuda", free, os.getpid(), arithmetic, cores=cores or len(os.sched_getaffinity(0)))
    return cpu(cores or len(os.sched_getaffinity(0)))


def cpu(cores: int = 1) -> Device:
    """This process on some of its host's cores."""
    from sweeper.models.arithmetic import arithmetic_of, eager_arithmetic

    return Device("cpu", free_memory(), os.getpid(), arithmetic_of("cpu"), eager_arithmetic(), cores)


def unknown() -> Device:
    """The device of a worker that has not come up yet: this host's memory, no arithmetic."""
    return Device("cpu", free_memory(), os.getpid())


def describe(error: BaseException) -> str:
    """One line about an exception."""
    return f"{type(error).__name__}: {str(error).strip().splitlines()[-1] if str(error).strip() else 'no message'}"[
        :500
    ]
