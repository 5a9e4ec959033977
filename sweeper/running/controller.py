"""The loop that feeds events to the scheduler and carries its actions out: a next leg, then ledger, workers, MLflow."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue
from typing import Any

from sweeper.data.source import Source
from sweeper.errors import SpecError, SweeperError
from sweeper.logs import Emit
from sweeper.records import (
    Change,
    Suggested,
    TrialRecord,
)
from sweeper.running.clock import WorkerClock
from sweeper.running.fitting import rows_on
from sweeper.running.leases import Hold
from sweeper.running.objective_run import ObjectiveRun
from sweeper.running.population import seconds_again
from sweeper.running.run import SweepRun
from sweeper.running.under_way import NOTHING, Brought, TrialSink, UnderWay
from sweeper.scheduling.changes import changes_of
from sweeper.scheduling.events import (
    Action,
    Ask,
    EndTrial,
    Event,
    FixArithmetic,
    LegDone,
    LegFailed,
    PauseSweep,
    ReopenTrial,
    RequeueTrial,
    RunLeg,
    SaveCheckpoints,
    Shape,
    SharesChanged,
    StopSweep,
    SweepForgotten,
    SweepOpened,
    TrialsDecided,
    TrialsSuggested,
    WorkerJoined,
    WorkerLost,
    WorkerYields,
)
from sweeper.scheduling.scheduler import Scheduler
from sweeper.scheduling.shares import Claim
from sweeper.states import SweepState, TrialState
from sweeper.training.pool import LegRaised, LegReturned, Pool

HOUSEKEEPING_SECONDS = 0.5
_LEAVES_ITS_BATCH = (TrialState.FAILED, TrialState.STOPPED)


@dataclass(frozen=True)
class _Asked:
    """The suggestion thread's answer."""

    run: SweepRun
    numbers: tuple[int, ...]
    future: Future[list[dict[str, Any]]]


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
        self._open: dict[str, UnderWay] = {}
        self._clock = WorkerClock()
        self._next_chores = 0.0
        self._left_out: set[tuple[str, str]] = set()  # (sweep, worker) of another arithmetic, of which was told

    def open(self, run: SweepRun, sink: TrialSink, trials: list[TrialRecord], hold: Hold) -> None:
        """Take up a sweep, which stays held until it is closed here.

        Raises:
            TakenOver: another controller holds the sweep.
        """
        opened = self._open[run.id] = UnderWay(run, sink, hold, self._emit)
        event = opened.begin(trials)
        self._pool.load(run.id, Source.of(run.dataset))
        self._emit("sweep.opened", {"sweep": run.id, "name": run.record.name, "requested": run.requested})
        self._queue.put(event)
        if event.paused:
            self._queue.put(_Unfinished(run.id))

    @property
    def idle_seconds(self) -> Mapping[str, float]:
        """How long each worker has waited for a leg."""
        return self._clock.idle_seconds

    def state(self, sweep: str) -> SweepState:
        """The state of a sweep that this controller has opened."""
        return self._open[sweep].state

    def claims(self) -> list[Claim]:
        """What the sweeps here want of the workers. In the thread that calls ``run`` only."""
        return self._scheduler.claims()

    def share(self, shares: SharesChanged) -> None:
        """Take no more than this from now on. In the thread that calls ``run`` only."""
        if shares != self._scheduler.board.shares:
            self._handle(shares)

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
        if (opened := self._open.pop(sweep, None)) is not None:
            opened.close(wait=self._give_up is None)
        self._scheduler.forget(sweep, self._clock.busy_with(sweep))
        self._pool.unload(sweep)

    def leave(self, sweep: str) -> None:
        """Let the sweep's legs in flight finish and then call it paused, here alone: in the ledger it stays running,
        for the next controller to go on with. A stop or pause that is under way is carried out instead."""
        if not self._scheduler.ending(sweep):
            self._open[sweep].leaving = True
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
            if (opened := self._open.get(item.sweep)) is None:
                return
            run = opened.run
            settled = run.settle()
            assert settled is not None
            event = TrialsDecided(run.id, tuple(settled.outcomes), settled.going_on)
            self._handle(event, run.id, [*settled.changes, *settled.reports], Brought(settled.weights))
        else:
            if isinstance(item, SweepOpened):
                if item.plan.sweep not in self._open:
                    return  # given up meanwhile
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
        if flown not in self._open or worker.sweep != flown:  # given up meanwhile
            self._handle(LegDone(item.worker, item.result.leg, ()))
            return
        run = self._open[flown].run
        trained = tuple(trial for trial in item.result.trials if trial.number in worker.rows)
        settled = run.outcomes(replace(item.result, trials=trained))
        self._emit("leg.done", {"sweep": run.id, "worker": item.worker, "trials": len(trained)})
        if any(trial.states is not None for trial in trained) and self._clock.take_yield_request(item.worker):
            self._handle(WorkerYields(item.worker))
        event = LegDone(item.worker, item.result.leg, tuple(settled.outcomes), item.result.seconds, settled.going_on)
        self._handle(event, run.id, [*settled.changes, *settled.reports], Brought(settled.weights, trained))

    def _answered(self, item: _Asked) -> None:
        run, sweep = item.run, item.run.id
        if sweep not in self._open or self._open[sweep].run is not run or item.future.cancelled():
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
        brought: Brought = NOTHING,
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
                self._open[action.sweep].save(action, brought)
        for action in actions:
            if isinstance(action, EndTrial):
                reported = self._open[action.sweep].stopped_with(action)
                by_sweep.setdefault(action.sweep, []).extend([] if reported is None else [reported])
            for name, change in changes_of(action, now):
                written = self._open[name].as_written(change)
                by_sweep.setdefault(name, []).extend([] if written is None else [written])
        for name, batch in by_sweep.items():
            if batch:
                with self._failing_alone(name, failed):
                    self._open[name].write(batch)
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
        return [leg for leg in legs if not isinstance(self._open[leg.sweep].run, ObjectiveRun)]

    def _with_value(self, action: Action) -> Action:
        return self._open[action.sweep].with_value(action) if isinstance(action, EndTrial) else action

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
            if sweep in self._open:
                self.close(sweep)
                self._queue.put(SweepForgotten(sweep))
            self._give_up(sweep, error)

    # Actions

    def _act(self, action: Action, brought: Brought) -> None:
        opened = self._open[action.sweep]
        opened.act(action, brought)
        if isinstance(action, Ask):
            future = opened.ask(action.numbers)
            asked = _Asked(opened.run, action.numbers, future)
            future.add_done_callback(lambda _: self._queue.put(asked))
        elif isinstance(action, EndTrial) and opened.run.waits and action.state in _LEAVES_ITS_BATCH:
            self._queue.put(_Unfinished(action.sweep))

    def _send(self, action: RunLeg) -> None:
        run = self._open[action.sweep].run
        order = run.order(action, export=self._clock.save_is_due(action.worker, action.cohort))
        self._clock.leg_started(action.worker, action.sweep, seconds_again(run, order))
        self._pool.run(action.worker, order)

    def _width(self, worker: str, sweep: str, shape: Shape) -> int:
        """Rows of a shape of a sweep that fit the worker's device."""
        device, run = self._pool.device(worker), self._open[sweep].run
        if isinstance(run, ObjectiveRun):
            return run.slots(device)
        rows = rows_on(device, run.dataset, shape)
        if device.kind != "cpu":
            return rows
        return run.pace.rows_in(run.spec.search.timeout, shape.epochs, rows, run.rows_per_trial)

    # Chores

    def _chores(self) -> None:
        """What has to happen from time to time: users' requests, deadlines and hung workers."""
        now = time.monotonic()
        self._next_chores = now + HOUSEKEEPING_SECONDS
        failed: dict[str, Exception] = {}
        for name, opened in list(self._open.items()):
            if name in self._open and opened.state in (SweepState.RUNNING, SweepState.PAUSED):
                with self._failing_alone(name, failed):
                    self._look_after(opened, now)
        self._abandon(failed)
        for worker, sweep in self._clock.long_held():
            keeps = sweep in self._open and self._open[sweep].run.checkpoints is not None
            if keeps and self._scheduler.due_elsewhere(worker):
                self._clock.ask_to_yield(worker)
        for worker, late in self._clock.hung():
            self._pool.replace(worker, f"no report for {late:.0f} s")

    def _look_after(self, opened: UnderWay, now: float) -> None:
        name = opened.run.id
        opened.hold.check()
        if not self._scheduler.knows(name):
            return  # its beginning waits in the queue; requests taken now would be lost
        for event in opened.requests():
            self._handle(event)
        if (stop := opened.timeout(now)) is not None:
            self._handle(stop)
        if name in self._open and opened.state is SweepState.RUNNING and not self._scheduler.ending(name):
            opened.tell_wait(now, self._scheduler.explain(name))
