"""How sure the results of repeated training are: intervals, paired comparisons and the verdict on finalists.

Names of dimensions: K finalists, S seeds that all of them were trained on, B bootstrap draws. Everything random is
drawn from an explicit seed, so the same values give the same verdict.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Direction = Literal["minimize", "maximize"]
LEVEL = 0.95
DRAWS = 10_000
MEDIAN_DRAWS = 2000
T_METHOD, BOOTSTRAP_METHOD, SINGLE = "t interval", "expanded percentile bootstrap", "one value, no interval"


@dataclass(frozen=True)
class Interval:
    """Bounds that cover the true number with probability ``LEVEL``; ``method`` says how they were found."""

    low: float
    high: float
    method: str

    def excludes(self, number: float) -> bool:
        """Whether a number lies outside."""
        return not self.low <= number <= self.high


@dataclass(frozen=True)
class Summary:
    """Values of one quantity in its own unit: ``deviation`` is the sample standard deviation (divisor count - 1)."""

    count: int
    mean: float
    deviation: float
    mean_interval: Interval
    median: float
    median_interval: Interval


@dataclass(frozen=True)
class Finalist:
    """A trial trained again on the common seeds: one value per seed (NaN: it diverged) and its cost in any one unit."""

    trial: int
    values: tuple[float, ...]
    cost: float = math.nan


@dataclass(frozen=True)
class Comparison:
    """A pair on common seeds: mean of ``first - second``, its t interval, and the paired t test's two-sided p value.

    ``adjusted`` is p after Holm's correction for all pairs; ``different`` is ``adjusted < 1 - LEVEL``.
    """

    first: int
    second: int
    difference: float
    interval: Interval
    p: float
    adjusted: float
    different: bool


@dataclass(frozen=True)
class Standing:
    """A finalist's place. ``diverged`` counts seeds without a finite value; with any, it is out of the comparison."""

    trial: int
    summary: Summary | None
    probability_best: float
    cost: float
    diverged: int


@dataclass(frozen=True)
class Verdict:
    """The outcome of the finals: standings from best to worst, every pair, and the plain ``sentence``.

    ``leaders`` are the best finalist and those that cannot be told apart from it; ``cheapest`` is the one of them with
    the lowest cost (None: no cost is known, or no one is cheapest).
    """

    standings: tuple[Standing, ...]
    comparisons: tuple[Comparison, ...]
    leaders: tuple[int, ...]
    cheapest: int | None
    sentence: str


def mean_interval(values: Sequence[float] | Array) -> Interval:
    """Student's t interval of a mean: mean +- t(n-1) * s / sqrt(n). It holds exactly for normal values."""
    from scipy import stats

    x = np.asarray(values, dtype=np.float64)
    if len(x) < 2:
        return Interval(-math.inf, math.inf, SINGLE)
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(x) - 1)) * _deviation(x) / math.sqrt(len(x))
    return Interval(float(x.mean()) - half, float(x.mean()) + half, T_METHOD)


