"""The states of trials and sweeps with every transition that is allowed, and why trials end, written down once."""

from __future__ import annotations

from enum import StrEnum


class TrialState(StrEnum):
    """Where a trial is. The last four are terminal; every terminal state has a reason."""

    WAITING = "waiting"
    RUNNING = "running"
    COMPLETE = "complete"
    PRUNED = "pruned"
    FAILED = "failed"
    STOPPED = "stopped"

    @property
    def terminal(self) -> bool:
        """No worker's report can change the trial any more."""
        return not TRIAL_TRANSITIONS[self]


class Cause(StrEnum):
    """Why a trial failed or was stopped, for programs to compare; its reason says it in words, with the details."""

    DIVERGED = "diverged"  # a loss or gradient became non-finite or far too large
    LOST = "lost"  # too many workers went down with it
    OUT_OF_MEMORY = "out of memory"  # even alone on its worker
    METRIC = "metric"  # a metric of the user's own could not be computed
    CODE = "code"  # the user's own model could not be built or trained, or the user's own objective failed
    EXHAUSTED = "exhausted"  # the space has no point for it
    ENOUGH = "enough"  # the search had come to its end before it (search.stop, or the finals need the time)
    STOPPED = "stopped"  # the sweep was stopped


class SweepState(StrEnum):
    """Where a sweep is. The last three are terminal, but a user can let the sweep go on: ``stopped`` and ``failed``
    to their total, ``complete`` with its failed trials again or with more trials."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETE = "complete"
    STOPPED = "stopped"
    FAILED = "failed"

    @property
    def terminal(self) -> bool:
        """No trial of the sweep will run unless a user resumes it."""
        return self in (SweepState.COMPLETE, SweepState.STOPPED, SweepState.FAILED)


TRIAL_TRANSITIONS: dict[TrialState, frozenset[TrialState]] = {
    TrialState.WAITING: frozenset({TrialState.RUNNING, TrialState.STOPPED, TrialState.FAILED}),
    TrialState.RUNNING: frozenset(
        {TrialState.WAITING, TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAILED, TrialState.STOPPED}
    ),
    TrialState.COMPLETE: frozenset(),
    TrialState.PRUNED: frozenset(),
    TrialState.FAILED: frozenset(),
    TrialState.STOPPED: frozenset(),
}
# What only a user's `resume` (stopped) or `retry --failed` (failed) may reopen; never a report or a policy.
TRIAL_REOPENINGS: dict[TrialState, frozenset[TrialState]] = {
    TrialState.STOPPED: frozenset({TrialState.WAITING}),
    TrialState.FAILED: frozenset({TrialState.WAITING}),
}

SWEEP_TRANSITIONS: dict[SweepState, frozenset[SweepState]] = {
    SweepState.QUEUED: frozenset({SweepState.RUNNING, SweepState.STOPPED, SweepState.FAILED}),
    SweepState.RUNNING: frozenset({SweepState.PAUSED, SweepState.COMPLETE, SweepState.STOPPED, SweepState.FAILED}),
    SweepState.PAUSED: frozenset({SweepState.RUNNING, SweepState.STOPPED, SweepState.FAILED}),
    SweepState.COMPLETE: frozenset({SweepState.RUNNING}),
    SweepState.STOPPED: frozenset({SweepState.RUNNING}),
    SweepState.FAILED: frozenset({SweepState.RUNNING}),
}
