"""A seeded simulator of the whole service in virtual time: pure scheduler, in-memory ledger, everything else may fail.

Replay one seed with every event printed: ``python -m tests.simulation SEED``.
"""

from __future__ import annotations

import heapq
import itertools
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from sweeper.ledger.memory import MemoryLedger
from sweeper.records import Change, EpochReport, Reported, Requeued, Suggested, SweepChanged, SweepRecord, Tracked
from sweeper.scheduling import events as ev
from sweeper.scheduling.assignment import MAX_LOST
from sweeper.scheduling.changes import changes_of
from sweeper.scheduling.scheduler import Scheduler
from sweeper.states import SweepState, TrialState

SHAPES = (ev.Shape((8,), 4, 3), ev.Shape((16,), 4, 3), ev.Shape((8,), "full", 2))
MAX_EVENTS = 4000


class Violation(AssertionError):
    """An invariant does not hold."""


class Crash(Exception):
    """The driver is killed here."""


def truth(sweep: int, number: int) -> tuple[str, float]:
    """What a trial comes to, whoever runs it: complete or diverged, and its value."""
    draw = random.Random(f"{sweep}-{number}")
    return ("diverged" if draw.random() < 0.1 else "complete", round(draw.random(), 6))


def shape_of(sweep: int, number: int) -> ev.Shape:
    """What the space suggests for a trial."""
    return SHAPES[random.Random(f"shape-{sweep}-{number}").choice((0, 0, 0, 1, 2))]


def kills_its_workers(seed: int, sweep: int, number: int) -> bool:
    """Whether a trial ends every worker that it runs on."""
    return random.Random(f"poison-{seed}-{sweep}-{number}").random() < 0.03


@dataclass
class SimWorker:
    """A worker as it really is: rows with attempt and epochs."""

    name: str
    speed: float
    cohort: int = -1
    rows: dict[int, tuple[int, int]] = field(default_factory=dict)  # number -> attempt, epochs


