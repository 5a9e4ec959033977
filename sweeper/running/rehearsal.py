"""A sweep without its training: the scheduler is played through, and every epoch takes the seconds it is said to."""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sweeper.records import TrialRecord
from sweeper.scheduling.events import (
    Action,
    Ask,
    Event,
    LegDone,
    LegOutcome,
    RunLeg,
    Shape,
    Suggestion,
    SweepOpened,
    SweepPlan,
    TrialsSuggested,
    Verdict,
    WorkerJoined,
)
from sweeper.scheduling.scheduler import Scheduler

LONGEST = 500  # trials that are played; of more, the time grows in proportion


@dataclass(frozen=True)
class ShapeCost:
    """Seconds of one worker: per epoch of any rows, per row and epoch, and per row once, when it is admitted."""

    epoch: float
    row: float
    admission: float = 0.0


@dataclass(frozen=True)
class Rehearsal:
    """What came out: the seconds from the first leg to the last, those that workers trained, and rows per leg."""

    seconds: float
    busy: float
    rows: Mapping[Shape, float]


@dataclass
class _Stage:
    """The scheduler, a clock, and what each worker's rows have trained."""

    shapes: Sequence[Shape]
    costs: Mapping[Shape, ShapeCost]
    leg_seconds: float
    rows_per_trial: int
    scheduler: Scheduler
    due: list[tuple[float, int, Event]] = field(default_factory=list)
    epochs: dict[int, int] = field(default_factory=dict)
    attempts: dict[int, int] = field(default_factory=dict)
    held: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    legs: dict[Shape, list[int]] = field(default_factory=lambda: defaultdict(list))
    busy: float = 0.0
    count: int = 0

    def put(self, at: float, event: Event) -> None:
        self.count += 1
        heapq.heappush(self.due, (at, self.count, event))

    def play(self) -> float:
        """Handle events in the order of their times; the time of the last one."""
        now = 0.0
        while self.due:
            now, _, event = heapq.heappop(self.due)
            for action in self.scheduler.handle(event):
                self.carry_out(now, action)
        return now

    def carry_out(self, now: float, action: Action) -> None:
        match action:
            case Ask():
                asked = (Suggestion(n, self.shape(n)) for n in action.numbers)
                self.put(now, TrialsSuggested(action.sweep, tuple(asked)))
            case RunLeg():
                self.run(now, action)

    def run(self, now: float, leg: RunLeg) -> None:
        rows = self.held[leg.worker]
        rows[:] = [number for number in rows if number not in leg.drop]
        for admit in leg.admit:
            rows.append(admit.number)
            self.attempts[admit.number], self.epochs[admit.number] = admit.attempt, 0
        for shape, count in Counter(self.shape(number) for number in rows).items():
            self.legs[shape].append(count * self.rows_per_trial)
        seconds = sum(self.costs[admit.shape].admission for admit in leg.admit) * self.rows_per_trial
        for _ in range(leg.epochs):
            training = [number for number in rows if self.epochs[number] < self.shape(number).epochs]
            for shape, count in Counter(self.shape(number) for number in training).items():
                seconds += self.costs[shape].epoch + self.costs[shape].row * count * self.rows_per_trial
            self.epochs.update((number, self.epochs[number] + 1) for number in training)
            if seconds >= self.leg_seconds:
                break
        outcomes = tuple(self.outcome(number) for number in rows)
        rows[:] = [number for number in rows if self.epochs[number] < self.shape(number).epochs]
        self.busy += seconds
        self.put(now + seconds, LegDone(leg.worker, leg.leg, outcomes))

    def shape(self, number: int) -> Shape:
        return self.shapes[number % len(self.shapes)]

    def outcome(self, number: int) -> LegOutcome:
        done = self.epochs[number] >= self.shape(number).epochs
        verdict = Verdict.COMPLETE if done else Verdict.CONTINUE
        return LegOutcome(number, self.attempts[number], self.epochs[number], verdict, value=0.0 if done else None)


def rehearse(
    plan: SweepPlan,
    shapes: Sequence[Shape],
    costs: Mapping[Shape, ShapeCost],
    workers: int,
    width_of: Callable[[Shape], int],
    leg_seconds: float,
    mixes: bool = False,
) -> Rehearsal:
    """Play a sweep whose trial n has the shape ``shapes[n % len(shapes)]``; nothing is pruned and nothing diverges.

    ``width_of`` gives the rows of a shape that fit a worker's device; for ``mixes`` see ``WorkerJoined``.
    """
    played = replace(plan, requested=min(plan.requested, LONGEST))
    scheduler = Scheduler(lambda worker, sweep, shape: width_of(shape))
    stage = _Stage(shapes, costs, leg_seconds, plan.rows_per_trial, scheduler)
    stage.put(0.0, SweepOpened(played, tuple(_waiting(played.requested)), {}))
    for worker in range(workers):
        stage.put(0.0, WorkerJoined(str(worker), mixes=mixes))
    seconds, scale = stage.play(), plan.requested / played.requested
    rows = {shape: sum(legs) / len(legs) for shape, legs in stage.legs.items()}
    return Rehearsal(seconds * scale, stage.busy * scale, rows)


def _waiting(count: int) -> Iterator[TrialRecord]:
    return (TrialRecord(number) for number in range(count))
