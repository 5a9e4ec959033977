"""What the ledger is told of the scheduler's actions."""

from __future__ import annotations

from sweeper.records import Change, Ended, Reopened, Requeued, Started, SweepChanged
from sweeper.scheduling.events import (
    Action,
    ChangeSweep,
    EndTrial,
    FixArithmetic,
    ReopenTrial,
    RequeueTrial,
    ResizeSweep,
    RunLeg,
)
from sweeper.states import SweepState


def changes_of(action: Action, now: float) -> list[tuple[str, Change]]:
    """The changes of an action, each with its sweep. ``now`` in Unix seconds."""
    match action:
        case RunLeg():
            return [(action.sweep, Started(a.number, a.attempt, action.worker, now)) for a in action.admit]
        case EndTrial():
            how = (action.state, action.reason, action.value, now, action.cause)
            return [(action.sweep, Ended(action.number, action.attempt, *how))]
        case RequeueTrial():
            return [(action.sweep, Requeued(action.number, action.attempt, action.reason, action.lost))]
        case ReopenTrial():
            return [(action.sweep, Reopened(action.number, action.reason))]
        case ChangeSweep():
            # while a sweep runs, its reason says why trials wait, and nothing else
            reason = "" if action.state is SweepState.RUNNING else action.reason
            return [(action.sweep, SweepChanged(state=action.state, reason=reason, at=now))]
        case FixArithmetic():
            return [(action.sweep, SweepChanged(arithmetic=action.arithmetic, at=now))]
        case ResizeSweep():
            return [(action.sweep, SweepChanged(requested=action.requested, at=now))]
        case _:
            return []
