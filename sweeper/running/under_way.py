"""One sweep that a controller has open, and what the scheduler's actions mean for it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from sweeper.logs import Emit
from sweeper.records import Change, Reported, Requeued, SweepChanged, TrialRecord
from sweeper.running.leases import Hold
from sweeper.running.run import SweepRun
from sweeper.scheduling.events import (
    Action,
    BudgetChanged,
    ChangeSweep,
    EndTrial,
    Event,
    PauseSweep,
    ReopenTrial,
    RequeueTrial,
    ResizeSweep,
    ResumeSweep,
    RetryTrials,
    RunLeg,
    SaveCheckpoints,
    StopSweep,
    SweepOpened,
)
from sweeper.states import Cause, SweepState, TrialState
from sweeper.training.legs import Arrays, TrialLeg

WAIT_TOLD_SECONDS = 3.0  # between two times that the ledger is told why a sweep waits


class TrialSink(Protocol):
    """Where ended trials are shown (MLflow)."""

    def trial_ended(self, number: int) -> None:
        """Show one ended trial, as the ledger has it; returns at once."""
        ...


@dataclass(frozen=True)
class Brought:
    """What came with an event, for the actions that follow: weights by trial number, and what a leg trained."""

    weights: Mapping[int, Arrays] = field(default_factory=dict)
    trained: tuple[TrialLeg, ...] = ()


NOTHING = Brought()


@dataclass
class UnderWay:
    """An open sweep: its run, where its trials are shown, and the hold under which it is written down.

    ``leaving``: it is to be left to the next controller once its legs in flight have finished, and so stays running in
    the ledger. ``emit`` is told of what happens to it.
    """

    run: SweepRun
    sink: TrialSink
    hold: Hold
    emit: Emit
    state: SweepState = SweepState.RUNNING
    leaving: bool = False
    _deadline: float | None = field(init=False, default=None)
    _wait: tuple[float, str] | None = field(init=False, default=None)  # why it waits, as the ledger has it, since when
    _thread: ThreadPoolExecutor = field(init=False)  # suggests

    def __post_init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"suggest-{self.run.id}")
        timeout = self.run.spec.search.timeout
        if timeout is not None:
            self._deadline = time.monotonic() + max(0.0, timeout - self.run.record.seconds)

    def begin(self, trials: list[TrialRecord]) -> SweepOpened:
        """Put back what an earlier controller left running, and say that the sweep runs.

        Raises:
            TakenOver: another controller holds the sweep.
        """
        run = self.run
        for trial in trials:
            run.forget_ahead(trial)
        requeue = [
            Requeued(t.number, t.attempt, "its controller ended", lost=False, keep_epochs=run.kept(t.number))
            for t in trials
            if t.state is TrialState.RUNNING
        ]
        now = time.time()
        self.write([*requeue, SweepChanged(state=SweepState.RUNNING, reason="", at=now)])
        return SweepOpened(run.plan, tuple(trials), run.suggested_shapes(), (TrialState.STOPPED,), run.paused)

    def close(self, wait: bool) -> None:
        """Suggest nothing more; with ``wait`` what is being suggested is waited for."""
        self._thread.shutdown(wait=wait, cancel_futures=True)

    def ask(self, numbers: tuple[int, ...]) -> Future[list[dict[str, Any]]]:
        """Let the study suggest, in a thread of the sweep's own."""
        return self._thread.submit(self.run.ask, self.run.results_to_tell(), numbers)

    # The ledger

    def write(self, changes: list[Change]) -> None:
        """Commit changes to the ledger."""
        self.hold.ledger.commit(self.run.id, changes)

    def as_written(self, change: Change) -> Change | None:
        """A change as the ledger is told of it (None: it is not)."""
        if isinstance(change, SweepChanged) and change.state is SweepState.PAUSED and self.leaving:
            return None
        return replace(change, keep_epochs=self.run.kept(change.number)) if isinstance(change, Requeued) else change

    def with_value(self, action: EndTrial) -> EndTrial:
        """A trial that is stopped under way has the value of the epoch that it has kept."""
        metrics = self.run.stopped_with(action.number) if action.cause is Cause.STOPPED else None
        return action if metrics is None else replace(action, value=metrics.get(self.run.spec.objective.metric))

    def stopped_with(self, action: EndTrial) -> Reported | None:
        """The metrics of a trial that is stopped under way, as a change."""
        if action.cause is not Cause.STOPPED or action.value is None:
            return None
        return Reported(action.number, action.attempt, (), metrics=self.run.stopped_with(action.number))

    # Actions

    def act(self, action: Action, brought: Brought) -> None:
        """Carry out what an action means for this sweep, once the ledger knows of it."""
        run = self.run
        match action:
            case RunLeg():
                if run.notes:  # of attempts that the ledger has begun by now
                    self.write(list(run.notes))
                    run.notes = []
                for admit in action.admit:
                    about = {"sweep": run.id, "trial": admit.number, "attempt": admit.attempt}
                    self.emit("trial.started", {**about, "worker": action.worker, "epoch": run.kept(admit.number)})
            case EndTrial():
                self._trial_ended(action, brought.weights.get(action.number))
            case RequeueTrial():
                about = {"sweep": run.id, "trial": action.number, "attempt": action.attempt}
                self.emit("trial.requeued", {**about, "reason": action.reason})
                run.wait_again(action.number)
            case SaveCheckpoints():
                if not action.before_commit:
                    self.save(action, brought)
            case ReopenTrial():
                run.wait_again(action.number)
                if run.checkpoints is not None:
                    run.checkpoints.drop(action.number)
            case ChangeSweep():
                self.state = action.state
                if not (self.leaving and action.state is SweepState.PAUSED):
                    about = {"sweep": run.id, "state": str(action.state), "reason": action.reason}
                    self.emit("sweep.changed", about)
            case ResizeSweep():
                run.requested = action.requested

    def save(self, action: SaveCheckpoints, brought: Brought) -> None:
        """Save the rows that came with their state. What cannot be saved starts again after a fault, and is told."""
        run = self.run
        if run.checkpoints is None:
            return
        wanted = (trial for trial in brought.trained if trial.number in action.numbers)
        try:
            for trial in wanted:
                if trial.states is not None and not run.decisions.undecided(trial.number):
                    run.checkpoints.save(trial.number, trial.states)
        except OSError as error:
            self.emit("checkpoint.failed", {"sweep": run.id, "reason": str(error)})

    def _trial_ended(self, action: EndTrial, weights: Arrays | None) -> None:
        run, value = self.run, action.value
        if run.checkpoints is not None:
            run.checkpoints.drop(action.number)
        epochs = len(run.trials[action.number].curve) if action.number in run.trials else 0
        run.end(action.number, action.state, value, action.cause)
        if action.state is TrialState.STOPPED:
            run.consider_stopped(action.number, value, epochs)
        improved = action.state is TrialState.COMPLETE and run.consider(action.number, value, weights)
        about = {"sweep": run.id, "trial": action.number, "state": str(action.state), "value": value}
        about["params"] = dict(run.trials[action.number].params or {})
        self.emit("trial.ended", {**about, "reason": action.reason, "improved": improved})
        if action.attempt > 0:
            self.sink.trial_ended(action.number)

    # What has to be looked at from time to time

    def requests(self) -> Iterator[Event]:
        """What users have asked for since the last time."""
        for request in self.hold.ledger.take_requests(self.run.id):
            kind, args = request.kind, dict(request.args)
            self.emit("sweep.request", {"sweep": self.run.id, "kind": kind, **args})
            if (event := _requested(self.run.id, kind, args)) is not None:
                yield event

    def timeout(self, now: float) -> StopSweep | None:
        """The end of a search whose time is over, or of which the finals need the rest; it comes once."""
        run, timeout = self.run, self.run.spec.search.timeout
        if self._deadline is None or timeout is None:
            return None
        elapsed = timeout - run.record.seconds - (self._deadline - now)
        reserve = run.leaders.reserve
        kept = reserve.seconds(run.pace.speed(elapsed)) if reserve is not None else 0.0
        if now < self._deadline - kept:
            return None
        self._deadline = None
        why = f"the timeout of {timeout:g} s was reached"
        if kept > 0:
            why = f"the search ended {kept:.3g} s before the timeout of {timeout:g} s: the finals need the time"
        return StopSweep(run.id, why, enough=kept > 0)

    def tell_wait(self, now: float, reason: str) -> None:
        """Let the ledger say why the trials of a running sweep wait; it is written when it lasts."""
        since, told = self._wait or (now, "")
        if reason != told and now - since >= WAIT_TOLD_SECONDS:
            self.write([SweepChanged(reason=reason)])
            self._wait = (now, reason)
        elif self._wait is None:
            self._wait = (now, told)


def _requested(sweep: str, kind: str, args: Mapping[str, Any]) -> Event | None:
    """A user's request as an event."""
    reason = str(args.get("reason", "")) or f"{kind} requested by the user"
    match kind:
        case "stop":
            return StopSweep(sweep, reason)
        case "pause":
            return PauseSweep(sweep, reason)
        case "resume":
            return ResumeSweep(sweep)
        case "retry":
            return RetryTrials(sweep, (TrialState.FAILED,), reason)
        case "budget":
            return BudgetChanged(sweep, args.get("requested"), args.get("priority"))
    return None
