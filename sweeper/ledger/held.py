"""One sweep as the in-memory ledger holds it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sweeper.ledger.protocol import AttemptRecord, Lease, Request
from sweeper.ledger.rules import TERMINAL, Commit, SweepRow, TrialRow
from sweeper.records import EpochReport, SweepRecord
from sweeper.states import TrialState


@dataclass
class HeldSweep:
    """Everything the twin holds of one sweep."""

    sweep: str
    name: str
    spec: Mapping[str, Any]
    owner: str
    parent: str | None
    created_at: float
    row: SweepRow
    trials: dict[int, TrialRow]
    reports: dict[int, list[EpochReport]] = field(default_factory=lambda: defaultdict(list))
    attempts: dict[int, list[AttemptRecord]] = field(default_factory=lambda: defaultdict(list))
    requests: list[Request] = field(default_factory=list)
    lease: Lease | None = None
    number: int = 0  # of its last lease

    def record(self) -> SweepRecord:
        """The frozen record, with the trials counted by state."""
        counts = Counter(trial.state for trial in self.trials.values())
        return SweepRecord(
            sweep=self.sweep,
            name=self.name,
            spec=self.spec,
            owner=self.owner,
            parent=self.parent,
            created_at=self.created_at,
            counts={state.value: counts[state] for state in TrialState},
            **{name: getattr(self.row, name) for name in self.row.__slots__},
        )

    def take(self, commit: Commit) -> None:
        """Carry out what the commit found. Nothing in here can fail half way."""
        before, requested = self.row.requested, commit.sweep.requested
        self.row = commit.sweep
        for number in range(before, requested):
            self.trials[number] = TrialRow(number)
        for number in commit.changed:
            self.trials[number] = commit.rows[number]
        for number, edit in commit.edits.items():
            kept = [report for report in self.reports[number] if edit.keep is None or report.epoch < edit.keep]
            self.reports[number] = kept + edit.new
        for number, opened in commit.opened:
            self.attempts[number].append(opened)
        for closed in commit.closed:
            self.attempts[closed.number] = [
                replace(known, ended_at=closed.at, outcome=closed.outcome) if known.attempt == closed.attempt else known
                for known in self.attempts[closed.number]
            ]
        for number in commit.changed:
            if self.trials[number].metrics is None:
                self.trials[number].metrics = self.reports[number][-1].metrics if self.reports[number] else {}
        for row in self.trials.values() if commit.all_tracked else ():
            row.tracked_state = row.state if row.state in TERMINAL else row.tracked_state
        for number in [number for number in self.trials if number >= requested]:
            for table in (self.trials, self.reports, self.attempts):
                table.pop(number, None)
