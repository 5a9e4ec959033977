"""The problems that searches are compared on, and regret: how much of the way from chance to the best is left.

Regret is ``(found - best) / (median of random points - best)``: 1 is as good as a random point, 0 cannot be improved.
``best`` is the best of 20,000 random points and of steps around the best of them, or what a search found beyond.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from benchmarks import branches, surrogate
from benchmarks.suggest import FUNCTIONS
from sweeper.search.axes import Axis, decode_point
from sweeper.search_spaces import Space, load_space

Params = Mapping[str, Any]
Array = NDArray[np.float64]
RANDOM, REFINED, ROUNDS = 20_000, 50, 24


@dataclass(frozen=True)
class Problem:
    """``values`` are those of points (N,), lower is better; ``curves`` (N, T), where it has epochs, ends with them."""

    name: str
    family: str
    space: Mapping[str, Any]
    values: Callable[[Sequence[Params]], Array]
    curves: Callable[[Sequence[Params]], Array] | None = None

    def seed(self, seed: int) -> int:
        """That of a search of this problem: searches of several problems must not share their first random points."""
        return crc32(f"{self.name} {seed}".encode())


@dataclass(frozen=True)
class Scale:
    """The two values that regret is measured between."""

    best: float
    typical: float

    def regret(self, found: float) -> float:
        """See above."""
        return (found - self.best) / (self.typical - self.best)

    def improved(self, found: float) -> Scale:
        """With the best of both."""
        return replace(self, best=min(self.best, found))


def tables(tasks: Sequence[str] | None = None) -> list[Problem]:
    """LCBench's tasks.

    Raises:
        surrogate.Missing: its files are not there.
    """
    made = surrogate.Surrogate(surrogate.folder())
    return [
        Problem(
            task,
            "lcbench",
            surrogate.SPACE,
            lambda points, task=task: made.errors(task, points),
            lambda points, task=task: made.curves(task, points),
        )
        for task in tasks or made.tasks
    ]


def conditional() -> list[Problem]:
    """Functions with parameters that only some trials have."""
    rugged = FUNCTIONS["rugged"]
    return [
        _function("three branches", branches.BRANCHES, branches.three_branches),
        _function("shared and branches", branches.SHARED, branches.shared_and_branches),
        _function("rugged", rugged.space, rugged.value),
    ]


def scale(problem: Problem) -> Scale:
    """Chance and the best known, by the same random numbers every time."""
    space, rng = load_space(problem.space), np.random.default_rng(0)
    axes = tuple(Axis.of(name, distribution) for name, distribution in space.distributions().items())
    codes = rng.random((RANDOM, len(axes)))
    values = problem.values(_points(space, axes, codes))
    typical = float(np.median(values))
    for step in np.geomspace(0.2, 0.002, ROUNDS):
        first = np.argsort(values)[:REFINED]
        codes, values = codes[first], values[first]
        moved = np.repeat(codes, 10, axis=0)
        moved = np.clip(moved + step * rng.standard_normal(moved.shape) * (rng.random(moved.shape) < 0.5), 0, 1 - 1e-9)
        codes, values = np.vstack([codes, moved]), np.append(values, problem.values(_points(space, axes, moved)))
    return Scale(float(values.min()), typical)


def _points(space: Space, axes: Sequence[Axis], uniform: Array) -> list[dict[str, Any]]:
    columns = [axis.from_uniform(uniform[:, d]) for d, axis in enumerate(axes)]
    return [space.active(decode_point(axes, point)) for point in np.column_stack(columns)]


def _function(name: str, space: Mapping[str, Any], value: Callable[[Params], float]) -> Problem:
    return Problem(name, "conditional", space, lambda points: np.array([value(point) for point in points]))
