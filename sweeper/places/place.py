"""Where sweeps run: what a verb can do there."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sweeper.errors import SpecError
from sweeper.ledger.protocol import LedgerReader
from sweeper.records import Labels, SweepRecord
from sweeper.spec.parse import SweepSpec
from sweeper.states import SweepState

if TYPE_CHECKING:
    from sweeper.insight.comparison import SweepComparison

WAIT_SECONDS = 30.0  # how long a command waits for the controller to act on a request

Progress = Callable[[SweepRecord], Any]


@dataclass(frozen=True)
class Custody:
    """Who runs a sweep (None: nobody), and what a sweep that has not ended waits for ("": nothing is known)."""

    controller: str | None
    waiting: str


class Place(Protocol):
    """What a verb can do where the sweeps are. ``option`` is added to a command so that it goes there."""

    option: str

    @property
    def ledger(self) -> LedgerReader:
        """The records of the sweeps."""
        ...

    def run(self, spec: SweepSpec, workers: str | None, progress: Progress, priority: int | None = None) -> str:
        """Run a new sweep to its end and return its id."""
        ...

    def detach(self, spec: SweepSpec, workers: str | None, priority: int | None = None) -> dict[str, Any]:
        """Start a new sweep and leave it: ``sweep``, ``name`` and ``log``, where its events are."""
        ...

    def resume(self, ref: str, workers: str | None, progress: Progress, trials: int | None = None) -> str:
        """Go on with a sweep to its total, or to ``trials`` in all, and return its id."""
        ...

    def retry(self, ref: str, workers: str | None, progress: Progress) -> str:
        """Run a sweep's failed trials again and return its id."""
        ...

    def end(self, record: SweepRecord, wanted: SweepState) -> None:
        """Stop or pause a sweep that is neither, or the finals of a complete one."""
        ...

    def change(self, record: SweepRecord, requested: int | None, priority: int | None) -> SweepRecord:
        """Change the number of trials or the priority of a sweep that has not ended."""
        ...

    def label(self, record: SweepRecord, labels: Labels) -> SweepRecord:
        """Change the note, the tags, or whether the sweep is archived."""
        ...

    def printed(self, record: SweepRecord, number: int, begin: int = 0) -> bytes:
        """What a trial of an objective of the user's own has printed, from byte ``begin`` on."""
        ...

    def delete(self, record: SweepRecord) -> None:
        """Remove a sweep with everything that belongs to it."""
        ...

    def summary(self, sweep: str) -> dict[str, Any]:
        """The object of ``run --json``."""
        ...

    def custody(self, record: SweepRecord) -> Custody:
        """Who runs the sweep, and what its trials wait for."""
        ...

    def check_idle(self, record: SweepRecord) -> None:
        """Refuse a sweep that is running.

        Raises:
            SweepBusy: it is.
        """
        ...

    def view(self, record: SweepRecord) -> str:
        """The link of the sweep's comparison view in MLflow; empty when there is none."""
        ...

    def open_ui(self, record: SweepRecord | None, host: str, port: int, browser: bool) -> None:
        """Show the comparison view of a sweep, or MLflow itself."""
        ...

    def export_model(self, ref: str, out: str) -> dict[str, Any]:
        """Write the winner of a sweep to the new folder ``out``."""
        ...

    def report(self, record: SweepRecord, out: Path | None) -> tuple[Path, str]:
        """Write the report of a sweep to ``out`` (default: into this home); the file and its first sentence."""
        ...

    def compare(self, refs: Sequence[str], seeds: int) -> SweepComparison:
        """Several sweeps side by side, their winners trained on ``seeds`` common seeds (0: none is)."""
        ...


def tell_unanswered() -> None:
    """A controller was asked for something and has not done it while the command waited."""
    print("sweeper: the request was sent, but the controller has not answered yet", file=sys.stderr)


def refuse_priority(priority: int | None) -> None:
    """``--priority`` says which sweeps of a server go first; a sweep on this machine has its workers for itself.

    Raises:
        SpecError: it was given.
    """
    if priority is not None:
        raise SpecError(
            "a priority only orders the sweeps of a server",
            key="--priority",
            remedy="Leave it out, or add --server URL",
        )


def refuse_workers(workers: str | None) -> None:
    """``--workers`` says how to use this machine; a server uses its own workers.

    Raises:
        SpecError: it was given.
    """
    if workers is not None:
        remedy = "Leave it out, or run the sweep here: --server ''"
        raise SpecError("a server uses its own workers", key="--workers", remedy=remedy)
