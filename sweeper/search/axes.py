"""A search space's parameters as axes: every value becomes one number, and a uniform number becomes a value.

A *code* is what an axis stores of a value: its position in [0, 1] on a continuous axis (in log units where the
parameter is logarithmic), its index on a finite one. A *point* is one code per axis; NaN marks a parameter that a
trial does not have. Numeric axes with a step are widened by half a step on both sides, so that every value owns an
equal share (as Optuna does). Distributions are read by their attributes; nothing is imported from Optuna.

Names of dimensions: M points, D axes, G values of a finite axis.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
# A stepped axis with more values than this is treated as continuous and rounded: its bins are then narrower than the
# narrowest kernel of the Parzen estimator (1/100 of the range), so that density and mass agree within 3%.
FINITE_LIMIT = 128


@dataclass(frozen=True)
class Axis:
    """One parameter: ``choices`` are the values of a categorical one, the other fields describe a numeric one."""

    name: str
    choices: tuple[Any, ...] | None = None
    low: float = 0.0
    high: float = 0.0
    step: float | None = None
    log: bool = False
    integer: bool = False

    @classmethod
    def of(cls, name: str, distribution: Any) -> Axis:
        """The axis of an Optuna distribution."""
        if hasattr(distribution, "choices"):
            return cls(name, choices=tuple(distribution.choices))
        integer = type(distribution).__name__ == "IntDistribution"
        step = distribution.step
        return cls(name, None, distribution.low, distribution.high, step, bool(distribution.log), integer)

    @cached_property
    def values(self) -> tuple[Any, ...] | None:
        """All G values of a finite axis in order; None: continuous, or so fine that it is treated so."""
        if self.choices is not None:
            return self.choices
        if self.low == self.high:
            return (self._typed(self.low),)
        if self.step is None or self._steps >= FINITE_LIMIT:
            return None
        return tuple(self._typed(self.low + i * self.step) for i in range(self._steps + 1))

    @property
    def size(self) -> int | None:
        """How many values the parameter has; None: infinitely many."""
        if self.values is not None:
            return len(self.values)
        return None if self.step is None else self._steps + 1

    @cached_property
    def centers(self) -> Array | None:
        """(G,) positions of the values of a finite numeric axis; None: unordered choices, or continuous."""
        if self.values is None or self.choices is not None:
            return None
        return np.array([self._position(value) for value in self.values])

    @cached_property
    def edges(self) -> Array | None:
        """(G + 1,) borders of the values' shares of [0, 1] on a finite numeric axis, else None."""
        if self.values is None or self.choices is not None:
            return None
        half = (self.step or 0.0) / 2
        inner = [self._position(value + half) for value in self.values[:-1]]
        return np.array([0.0, *inner, 1.0])

    def encode(self, value: Any) -> float:
        """The code of a value; NaN when the axis does not hold it."""
        if self.choices is not None:
            return self._codes.get(_key(value), math.nan)
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            return math.nan
        if self.values is None:
            return self._position(value)
        return float(round((value - self.low) / self.step)) if self.step else 0.0

    def decode(self, code: float) -> Any:
        """The value of a code (any code in range: on a stepped axis the nearest value)."""
        if self.values is not None:
            return self.values[int(code)]
        low, high = self._bounds
        value = low + code * (high - low)
        if self.log:
            value = math.exp(value)
        if self.step is not None:
            value = self.low + round((value - self.low) / self.step) * self.step
        return self._typed(min(max(value, self.low), self.high))

    def from_uniform(self, u: Array) -> Array:
        """(M,) numbers in [0, 1) -> (M,) codes, each value of a finite axis with the probability of its share."""
        if self.values is None:
            return u
        if self.edges is None:
            return np.minimum(np.floor(u * len(self.values)), len(self.values) - 1)
        return np.searchsorted(self.edges[1:-1], u, side="right").astype(np.float64)

    @cached_property
    def _codes(self) -> dict[str, float]:
        return {_key(value): float(i) for i, value in enumerate(self.choices or ())}

    @cached_property
    def _steps(self) -> int:
        return round((self.high - self.low) / self.step) if self.step else 0

    @cached_property
    def _bounds(self) -> tuple[float, float]:
        half = (self.step or 0.0) / 2
        low, high = self.low - half, self.high + half
        return (math.log(low), math.log(high)) if self.log else (low, high)

    def _position(self, value: float) -> float:
        low, high = self._bounds
        if low == high:
            return 0.5
        return ((math.log(value) if self.log else value) - low) / (high - low)

    def _typed(self, value: float) -> Any:
        if self.integer:
            return round(value)
        return float(f"{value:.12g}") if self.step is not None else float(value)  # 0.3, not 0.30000000000000004


def encode_point(axes: Sequence[Axis], params: Mapping[str, Any]) -> Array:
    """(D,) codes of a trial's parameters, NaN for those it does not have."""
    return np.array([axis.encode(params[axis.name]) if axis.name in params else math.nan for axis in axes])


def decode_point(axes: Sequence[Axis], point: Array) -> dict[str, Any]:
    """The parameters of a point, without those that are NaN."""
    return {axis.name: axis.decode(float(c)) for axis, c in zip(axes, point, strict=True) if not math.isnan(c)}


def points_from_uniform(axes: Sequence[Axis], u: Array) -> Array:
    """(M, D) numbers in [0, 1) -> (M, D) points drawn independently per axis."""
    return np.column_stack([axis.from_uniform(u[:, d]) for d, axis in enumerate(axes)]) if axes else u[:, :0]


def alike(axes: Sequence[Axis], mark: Callable[[str], Hashable]) -> tuple[tuple[int, ...], ...]:
    """The indices of axes in groups of an equal mark, given by name."""
    groups: dict[Hashable, list[int]] = {}
    for d, axis in enumerate(axes):
        groups.setdefault(mark(axis.name), []).append(d)
    return tuple(map(tuple, groups.values()))


def shown_together(axes: Sequence[Axis], sets: Iterable[frozenset[str]]) -> tuple[tuple[int, ...], ...]:
    """The indices of axes in groups that are in the same of some sets of parameters: those that trials had."""
    ordered = list(sets)
    return alike(axes, lambda name: tuple(name in one for one in ordered))


def _key(value: Any) -> str:
    """Equal for a value and for what its JSON round trip makes of it (a tuple becomes a list)."""
    return json.dumps(value, default=repr)
