"""What a running sweep holds of one trial, and what one trial's decision may see of the others."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from sweeper.search.ordered_costs import OrderedCosts
from sweeper.search.pruning import Costs, Group, Objective
from sweeper.spec.goals import excesses_of, values_of
from sweeper.spec.parse import SweepSpec
from sweeper.spec.phases import Schedule
from sweeper.states import Cause, TrialState
from sweeper.training.legs import Arrays

if TYPE_CHECKING:
    from sweeper.search.study import Outcome


class Examine(Protocol):
    """What finals want to know of a trial that has trained to its end, besides what its epochs have reported."""

    def __call__(self, number: int, params: Mapping[str, Any], weights: Arrays) -> Mapping[str, float]:
        """More metrics for the trial's last epoch."""
        ...


@dataclass(slots=True)
class TrialRun:
    """One trial that was suggested, or ended before it was.

    ``params`` are None until it is suggested. ``curve`` holds the objective of each finished epoch, as long as another
    trial or the study may ask for it. ``kept`` are the metrics of the epoch that it kept once it has finished.
    ``metrics`` are what it stands with once it has ended, in a sweep whose other objectives or constraints are judged
    by them. ``folds`` are the objective's values on each fold of the data, kept or last; ``parameters`` is the
    size of its network, once it has trained. ``schedule`` is what a member of a population trains with, once that has
    changed.
    """

    params: Mapping[str, Any] | None = None
    seed: int = 0
    seconds: float = 0.0  # of training so far
    curve: list[float] = field(default_factory=list)
    metrics: Mapping[str, float] = field(default_factory=dict)
    folds: tuple[float, ...] = ()
    ended: bool = False
    kept: Mapping[str, float] | None = None
    parameters: int = 0
    schedule: Schedule = ()

    def start_over(self) -> None:
        """It waits again: what it has done does not count, but for the time it took."""
        self.curve, self.metrics, self.folds, self.ended, self.kept = [], {}, (), False, None

    def outcome(
        self, spec: SweepSpec, state: TrialState, value: float | None, cause: Cause | None, noise: float
    ) -> Outcome:
        """How it has ended, for the study."""
        from sweeper.search.study import Outcome

        finite = [(epoch, v) for epoch, v in enumerate(self.curve) if math.isfinite(v)]
        values = values_of(self.metrics, spec.objectives) if len(spec.objectives) > 1 else ()
        excesses = excesses_of(self.metrics, spec.constraints) if state is TrialState.COMPLETE else ()
        return Outcome(state, value, finite[-1] if finite else None, cause is Cause.DIVERGED, values, excesses, noise)


class Curves(Mapping[int, list[float]]):
    """The curves of all trials, read in place."""

    def __init__(self, trials: Mapping[int, TrialRun]) -> None:
        self._trials = trials

    def __getitem__(self, number: int) -> list[float]:
        return self._trials[number].curve

    def __iter__(self) -> Iterator[int]:
        return iter(self._trials)

    def __len__(self) -> int:
        return len(self._trials)


class EndedBefore(Curves):
    """The curves of the trials before number ``end``, all of which have ended (``pruning.OrderedPeers``)."""

    def __init__(self, trials: Mapping[int, TrialRun], end: int, ordered: OrderedCosts) -> None:
        super().__init__(trials)
        self._end, self._ordered = end, ordered

    def __getitem__(self, number: int) -> list[float]:
        if number >= self._end:
            raise KeyError(number)
        return super().__getitem__(number)

    def __iter__(self) -> Iterator[int]:
        return (number for number in self._trials if number < self._end)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def costs(self, goal: Objective, epochs: int, least: int, group: int, within: Group | None) -> Costs:
        """As ``OrderedPeers``."""
        return self._ordered.before(self._end, goal, epochs, least, group, within)
