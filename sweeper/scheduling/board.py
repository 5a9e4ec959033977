"""What the scheduler knows: sweeps, their trials, and the workers with the rows that they hold."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from sweeper.scheduling.events import ChangeSweep, Shape, SweepPlan, arithmetic_in
from sweeper.scheduling.shares import SharesChanged
from sweeper.scheduling.window import told_before
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
    """Suggested trials that wait for a worker, lowest number first: all, those of each shape, and of each bucket.

    A number is taken out of one heap only; in the others it stays until it comes to the top, and counts no more.
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
            heapq.heappush(self._all, number)
            for key in {shape, shape.bucket}:
                self._counts[key] += 1
                heapq.heappush(self._of.setdefault(key, []), number)

    def count(self, shape: Shape | None) -> int:
        """How many wait, of one shape or bucket or of any (None)."""
        return len(self) if shape is None else self._counts[shape]

    def first(self, shape: Shape | None = None) -> int:
        """The lowest number, of one shape or bucket or of any; there has to be one."""
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
        for key in {shape, shape.bucket}:
            self._counts[key] -= 1
            if not self._counts[key]:
                del self._counts[key], self._of[key]


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
    enough: str = ""  # why the search has come to its end before its trials have
    prefix: int = 0  # trials 0..prefix-1 are terminal
    waiting: Waiting = field(default_factory=Waiting)
    counts: Counter[TrialState] = field(default_factory=Counter)
    served: int = 0  # when this sweep last got a worker
    used: float = 0.0  # seconds of workers, since a sweep last began or ended

    def push(self, trial: Trial) -> None:
        """A suggested trial waits for a worker."""
        assert trial.shape is not None
        self.waiting.push(trial.number, trial.shape)

    def move(self, trial: Trial, state: TrialState) -> None:
        """A trial is in another state."""
        self.counts[trial.state] -= 1
        self.counts[state] += 1
        trial.state = state

    def epochs_ahead(self, number: int) -> int:
        """How many epochs a trial has to its next decision, or to its end."""
        trial = self.trials[number]
        assert trial.shape is not None
        end = trial.shape.epochs
        return min((d for d in (*self.plan.decision_epochs, end) if d > trial.epochs), default=end) - trial.epochs

    def needs(self, number: int | None = None) -> int:
        """How many of the first trials must have ended before trial ``number`` (None: the next) can be suggested."""
        return told_before(self.asked if number is None else number, self.plan.window, self.plan.batch)

    def may_ask(self) -> bool:
        """Whether enough trials have ended for the next to be suggested."""
        if self.plan.deterministic:
            return self.prefix >= self.needs()
        ended = sum(n for state, n in self.counts.items() if state.terminal)
        return self.asked - ended <= self.plan.window - self.plan.batch

    def takes(self, worker: Worker) -> bool:
        """Whether the worker computes in this sweep's arithmetic, or the sweep has none yet."""
        return self.computes(worker.arithmetic, worker.eager)

    def computes(self, arithmetic: str, eager: str) -> bool:
        """Whether that is so of a worker of these two arithmetics."""
        return self.plan.arithmetic in ("", arithmetic_in(arithmetic, eager, self.plan.compiled))

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
    number: int  # in the order of joining
    arithmetic: str = ""
    eager: str = ""
    mixes: bool = False
    pads: bool = False
    leg: int | None = None  # the leg in flight
    sweep: str | None = None
    shape: Shape | None = None
    cohort: int = 0  # changes whenever the worker starts over with an empty cohort
    width: int = 0  # trials that the cohort has room for
    rows: set[int] = field(default_factory=set)
    drop: set[int] = field(default_factory=set)
    draining: bool = False
    yielding: bool = False

    def key(self, shape: Shape) -> Shape:
        """The shape key here: trials of one key train together."""
        return shape.bucket if self.pads else shape


