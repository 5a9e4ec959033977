"""Which trials of a large sweep MLflow gets a run for: the best, some that failed and an even sample."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sweeper.ledger.protocol import Direction, Ledger
from sweeper.records import TrialRecord
from sweeper.states import TrialState


@dataclass
class Choice:
    """The trials of a sweep that are shown: all of them as long as it has at most ``limit``.

    Of a larger one a quarter of the limit is for the best at the end, a quarter for those that failed first, the rest
    for trials spread evenly over their numbers; each trial that was the best when it ended is shown as well. A trial
    that never started is not.
    """

    limit: int
    requested: int
    failed: int = 0  # that are shown because they failed

    @property
    def everything(self) -> bool:
        """The sweep is small enough to be shown whole."""
        return self.requested <= self.limit

    @property
    def n_best(self) -> int:
        """How many of the best are shown at the end."""
        return max(1, self.limit // 4)

    @property
    def stride(self) -> int:
        """The parent run's curves of a sweep have a point for one in so many trials."""
        return max(1, self.requested // max(1, self.limit))

    def sampled(self, number: int) -> bool:
        """The trial belongs to the even sample, whatever becomes of it."""
        share = self.limit - self.n_best - self.limit // 4
        return (number + 1) * share // self.requested != number * share // self.requested

    def wants(self, trial: TrialRecord, improved: bool = False) -> bool:
        """Whether an ended trial is shown as it ends; ``improved``: it is the best so far."""
        if self.everything or improved:
            return True
        if trial.attempt == 0:
            return False
        if self.sampled(trial.number):
            return True
        if trial.state is TrialState.FAILED and self.failed < self.limit // 4:
            self.failed += 1
            return True
        return False

    def missing(self, ledger: Ledger, sweep: str, direction: Direction) -> Iterable[TrialRecord]:
        """The ended trials that should be shown and are not."""
        untracked = ledger.untracked(sweep)
        if self.everything:
            return untracked
        best = {trial.number for trial in ledger.best(sweep, self.n_best, direction)}
        return [t for t in untracked if t.number in best or t.mlflow_run_id is not None or self.wants(t)]

    def words(self, shown: int) -> str:
        """What the parent run says of a sweep that is not shown whole, in Markdown."""
        return (
            f"{shown:,} of its {self.requested:,} trials have runs here: the best, some that failed and an even sample "
            f"(`tracking.trials: {self.limit}`). All of them are in the file `trials.csv` of this run and in the "
            "sweep's ledger (`sweeper trials`)."
        )
