"""Samplers that suggest points on axes: random, Sobol and TPE, each a pure function of the seed and what is known.

A sampler opens a batch with everything its suggestions may know; the batch then suggests trial by trial. Every trial
has its own random numbers, drawn from the sweep's seed and its number, so it does not matter how a batch is asked: at
once, one by one, or in two parts with a restart between them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from sweeper.search.axes import Array, Axis, points_from_uniform
from sweeper.search.standings import Standings
from sweeper.search.tpe import (
    CANDIDATES,
    STARTUP,
    Applies,
    AxisTpeBatch,
    TpeBatch,
    n_good,
    n_good_of_front,
    thinned,
)


def trial_rng(seed: int, number: int) -> np.random.Generator:
    """The random numbers of one trial."""
    return np.random.default_rng([seed, number])


@dataclass(frozen=True)
class Known:
    """What the suggestions of the batch that begins at trial ``start`` may know of the trials before it.

    ``points`` (E + start, D) are those on the ``axes`` of E trials of an earlier sweep, then theirs; ``standings`` has
    each row whose result may be seen, and the trials that are missing there are pending.
    """

    start: int
    size: int
    seed: int
    axes: tuple[Axis, ...]
    points: Array
    standings: Standings
    applies: Applies | None = None
    several: bool = False  # objectives


class PointBatch(Protocol):
    """Suggestions of one batch as points (D,) on its axes, in the order of their numbers."""

    def pick(self, number: int) -> Array:
        """The point of trial ``number``; every earlier trial of the batch was added before."""
        ...

    def add(self, point: Array) -> None:
        """The next trial of the batch took this point (not always the one picked: a space function may differ)."""
        ...


class _Independent:
    """Points that depend on the number only."""

    def __init__(self, axes: Sequence[Axis], uniform: Callable[[int], Array]) -> None:
        self._axes, self._uniform = axes, uniform

    def pick(self, number: int) -> Array:
        """As ``PointBatch``."""
        return points_from_uniform(self._axes, self._uniform(number)[None])[0]

    def add(self, point: Array) -> None:
        """As ``PointBatch``."""


class _Tpe:
    """TPE's suggestions, each with the random numbers of its own trial."""

    def __init__(self, known: Known, good: Array, bad: Array, weights: Array | None) -> None:
        numbers = range(known.start, known.start + known.size)
        width = 2 * len(known.axes) if known.several else len(known.axes) + 1
        u = np.stack([trial_rng(known.seed, number).random((CANDIDATES, width)) for number in numbers])
        self._start = known.start
        kind = AxisTpeBatch if known.several else TpeBatch
        self._batch = kind(known.axes, good, bad, u, known.applies, weights=weights)

    def pick(self, number: int) -> Array:
        """As ``PointBatch``."""
        return self._batch.pick(number - self._start)

    def add(self, point: Array) -> None:
        """As ``PointBatch``."""
        self._batch.add(point)


def open_random(known: Known) -> PointBatch:
    """Uniform over the space (over the logarithm where the parameter is logarithmic)."""
    return _Independent(known.axes, lambda number: trial_rng(known.seed, number).random(len(known.axes)))


def open_sobol(known: Known) -> PointBatch:
    """A scrambled Sobol' sequence; trial n takes its n-th element."""
    from scipy.stats import qmc

    def element(number: int) -> Array:
        engine = qmc.Sobol(len(known.axes), scramble=True, rng=np.random.default_rng(known.seed))
        if number:
            engine.fast_forward(number)
        numbers: Array = engine.random(1)[0]
        return numbers

    return _Independent(known.axes, element)


def open_tpe(known: Known) -> PointBatch:
    """TPE once ``STARTUP`` results are known, random until then."""
    standings = known.standings
    if standings.learned < STARTUP or not known.axes:
        return _Independent(known.axes, lambda number: trial_rng(known.seed, number).random(len(known.axes) + 1)[1:])
    good = standings.best((n_good_of_front if known.several else n_good)(standings.learned))
    bad = np.delete(np.arange(len(known.points)), [*good, *standings.ignored])
    kept, weights = thinned(bad)
    return _Tpe(known, known.points[good], known.points[kept], weights)