def median_interval(values: Sequence[float] | Array, seed: int = 0) -> Interval:
    """Expanded percentile bootstrap of a median: the quantiles Phi(+-t(n-1) * sqrt(n / (n-1))) of resampled medians.

    The plain percentile interval covers the median of 10 to 60 values in 91-94% of cases only; the expansion
    (Hesterberg 2015, What Teachers Should Know About the Bootstrap, section 4.4) mends that.
    """
    from scipy import stats

    x = np.asarray(values, dtype=np.float64)
    n = len(x)
    if n < 2:
        return Interval(-math.inf, math.inf, SINGLE)
    rng, draws = np.random.default_rng(seed), max(100, min(MEDIAN_DRAWS, 20_000_000 // n))
    medians = np.median(x[rng.integers(0, n, (draws, n))], axis=1)  # (B,)
    tail = float(stats.norm.cdf(stats.t.ppf((1 - LEVEL) / 2, n - 1) * math.sqrt(n / (n - 1))))
    low, high = np.quantile(medians, [tail, 1 - tail])
    return Interval(float(low), float(high), BOOTSTRAP_METHOD)


def summarize(values: Sequence[float] | Array, seed: int = 0) -> Summary:
    """Mean, standard deviation and median with their intervals.

    Raises:
        ValueError: there is no value, or one is not finite.
    """
    x = np.asarray(values, dtype=np.float64)
    if not len(x) or not np.isfinite(x).all():
        raise ValueError(f"{len(x)} values, {int((~np.isfinite(x)).sum())} of them not finite: nothing to summarize")
    deviation = _deviation(x) if len(x) > 1 else math.nan
    median = float(np.median(x))
    return Summary(len(x), float(x.mean()), deviation, mean_interval(x), median, median_interval(x, seed))


def holm(p: Sequence[float] | Array) -> Array:
    """Holm's step-down correction (1979): the i-th smallest of m p values becomes max over j <= i of (m-j+1) p_j."""
    raw = np.asarray(p, dtype=np.float64)
    order = np.argsort(raw, kind="stable")
    stepped = np.maximum.accumulate(raw[order] * np.arange(len(raw), 0, -1))
    adjusted = np.empty_like(raw)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def compare(finalists: Sequence[Finalist]) -> tuple[Comparison, ...]:
    """Every pair on the common seeds, corrected for the number of pairs.

    Raises:
        ValueError: the finalists have different numbers of seeds, or a value is not finite.
    """
    values = _matrix(finalists)
    pairs = [(i, j) for i in range(len(finalists)) for j in range(i + 1, len(finalists))]
    differences = [values[i] - values[j] for i, j in pairs]
    p = [_paired_p(difference) for difference in differences]
    return tuple(
        Comparison(
            finalists[i].trial,
            finalists[j].trial,
            float(difference.mean()),
            mean_interval(difference),
            raw,
            float(adjusted),
            bool(adjusted < 1 - LEVEL),
        )
        for (i, j), difference, raw, adjusted in zip(pairs, differences, p, holm(p), strict=True)
    )


def probability_best(finalists: Sequence[Finalist], direction: Direction = "minimize", seed: int = 0) -> Array:
    """(K,) how often each finalist has the best mean when the S common seeds are drawn again; ties share.

    Raises:
        ValueError: as ``compare``.
    """
    values = _matrix(finalists) * (-1.0 if direction == "maximize" else 1.0)
    n_finalists, n_seeds = values.shape
    rng, wins, draws = np.random.default_rng(seed), np.zeros(n_finalists), 0
    while draws < DRAWS:  # in chunks: (B, S) counts, (B, K) means
        size = min(DRAWS - draws, max(1, 2_000_000 // (n_seeds + n_finalists)))
        means = rng.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), size) @ values.T / n_seeds
        best = np.isclose(means, means.min(axis=1, keepdims=True), rtol=1e-12, atol=0.0)
        wins += (best / best.sum(axis=1, keepdims=True)).sum(axis=0)
        draws += size
    return wins / DRAWS


def judge(finalists: Sequence[Finalist], direction: Direction = "minimize", seed: int = 0) -> Verdict:
    """Who wins the finals, or who cannot be told apart.

    A finalist that diverged on any seed is out: a mean over its other seeds would reward it for diverging.

    Raises:
        ValueError: there is no finalist, or they have different numbers of seeds.
    """
    if not finalists:
        raise ValueError("there are no finalists to judge")
    stable = [f for f in finalists if all(map(math.isfinite, f.values))]
    sign = -1.0 if direction == "maximize" else 1.0
    stable.sort(key=lambda f: (sign * float(np.mean(f.values)), f.trial))
    shares = probability_best(stable, direction, seed) if stable else np.zeros(0)
    standings = [
        Standing(f.trial, summarize(f.values, seed), float(share), f.cost, 0)
        for f, share in zip(stable, shares, strict=True)
    ]
    for f in finalists:
        diverged = sum(not math.isfinite(value) for value in f.values)
        if diverged:
            standings.append(Standing(f.trial, None, 0.0, f.cost, diverged))
    comparisons = compare(stable) if stable else ()
    beaten = {c.second for c in comparisons if c.first == stable[0].trial and c.different}
    leaders = [f for f in stable if f.trial not in beaten]
    cheapest = _cheapest(leaders)
    sentence = _sentence(leaders, cheapest, len(finalists), len(finalists[0].values))
    return Verdict(tuple(standings), comparisons, tuple(f.trial for f in leaders), cheapest, sentence)


def _matrix(finalists: Sequence[Finalist]) -> Array:
    """(K, S) values."""
    if len({len(f.values) for f in finalists}) != 1 or not finalists[0].values:
        raise ValueError("finalists are compared on common seeds: each needs one value per seed")
    values = np.array([f.values for f in finalists], dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError("a finalist has a value that is not finite")
    return values


def _deviation(x: Array) -> float:
    """The standard deviation of two or more values; of equal ones 0, and not the rounding of their mean."""
    return float(x.std(ddof=1)) if np.ptp(x) > 0.0 else 0.0


def _paired_p(difference: Array) -> float:
    """Two-sided paired t test; a difference without any spread is either none at all or certain."""
    from scipy import stats

    if len(difference) < 2:
        return 1.0
    deviation = _deviation(difference)
    if deviation == 0.0:
        return 1.0 if difference[0] == 0.0 else 0.0
    t = difference.mean() / (deviation / math.sqrt(len(difference)))
    return float(2 * stats.t.sf(abs(t), len(difference) - 1))  # ttest_1samp warns where the spread is rounding


def _cheapest(leaders: Sequence[Finalist]) -> int | None:
    costs = [f.cost for f in leaders]
    if not costs or not all(map(math.isfinite, costs)) or costs.count(min(costs)) > 1:
        return None
    return leaders[costs.index(min(costs))].trial


def _sentence(leaders: Sequence[Finalist], cheapest: int | None, finalists: int, seeds: int) -> str:
    if not leaders:
        return "every finalist diverged on some seed: there is no winner"
    first = leaders[0].trial
    if finalists == 1:
        return f"trial {first} is the only finalist"
    if len(leaders) == 1:
        return f"trial {first} wins"
    names = ", ".join(str(f.trial) for f in leaders[:-1]) + f" and {leaders[-1].trial}"
    if seeds == 1:
        return f"{names} were trained on one seed only: they cannot be told apart"
    return f"{names} cannot be told apart" + ("" if cheapest is None else f"; {cheapest} is the cheapest")
