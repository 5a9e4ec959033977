"""What an action of the scheduler writes to the ledger."""

from __future__ import annotations

from sweeper.records import Change, Ended, Reopened, Requeued, Started, SweepChanged
from sweeper.scheduling.events import Action, ChangeSweep, EndTrial, ReopenTrial, RequeueTrial, ResizeSweep, RunLeg


def changes_of(action: Action, now: float) -> list[tuple[str, Change]]:
    """The changes of an action, each with its sweep. ``now`` in Unix seconds."""
    match action:
        case RunLeg():
            return [(action.sweep, Started(a.number, a.attempt, action.worker, now)) for a in action.admit]
        case EndTrial():
            ended = Ended(action.number, action.attempt, action.state, action.reason, action.value, now)
            return [(action.sweep, ended)]
        case RequeueTrial():
            return [(action.sweep, Requeued(action.number, action.attempt, action.reason, action.lost))]
        case ReopenTrial():
            return [(action.sweep, Reopened(action.number, action.reason))]
        case ChangeSweep():
            return [(action.sweep, SweepChanged(state=action.state, reason=action.reason, at=now))]
        case ResizeSweep():
            return [(action.sweep, SweepChanged(requested=action.requested, at=now))]
        case _:
            return []
