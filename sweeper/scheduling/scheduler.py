"""The pure scheduler: an event goes in, actions come out; no clock, Ray, SQL or thread inside."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace

from sweeper.scheduling.assignment import (
    MAX_LOST,
    choose,
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
    EndTrial,
    Event,
    FixArithmetic,
    LegDone,
    LegFailed,
    LegOutcome,
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
    Suggestion,
    SweepForgotten,
    SweepOpened,
    TrialsDecided,
    TrialsSuggested,
    Verdict,
    WorkerDraining,
    WorkerJoined,
    WorkerLost,
    WorkerYields,
)
from sweeper.scheduling.window import told_before
from sweeper.states import Cause, SweepState, TrialState

_ENDS = {
    Verdict.COMPLETE: TrialState.COMPLETE,
    Verdict.PRUNED: TrialState.PRUNED,
    Verdict.FAILED: TrialState.FAILED,
    Verdict.ABANDONED: TrialState.FAILED,
}


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
                self.board.join(event.worker, event.arithmetic, event.eager, event.mixes)
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
                    self._decided(self._sweeps[event.sweep], event.outcomes, actions)
                    self._go_on(self._sweeps[event.sweep], event.going_on)
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
            case SweepForgotten():
                pass  # its workers are dispatched below
        for sweep in list(self._sweeps.values()):
            self._settle(sweep, actions)
        self._dispatch(actions)
        return actions if save is None else [*actions, *self._still_to_save(save)]  # last: no worker waits for a disk

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
        return "; ".join(part for part in (self._why_waiting(me), why_left_out(self.board, me)) if part)

    def _why_waiting(self, me: Sweep) -> str:
        if not self._workers:
            return "waiting: no worker has joined yet"
        if me.asking and not me.n_ready():
            return "waiting: the sampler is suggesting the next trials"
        if not me.n_ready():
            if me.asked < me.plan.requested and not me.exhausted:
                return f"waiting: the next suggestion needs the result of trial {self._needs(me) - 1}"
            return ""
        return why_waiting(self.board, me)

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
                self._finish(sweep, sweep.trials[number], TrialState.STOPPED, why, actions, cause=cause)

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
            self._move(sweep, trial, TrialState.WAITING)
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
        elif not sweep.asking and not sweep.exhausted and sweep.asked < requested and self._may_ask(sweep):
            numbers = tuple(range(sweep.asked, min(sweep.asked + sweep.plan.batch, requested)))
            sweep.asked, sweep.asking = numbers[-1] + 1, True
            told = self._needs(sweep, numbers[0]) if sweep.plan.deterministic else None
            actions.append(Ask(sweep.plan.sweep, numbers, told))

    def _needs(self, sweep: Sweep, number: int | None = None) -> int:
        """How many of the first trials must have ended before trial ``number`` can be suggested."""
        return told_before(sweep.asked if number is None else number, sweep.plan.window, sweep.plan.batch)

    def _may_ask(self, sweep: Sweep) -> bool:
        if sweep.plan.deterministic:
            return sweep.prefix >= self._needs(sweep)
        ended = sum(n for state, n in sweep.counts.items() if state.terminal)
        return sweep.asked - ended <= sweep.plan.window - sweep.plan.batch

    def _carry_out_ending(self, sweep: Sweep, ending: ChangeSweep, actions: list[Action]) -> None:
        if ending.state is SweepState.COMPLETE and not sweep.counts[TrialState.COMPLETE]:
            ending = replace(ending, state=SweepState.STOPPED)
        for trial in sweep.trials.values():
            if trial.state is TrialState.RUNNING:
                self._leave(trial)
                if ending.state is SweepState.PAUSED:
                    self._requeue(sweep, trial, ending.reason, False, actions)
            if ending.state.terminal and not trial.state.terminal:
                cause, why = Cause.STOPPED, ending.reason
                if trial.attempt == 0 and ending.state is SweepState.COMPLETE:
                    cause = Cause.ENOUGH
                elif trial.attempt == 0:
                    why = f"never started: {why}"
                self._finish(sweep, trial, TrialState.STOPPED, why, actions, cause=cause)
        if ending.state.terminal:
            sweep.waiting = Waiting()
        self._close(sweep, ending, actions)

    def _close(self, sweep: Sweep, change: ChangeSweep, actions: list[Action]) -> None:
        sweep.state, sweep.ending = change.state, None
        self.board.recount()
        actions.append(change)

    # Trials

    def _move(self, sweep: Sweep, trial: Trial, state: TrialState) -> None:
        sweep.counts[trial.state] -= 1
        sweep.counts[state] += 1
        trial.state = state

    def _leave(self, trial: Trial) -> None:
        """The trial's row is given up; its worker drops it with the next leg."""
        worker = self._workers.get(trial.worker or "")
        if worker is not None and trial.number in worker.rows:
            worker.rows.discard(trial.number)
            worker.drop.add(trial.number)
        trial.worker = None

    def _finish(
        self,
        sweep: Sweep,
        trial: Trial,
        state: TrialState,
        reason: str,
        actions: list[Action],
        *,
        value: float | None = None,
        cause: Cause | None = None,
    ) -> None:
        trial.worker = None
        self._move(sweep, trial, state)
        actions.append(EndTrial(sweep.plan.sweep, trial.number, trial.attempt, state, reason, value, cause))

    def _requeue(self, sweep: Sweep, trial: Trial, reason: str, lost: bool, actions: list[Action]) -> None:
        trial.worker, trial.epochs = None, 0
        trial.lost += lost
        if trial.lost >= MAX_LOST:
            why = f"lost: {reason} ({trial.lost} attempts)"
            self._finish(sweep, trial, TrialState.FAILED, why, actions, cause=Cause.LOST)
            return
        self._move(sweep, trial, TrialState.WAITING)
        sweep.push(trial)
        actions.append(RequeueTrial(sweep.plan.sweep, trial.number, trial.attempt, reason, lost))

    # Workers

    def _worker_lost(self, event: WorkerLost, actions: list[Action]) -> None:
        worker = self.board.leave(event.worker)
        if worker is not None:
            self._give_back(worker, event.reason, True, actions)

    def _give_back(self, worker: Worker, reason: str, lost: bool, actions: list[Action]) -> None:
        """Requeue every trial whose row the worker held; afterwards it holds none."""
        if worker.sweep is not None:
            sweep = self._sweeps[worker.sweep]
            for number in sorted(worker.rows):
                self._requeue(sweep, sweep.trials[number], reason, lost, actions)
        worker.rows, worker.drop, worker.yielding = set(), set(), False
        self.board.serve(worker, None)
        self.board.rest(worker)

    def _leg_done(self, event: LegDone, actions: list[Action]) -> SaveCheckpoints | None:
        worker = self._workers.get(event.worker)
        if worker is None or worker.leg != event.leg:
            return None
        self.board.rest(worker)
        if worker.sweep is None:
            return None  # its sweep was forgotten meanwhile
        sweep = self._sweeps[worker.sweep]
        sweep.used += event.seconds
        self._decided(sweep, event.outcomes, actions)
        self._go_on(sweep, event.going_on)
        save = SaveCheckpoints(sweep.plan.sweep, frozenset(worker.rows), worker.draining or worker.yielding)
        if worker.draining:
            self._give_back(worker, "the worker's node is leaving", False, actions)
        elif worker.yielding:
            self._give_back(worker, "its worker was due to another sweep", False, actions)
        return save

    def _still_to_save(self, save: SaveCheckpoints) -> list[Action]:
        """Without the trials that the same event has stopped or put back."""
        if not save.before_commit:
            sweep = self._sweeps[save.sweep]
            going = (n for n in save.numbers if sweep.trials[n].state is TrialState.RUNNING)
            save = replace(save, numbers=frozenset(going))
        return [save] if save.numbers else []

    def _decided(self, sweep: Sweep, outcomes: Iterable[LegOutcome], actions: list[Action]) -> None:
        for outcome in outcomes:
            trial = sweep.trials.get(outcome.number)
            if trial is None or trial.attempt != outcome.attempt:
                continue
            wanted = TrialState.WAITING if outcome.verdict is Verdict.ABANDONED else TrialState.RUNNING
            if trial.state is not wanted:
                continue
            trial.epochs = outcome.epochs
            if outcome.verdict is Verdict.CONTINUE:
                continue
            if outcome.verdict in (Verdict.PRUNED, Verdict.FAILED, Verdict.PAUSED):
                self._leave(trial)  # its row may still train
            elif (worker := self._workers.get(trial.worker or "")) is not None:
                worker.rows.discard(trial.number)  # it has left its slot by itself
            trial.worker = None
            if outcome.verdict is Verdict.PAUSED:
                trial.epochs = 0
                self._move(sweep, trial, TrialState.WAITING)
                why = (trial.number, trial.attempt, outcome.reason, False)
                actions.append(RequeueTrial(sweep.plan.sweep, *why))
            elif outcome.verdict is not Verdict.HELD:
                state, value, cause = _ENDS[outcome.verdict], outcome.value, outcome.cause
                self._finish(sweep, trial, state, outcome.reason, actions, value=value, cause=cause)

    def _go_on(self, sweep: Sweep, paused: Iterable[Suggestion]) -> None:
        """Let paused trials wait for a worker, each in the shape that it has now."""
        for one in paused:
            trial = sweep.trials[one.number]
            trial.shape = one.shape
            if trial.state is TrialState.WAITING:
                sweep.push(trial)

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
            self._give_back(worker, f"out of memory with {rows} rows: trying {rows // 2}", False, actions)
        elif event.kind == "oom":
            for number in worker.rows:
                reason = f"out of memory even when trained alone: {event.detail}"
                self._finish(sweep, sweep.trials[number], TrialState.FAILED, reason, actions, cause=Cause.OUT_OF_MEMORY)
            worker.rows = set()
            self._give_back(worker, "", False, actions)
        else:
            self._give_back(worker, event.detail, True, actions)

    # Assignment

    def _dispatch(self, actions: list[Action]) -> None:
        for worker in sorted(self.board.resting.values(), key=lambda worker: worker.number):
            if worker.sweep is not None and not worker.rows:
                self.board.serve(worker, None)
            if worker.sweep is None:
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
        decisions = sweep.plan.decision_epochs
        ahead = []
        for trial in (sweep.trials[number] for number in worker.rows):
            assert trial.shape is not None
            end = trial.shape.epochs
            ahead.append(min((d for d in (*decisions, end) if d > trial.epochs), default=end) - trial.epochs)
        leg = self.board.begin(worker)
        drop = tuple(sorted(worker.drop))
        worker.drop = set()
        epochs = max(1, min(ahead))
        actions.append(
            RunLeg(
                worker.name,
                leg,
                sweep.plan.sweep,
                worker.cohort,
                tuple(admit),
                drop,
                epochs,
                1 if worker.shape is None else worker.width,
            )
        )

    def _admit(self, worker: Worker, sweep: Sweep, trial: Trial) -> Admit:
        assert trial.shape is not None
        sweep.waiting.take(trial.number)
        trial.attempt += 1
        trial.epochs = 0
        trial.worker = worker.name
        worker.rows.add(trial.number)
        self._move(sweep, trial, TrialState.RUNNING)
        return Admit(trial.number, trial.attempt, trial.shape)
