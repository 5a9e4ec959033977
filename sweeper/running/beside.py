"""A process beside a sweep's own: there simple models are trained and the report is drawn, on a core of its own.

In one process they and MLflow would take turns, since one thread at a time runs Python. Whatever this process does not
do, for whatever reason, is done in the sweep's own.
"""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import sys
import tempfile
import threading
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeper.ledger.protocol import Ledger
from sweeper.settings import Settings
from sweeper.training.baselines import METHODS, Baseline, Features, train
from sweeper.training.child import Child, end_with_parent

if TYPE_CHECKING:
    import pandas as pd

    from sweeper.data.dataset import Dataset

TRIALS = 32  # the report of fewer is drawn before a process is there
BYTES = 32 << 20  # of data; more would take memory twice
GARBAGE = 20_000  # allocations between two looks for garbage, as in the command line


@dataclass(frozen=True)
class TrainBaselines:
    """Train the simple models; answered by them."""

    dataset: Dataset
    table: pd.DataFrame


@dataclass(frozen=True)
class DrawReport:
    """Draw the report of a sweep into its folder; answered by its file and first sentence, or by ``NotDrawn``."""

    folder: Path
    sweep: str


@dataclass(frozen=True)
class NotDrawn:
    """The kind of an error of drawing, and what it says."""

    kind: str
    reason: str


class Beside:
    """The process, which does one thing at a time. It loads what it needs while there is nothing to do."""

    def __init__(self, settings: Settings) -> None:
        self._busy = threading.Lock()
        self._folder = Path(tempfile.mkdtemp(prefix="sweeper-"))
        self._child: Child | None = Child(__name__, self._folder, cpus=1, gpus=0)
        self._child.send(settings)

    def baselines(self, dataset: Dataset, features: Features) -> tuple[Baseline, ...] | None:
        """The simple models, trained there (None: they were not)."""
        arrays = [dataset.x_train, dataset.x_val, dataset.x_test, *(fold.x_train for fold in dataset.folds)]
        if sum(array.nbytes for array in arrays) > BYTES:
            return None
        try:
            table = features()
        except Exception:  # of a table that is gone each model has to say so
            return None
        return self._asked(TrainBaselines(dataset, table))

    def report(self, folder: Path, sweep: str) -> tuple[Path, str] | NotDrawn | None:
        """The file of a sweep's report and its first sentence (None: it was not drawn there)."""
        return self._asked(DrawReport(folder, sweep))

    def _asked(self, order: TrainBaselines | DrawReport) -> Any:
        if not self._busy.acquire(blocking=False):
            return None
        try:
            if self._child is None:
                return None
            self._child.send(order)
            answer = self._child.said()
            if answer is None:
                self._end()
            return answer
        finally:
            self._busy.release()

    def close(self) -> None:
        """End the process, whatever it does."""
        self._end()

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.end()
            shutil.rmtree(self._folder, ignore_errors=True)


def beside(settings: Settings, trials: int) -> Beside | None:
    """A process beside a sweep of so many trials; None: it would not pay.

    A process that has drawn a report has loaded all that one needs.
    """
    if trials < TRIALS or len(os.sched_getaffinity(0)) == 1 or "sweeper.report.page" in sys.modules:
        return None
    try:
        return Beside(settings)
    except OSError:  # no process, no file
        return None


def main(fd: int) -> None:
    """Carry out orders that come over the socket ``fd``, after the settings, until it is closed."""
    gc.set_threshold(GARBAGE, 10, 10)
    end_with_parent()
    connection: Connection[Any, Any] = Connection(fd)
    ledger: Ledger | None = None
    with contextlib.suppress(EOFError, OSError):
        settings = connection.recv()
        while True:
            if ledger is None and not connection.poll():
                ledger = _loaded(settings)
            order = connection.recv()
            if isinstance(order, TrainBaselines):
                connection.send(_trained(order))
            else:
                connection.send(_drawn(ledger or _loaded(settings), order))


def _loaded(settings: Settings) -> Ledger:
    """The ledger, after all that a report needs has been imported."""
    import sklearn.metrics  # noqa: F401

    import sweeper.report.gather
    import sweeper.report.page  # noqa: F401
    from sweeper.ledger.opening import open_home_ledger

    ledger = open_home_ledger(settings)
    ledger.sweeps(limit=1)  # the first statement of a process takes longer than those after it
    return ledger


def _trained(order: TrainBaselines) -> tuple[Baseline, ...]:
    return tuple(train(method, order.dataset, lambda: order.table) for method in METHODS)


def _drawn(ledger: Ledger, order: DrawReport) -> tuple[Path, str] | NotDrawn:
    from sweeper.report.gather import make_report

    try:
        return make_report(ledger, order.folder, order.sweep)
    except Exception as error:
        return NotDrawn(type(error).__name__, " ".join(str(error).split())[:300] or type(error).__name__)