@dataclass
class Board:
    """All sweeps and workers.

    ``width_of(worker, sweep, shape)`` is the number of the sweep's rows that fit the worker's device; ``widths`` keeps
    by the same key, with None for a cohort of several shapes, what a worker has room for since it ran out of memory.
    ``user_limit`` bounds the running trials of one owner (None: no bound); ``shares`` says what of that, and of the
    workers, other processes have. ``turn`` counts the cohorts begun.
    A thousand workers answer a thousand times a second: what is asked of all of them is kept up to date by the methods
    below, through which alone a worker's sweep and leg change.
    """

    width_of: Callable[[str, str, Shape], int]
    user_limit: int | None = None
    shares: SharesChanged = field(default_factory=SharesChanged)
    sweeps: dict[str, Sweep] = field(default_factory=dict)
    workers: dict[str, Worker] = field(default_factory=dict)
    widths: dict[tuple[str, str, Shape | None], int] = field(default_factory=dict)
    turn: int = 0
    resting: dict[str, Worker] = field(default_factory=dict)  # those that may be given a leg
    rotating: set[str] = field(default_factory=set)  # workers that drain for somebody who has had less
    _joined: int = 0
    _legs: int = 0
    _kinds: Counter[tuple[str, str]] = field(default_factory=Counter)  # workers by arithmetic and eager one
    _held: Counter[str] = field(default_factory=Counter)  # workers by sweep

    def join(self, name: str, arithmetic: str, eager: str, mixes: bool, pads: bool) -> None:
        """A worker that rests."""
        if name not in self.workers:
            worker = Worker(name, self._joined, arithmetic, eager, mixes, pads)
            self.workers[name] = self.resting[name] = worker
            self._joined += 1
            self._kinds[worker.arithmetic, worker.eager] += 1

    def leave(self, name: str) -> Worker | None:
        """The worker is gone; it still holds its rows for whoever gives them back."""
        worker = self.workers.pop(name, None)
        if worker is not None:
            self.resting.pop(name, None)
            self.rotating.discard(name)
            self._kinds[worker.arithmetic, worker.eager] -= 1
            self._held[worker.sweep or ""] -= 1
        return worker

    def drain(self, worker: Worker) -> None:
        """The worker gets no leg any more."""
        worker.draining = True
        self.resting.pop(worker.name, None)

    def serve(self, worker: Worker, sweep: str | None) -> None:
        """The worker serves this sweep from now on, or none."""
        if worker.name in self.workers:
            self._held[worker.sweep or ""] -= 1
            self._held[sweep or ""] += 1
        self.rotating.discard(worker.name)
        worker.sweep = sweep
        if sweep is None:
            worker.shape = None

    def begin(self, worker: Worker) -> int:
        """The number of a new leg, which the worker has in flight."""
        worker.leg = self._legs
        self._legs += 1
        self.resting.pop(worker.name, None)
        return worker.leg

    def rest(self, worker: Worker) -> None:
        """No leg of the worker is in flight."""
        worker.leg = None
        if worker.name in self.workers and not worker.draining:
            self.resting[worker.name] = worker

    def candidates(self, worker: Worker) -> Iterable[Sweep]:
        """Sweeps with a trial that may start on this worker now."""
        for sweep in self.sweeps.values():
            running = sweep.state is SweepState.RUNNING and sweep.ending is None
            if running and sweep.takes(worker) and sweep.waiting and self.allowed(sweep) > 0:
                yield sweep

    def n_workers(self, sweep: Sweep) -> int:
        """How many workers compute in the sweep's arithmetic."""
        kinds = self._kinds.items()
        found = sum(n for (arithmetic, eager), n in kinds if sweep.computes(arithmetic, eager))
        return found if self.shares.workers is None else min(found, self.shares.workers)

    def allowed(self, sweep: Sweep) -> int:
        """How many more trials the sweep's owner may run."""
        if self.user_limit is None:
            return NO_LIMIT
        mine = (s for s in self.sweeps.values() if s.plan.owner == sweep.plan.owner)
        elsewhere = self.shares.running.get(sweep.plan.owner, 0)
        return self.user_limit - elsewhere - sum(s.counts[TrialState.RUNNING] for s in mine)

    @property
    def room(self) -> int:
        """How many more workers may begin with a sweep; below 0 as many should stop."""
        if self.shares.workers is None:
            return NO_LIMIT
        return self.shares.workers - sum(n for sweep, n in self._held.items() if sweep)

    def recount(self) -> None:
        """A sweep has begun or ended: who has had how much is counted from now on."""
        for sweep in self.sweeps.values():
            sweep.used = 0.0

    def used(self) -> dict[str, float]:
        """Seconds of workers that each owner has had."""
        found: dict[str, float] = {}
        for sweep in self.sweeps.values():
            found[sweep.plan.owner] = found.get(sweep.plan.owner, 0.0) + sweep.used
        return found

    def held(self) -> tuple[Counter[str], Counter[str]]:
        """Workers held, by sweep and by owner; an owner's elsewhere count, too."""
        by_owner: Counter[str] = Counter(self.shares.held)
        for name, sweep in self.sweeps.items():
            by_owner[sweep.plan.owner] += self._held[name]
        return self._held, by_owner
