"""The loop that feeds events to the scheduler and carries its actions out: a next leg, then ledger, workers, MLflow."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from sweeper.data.source import Source
from sweeper.errors import SpecError, SweeperError
from sweeper.logs import Emit
from sweeper.records import (
    Change,
    Reported,
    Requeued,
    Suggested,
    SweepChanged,
    TrialRecord,
)
from sweeper.running.clock import WorkerClock
from sweeper.running.fitting import rows_on
from sweeper.running.leases import Hold
from sweeper.running.objective_run import ObjectiveRun
from sweeper.running.run import SweepRun
from sweeper.scheduling.events import (
    Action,
    Ask,
    BudgetChanged,
    ChangeSweep,
    EndTrial,
    Event,
    FixArithmetic,
    LegDone,
    LegFailed,
    PauseSweep,
    ReopenTrial,
    RequeueTrial,
    ResizeSweep,
    ResumeSweep,
    RetryTrials,
    RunLeg,
    SaveCheckpoints,
    Shape,
    StopSweep,
    SweepForgotten,
    SweepOpened,
    TrialsDecided,
    TrialsSuggested,
    WorkerJoined,
    WorkerLost,
    WorkerYields,
    changes_of,
)
from sweeper.scheduling.scheduler import Scheduler
from sweeper.states import Cause, SweepState, TrialState
from sweeper.training.legs import Arrays, TrialLeg
from sweeper.training.pool import LegRaised, LegReturned, Pool

HOUSEKEEPING_SECONDS = 0.5
WAIT_TOLD_SECONDS = 3.0  # between two times that the ledger is told why a sweep waits


class TrialSink(Protocol):
    """Where ended trials are shown (MLflow)."""

    def trial_ended(self, number: int) -> None:
        """Show one ended trial, as the ledger has it; returns at once."""
        ...


@dataclass(frozen=True)
class _Asked:
    """The suggestion thread's answer."""

    run: SweepRun
    numbers: tuple[int, ...]
    future: Future[list[dict[str, Any]]]


@dataclass(frozen=True)
class _Brought:
    """What came with an event, for the actions that follow: weights by trial number, and what a leg trained."""

    weights: Mapping[int, Arrays] = field(default_factory=dict)
    trained: tuple[TrialLeg, ...] = ()


_NOTHING = _Brought()


@dataclass(frozen=True)
class _Unfinished:
    """A trial ended without a leg: its batch may be complete now."""

    sweep: str


