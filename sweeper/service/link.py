"""The state of the runner, as the HTTP server receives it from the runner's process through a socket.

Reading the ledger must not wait for Python code that trains, draws and writes to MLflow in the same process. The two
ends live as long as the parent of both processes, so that either may end and start again.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

LOOK_SECONDS = 0.1  # between two looks whether there is something new to tell
REPEAT_SECONDS = 1.0  # between two messages when there is not
SILENT_SECONDS = 20.0  # without a message the service is taken for dead
_BYTES = 1 << 20  # of one message at most


@dataclass(frozen=True)
class Status:
    """The service at one moment. ``held`` sweeps are loaded, run or finished; of these the controller has ``running``.

    ``largest_device`` is the memory in bytes of the worker that has most (None: no worker has joined),
    ``pool_problem`` what keeps the workers from coming up.
    """

    held: tuple[str, ...] = ()
    running: tuple[str, ...] = ()
    workers: tuple[str, ...] = ()
    largest_device: int | None = None
    pool_problem: str | None = "the service is starting"
    alive: bool = True
    stopping: bool = False


def make_link() -> tuple[socket.socket, socket.socket]:
    """Two connected ends: one for ``Teller``, one for ``ServiceView``."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    for end in ends:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BYTES)
    return ends


class Teller:
    """The runner's end: tells its ``status`` when that has changed, and calls ``wake`` when there are new sweeps."""

    def __init__(self, status: Callable[[], Status], wake: Callable[[], None], end: socket.socket) -> None:
        self._status, self._wake, self._end = status, wake, end
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._tell, name="sweeper-tell", daemon=True)

    def start(self) -> None:
        """Begin to tell."""
        self._thread.start()

    def stop(self) -> None:
        """Tell how the service ends, and no more."""
        self._over.set()
        self._thread.join(timeout=5)

    def _tell(self) -> None:
        told, at = None, 0.0
        poller = select.poll()  # a long-lived runner may have more than the 1,024 open files of select.select
        poller.register(self._end, select.POLLIN)
        while True:
            over = self._over.is_set()
            status = self._status()
            if status != told or time.monotonic() - at >= REPEAT_SECONDS:
                with contextlib.suppress(OSError):  # nobody listens: the HTTP server is about to be started again
                    self._end.send(json.dumps(asdict(status)).encode(), socket.MSG_DONTWAIT)
                told, at = status, time.monotonic()
            if over:
                return
            if poller.poll(1000 * LOOK_SECONDS):
                with contextlib.suppress(OSError):
                    self._end.recv(_BYTES)
                self._wake()


class ServiceView:
    """The HTTP server's end: the service as it was a moment ago."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._status = Status()
        self._heard = time.monotonic()
        self._leaving = False
        threading.Thread(target=self._hear, name="sweeper-hear", daemon=True).start()

    def wake(self) -> None:
        """There is a new sweep in the ledger."""
        with contextlib.suppress(OSError):  # many such messages wait already
            self._end.send(b"wake", socket.MSG_DONTWAIT)

    def announce_stop(self) -> None:
        """This process is about to end."""
        self._leaving = True

    def holds(self, sweep: str) -> bool:
        """Whether the sweep is loaded, run or finished by the service now."""
        return sweep in self._status.held

    def runs(self, sweep: str) -> bool:
        """Whether the service's controller has the sweep, and takes its requests."""
        return sweep in self._status.running

    @property
    def stopping(self) -> bool:
        """The service, or this process, is about to end."""
        return self._leaving or self._status.stopping

    @property
    def alive(self) -> bool:
        """The service has been heard of lately, and all of it works."""
        return self._status.alive and not self._silent

    @property
    def workers(self) -> tuple[str, ...]:
        """The workers that have joined and are not lost."""
        return () if self._silent else self._status.workers

    @property
    def largest_device(self) -> int | None:
        """Bytes of memory of the worker that has most; None: no worker has joined yet."""
        return self._status.largest_device

    @property
    def pool_problem(self) -> str | None:
        """What keeps the workers from coming up."""
        return "the service does not answer" if self._silent else self._status.pool_problem

    @property
    def _silent(self) -> bool:
        return time.monotonic() - self._heard > SILENT_SECONDS

    def _hear(self) -> None:
        while True:
            try:
                message = self._end.recv(_BYTES)
            except OSError:
                message = b""
            if not message:
                return  # the end is closed
            kept: dict[str, Any] = {
                key: tuple(value) if isinstance(value, list) else value for key, value in json.loads(message).items()
            }
            self._status, self._heard = Status(**kept), time.monotonic()
