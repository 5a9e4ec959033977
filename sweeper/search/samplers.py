"""Samplers that suggest points on axes: random, Sobol and TPE, each a pure function of the seed and what is known.

A sampler opens a batch with everything its suggestions may know; the batch then suggests trial by trial. Every trial
has its own random numbers, drawn from the sweep's seed and its number, so it does not matter how a batch is asked: at
once, one by one, or in two parts with a restart between them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sweeper.search.axes import Array, Axis, points_from_uniform
from sweeper.search.standings import Having, Standings
from sweeper.search.tpe import (
    CANDIDATES,
    STARTUP,
    Applies,
    GroupedTpeBatch,
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
    each row whose result may be seen, and the trials that are missing there are pending. ``groups`` are the axes that
    the same trials have, and those of which the standings know; empty: all trials have all.
    """

    start: int
    size: int
    seed: int
    axes: tuple[Axis, ...]
    points: Array
    standings: Standings
    applies: Applies | None = None
    several: bool = False  # objectives
    groups: tuple[tuple[int, ...], ...] = ()
    having: Having = field(default_factory=Having)  # of these points, kept from batch to batch where there are many


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

    def __init__(self, known: Known, groups: Sequence[Sequence[int]], split: Callable[[int], _Split]) -> None:
        numbers = range(known.start, known.start + known.size)
        ends = np.cumsum([len(group) + 1 for group in groups])
        u = np.stack([trial_rng(known.seed, number).random((CANDIDATES, ends[-1])) for number in numbers])
        own = np.split(u, ends[:-1], axis=2)
        self._start, alone = known.start, len(groups) == 1
        batches = []
        for g, group in enumerate(groups):
            good, bad, weights = split(g)
            axes = [known.axes[d] for d in group]
            of_good, of_bad = (known.points[rows][:, list(group)] for rows in (good, bad))
            applies = known.applies if alone else None
            aging = not known.several
            batches.append(TpeBatch(axes, of_good, of_bad, own[g], applies, aging, weights))
        self._batch = batches[0] if alone else GroupedTpeBatch(groups, batches, known.applies)

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
    """TPE once ``STARTUP`` results are known, random until then.

    With several objectives every axis is searched on its own: the good trials lie along a front, where one parameter
    trades an objective for the other. Product kernels around them suggest what lies close to one of them on all axes
    at once, and the front is not moved by that: on ``ridge`` of ``benchmarks/objectives.py`` it was no better than
    chance. Optuna does the same. All good trials count alike there, however old.

    Where conditions hold for some trials only, the axes of each ``group`` are searched on their own, too (as Optuna's
    ``group=True``), among the trials that have them: see decisions.md.
    """
    standings = known.standings
    if standings.learned() < STARTUP or not known.axes:
        return _Independent(known.axes, lambda number: trial_rng(known.seed, number).random(len(known.axes) + 1)[1:])
    if known.several:
        good = standings.best(n_good_of_front(standings.learned()))
        axes = [[d] for d in range(len(known.axes))]
        return _Tpe(known, axes, lambda d: _having(known.points[:, d], *_split(known, good)))
    if len(known.groups) < 2:
        split = _split(known, standings.best(n_good(standings.learned())))
        return _Tpe(known, [range(len(known.axes))], lambda _: split)
    return _Tpe(known, known.groups, lambda g: _split_of_group(known, g))


_Split = tuple[NDArray[np.int64], NDArray[np.int64], Array | None]  # good rows, bad rows, weights of the bad ones


def _split(known: Known, good: Sequence[int]) -> _Split:
    """All rows that teach something, pending ones among the bad."""
    bad = np.delete(np.arange(len(known.points)), [*good, *known.standings.ignored])
    return np.array(good, np.int64), *thinned(bad)


def _split_of_group(known: Known, g: int) -> _Split:
    """The rows that have the group."""
    good = known.standings.best(n_good(known.standings.learned(g)), g)
    having = known.having.rows(known.groups[g], known.points)
    left = np.ones(len(known.points), np.bool_)
    left[good] = left[known.standings.ignored] = False
    return np.array(good, np.int64), *thinned(having[left[having]])


def _having(codes: Array, good: NDArray[np.int64], bad: NDArray[np.int64], weights: Array | None) -> _Split:
    """The rows that have a code (N,)."""
    known = ~np.isnan(codes)
    return good[known[good]], bad[known[bad]], None if weights is None else weights[known[bad]]
