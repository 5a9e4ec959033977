"""What a stop, pause, resume or retry does to a sweep that no controller runs: it is written straight to the ledger."""

from __future__ import annotations

import time

from sweeper.ledger.protocol import Ledger
from sweeper.records import Change, Ended, Reopened, Requeued, SweepChanged, SweepRecord
from sweeper.states import SweepState, TrialState


def end_unheld(ledger: Ledger, record: SweepRecord, wanted: SweepState, reason: str) -> None:
    """Stop, fail or pause the sweep: what its last controller left running is put back, or ends."""
    now = time.time()
    changes: list[Change] = []
    for trial in ledger.trials(record.sweep):
        if trial.state is TrialState.RUNNING:
            changes.append(Requeued(trial.number, trial.attempt, "its controller ended", lost=False))
        if wanted.terminal and not trial.state.terminal:
            why = reason if trial.attempt else f"never started: {reason}"
            changes.append(Ended(trial.number, trial.attempt, TrialState.STOPPED, why, None, now))
    if record.state is SweepState.QUEUED and wanted is SweepState.PAUSED:
        changes.append(SweepChanged(state=SweepState.RUNNING, at=now))
    ledger.commit(record.sweep, [*changes, SweepChanged(state=wanted, reason=reason, at=now)])


def reopen_unheld(ledger: Ledger, record: SweepRecord, reason: str, failed: bool = False) -> None:
    """Let a paused or ended sweep run again; its stopped trials wait again, with ``failed`` its failed ones, too."""
    states = {TrialState.STOPPED, TrialState.FAILED} if failed else {TrialState.STOPPED}
    again = [Reopened(t.number, reason) for t in ledger.trials(record.sweep) if t.state in states]
    ledger.commit(record.sweep, [SweepChanged(state=SweepState.RUNNING, reason=reason, at=time.time()), *again])
