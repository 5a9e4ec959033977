"""What the scheduler knows: sweeps, their trials, and the workers with the rows that they hold."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from sweeper.scheduling.events import ChangeSweep, Shape, SweepPlan, arithmetic_in
from sweeper.states import SweepState, TrialState

NO_LIMIT = 1_000_000


@dataclass(slots=True)
class Trial:
    """One trial; ``epochs`` are those that its worker has reported, ``lost`` its attempts that went with a worker."""

    number: int
    state: TrialState
    attempt: int = 0
    lost: int = 0
    epochs: int = 0
    shape: Shape | None = None
    worker: str | None = None


@dataclass
class Waiting:
    """Suggested trials that wait for a worker, lowest number first: all of them, and those of each shape.

    A number is taken out of one heap only; in the other it stays until it comes to the top, and counts no more.
    """

    _shapes: dict[int, Shape] = field(default_factory=dict)  # of those that wait
    _all: list[int] = field(default_factory=list)
    _of: dict[Shape, list[int]] = field(default_factory=dict)
    _counts: Counter[Shape] = field(default_factory=Counter)

    def __len__(self) -> int:
        return len(self._shapes)

    def push(self, number: int, shape: Shape) -> None:
        """One more waits."""
        if number not in self._shapes:
            self._shapes[number] = shape
            self._counts[shape] += 1
            heapq.heappush(self._all, number)
            heapq.heappush(self._of.setdefault(shape, []), number)

    def count(self, shape: Shape | None) -> int:
        """How many wait, of one shape or of any (None)."""
        return len(self) if shape is None else self._counts[shape]

    def first(self, shape: Shape | None = None) -> int:
        """The lowest number, of one shape or of any; there has to be one."""
        heap = self._all if shape is None else self._of[shape]
        while heap[0] not in self._shapes:
            heapq.heappop(heap)
        return heap[0]

    def shape(self, number: int) -> Shape:
        """The shape of one that waits."""
        return self._shapes[number]

    def take(self, number: int) -> None:
        """One waits no more."""
        shape = self._shapes.pop(number)
        self._counts[shape] -= 1
        if not self._counts[shape]:
            del self._counts[shape], self._of[shape]


@dataclass
class Sweep:
    """One sweep and all of its trials."""

    plan: SweepPlan
    trials: dict[int, Trial]
    state: SweepState = SweepState.RUNNING
    ending: ChangeSweep | None = None  # a stop or pause that waits for the legs in flight
    asked: int = 0  # trials 0..asked-1 have parameters or an Ask under way
    asking: bool = False
    exhausted: bool = False
    prefix: int = 0  # trials 0..prefix-1 are terminal
    waiting: Waiting = field(default_factory=Waiting)
    counts: Counter[TrialState] = field(default_factory=Counter)
    served: int = 0  # when this sweep last got a worker

    def push(self, trial: Trial) -> None:
        """A suggested trial waits for a worker."""
        assert trial.shape is not None
        self.waiting.push(trial.number, trial.shape)

    def takes(self, worker: Worker) -> bool:
        """Whether the worker computes in this sweep's arithmetic, or the sweep has none yet."""
        return self.plan.arithmetic in ("", self.arithmetic_in(worker))

    def arithmetic_in(self, worker: Worker) -> str:
        """What the sweep's trials are computed in by a worker."""
        return arithmetic_in(worker.arithmetic, worker.eager, self.plan.compiled)

    def n_ready(self) -> int:
        """Suggested trials that wait for a worker."""
        return len(self.waiting)


@dataclass
class Worker:
    """One worker and the cohort that it trains; ``shape`` is None while it has none, or may have trials of several."""

    name: str
    arithmetic: str = ""
    eager: str = ""
    mixes: bool = False
    leg: int | None = None  # the leg in flight
    sweep: str | None = None
    shape: Shape | None = None
    cohort: int = 0  # changes whenever the worker starts over with an empty cohort
    width: int = 0  # trials that the cohort has room for
    rows: set[int] = field(default_factory=set)
    drop: set[int] = field(default_factory=set)
    draining: bool = False
    yielding: bool = False


@dataclass
class Board:
    """All sweeps and workers.

    ``width_of(worker, sweep, shape)`` is the number of the sweep's rows that fit the worker's device; ``widths`` keeps
    by the same key, with None for a cohort of several shapes, what a worker has room for since it ran out of memory.
    ``user_limit`` bounds the running trials of one owner (None: no bound). ``turn`` counts the cohorts begun.
    """

    width_of: Callable[[str, str, Shape], int]
    user_limit: int | None = None
    sweeps: dict[str, Sweep] = field(default_factory=dict)
    workers: dict[str, Worker] = field(default_factory=dict)
    widths: dict[tuple[str, str, Shape | None], int] = field(default_factory=dict)
    turn: int = 0

    def candidates(self, worker: Worker) -> Iterable[Sweep]:
        """Sweeps with a trial that may start on this worker now."""
        for sweep in self.sweeps.values():
            running = sweep.state is SweepState.RUNNING and sweep.ending is None
            if running and sweep.takes(worker) and sweep.waiting and self.allowed(sweep) > 0:
                yield sweep

    def workers_of(self, sweep: Sweep) -> list[Worker]:
        """The workers that compute in the sweep's arithmetic."""
        return [worker for worker in self.workers.values() if sweep.takes(worker)]

    def allowed(self, sweep: Sweep) -> int:
        """How many more trials the sweep's owner may run."""
        if self.user_limit is None:
            return NO_LIMIT
        mine = (s for s in self.sweeps.values() if s.plan.owner == sweep.plan.owner)
        return self.user_limit - sum(s.counts[TrialState.RUNNING] for s in mine)

    def held(self) -> tuple[Counter[str], Counter[str]]:
        """Workers held, by sweep and by owner."""
        by_sweep = Counter(w.sweep for w in self.workers.values() if w.sweep is not None)
        by_owner: Counter[str] = Counter()
        for name, n in by_sweep.items():
            by_owner[self.sweeps[name].plan.owner] += n
        return by_sweep, by_owner