@dataclass
class World:
    """One simulated cluster, its users and its faults."""

    seed: int
    verbose: bool = False

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.ledger = MemoryLedger(lambda: self.now, lambda _: f"sweep-{len(self.sweeps)}")
        self.now = 0.0
        self.queue: list[tuple[float, int, Callable[[], None]]] = []
        self.order = itertools.count()
        self.workers: dict[str, SimWorker] = {}
        self.names = itertools.count()
        self.generation = 0
        self.tracker_up = True
        self.shown: dict[tuple[str, int], str] = {}  # what MLflow shows
        self.faults = self.rng.choice((0.0, 0.05, 0.15, 0.3))
        self.limit = self.rng.choice((None, None, 3))
        self.sweeps: dict[str, ev.SweepPlan] = {}
        self.index: dict[str, int] = {}
        self.grouped: set[str] = set()  # sweeps whose trials wait for each other's verdicts
        self.limbo: dict[tuple[str, int], int] = {}  # trained to the end, undecided: the attempt
        self.terminal: dict[tuple[str, int], TrialState] = {}
        self.log: list[str] = []
        for _ in range(self.rng.choice((1, 1, 2, 3))):
            self._new_sweep()
        self.scheduler = self._boot()
        for _ in range(self.rng.randint(1, 3)):
            self._join()

    # The world

    def after(self, delay: float, act: Callable[[], None]) -> None:
        heapq.heappush(self.queue, (self.now + delay, next(self.order), act))

    def say(self, text: str) -> None:
        line = f"{self.now:8.2f} {text}"
        self.log.append(line)
        if self.verbose:
            print(line)

    def _new_sweep(self) -> None:
        requested = self.rng.randint(1, 14)
        owner = self.rng.choice(("ada", "bob"))
        record = self.ledger.create_sweep(f"s{len(self.sweeps)}", {}, requested, owner=owner)
        window = self.rng.randint(1, 8)
        plan = ev.SweepPlan(
            sweep=record.sweep,
            requested=requested,
            window=window,
            batch=self.rng.randint(1, window),
            deterministic=self.rng.random() < 0.7,
            decision_epochs=(1,) if self.rng.random() < 0.3 else (),
            priority=self.rng.choice((0, 0, 1)),
            owner=owner,
            mixed=self.rng.random() < 0.5,
        )
        if self.rng.random() < 0.3:
            self.grouped.add(record.sweep)
        self.index[record.sweep] = len(self.sweeps)
        self.sweeps[record.sweep] = plan

    def _boot(self) -> Scheduler:
        """A new driver reads the ledger; what ran under the old one waits again."""
        self.generation += 1
        self.limbo.clear()
        self.workers.clear()
        scheduler = Scheduler(lambda _worker, _sweep, shape: 4 if shape.hidden_layers == (8,) else 2, self.limit)
        self.scheduler = scheduler
        reopened = []
        for sweep in self.sweeps:
            record = self.ledger.sweep(sweep)
            if record.state in (SweepState.COMPLETE, SweepState.FAILED):
                continue
            back: list[Change] = [
                Requeued(t.number, t.attempt, "its controller ended", lost=False)
                for t in self.ledger.trials(sweep)
                if t.state is TrialState.RUNNING
            ]
            self._commit(sweep, [*back, SweepChanged(state=SweepState.RUNNING, at=self.now)])
            reopened.append(record)
        for record in reopened:
            self._reopen(record)
        return self.scheduler

    def _reopen(self, record: SweepRecord) -> None:
        sweep = record.sweep
        trials = self.ledger.trials(sweep)
        shapes = {t.number: shape_of(self.index[sweep], t.number) for t in trials if t.params is not None}
        plan = replace(self.sweeps[sweep], requested=record.requested, priority=record.priority)
        self.sweeps[sweep] = plan
        self._forget(sweep, (TrialState.STOPPED,))
        self.take(ev.SweepOpened(plan, tuple(trials), shapes, reopen=(TrialState.STOPPED,)))

    def _join(self) -> None:
        name = f"w{next(self.names)}"
        self.workers[name] = SimWorker(name, self.rng.choice((0.5, 1.0, 1.0, 5.0)))
        kind = self.rng.choice(({}, {"mixes": True}, {"pads": True}))
        self.take(ev.WorkerJoined(name, **kind))

    # The driver

    def _commit(self, sweep: str, changes: list[Change]) -> None:
        refused = self.ledger.commit(sweep, changes)
        stale = [c for c in refused if not isinstance(c, Reported)]
        if stale:
            raise Violation(f"the ledger refused {stale}")

    def take(self, event: ev.Event, extra: dict[str, list[Change]] | None = None) -> None:
        """What the controller does with one event; it may be killed before or after the commit."""
        self.say(f"event {event}")
        actions = self.scheduler.handle(event)
        changes: dict[str, list[Change]] = {k: list(v) for k, v in (extra or {}).items()}
        for action in actions:
            self.say(f"  action {action}")
            self._check_action(action)
            for sweep, change in changes_of(action, self.now):
                changes.setdefault(sweep, []).append(change)
        for sweep, batch in changes.items():
            self._maybe_crash()
            self._commit(sweep, batch)
        self._maybe_crash()
        for action in actions:
            self._act(action)
        self.check()

    def _maybe_crash(self) -> None:
        if self.rng.random() < self.faults * 0.05:
            raise Crash

    def _act(self, action: ev.Action) -> None:
        match action:
            case ev.Ask():
                self._check_ask(action)
                self._later(self.rng.uniform(0.1, 1.0), lambda: self._answer(action))
            case ev.RunLeg():
                self._leg(action)
            case ev.EndTrial() if action.attempt > 0:
                self._later(0.2, lambda: self._show(action.sweep))

    def _later(self, delay: float, act: Callable[[], None]) -> None:
        """Something of this driver's: it is gone when the driver is."""
        generation = self.generation
        self.after(delay, lambda: act() if generation == self.generation else None)

    def _answer(self, ask: ev.Ask) -> None:
        numbers = [n for n in ask.numbers if n in {t.number for t in self.ledger.trials(ask.sweep)}]
        changes: list[Change] = [Suggested(n, {"x": n}, 0) for n in numbers]
        answer = tuple(ev.Suggestion(n, shape_of(self.index[ask.sweep], n)) for n in numbers)
        self.take(ev.TrialsSuggested(ask.sweep, answer), {ask.sweep: changes})

    # Workers

    def _leg(self, order: ev.RunLeg) -> None:
        worker = self.workers[order.worker]
        if worker.cohort != order.cohort:
            worker.cohort, worker.rows = order.cohort, {}
        for number in order.drop:
            worker.rows.pop(number, None)
        for admit in order.admit:
            if admit.number in worker.rows:
                raise Violation(f"trial {admit.number} is admitted twice on {worker.name}")
            worker.rows[admit.number] = (admit.attempt, 0)
        duration = worker.speed * order.epochs * self.rng.uniform(0.5, 1.5)
        fate = self.rng.random()
        index = self.index[order.sweep]
        poisoned = self.faults > 0 and any(kills_its_workers(self.seed, index, number) for number in worker.rows)
        if poisoned or fate < self.faults * 0.15:
            self._later(duration / 2, lambda: self._lose(worker, "killed"))
        elif fate < self.faults * 0.25:
            self._later(duration, lambda: self._raise(worker, order, self.rng.choice(("oom", "error"))))
        else:
            self._later(duration, lambda: self._report(worker, order))
            if fate < self.faults * 0.5:
                self._later(duration * 2, lambda: self._lose(worker, "slow: declared dead"))
            elif fate < self.faults * 0.6:
                self._later(duration * 0.9, lambda: self.take(ev.WorkerDraining(worker.name)))

    def _expects(self, worker: SimWorker, order: ev.RunLeg) -> bool:
        """Whether this leg of this worker is still in flight."""
        return self.workers.get(worker.name) is worker and self.scheduler.board.workers[worker.name].leg == order.leg

    def _hold(self, worker: SimWorker, order: ev.RunLeg, outcome: ev.LegOutcome) -> ev.LegOutcome:
        """A verdict that comes later than the leg: of a trial that has ended, or of one that trains on meanwhile."""
        live = self._expects(worker, order)
        later = outcome
        if outcome.verdict is ev.Verdict.CONTINUE:
            later = replace(outcome, verdict=ev.Verdict.PRUNED, reason="worse than its batch", value=0.5)
            if self.rng.random() < 0.7:
                return outcome
        elif live:
            if self.ledger.trial(order.sweep, outcome.number).attempt == outcome.attempt:
                self.limbo[order.sweep, outcome.number] = outcome.attempt
            outcome = replace(outcome, verdict=ev.Verdict.HELD, reason="", value=None)
        self._later(self.rng.uniform(0.1, 6.0), lambda: self._decide(order.sweep, later))
        return outcome

    def _decide(self, sweep: str, outcome: ev.LegOutcome) -> None:
        if self.limbo.get((sweep, outcome.number)) == outcome.attempt:
            del self.limbo[sweep, outcome.number]
        self.take(ev.TrialsDecided(sweep, (outcome,)))

    def _raise(self, worker: SimWorker, order: ev.RunLeg, kind: Any) -> None:
        worker.rows, worker.cohort = {}, -1
        self.take(ev.LegFailed(worker.name, order.leg, kind, "boom"))

    def _lose(self, worker: SimWorker, reason: str) -> None:
        if self.workers.pop(worker.name, None) is not None:
            self.take(ev.WorkerLost(worker.name, reason))

    def _report(self, worker: SimWorker, order: ev.RunLeg) -> None:
        outcomes, reports = [], []
        for number, (attempt, epochs) in list(worker.rows.items()):
            end = shape_of(self.index[order.sweep], number).epochs
            ran = min(order.epochs, end - epochs)
            fate, value = truth(self.index[order.sweep], number)
            done = epochs + ran
            entries = tuple(EpochReport(e, {"val_loss": value + end - e}) for e in range(epochs, done))
            reports.append(Reported(number, attempt, entries, 1.0))
            verdict, reason, result = ev.Verdict.CONTINUE, "", None
            if fate == "diverged" and done == end:
                verdict, reason = ev.Verdict.FAILED, "diverged: nan"
            elif done == end:
                verdict, reason, result = ev.Verdict.COMPLETE, "trained", value
            elif self.sweeps[order.sweep].decision_epochs and value > 0.7:
                verdict, reason = ev.Verdict.PRUNED, "worse"
            outcome = ev.LegOutcome(number, attempt, done, verdict, reason, result)
            worker.rows[number] = (attempt, done)
            if verdict in (ev.Verdict.COMPLETE, ev.Verdict.FAILED):
                del worker.rows[number]
            if order.sweep in self.grouped and verdict is not ev.Verdict.PRUNED:
                outcome = self._hold(worker, order, outcome)
            outcomes.append(outcome)
        event = ev.LegDone(worker.name, order.leg, tuple(outcomes))
        live = self._expects(worker, order)
        self.take(event, {order.sweep: list(reports)} if live else None)
        if self.rng.random() < self.faults * 0.5:
            before = self._snapshot()
            self.say("the same report again")
            if self.scheduler.handle(event) or self._snapshot() != before:
                raise Violation("a duplicate report changed something")

    # MLflow

    def _show(self, sweep: str) -> None:
        if not self.tracker_up:
            return
        done: list[Change] = []
        for trial in self.ledger.untracked(sweep):
            if trial.attempt > 0:
                self.shown[sweep, trial.number] = str(trial.state)
                done.append(Tracked(trial.number, f"run-{trial.number}", trial.state))
        self._maybe_crash()
        self._commit(sweep, done)

    # Faults and users

    def disturb(self) -> None:
        """One random thing happens from outside."""
        sweep = self.rng.choice(list(self.sweeps))
        match self.rng.choice(("join", "stop", "pause", "resume", "budget", "retry", "tracker", "kill", "crash")):
            case "join":
                self._join()
            case "stop" if self.rng.random() < 0.3:
                self.take(ev.StopSweep(sweep, "stopped by the user"))
            case "pause":
                self.take(ev.PauseSweep(sweep, "paused by the user"))
            case "resume":
                self.take(ev.ResumeSweep(sweep))
            case "budget":
                self.take(ev.BudgetChanged(sweep, self.rng.randint(1, 16), self.rng.choice((None, 0, 2))))
            case "retry":
                self._forget(sweep, (TrialState.FAILED,))
                self.take(ev.RetryTrials(sweep, (TrialState.FAILED,), "retried"))
            case "tracker":
                self.tracker_up = not self.tracker_up
            case "kill" if self.workers:
                self._lose(self.rng.choice(list(self.workers.values())), "killed")
            case "crash" if self.rng.random() < 0.5:
                raise Crash

    def _forget(self, sweep: str, states: tuple[TrialState, ...]) -> None:
        self.terminal = {k: s for k, s in self.terminal.items() if not (k[0] == sweep and s in states)}

    # Invariants

    def _snapshot(self) -> list[Any]:
        return [self.ledger.trials(sweep) for sweep in self.sweeps]

    def _check_action(self, action: ev.Action) -> None:
        """No action on a trial that has ended."""
        if isinstance(action, ev.EndTrial | ev.RequeueTrial):
            state = self.ledger.trial(action.sweep, action.number).state
            if state.terminal:
                raise Violation(f"{action} on a trial that is {state}")

    def _check_ask(self, ask: ev.Ask) -> None:
        """A deterministic suggestion finds every result that it has to see."""
        if self.sweeps[ask.sweep].deterministic:
            trials = self.ledger.trials(ask.sweep, numbers=list(range(ask.told or 0)))
            if not all(t.state.terminal for t in trials):
                raise Violation(f"{ask} before the results it needs")

    def check(self) -> None:
        """Everything that must hold after every event."""
        held: dict[tuple[str, int], str] = {}
        for name in self.workers:
            worker = self.scheduler.board.workers[name]
            sweep = worker.sweep
            numbers = worker.rows if sweep is not None else ()
            shapes = {worker.key(shape_of(self.index[sweep], number)) for number in numbers}
            if len(shapes) > 1 and not (sweep is not None and worker.mixes and self.sweeps[sweep].mixed):
                raise Violation(f"{name} has rows of {shapes}")
            for number in worker.rows:
                if sweep is None or held.setdefault((sweep, number), name) != name:
                    raise Violation(f"trial {number} of {sweep} runs on two workers")
        for sweep in self.sweeps:
            record, trials = self.ledger.sweep(sweep), self.ledger.trials(sweep)
            if [t.number for t in trials] != list(range(record.requested)):
                raise Violation(f"sweep {sweep} of {record.requested} trials has the numbers {trials}")
            for t in trials:
                before = self.terminal.get((sweep, t.number))
                if before is not None and t.state is not before and t.state is not TrialState.WAITING:
                    raise Violation(f"trial {t.number} went from {before} to {t.state}")
                if t.state.terminal:
                    self.terminal[sweep, t.number] = t.state
                if t.lost > MAX_LOST:
                    raise Violation(f"trial {t.number} lost {t.lost} attempts")
                waits = self.limbo.get((sweep, t.number)) == t.attempt
                if t.state is TrialState.RUNNING and (sweep, t.number) not in held and not waits:
                    raise Violation(f"trial {t.number} of {sweep} is running nowhere")
                if t.state is TrialState.COMPLETE and t.value != truth(self.index[sweep], t.number)[1]:
                    raise Violation(f"trial {t.number} has the value {t.value}")
                if t.state.terminal and not t.reason:
                    raise Violation(f"trial {t.number} ended without a reason")
        self._check_starvation()

    def _check_starvation(self) -> None:
        """No suggested trial waits while a worker idles, unless its owner's limit is reached."""
        workers, board = [self.scheduler.board.workers[name] for name in self.workers], self.scheduler.board
        for worker in workers:
            if worker.leg is None and not worker.draining and self.limit is None:
                for sweep in board.candidates(worker):
                    raise Violation(f"{worker.name} idle while {sweep.n_ready()} trials of {sweep.plan.sweep} wait")

    # Running

    def run(self) -> None:
        """Until every sweep has ended and MLflow shows it; faults stop after a while, so that it can end."""
        for step in range(MAX_EVENTS):
            calm = step > MAX_EVENTS // 8
            if calm:
                self.faults, self.tracker_up = 0.0, True
            try:
                if not calm and self.rng.random() < self.faults * 0.3:
                    self.disturb()
                leaving = [self.scheduler.board.workers[name].draining for name in self.workers]
                if all(leaving) and (calm or self.rng.random() < 0.5):
                    self._join()
                if self.queue:
                    self.now, _, act = heapq.heappop(self.queue)
                    act()
                elif self._finished(calm):
                    return self._check_end()
            except Crash:
                self._restart()
        raise Violation(f"not finished after {MAX_EVENTS} events")

    def _restart(self) -> None:
        while True:
            self.say("driver killed; a new one starts")
            try:
                self._boot()
                self._join()
                return
            except Crash:
                continue

    def _finished(self, calm: bool) -> bool:
        """Nothing is left to happen: resume what is paused or stopped until all is complete."""
        open_sweeps, self.tracker_up = False, True
        for sweep in self.sweeps:
            state = self.ledger.sweep(sweep).state
            if state in (SweepState.PAUSED, SweepState.STOPPED):
                open_sweeps = True
                self.take(ev.ResumeSweep(sweep))
                self._forget(sweep, (TrialState.STOPPED,))
                self.take(ev.RetryTrials(sweep, (TrialState.STOPPED,), "resumed"))
            elif not state.terminal:
                open_sweeps = True
            self._show(sweep)
        return not open_sweeps

    def _check_end(self) -> None:
        for sweep in self.sweeps:
            for trial in self.ledger.trials(sweep):
                if not trial.state.terminal:
                    raise Violation(f"sweep {sweep} ended with trial {trial.number} {trial.state}")
                epochs = [r.epoch for r in self.ledger.reports(sweep, trial.number).get(trial.number, [])]
                if trial.state is TrialState.COMPLETE and epochs != list(
                    range(shape_of(self.index[sweep], trial.number).epochs)
                ):
                    raise Violation(f"trial {trial.number} has the epochs {epochs}")
                if trial.attempt > 0 and self.shown.get((sweep, trial.number)) != str(trial.state):
                    raise Violation(f"MLflow shows trial {trial.number} as {self.shown.get((sweep, trial.number))}")


def simulate(seed: int, verbose: bool = False) -> World:
    """One simulated history; raises Violation with the seed when an invariant breaks."""
    world = World.__new__(World)
    world.seed, world.verbose = seed, verbose
    try:
        world.__post_init__()
    except Crash:
        return world  # killed before anything was written that could be resumed here
    try:
        world.run()
    except Violation as error:
        raise Violation(f"seed {seed}: {error}. Replay: python -m tests.simulation {seed}") from error
    return world


if __name__ == "__main__":
    simulate(int(sys.argv[1]), verbose=True)