class Controller:
    """Runs sweeps on one pool of workers until each is terminal or paused.

    Events (of the scheduler or the pool) come in through ``queue`` from any thread; everything else happens in the
    thread that calls ``run``. ``emit`` is told of every event under a stable action name. With ``give_up`` an error
    of one sweep (it was taken over, it cannot be written) goes there and costs that sweep only; without it the error
    ends ``run``.
    """

    def __init__(
        self,
        queue: SimpleQueue[Any],
        pool: Pool,
        emit: Emit,
        user_limit: int | None = None,
        give_up: Callable[[str, Exception], None] | None = None,
    ) -> None:
        self._queue = queue
        self._pool = pool
        self._emit = emit
        self._give_up = give_up
        self._scheduler = Scheduler(self._width, user_limit)
        self._runs: dict[str, SweepRun] = {}
        self._holds: dict[str, Hold] = {}
        self._sinks: dict[str, TrialSink] = {}
        self._states: dict[str, SweepState] = {}
        self._threads: dict[str, ThreadPoolExecutor] = {}
        self._deadlines: dict[str, float] = {}
        self._clock = WorkerClock()
        self._next_chores = 0.0
        self._leaving: set[str] = set()
        self._left_out: set[tuple[str, str]] = set()  # (sweep, worker) of another arithmetic, of which was told
        self._waits: dict[str, tuple[float, str]] = {}  # sweep: when its reason to wait was written, and that reason

    def open(self, run: SweepRun, sink: TrialSink, trials: list[TrialRecord], hold: Hold) -> None:
        """Take up a sweep, which stays held until it is closed here.

        Raises:
            TakenOver: another controller holds the sweep.
        """
        self._runs[run.id], self._sinks[run.id], self._holds[run.id] = run, sink, hold
        self._threads[run.id] = ThreadPoolExecutor(1, thread_name_prefix=f"suggest-{run.id}")
        if run.spec.search.timeout is not None:
            self._deadlines[run.id] = time.monotonic() + max(0.0, run.spec.search.timeout - run.record.seconds)
        for trial in trials:
            run.forget_ahead(trial)
        requeue = [
            Requeued(t.number, t.attempt, "its controller ended", lost=False, keep_epochs=run.kept(t.number))
            for t in trials
            if t.state is TrialState.RUNNING
        ]
        now = time.time()
        hold.ledger.commit(run.id, [*requeue, SweepChanged(state=SweepState.RUNNING, reason="", at=now)])
        self._states[run.id] = SweepState.RUNNING
        self._pool.load(run.id, Source.of(run.dataset))
        self._emit("sweep.opened", {"sweep": run.id, "name": run.record.name, "requested": run.requested})
        reopen, paused = (TrialState.STOPPED,), run.paused
        self._queue.put(SweepOpened(run.plan, tuple(trials), run.suggested_shapes(), reopen, paused))
        if paused:
            self._queue.put(_Unfinished(run.id))

    @property
    def idle_seconds(self) -> Mapping[str, float]:
        """How long each worker has waited for a leg."""
        return self._clock.idle_seconds

    def state(self, sweep: str) -> SweepState:
        """The state of a sweep that this controller has opened."""
        return self._states[sweep]

    def explain(self, sweep: str) -> str:
        """Why the sweep's waiting trials wait."""
        return self._scheduler.explain(sweep)

    def run(self, until: Callable[[], bool]) -> None:
        """Work until ``until()`` is true; it is asked after every event and twice a second."""
        while not until():
            try:
                item = self._queue.get(timeout=HOUSEKEEPING_SECONDS)
            except Empty:
                item = None
            if item is not None:
                failed: dict[str, Exception] = {}
                with self._failing_alone(self._about(item), failed):
                    self._take(item)
                self._abandon(failed)
            if time.monotonic() >= self._next_chores:
                self._chores()

    def close(self, sweep: str) -> None:
        """Give up a sweep that has ended or is to be left for another controller, and forget it."""
        if (thread := self._threads.pop(sweep, None)) is not None:
            thread.shutdown(wait=self._give_up is None, cancel_futures=True)
        self._scheduler.forget(sweep, self._clock.busy_with(sweep))
        for table in (self._runs, self._sinks, self._holds, self._states, self._deadlines, self._waits):
            table.pop(sweep, None)
        self._leaving.discard(sweep)
        self._pool.unload(sweep)

    def leave(self, sweep: str) -> None:
        """Let the sweep's legs in flight finish and then call it paused, here alone: in the ledger it stays running,
        for the next controller to go on with. A stop or pause that is under way is carried out instead."""
        if not self._scheduler.ending(sweep):
            self._leaving.add(sweep)
            self._handle(PauseSweep(sweep, "its controller ended"))

    # Events

    def _about(self, item: Any) -> str:
        """The sweep that an item of the queue is about (empty: none in particular)."""
        if isinstance(item, _Asked):
            return item.run.id
        return self._clock.sweep_of(getattr(item, "worker", "")) or str(getattr(item, "sweep", ""))

    def _take(self, item: Any) -> None:
        if isinstance(item, LegReturned):
            self._leg_returned(item)
        elif isinstance(item, LegRaised):
            sweep = self._clock.leg_ended(item.worker)
            about = {"sweep": sweep} if sweep is not None else {}
            self._emit("leg.failed", {**about, "worker": item.worker, "kind": item.kind, "detail": item.detail})
            self._handle(LegFailed(item.worker, item.leg, item.kind, item.detail))
        elif isinstance(item, _Asked):
            self._answered(item)
        elif callable(item):
            item()  # what another thread wants done in this one
        elif isinstance(item, _Unfinished):
            run = self._runs.get(item.sweep)
            if run is None:
                return
            settled = run.settle()
            assert settled is not None
            event = TrialsDecided(run.id, tuple(settled.outcomes), settled.going_on)
            self._handle(event, run.id, [*settled.changes, *settled.reports], _Brought(settled.weights))
        else:
            if isinstance(item, SweepOpened):
                self._next_chores = 0.0  # what was asked while the sweep was loaded is read at once
            elif isinstance(item, WorkerJoined):
                self._clock.joined(item.worker)
                self._emit("worker.joined", {"worker": item.worker, "arithmetic": item.arithmetic})
            elif isinstance(item, WorkerLost):
                self._clock.lost(item.worker)
                self._left_out = {pair for pair in self._left_out if pair[1] != item.worker}
                self._emit("worker.lost", {"worker": item.worker, "reason": item.reason})
            self._handle(item)

    def _leg_returned(self, item: LegReturned) -> None:
        flown = self._clock.leg_ended(item.worker)
        if flown is None:
            return  # the worker was given up; its trials have moved on
        worker = self._scheduler.board.workers[item.worker]
        run = self._runs.get(flown)
        if run is None or worker.sweep != flown:  # given up meanwhile
            self._handle(LegDone(item.worker, item.result.leg, ()))
            return
        trained = tuple(trial for trial in item.result.trials if trial.number in worker.rows)
        settled = run.outcomes(replace(item.result, trials=trained))
        self._emit("leg.done", {"sweep": run.id, "worker": item.worker, "trials": len(trained)})
        if any(trial.states is not None for trial in trained) and self._clock.take_yield_request(item.worker):
            self._handle(WorkerYields(item.worker))
        event = LegDone(item.worker, item.result.leg, tuple(settled.outcomes), item.result.seconds, settled.going_on)
        self._handle(event, run.id, [*settled.changes, *settled.reports], _Brought(settled.weights, trained))

    def _answered(self, item: _Asked) -> None:
        run, sweep = item.run, item.run.id
        if self._runs.get(sweep) is not run or item.future.cancelled():
            return  # given up meanwhile
        try:
            answers = item.future.result()
        except SweeperError as error:
            self._emit("suggest.failed", {"sweep": sweep, "reason": str(error)})
            self._handle(StopSweep(sweep, f"the search space failed: {error}"))
            return
        pairs = list(zip(item.numbers, answers, strict=False))
        try:
            suggestions = tuple(run.suggested(number, params) for number, params in pairs)
        except SpecError as error:
            self._handle(StopSweep(sweep, f"the space suggested parameters that cannot be trained: {error}"))
            return
        changes: list[Change] = [Suggested(n, params, run.trials[n].seed) for n, params in pairs]
        why = run.enough.reason if run.enough is not None else ""
        self._handle(TrialsSuggested(sweep, suggestions, why), sweep, changes)

    def _handle(
        self,
        event: Event,
        sweep: str | None = None,
        changes: list[Change] | None = None,
        brought: _Brought = _NOTHING,
    ) -> None:
        """One event through the scheduler: commit per sweep what it changed, then act.

        A worker that has answered gets its next leg before that, see ``_legs_ahead``.
        """
        actions = [self._with_value(action) for action in self._scheduler.handle(event)]
        failed: dict[str, Exception] = {}
        ahead = self._legs_ahead(event, actions)
        for leg in ahead:
            with self._failing_alone(leg.sweep, failed):
                self._send(leg)
        by_sweep: dict[str, list[Change]] = {sweep: list(changes or [])} if sweep is not None else {}
        now = time.time()
        for action in actions:
            if isinstance(action, SaveCheckpoints) and action.before_commit:
                self._save_checkpoints(action, brought)
        for action in actions:
            if isinstance(action, EndTrial) and (reported := self._stopped_with(action)) is not None:
                by_sweep.setdefault(action.sweep, []).append(reported)
            for name, change in changes_of(action, now):
                if isinstance(change, SweepChanged) and change.state is SweepState.PAUSED and name in self._leaving:
                    continue
                if isinstance(change, Requeued):
                    change = replace(change, keep_epochs=self._runs[name].kept(change.number))  # noqa: PLW2901
                by_sweep.setdefault(name, []).append(change)
        for name, batch in by_sweep.items():
            if batch:
                with self._failing_alone(name, failed):
                    self._holds[name].ledger.commit(name, batch)
        for action in actions:
            if action.sweep not in failed:
                with self._failing_alone(action.sweep, failed):
                    if isinstance(action, RunLeg) and action not in ahead:
                        self._send(action)
                    self._act(action, brought)
        if isinstance(event, WorkerJoined | SweepOpened) or any(isinstance(a, FixArithmetic) for a in actions):
            self._tell_left_out()
        self._abandon(failed)

    def _legs_ahead(self, event: Event, actions: list[Action]) -> list[RunLeg]:
        """The legs that are sent before the ledger has the answer that they follow: their worker trains meanwhile.

        What is lost if this process dies in between is a leg that nobody was told of. A function of the user's own
        may leave something behind, so its trials wait; and so does all else when trials are put back.
        """
        if not isinstance(event, LegDone) or any(isinstance(a, RequeueTrial | ReopenTrial) for a in actions):
            return []
        legs = [action for action in actions if isinstance(action, RunLeg)]
        return [leg for leg in legs if not isinstance(self._runs[leg.sweep], ObjectiveRun)]

    def _with_value(self, action: Action) -> Action:
        """A trial that is stopped under way has the value of the epoch that it has kept."""
        if not isinstance(action, EndTrial) or action.cause is not Cause.STOPPED:
            return action
        run = self._runs[action.sweep]
        metrics = run.stopped_with(action.number)
        return action if metrics is None else replace(action, value=metrics.get(run.spec.objective.metric))

    def _stopped_with(self, action: EndTrial) -> Reported | None:
        """The metrics of a trial that is stopped under way, as a change."""
        if action.cause is not Cause.STOPPED or action.value is None:
            return None
        metrics = self._runs[action.sweep].stopped_with(action.number)
        return Reported(action.number, action.attempt, (), metrics=metrics)

    def _tell_left_out(self) -> None:
        """Say of each worker, once, which sweeps it gets no trials of because it computes in another arithmetic."""
        for worker, own, sweep, wanted in self._scheduler.left_out():
            if (sweep, worker) not in self._left_out:
                self._left_out.add((sweep, worker))
                about = {"sweep": sweep, "worker": worker}
                self._emit("worker.left_out", {**about, "arithmetic": own, "wanted": wanted})

    @contextlib.contextmanager
    def _failing_alone(self, sweep: str, failed: dict[str, Exception]) -> Iterator[None]:
        """An error in here ends this one sweep, which is added to ``failed``, when others may go on."""
        try:
            yield
        except Exception as error:
            if self._give_up is None:
                raise
            failed[sweep] = error

    def _abandon(self, failed: Mapping[str, Exception]) -> None:
        for sweep, error in failed.items():
            assert self._give_up is not None
            if sweep in self._runs:
                self.close(sweep)
                self._queue.put(SweepForgotten(sweep))
            self._give_up(sweep, error)

    # Actions

    def _act(self, action: Action, brought: _Brought) -> None:
        match action:
            case RunLeg():
                run = self._runs[action.sweep]
                if run.notes:  # of attempts that the ledger has begun by now
                    self._holds[run.id].ledger.commit(run.id, run.notes)
                    run.notes = []
                for admit in action.admit:
                    about = {"sweep": action.sweep, "trial": admit.number, "attempt": admit.attempt}
                    epoch = run.kept(admit.number)
                    self._emit("trial.started", {**about, "worker": action.worker, "epoch": epoch})
            case Ask():
                run = self._runs[action.sweep]
                future = self._threads[action.sweep].submit(run.ask, run.results_to_tell(), action.numbers)
                asked = _Asked(run, action.numbers, future)
                future.add_done_callback(lambda _: self._queue.put(asked))
            case EndTrial():
                self._trial_ended(action, brought.weights.get(action.number))
            case RequeueTrial():
                about = {"sweep": action.sweep, "trial": action.number, "attempt": action.attempt}
                self._emit("trial.requeued", {**about, "reason": action.reason})
                self._runs[action.sweep].wait_again(action.number)
            case SaveCheckpoints():
                if not action.before_commit:
                    self._save_checkpoints(action, brought)
            case ReopenTrial():
                run = self._runs[action.sweep]
                run.wait_again(action.number)
                if run.checkpoints is not None:
                    run.checkpoints.drop(action.number)
            case ChangeSweep():
                self._states[action.sweep] = action.state
                if action.sweep in self._leaving and action.state is SweepState.PAUSED:
                    return
                about = {"sweep": action.sweep, "state": str(action.state), "reason": action.reason}
                self._emit("sweep.changed", about)
            case ResizeSweep():
                self._runs[action.sweep].requested = action.requested

    def _send(self, action: RunLeg) -> None:
        run = self._runs[action.sweep]
        order = run.order(action, export=self._clock.save_is_due(action.worker, action.cohort))
        self._clock.leg_started(action.worker, action.sweep)
        self._pool.run(action.worker, order)

    def _save_checkpoints(self, action: SaveCheckpoints, brought: _Brought) -> None:
        """Save the rows that came with their state. What cannot be saved starts again after a fault, and is told."""
        run = self._runs[action.sweep]
        if run.checkpoints is None:
            return
        try:
            for trial in brought.trained:
                if trial.number in action.numbers and trial.states is not None and not run.undecided(trial.number):
                    run.checkpoints.save(trial.number, trial.states)
        except OSError as error:
            self._emit("checkpoint.failed", {"sweep": run.id, "reason": str(error)})

    def _trial_ended(self, action: EndTrial, weights: Arrays | None) -> None:
        run = self._runs[action.sweep]
        value = action.value
        if run.checkpoints is not None:
            run.checkpoints.drop(action.number)
        epochs = len(run.trials[action.number].curve) if action.number in run.trials else 0
        run.end(action.number, action.state, value, action.cause)
        if run.waits and action.state in (TrialState.FAILED, TrialState.STOPPED):
            self._queue.put(_Unfinished(run.id))
        if action.state is TrialState.STOPPED:
            run.consider_stopped(action.number, value, epochs)
        improved = action.state is TrialState.COMPLETE and run.consider(action.number, value, weights)
        about = {"sweep": action.sweep, "trial": action.number, "state": str(action.state), "value": value}
        about["params"] = dict(run.trials[action.number].params or {})
        self._emit("trial.ended", {**about, "reason": action.reason, "improved": improved})
        if action.attempt > 0:
            self._sinks[action.sweep].trial_ended(action.number)

    def _width(self, worker: str, sweep: str, shape: Shape) -> int:
        """Rows of a shape of a sweep that fit the worker's device."""
        device, run = self._pool.device(worker), self._runs[sweep]
        if isinstance(run, ObjectiveRun):
            return run.slots(device)
        rows = rows_on(device, run.dataset, shape)
        return min(rows, run.rows_in_time(shape, rows)) if device.kind == "cpu" else rows

    # Chores

    def _chores(self) -> None:
        """What has to happen from time to time: users' requests, deadlines and hung workers."""
        now = time.monotonic()
        self._next_chores = now + HOUSEKEEPING_SECONDS
        failed: dict[str, Exception] = {}
        for name in list(self._runs):
            if name in self._runs and self._states[name] in (SweepState.RUNNING, SweepState.PAUSED):
                with self._failing_alone(name, failed):
                    self._look_after(self._runs[name], now)
        self._abandon(failed)
        for worker, sweep in self._clock.long_held():
            run = self._runs.get(sweep)
            if run is not None and run.checkpoints is not None and self._scheduler.due_elsewhere(worker):
                self._clock.ask_to_yield(worker)
        for worker, late in self._clock.hung():
            self._pool.replace(worker, f"no report for {late:.0f} s")

    def _look_after(self, run: SweepRun, now: float) -> None:
        name, hold = run.id, self._holds[run.id]
        hold.check()
        if not self._scheduler.knows(name):
            return  # its beginning waits in the queue; requests taken now would be lost
        for request in hold.ledger.take_requests(name):
            self._request(name, request.kind, dict(request.args))
        self._look_at_timeout(run, now)
        self._tell_wait(name, now)

    def _look_at_timeout(self, run: SweepRun, now: float) -> None:
        """End a search whose time is over, or of which the finals need the rest."""
        timeout, deadline = run.spec.search.timeout, self._deadlines.get(run.id)
        if deadline is None or timeout is None:
            return
        elapsed = timeout - run.record.seconds - (deadline - now)
        kept = run.reserve.seconds(run.speed(elapsed)) if run.reserve is not None else 0.0
        if now < deadline - kept:
            return
        del self._deadlines[run.id]
        why = f"the timeout of {timeout:g} s was reached"
        if kept > 0:
            why = f"the search ended {kept:.3g} s before the timeout of {timeout:g} s: the finals need the time"
        self._handle(StopSweep(run.id, why, enough=kept > 0))

    def _tell_wait(self, sweep: str, now: float) -> None:
        """The reason of a running sweep in the ledger says why its trials wait; written when it lasts."""
        if self._states.get(sweep) is not SweepState.RUNNING or self._scheduler.ending(sweep):
            return
        at, told = self._waits.get(sweep, (now, ""))
        reason = self._scheduler.explain(sweep)
        if reason != told and now - at >= WAIT_TOLD_SECONDS:
            self._holds[sweep].ledger.commit(sweep, [SweepChanged(reason=reason)])
            self._waits[sweep] = (now, reason)
        elif sweep not in self._waits:
            self._waits[sweep] = (now, told)

    def _request(self, sweep: str, kind: str, args: dict[str, Any]) -> None:
        self._emit("sweep.request", {"sweep": sweep, "kind": kind, **args})
        reason = str(args.get("reason", "")) or f"{kind} requested by the user"
        match kind:
            case "stop":
                self._handle(StopSweep(sweep, reason))
            case "pause":
                self._handle(PauseSweep(sweep, reason))
            case "resume":
                self._handle(ResumeSweep(sweep))
            case "retry":
                self._handle(RetryTrials(sweep, (TrialState.FAILED,), reason))
            case "budget":
                self._handle(BudgetChanged(sweep, args.get("requested"), args.get("priority")))
