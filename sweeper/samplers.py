"""Samplers that suggest points on axes: random, Sobol and TPE, each a pure function of the seed and what is known.

A sampler opens a batch with everything its suggestions may know; the batch then suggests trial by trial. Every trial
has its own random numbers, drawn from the sweep's seed and its number, so it does not matter how a batch is asked: at
once, one by one, or in two parts with a restart between them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from sweeper.axes import Array, Axis, points_from_uniform
from sweeper.batch_tpe import CANDIDATES, STARTUP, Applies, TpeBatch, n_good
from sweeper.states import TrialState


@dataclass(frozen=True)
class Outcome:
    """How a trial ended. ``intermediate`` maps epochs (from 0) to the objective's value there.

    ``diverged`` says that the training became non-finite, whatever the state; values may be non-finite then.
    """

    state: TrialState
    value: float | None = None
    intermediate: Mapping[int, float] = field(default_factory=dict)
    diverged: bool = False

    @property
    def last(self) -> tuple[int, float] | None:
        """The last epoch with a finite value, and that value."""
        finite = [(epoch, value) for epoch, value in self.intermediate.items() if math.isfinite(value)]
        return max(finite, default=None)

    @property
    def score(self) -> float | None:
        """The finite value that a sampler learns from, for a pruned trial its last one; None: there is none."""
        value = self.value
        if self.state is TrialState.PRUNED and self.last is not None:
            value = self.last[1]
        learnable = self.state in (TrialState.COMPLETE, TrialState.PRUNED) and not self.diverged
        return value if learnable and value is not None and math.isfinite(value) else None

    @property
    def blew_up(self) -> bool:
        """The training diverged: its hyperparameters are to be avoided."""
        return self.diverged or (self.state in (TrialState.COMPLETE, TrialState.PRUNED) and self.score is None)


def rank(outcome: Outcome, sign: float) -> tuple[float, float, float] | None:
    """A key that sorts trials from good to bad; None: the trial teaches nothing (it failed or was stopped).

    Complete trials come first by value (``sign`` is -1 when larger is better), then pruned ones, the later pruned the
    better, then diverged ones, the later diverged the better: in a space where nearly everything diverges, the way out
    is towards what lasted longest.
    """
    lasted = float(outcome.last[0]) if outcome.last else -1.0
    if outcome.blew_up:
        return (2.0, -lasted, 0.0)
    if outcome.score is None:
        return None
    if outcome.state is TrialState.PRUNED:
        return (1.0, -lasted, sign * outcome.score)
    return (0.0, sign * outcome.score, 0.0)


def trial_rng(seed: int, number: int) -> np.random.Generator:
    """The random numbers of one trial."""
    return np.random.default_rng([seed, number])


@dataclass(frozen=True)
class Known:
    """What the suggestions of the batch that begins at trial ``start`` may know of the trials before it.

    ``points`` (start, D) are theirs on the ``axes``; ``ranks`` has one entry for each whose result may be seen
    (see ``rank``), and the trials that are missing there are pending.
    """

    start: int
    size: int
    seed: int
    axes: tuple[Axis, ...]
    points: Array
    ranks: Mapping[int, tuple[float, float, float] | None]
    applies: Applies | None = None


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

    def __init__(self, known: Known, good: Array, bad: Array) -> None:
        numbers = range(known.start, known.start + known.size)
        u = np.stack([_candidate_uniforms(known, number) for number in numbers])
        self._start = known.start
        self._batch = TpeBatch(known.axes, good, bad, u, known.applies)

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
    learned = [(key, number) for number, key in known.ranks.items() if key is not None]
    if len(learned) < STARTUP or not known.axes:
        return _Independent(known.axes, lambda number: _candidate_uniforms(known, number)[0, 1:])
    ordered = [number for _, number in sorted(learned)]
    good = sorted(ordered[: n_good(len(ordered))])
    ignored = {number for number, key in known.ranks.items() if key is None}
    bad = np.delete(np.arange(known.start), [*good, *ignored])
    return _Tpe(known, known.points[good], known.points[bad])


def _candidate_uniforms(known: Known, number: int) -> Array:
    return trial_rng(known.seed, number).random((CANDIDATES, len(known.axes) + 1))
