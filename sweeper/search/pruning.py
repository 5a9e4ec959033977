"""Pruners: policies that say at the end of a leg whether a trial stops, with a reason and without side effects.

A *curve* is the list of a trial's objective values, one per finished epoch; it is compared with the curves of *peers*
at the same number of epochs. Which peers a decision may see is the caller's choice: in a deterministic sweep those
before the trial's window (``scheduling/window.py``). Non-finite values count as the worst. The rules are Optuna's for
pruners of the same names. A ``Pruner`` decides trial by trial; a ``BatchPruner`` (``halving``) compares the trials of
one batch with each other, which is always deterministic.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from sweeper.errors import SpecError, nearest
from sweeper.flow import FATAL, find_flags
from sweeper.records import FlowReport

Curve = Sequence[float]
Peers = Mapping[int, Curve]
Costs = NDArray[np.float64]
Group = Callable[[int], bool]  # whether a trial of that number counts


@dataclass(frozen=True)
class Decision:
    """Whether a trial stops, and why (empty: nothing was compared)."""

    stop: bool
    reason: str = ""


KEEP = Decision(False)


@dataclass(frozen=True)
class Objective:
    """What is compared: the metric, which way it gets better, and the epochs of a complete trial."""

    metric: str = "val_loss"
    direction: Literal["minimize", "maximize"] = "minimize"
    epochs: int = 1

    def cost(self, value: float) -> float:
        """The value so that less is better and non-finite is worst."""
        if not math.isfinite(value):
            return math.inf
        return value if self.direction == "minimize" else -value

    def costs(self, curves: Iterable[Curve], epochs: int, least: int) -> Costs:
        """(N,) costs after ``epochs`` epochs, in order, of the curves of at least ``least`` epochs."""
        known = (self.cost(curve[epochs - 1]) for curve in curves if len(curve) >= max(epochs, least))
        return np.sort(np.fromiter(known, np.float64))

    def costs_of(self, judged: Judged, least: int, group: int = 0, within: Group | None = None) -> Costs:
        """The same of a trial's peers at its own epochs, of those ``within`` a group, itself left out.

        ``group`` is the group's name.
        """
        peers, epochs = judged.peers, len(judged.curve)
        if isinstance(peers, OrderedPeers):
            return peers.costs(self, epochs, least, group, within)
        numbers = (n for n in peers if n != judged.number and (within is None or within(n)))
        return self.costs((peers[n] for n in numbers), epochs, least)

    def shown(self, cost: float) -> str:
        """A cost as the user knows it."""
        return "not finite" if math.isinf(cost) else f"{cost if self.direction == 'minimize' else -cost:.4g}"

    def at(self, cost: float, epochs: int) -> str:
        """The beginning of a reason: what the trial has reached."""
        return f"{self.metric} {self.shown(cost)} at epoch {epochs}"

    def placed(self, cost: float, epochs: int, place: int, among: str, kept: int) -> str:
        """The reason of a halving: the place among those at the rung, and how many go on."""
        return f"{self.at(cost, epochs)} is place {place} of {among}, of which the best {kept} go on"


@dataclass(frozen=True)
class Judged:
    """A trial when it is decided on, after ``len(curve)`` epochs.

    ``peers`` may hold the trial itself. ``flow`` is its gradient flow in the last of these epochs (None: it was not
    measured there).
    """

    number: int
    curve: Curve
    peers: Peers = field(default_factory=dict)
    flow: FlowReport | None = None
    params: Mapping[str, Any] = field(default_factory=dict)


@runtime_checkable
class OrderedPeers(Protocol):
    """Peers that have ended, whose costs are kept in order: a decision does not look at each of them again."""

    def costs(self, goal: Objective, epochs: int, least: int, group: int, within: Group | None) -> Costs:
        """As ``Objective.costs_of``."""
        ...


class Pruner(Protocol):
    """A policy that decides trial by trial."""

    def legs(self, epochs: int) -> list[int]:
        """The numbers of finished epochs after which trials are decided, in order; the end is not among them."""
        ...

    def decide(self, judged: Judged) -> Decision:
        """Whether the trial stops where it is."""
        ...


@runtime_checkable
class BatchPruner(Protocol):
    """A policy for the trials of a batch together, which are compared with each other at the same epochs."""

    def legs(self, epochs: int) -> list[int]:
        """As ``Pruner``."""
        ...

    def decide_batch(self, values: Mapping[int, float], epochs: int) -> dict[int, Decision]:
        """Decisions for trials that all have trained ``epochs`` epochs, given their values there by number."""
        ...


@dataclass(frozen=True)
class Percentile:
    """Stop a trial whose best value so far is worse than the given percentile of complete trials at that epoch.

    ``startup`` complete trials are needed first; ``warmup`` epochs are never judged (None: those before ``beginning``);
    then every ``interval`` epochs.
    """

    objective: Objective
    percentile: float = 25.0
    startup: int = 5
    warmup: int | None = None
    interval: int = 1

    def legs(self, epochs: int) -> list[int]:
        """As ``Pruner``."""
        return list(range(self._first(epochs), epochs, self.interval))

    def decide(self, judged: Judged) -> Decision:
        """As ``Pruner``."""
        epochs, goal = len(judged.curve), self.objective
        if epochs < self._first(goal.epochs):
            return KEEP
        complete = goal.costs_of(judged, least=goal.epochs)
        known = complete[: np.searchsorted(complete, math.inf)]
        if len(complete) < self.startup or not len(known):
            return KEEP
        best = min(goal.cost(value) for value in judged.curve)
        bar = percentile_of(known, self.percentile)
        if best <= bar:
            return KEEP
        name = "median" if self.percentile == 50 else f"best {self.percentile:g}%"
        compared = f"worse than the {name} {goal.shown(bar)} of {len(complete)} earlier trials"
        return Decision(True, f"{goal.at(best, epochs)} is {compared}")

    def _first(self, epochs: int) -> int:
        return beginning(epochs) if self.warmup is None else self.warmup + 1


@dataclass(frozen=True)
class SuccessiveHalving:
    """Asynchronous successive halving (Li et al. 2020, arXiv:1810.05934): at rungs ``first * eta^i`` the best 1/eta of
    all that reached the rung so far go on; while they are fewer than eta, only the best does.

    ``first`` of None is ``beginning``.
    """

    objective: Objective
    eta: int = 3
    first: int | None = None

    def legs(self, epochs: int) -> list[int]:
        """As ``Pruner``."""
        return rungs(self.first or beginning(epochs), self.eta, epochs)

    def decide(self, judged: Judged) -> Decision:
        """As ``Pruner``."""
        return self.decide_within(judged)

    def decide_within(self, judged: Judged, group: int = 0, within: Group | None = None) -> Decision:
        """The decision among the peers of a group."""
        epochs, goal = len(judged.curve), self.objective
        if epochs not in self.legs(goal.epochs):
            return KEEP
        own = goal.cost(judged.curve[-1])
        others = goal.costs_of(judged, epochs, group, within)
        count, better = len(others) + 1, int(np.searchsorted(others, own))
        kept = max(1, count // self.eta)
        if math.isfinite(own) and better < kept:
            return KEEP
        return Decision(True, goal.placed(own, epochs, better + 1, f"{count} trials there", kept))


@dataclass(frozen=True)
class SynchronousHalving:
    """Successive halving within a batch (Jamieson and Talwalkar 2016): at each rung the best 1/eta of it go on.

    Two by default: with learning rates that drop late the best trials of the end are seldom ahead at the beginning.
    """

    objective: Objective
    eta: int = 2
    first: int = 1

    def legs(self, epochs: int) -> list[int]:
        """As ``Pruner``."""
        return rungs(self.first, self.eta, epochs)

    def decide_batch(self, values: Mapping[int, float], epochs: int) -> dict[int, Decision]:
        """As ``BatchPruner``; equal values go on by their numbers."""
        goal = self.objective
        ordered = sorted(values, key=lambda n: (goal.cost(values[n]), n))
        kept = max(1, len(ordered) // self.eta)
        decisions = {}
        for place, number in enumerate(ordered, start=1):
            own = goal.cost(values[number])
            stop = place > kept or not math.isfinite(own)
            reason = goal.placed(own, epochs, place, f"{len(ordered)} in its batch", kept)
            decisions[number] = Decision(True, reason) if stop else KEEP
        return decisions


@dataclass(frozen=True)
class Hyperband:
    """Several brackets of asynchronous halving that begin at different rungs (Li et al. 2018, arXiv:1603.06560).

    Trials are dealt to brackets by their numbers, in proportion to the trials that each bracket has for an equal share
    of the epochs; they are compared within their bracket. ``first`` of None is ``beginning``.
    """

    objective: Objective
    eta: int = 3
    first: int | None = None
    _brackets: tuple[SuccessiveHalving, ...] = field(init=False)
    _deal: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        starts = self.legs(self.objective.epochs) or [self.objective.epochs]
        brackets = tuple(SuccessiveHalving(self.objective, self.eta, start) for start in starts)
        highest = len(starts)
        shares = [math.ceil(highest / (s + 1) * self.eta**s) for s in reversed(range(highest))]
        object.__setattr__(self, "_brackets", brackets)
        object.__setattr__(self, "_deal", _spread(shares))

    def bracket(self, number: int) -> int:
        """Which bracket a trial belongs to; bracket 0 begins at the first rung."""
        return self._deal[number % len(self._deal)]

    def legs(self, epochs: int) -> list[int]:
        """As ``Pruner``."""
        return rungs(self.first or beginning(epochs), self.eta, epochs)

    def decide(self, judged: Judged) -> Decision:
        """As ``Pruner``."""
        own = self.bracket(judged.number)
        decision = self._brackets[own].decide_within(judged, own, lambda number: self.bracket(number) == own)
        return Decision(True, f"{decision.reason} (bracket {own})") if decision.stop else decision


@dataclass(frozen=True)
class Plateau:
    """Stop a trial that has not improved by more than ``min_delta`` for ``patience`` epochs; no peers are needed."""

    objective: Objective
    patience: int = 5
    min_delta: float = 0.0

    def legs(self, epochs: int) -> list[int]:
        """As ``Pruner``."""
        return list(range(self.patience + 1, epochs))

    def decide(self, judged: Judged) -> Decision:
        """As ``Pruner``."""
        goal, best, since, epochs = self.objective, math.inf, 0, len(judged.curve)
        for epoch, value in enumerate(judged.curve, start=1):
            if goal.cost(value) < best - self.min_delta:
                best, since = goal.cost(value), epoch
        if epochs - since < self.patience:
            return KEEP
        waited = f"{epochs - since} epochs"
        return Decision(True, f"{goal.metric} has not improved for {waited}: best {goal.shown(best)} at epoch {since}")


@dataclass(frozen=True)
class GradientFlow:
    """Stop a trial whose layers do not learn together: its gradient vanishes, explodes, or is the same for all units.

    Judged after each measured epoch but the first ``warmup``: a network may leave the plateau that it begins on.
    """

    objective: Objective
    warmup: int = 3

    def legs(self, epochs: int) -> list[int]:
        """As ``Pruner``."""
        return list(range(self.warmup + 1, epochs))

    def decide(self, judged: Judged) -> Decision:
        """As ``Pruner``; an epoch that was not measured says nothing."""
        if judged.flow is None:
            return KEEP
        fatal = [flag.sentence for flag in find_flags([judged.flow], judged.params) if flag.kind in FATAL]
        return Decision(True, f"{fatal[0]}, after epoch {judged.flow.epoch}") if fatal else KEEP


@dataclass(frozen=True)
class Median(Percentile):
    """Stop a trial whose best value so far is worse than the median of complete trials at that epoch."""

    percentile: float = 50.0


class Never:
    """Every trial runs to its end."""

    def legs(self, epochs: int) -> list[int]:
        """As ``Pruner``."""
        return []

    def decide(self, judged: Judged) -> Decision:
        """As ``Pruner``."""
        return KEEP


_KINDS: dict[str, type[Any]] = {
    "median": Median,
    "percentile": Percentile,
    "asha": SuccessiveHalving,
    "halving": SynchronousHalving,
    "hyperband": Hyperband,
    "plateau": Plateau,
    "gradient_flow": GradientFlow,
}
_LOWEST = {"eta": 2, "warmup": 0, "min_delta": 0, "percentile": 0}  # of an option; 1 for all others


def make_pruner(name: str, options: Mapping[str, float] | None = None, *, objective: Objective) -> Pruner | BatchPruner:
    """The pruner of that name for one sweep. ``options`` are the fields of its class.

    Raises:
        SpecError: unknown name or option, or a value out of range.
    """
    if name == "none":
        return Never()
    if name not in _KINDS:
        raise SpecError(f"{name!r} is not a pruner", key="search.pruner", remedy=nearest(name, ["none", *_KINDS]))
    kind = _KINDS[name]
    valid = [f.name for f in fields(kind) if f.init and f.name != "objective"]
    for option, value in (options or {}).items():
        key = f"search.pruner.{option}"
        if option not in valid:
            raise SpecError(f"{name} has no option {option!r}", key=key, remedy=nearest(option, valid))
        low = _LOWEST.get(option, 1)
        if isinstance(value, bool) or not isinstance(value, int | float) or not value >= low or math.isinf(value):
            raise SpecError(f"{value!r} is not valid", key=key, remedy=f"It is a number of at least {low}")
        if option not in ("percentile", "min_delta") and value != int(value):
            raise SpecError(f"{value!r} is not valid", key=key, remedy="It is a whole number")
        if option == "percentile" and value > 100:
            raise SpecError(f"{value!r} is not valid", key=key, remedy="It is a number from 0 to 100")
    pruner: Pruner | BatchPruner = kind(objective, **(options or {}))
    return pruner


def percentile_of(ordered: Costs, percentile: float) -> float:
    """``numpy.percentile`` of numbers (N,) that are in order already, at a cost that does not grow with them."""
    at = percentile / 100 * (len(ordered) - 1)
    low = math.floor(at)
    return float(np.percentile(ordered[low : low + 2], 100 * (at - low)))


def beginning(epochs: int) -> int:
    """The epoch of the first decision on trials of so many epochs: a ninth of them, see decisions.md."""
    return -(-epochs // 9)


def rungs(first: int, eta: int, epochs: int) -> list[int]:
    """``first * eta^i`` below ``epochs``."""
    found = []
    while first < epochs:
        found.append(first)
        first *= eta
    return found


def _spread(shares: Sequence[int]) -> tuple[int, ...]:
    """Each index as often as its share says, spread evenly over one round."""
    places = sorted(((i + 0.5) / share, index) for index, share in enumerate(shares) for i in range(share))
    return tuple(index for _, index in places)
