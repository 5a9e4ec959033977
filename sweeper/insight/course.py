"""The settled trials of a sweep that still runs, as columns that grow while they are looked at.

Names of dimensions: n trials.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from sweeper.insight.factors import Array, Factor, factor_of, label, varies
from sweeper.ledger.protocol import SettledTrials
from sweeper.spec.goals import excesses_of, violation
from sweeper.spec.parse import SweepSpec
from sweeper.states import TrialState

T = TypeVar("T")

Numbers = NDArray[np.int64]
Flags = NDArray[np.bool_]


class Course:
    """What the complete and pruned trials of a sweep came to. A trial that is added again changes nothing."""

    def __init__(self, spec: SweepSpec) -> None:
        self.spec = spec
        self._declared = [p.name for p in spec.space.parameters if not p.constant]
        self._known: set[int] = set()
        self._numbers: list[int] = []
        self._values: list[float] = []
        self._complete: list[bool] = []
        self._beyond: list[float] = []
        self._params: dict[str, list[Any]] = {name: [] for name in self._declared}
        self._texts: dict[str, str] = {}
        self._factors: tuple[int, list[Factor]] = (0, [])

    def __len__(self) -> int:
        return len(self._numbers)

    def add(self, trials: SettledTrials) -> None:
        """Take up trials; with constraints they come with their metrics."""
        new = [at for at, number in enumerate(trials.numbers) if number not in self._known]
        before = len(self)

        def of_new(column: Sequence[T]) -> Sequence[T]:
            return column if len(new) == len(column) else [column[at] for at in new]

        self._numbers += of_new(trials.numbers)
        self._known.update(self._numbers[before:])
        self._values += [math.nan if value is None else value for value in of_new(trials.values)]
        self._complete += [state is TrialState.COMPLETE for state in of_new(trials.states)]
        if constraints := self.spec.constraints:
            self._beyond += [violation(excesses_of(measured, constraints)) for measured in of_new(trials.metrics)]
        if self.spec.space.is_function or not self._declared:  # parameters are known by being there
            for name in trials.params:
                self._params.setdefault(name, [None] * before)
        for name, column in self._params.items():
            given = trials.params.get(name)
            column.extend([None] * len(new) if given is None else map(self._plain, of_new(given)))

    def _plain(self, value: Any) -> Any:
        """A list as the text that it is shown as: the same few lists come again and again."""
        if not isinstance(value, list):
            return value
        key = str(value)
        if key not in self._texts:
            self._texts[key] = label(value)
        return self._texts[key]

    @property
    def numbers(self) -> Numbers:
        """(n,) the trials' numbers, in the order in which they were added."""
        return np.array(self._numbers, dtype=np.int64)

    @property
    def values(self) -> Array:
        """(n,) the objective of each; NaN and infinities as they are."""
        return np.array(self._values, dtype=np.float64)

    @property
    def scores(self) -> Array:
        """(n,) the objective so that less is better; infinity where it is no finite number."""
        values = self.values
        return np.where(np.isfinite(values), self.spec.objective.sign * values, np.inf)

    @property
    def complete(self) -> Flags:
        """(n,) whether a trial is complete, with a finite objective."""
        return np.array(self._complete, dtype=np.bool_) & np.isfinite(self.values)

    @property
    def pruned(self) -> Flags:
        """(n,) whether a trial is pruned, with a finite last value."""
        return ~np.array(self._complete, dtype=np.bool_) & np.isfinite(self.values)

    @property
    def beyond(self) -> Array:
        """(n,) how far each lies beyond the constraints; 0: it satisfies them."""
        return np.array(self._beyond) if self.spec.constraints else np.zeros(len(self))

    def best_first(self) -> Numbers:
        """Positions of the complete trials: those that satisfy the constraints by the objective, then the others."""
        complete = np.flatnonzero(self.complete)
        beyond, scores, numbers = self.beyond[complete], self.scores[complete], self.numbers[complete]
        order: Numbers = complete[np.lexsort((numbers, scores, beyond))]
        return order

    def factors(self) -> list[Factor]:
        """Every parameter that varies, over all n trials; made once while none is added."""
        if self._factors[0] != len(self):
            found = (factor_of(name, self.spec, column) for name, column in self._params.items() if len(column))
            self._factors = (len(self), [factor for factor in found if varies(factor)])
        return self._factors[1]
