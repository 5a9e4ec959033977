"""The pure scheduler: an event goes in, actions come out; no clock, Ray, SQL or thread inside."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

from sweeper.scheduling import trials
from sweeper.scheduling.assignment import (
    choose,
    counts,
    free_slots,
    is_due,
    may_join,
    may_refill,
    why_left_out,
    why_waiting,
)
from sweeper.scheduling.board import Board, Sweep, Trial, Waiting, Worker
from sweeper.scheduling.events import (
    EVERY_TRIAL,
    Action,
    Admit,
    Ask,
    BudgetChanged,
    ChangeSweep,
    Event,
    FixArithmetic,
    LegDone,
    LegFailed,
    PauseSweep,
    ReopenTrial,
    ResizeSweep,
    ResumeSweep,
    RetryTrials,
    RunLeg,
    SaveCheckpoints,
    Shape,
    SharesChanged,
    StopSweep,
    SweepForgotten,
    SweepOpened,
    TrialsDecided,
    TrialsSuggested,
    WorkerDraining,
    WorkerJoined,
    WorkerLost,
    WorkerYields,
)
from sweeper.scheduling.shares import Claim
from sweeper.states import Cause, SweepState, TrialState


class Scheduler:
    """Decides which trials are asked, where they run and how they end.

    ``width_of(worker, sweep, shape)`` is the number of the sweep's rows that fit the worker's device. ``user_limit``
    bounds the running trials of one owner (None: no bound). ``board`` is what it knows, to be read only.
    """

    def __init__(self, width_of: Callable[[str, str, Shape], int], user_limit: int | None = None) -> None:
        self.board = board = Board(width_of, user_limit)
        self._sweeps, self._workers = board.sweeps, board.workers

    def handle(self, event: Event) -> list[Action]:
        """Apply one event and return what has to be done, in order. The only method that changes anything."""
        actions: list[Action] = []
        save: SaveCheckpoints | None = None
        match event:
            case SweepOpened():
                self._open(event, actions)
            case TrialsSuggested():
                self._suggested(event, actions)
            case WorkerJoined():
                self.board.join(event.worker, event.arithmetic, event.eager, event.mixes, event.pads)
            case WorkerLost():
                self._worker_lost(event, actions)
            case WorkerDraining():
                if event.worker in self._workers:
                    self.board.drain(self._workers[event.worker])
            case WorkerYields():
                if self.due_elsewhere(event.worker):
                    self._workers[event.worker].yielding = True
            case LegDone():
                save = self._leg_done(event, actions)
            case TrialsDecided():
                if event.sweep in self._sweeps:
                    trials.decide(self.board, self._sweeps[event.sweep], event.outcomes, actions)
                    trials.go_on(self._sweeps[event.sweep], event.going_on)
            case LegFailed():
                self._leg_failed(event, actions)
            case StopSweep():
                state = SweepState.COMPLETE if event.enough else SweepState.STOPPED
                self._end(event.sweep, ChangeSweep(event.sweep, state, event.reason), actions)
            case PauseSweep():
                self._end(event.sweep, ChangeSweep(event.sweep, SweepState.PAUSED, event.reason), actions)
            case ResumeSweep():
                self._resume(event, actions)
            case RetryTrials():
                self._retry(event, actions)
            case BudgetChanged():
                self._budget(event, actions)
            case SharesChanged():
                self.board.shares = event
            case SweepForgotten():
                pass  # its workers are dispatched below
        for sweep in list(self._sweeps.values()):
            self._settle(sweep, actions)
        self._dispatch(actions)
        if save is not None:  # last: no worker waits for a disk
            actions += trials.still_to_save(self._sweeps[save.sweep], save)
        return actions

    def forget(self, sweep: str, in_flight: Collection[str] = ()) -> None:
        """Let go of a sweep that has ended or was given up. Workers of ``in_flight`` still have to answer a leg."""
        if self._sweeps.pop(sweep, None) is None:
            return
        for worker in self._workers.values():
            if worker.sweep == sweep:
                worker.rows, worker.drop = set(), set()
                self.board.serve(worker, None)
                if worker.name not in in_flight:
                    self.board.rest(worker)
        for key in [key for key in self.board.widths if key[1] == sweep]:
            del self.board.widths[key]

    # Queries

    def knows(self, sweep: str) -> bool:
        """Whether the sweep has been opened and not forgotten."""
        return sweep in self._sweeps

    def ending(self, sweep: str) -> bool:
        """Whether a stop or a pause waits for the sweep's legs in flight."""
        found = self._sweeps.get(sweep)
        return found is not None and found.ending is not None

    def claims(self) -> list[Claim]:
        """What the sweeps here want, for ``shares.divide``."""
        running = [s for s in self._sweeps.values() if s.state is SweepState.RUNNING]
        return [Claim(s.plan.sweep, s.plan.owner, s.plan.priority, *counts(s), apart=False) for s in running]

    def due_elsewhere(self, worker: str) -> bool:
        """Whether another sweep has a better claim to the worker than the one whose rows it holds."""
        found = self._workers.get(worker)
        if found is None or found.sweep is None or not found.rows:
            return False
        return is_due(self.board, found)

    def explain(self, sweep: str) -> str:
        """Why trials of the sweep wait and workers get none of them, in a phrase each (empty: nothing of the kind)."""
        me = self._sweeps.get(sweep)
        if me is None or me.state is not SweepState.RUNNING:
            return ""
        return "; ".join(part for part in (why_waiting(self.board, me), why_left_out(self.board, me)) if part)

    def left_out(self) -> list[tuple[str, str, str, str]]:
        """Workers that compute a sweep in another arithmetic: worker, its arithmetic, the sweep, the sweep's one."""
        pairs = [(worker, sweep) for sweep in self._sweeps.values() for worker in self._workers.values()]
        return [(w.name, s.arithmetic_in(w), s.plan.sweep, s.plan.arithmetic) for w, s in pairs if not s.takes(w)]

    # Sweeps

    def _open(self, event: SweepOpened, actions: list[Action]) -> None:
        sweep = Sweep(event.plan, {})
        for record in event.trials:
            state = TrialState.WAITING if record.state is TrialState.RUNNING else record.state
            trial = Trial(record.number, state, record.attempt, record.lost, shape=event.shapes.get(record.number))
            sweep.trials[record.number] = trial
            sweep.counts[state] += 1
            if trial.shape is not None:
                sweep.asked = max(sweep.asked, record.number + 1)
                if state is TrialState.WAITING and record.number not in event.paused:
                    sweep.push(trial)
        self._sweeps[event.plan.sweep] = sweep
        self.board.recount()
        if event.reopen:
            self._retry(RetryTrials(event.plan.sweep, event.reopen, "resumed"), actions)

    def _suggested(self, event: TrialsSuggested, actions: list[Action]) -> None:
        sweep = self._sweeps.get(event.sweep)
        if sweep is None or not sweep.asking:
            return
        sweep.asking = False
        for suggestion in event.suggestions:
            trial = sweep.trials[suggestion.number]
            trial.shape = suggestion.shape
            if trial.state is TrialState.WAITING:
                sweep.push(trial)
        last = event.suggestions[-1].number if event.suggestions else self._first_unsuggested(sweep) - 1
        answered = last + 1
        if answered < sweep.asked:
            sweep.asked, sweep.exhausted = answered, True
            why = "the search space has no more points to try"
            if event.enough:
                why = f"the search ended after {answered:,} of {sweep.plan.requested:,} trials: {event.enough}"
            sweep.enough = why if event.enough else ""
            cause = Cause.ENOUGH if event.enough else Cause.EXHAUSTED
            for number in range(answered, sweep.plan.requested):
                trials.finish(sweep, sweep.trials[number], TrialState.STOPPED, why, actions, cause=cause)

    def _first_unsuggested(self, sweep: Sweep) -> int:
        return next((n for n in range(sweep.asked) if sweep.trials[n].shape is None), sweep.asked)

    def _end(self, name: str, ending: ChangeSweep, actions: list[Action]) -> None:
        sweep = self._sweeps.get(name)
        if sweep is None or (sweep.state is SweepState.PAUSED and ending.state is SweepState.PAUSED):
            return
        if sweep.state.terminal:
            return
        sweep.ending = ending
        if sweep.state is SweepState.PAUSED:
            sweep.state = SweepState.RUNNING  # so that it settles into the stop

    def _resume(self, event: ResumeSweep, actions: list[Action]) -> None:
        sweep = self._sweeps.get(event.sweep)
        if sweep is None:
            return
        if sweep.ending is not None and sweep.ending.state is SweepState.PAUSED:
            sweep.ending = None
        elif sweep.state is SweepState.PAUSED:
            sweep.state = SweepState.RUNNING
            self.board.recount()
            actions.append(ChangeSweep(event.sweep, SweepState.RUNNING, "resumed"))

    def _retry(self, event: RetryTrials, actions: list[Action]) -> None:
        sweep = self._sweeps.get(event.sweep)
        if sweep is None:
            return
        reopened = [t for t in sweep.trials.values() if t.state in event.states and t.state.terminal]
        if reopened and sweep.state is not SweepState.RUNNING:
            sweep.state, sweep.ending = SweepState.RUNNING, None
            actions.append(ChangeSweep(event.sweep, SweepState.RUNNING, event.reason))
        for trial in reopened:
            sweep.move(trial, TrialState.WAITING)
            trial.lost = trial.epochs = 0
            if trial.shape is not None:
                sweep.push(trial)
            sweep.prefix = min(sweep.prefix, trial.number)
            actions.append(ReopenTrial(event.sweep, trial.number, event.reason))

    def _budget(self, event: BudgetChanged, actions: list[Action]) -> None:
        sweep = self._sweeps.get(event.sweep)
        if sweep is None or sweep.state.terminal:
            return
        if event.priority is not None:
            sweep.plan = replace(sweep.plan, priority=event.priority)
        if event.requested is None or sweep.exhausted:
            return
        requested = max(event.requested, sweep.asked, 1)
        for number in range(sweep.plan.requested, requested):
            sweep.trials[number] = Trial(number, TrialState.WAITING)
            sweep.counts[TrialState.WAITING] += 1
        for number in range(requested, sweep.plan.requested):
            sweep.counts[sweep.trials.pop(number).state] -= 1
        sweep.plan = replace(sweep.plan, requested=requested)
        actions.append(ResizeSweep(event.sweep, requested))

    def _settle(self, sweep: Sweep, actions: list[Action]) -> None:
        """Ask for the next batch, carry out a pending stop or pause, and end a sweep that has nothing left."""
        if sweep.state is not SweepState.RUNNING:
            return
        requested = sweep.plan.requested
        while sweep.prefix < requested and sweep.trials[sweep.prefix].state.terminal:
            sweep.prefix += 1
        if sweep.ending is not None:
            busy = any(w.sweep == sweep.plan.sweep and w.leg is not None for w in self._workers.values())
            if busy or sweep.asking:
                return  # what is in flight is still written down
            self._carry_out_ending(sweep, sweep.ending, actions)
        elif sweep.prefix == requested:
            good = sweep.counts[TrialState.COMPLETE]
            state = SweepState.COMPLETE if good else SweepState.FAILED
            reason = EVERY_TRIAL if good else "no trial succeeded"
            reason = sweep.enough if good and sweep.enough else reason
            self._close(sweep, ChangeSweep(sweep.plan.sweep, state, reason), actions)
        elif not sweep.asking and not sweep.exhausted and sweep.asked < requested and sweep.may_ask():
            numbers = tuple(range(sweep.asked, min(sweep.asked + sweep.plan.batch, requested)))
            sweep.asked, sweep.asking = numbers[-1] + 1, True
            told = sweep.needs(numbers[0]) if sweep.plan.deterministic else None
            actions.append(Ask(sweep.plan.sweep, numbers, told))

    def _carry_out_ending(self, sweep: Sweep, ending: ChangeSweep, actions: list[Action]) -> None:
        if ending.state is SweepState.COMPLETE and not sweep.counts[TrialState.COMPLETE]:
            ending = replace(ending, state=SweepState.STOPPED)
        for trial in sweep.trials.values():
            if trial.state is TrialState.RUNNING:
                trials.leave(self.board, trial)
                if ending.state is SweepState.PAUSED:
                    trials.requeue(sweep, trial, ending.reason, False, actions)
            if ending.state.terminal and not trial.state.terminal:
                cause, why = Cause.STOPPED, ending.reason
                if trial.attempt == 0 and ending.state is SweepState.COMPLETE:
                    cause = Cause.ENOUGH
                elif trial.attempt == 0:
                    why = f"never started: {why}"
                trials.finish(sweep, trial, TrialState.STOPPED, why, actions, cause=cause)
        if ending.state.terminal:
            sweep.waiting = Waiting()
        self._close(sweep, ending, actions)

    def _close(self, sweep: Sweep, change: ChangeSweep, actions: list[Action]) -> None:
        sweep.state, sweep.ending = change.state, None
        self.board.recount()
        actions.append(change)

    # Workers

    def _worker_lost(self, event: WorkerLost, actions: list[Action]) -> None:
        worker = self.board.leave(event.worker)
        if worker is not None:
            trials.give_back(self.board, worker, event.reason, True, actions)

    def _leg_done(self, event: LegDone, actions: list[Action]) -> SaveCheckpoints | None:
        worker = self._workers.get(event.worker)
        if worker is None or worker.leg != event.leg:
            return None
        self.board.rest(worker)
        if worker.sweep is None:
            return None  # its sweep was forgotten meanwhile
        sweep = self._sweeps[worker.sweep]
        sweep.used += event.seconds
        trials.decide(self.board, sweep, event.outcomes, actions)
        trials.go_on(sweep, event.going_on)
        save = SaveCheckpoints(sweep.plan.sweep, frozenset(worker.rows), worker.draining or worker.yielding)
        if worker.draining:
            trials.give_back(self.board, worker, "the worker's node is leaving", False, actions)
        elif worker.yielding:
            trials.give_back(self.board, worker, "its worker was due to another sweep", False, actions)
        return save

    def _leg_failed(self, event: LegFailed, actions: list[Action]) -> None:
        worker = self._workers.get(event.worker)
        if worker is None or worker.leg != event.leg:
            return
        self.board.rest(worker)
        if worker.sweep is None:
            return  # its sweep was forgotten meanwhile
        sweep, rows = self._sweeps[worker.sweep], len(worker.rows)
        key = (worker.name, worker.sweep, worker.shape)
        if event.kind == "oom" and rows > 1:
            self.board.widths[key] = max(1, rows // 2)
            trials.give_back(self.board, worker, f"out of memory with {rows} rows: trying {rows // 2}", False, actions)
        elif event.kind == "oom":
            why, cause = f"out of memory even when trained alone: {event.detail}", Cause.OUT_OF_MEMORY
            for number in worker.rows:
                trials.finish(sweep, sweep.trials[number], TrialState.FAILED, why, actions, cause=cause)
            worker.rows = set()
            trials.give_back(self.board, worker, "", False, actions)
        else:
            trials.give_back(self.board, worker, event.detail, True, actions)

    # Assignment

    def _dispatch(self, actions: list[Action]) -> None:
        for worker in sorted(self.board.resting.values(), key=lambda worker: worker.number):
            if worker.sweep is not None and not worker.rows:
                self.board.serve(worker, None)
            if worker.sweep is None and self.board.room > 0:
                choose(self.board, worker)
            if worker.sweep is not None:
                self._start_leg(worker, self._sweeps[worker.sweep], actions)

    def _start_leg(self, worker: Worker, sweep: Sweep, actions: list[Action]) -> None:
        admit: list[Admit] = []
        if sweep.ending is None and (not worker.rows or may_refill(self.board, worker)):
            for _ in range(free_slots(self.board, worker, sweep)):
                number = sweep.waiting.first(worker.shape)
                if not may_join(self.board, worker, sweep, number):
                    break
                admit.append(self._admit(worker, sweep, sweep.trials[number]))
        if not worker.rows:
            return
        if not sweep.plan.arithmetic and worker.arithmetic:
            sweep.plan = replace(sweep.plan, arithmetic=sweep.arithmetic_in(worker))
            actions.append(FixArithmetic(sweep.plan.sweep, sweep.plan.arithmetic))
        leg = self.board.begin(worker)
        drop = tuple(sorted(worker.drop))
        worker.drop = set()
        how_far = max(1, min(map(sweep.epochs_ahead, worker.rows))), 1 if worker.shape is None else worker.width
        actions.append(RunLeg(worker.name, leg, sweep.plan.sweep, worker.cohort, tuple(admit), drop, *how_far))

    def _admit(self, worker: Worker, sweep: Sweep, trial: Trial) -> Admit:
        assert trial.shape is not None
        sweep.waiting.take(trial.number)
        trial.attempt += 1
        trial.epochs = 0
        trial.worker = worker.name
        worker.rows.add(trial.number)
        sweep.move(trial, TrialState.RUNNING)
        return Admit(trial.number, trial.attempt, worker.key(trial.shape))
