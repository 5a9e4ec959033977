"""Who wins the finals on new rows, and how sure that is: intervals, comparisons of pairs and the verdict.

Names of dimensions: K finalists, S seeds that all of them were trained on, n test rows, B draws. Everything random is
drawn from an explicit seed, so the same scores give the same verdict.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sweeper.insight.evidence import Estimate, Evidence

Array = NDArray[np.float64]
Direction = Literal["minimize", "maximize"]
LEVEL = 0.95
DRAWS = 20_000
POINTS = 200  # where a t distribution is evaluated, for its sum with another one
POWER = 0.84  # deviations: with as many rows as are named, a difference shows in 80% of cases
MOST_ROWS, MOST_SEEDS = 1_000_000, 200  # beyond what anybody would get
T_METHOD, SINGLE = "t interval", "one value, no interval"
NEW_ROWS = "for new rows and new seeds, and for all finalists that cannot be told apart at once"
NEW_FOLDS = "for models trained on other rows and judged on new ones (corrected resampled t test), at once for all"
NEW_FOLDS += " finalists that cannot be told apart"
ONE_SEED = "for new rows, and for these very networks: one seed says nothing of others"


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
class Finalist:
    """A trial trained again on the common seeds: one value per seed (NaN: it diverged) and its cost in any one unit."""

    trial: int
    values: tuple[float, ...]
    cost: float = math.nan

    @property
    def stable(self) -> bool:
        """Whether it has trained to its end on every seed."""
        return all(map(math.isfinite, self.values))


@dataclass(frozen=True)
class Comparison:
    """A pair on common rows and seeds: mean of ``first - second`` with its interval, and the two-sided p value.

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
    """A finalist's place. ``diverged`` counts seeds without a finite value; with any, it is out: mean and interval are
    not known. ``deviation`` is that of its values over seeds."""

    trial: int
    mean: float
    deviation: float
    interval: Interval | None
    probability_best: float
    cost: float
    diverged: int


@dataclass(frozen=True)
class Judgement:
    """The outcome of the finals: standings from best to worst, every pair, and the plain ``sentence``.

    ``leaders`` are the best finalist and those that cannot be told apart from it; ``cheapest`` is the one of them with
    the lowest cost (None: no cost is known, or no one is cheapest). ``rows_to_settle`` test rows, or
    ``seeds_to_settle`` seeds, would tell the first from all the others if the differences are what they seem (None: no
    number that anybody would get).
    """

    standings: tuple[Standing, ...]
    comparisons: tuple[Comparison, ...]
    leaders: tuple[int, ...]
    cheapest: int | None
    rows_to_settle: int | None
    seeds_to_settle: int | None
    sentence: str


def mean_interval(values: Sequence[float] | Array) -> Interval:
    """Student's t interval of a mean: mean +- t(n-1) * s / sqrt(n). It holds exactly for normal values."""
    from scipy import stats

    x = np.asarray(values, dtype=np.float64)
    if len(x) < 2:
        return Interval(-math.inf, math.inf, SINGLE)
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(x) - 1)) * _deviation(x) / math.sqrt(len(x))
    return Interval(float(x.mean()) - half, float(x.mean()) + half, T_METHOD)


def holm(p: Sequence[float] | Array) -> Array:
    """Holm's step-down correction (1979): the i-th smallest of m p values becomes max over j <= i of (m-j+1) p_j."""
    raw = np.asarray(p, dtype=np.float64)
    order = np.argsort(raw, kind="stable")
    stepped = np.maximum.accumulate(raw[order] * np.arange(len(raw), 0, -1))
    adjusted = np.empty_like(raw)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def chance(part: Estimate, distance: float) -> float:
    """How likely an estimate lies at least ``distance`` from the truth.

    Its error is a t variable for the rows plus one for the seeds, each with its own degrees of freedom (the
    Behrens-Fisher distribution; unlike Satterthwaite's single t it holds with two seeds, too). Without any spread
    nothing is known, and the answer is 1.
    """
    from scipy.special import stdtr

    rows, seeds = math.sqrt(part.row_variance), math.sqrt(part.seed_variance)
    if rows == 0.0 and seeds == 0.0:
        return 1.0
    if seeds == 0.0:
        return float(2 * stdtr(part.row_freedom, -distance / rows))
    if rows == 0.0:
        return float(2 * stdtr(part.seed_freedom, -distance / seeds))
    others, weights = _distribution(part.seed_freedom)
    return float(2 * weights @ stdtr(part.row_freedom, (seeds * others - distance) / rows))


@cache
def _distribution(freedom: float) -> tuple[Array, Array]:
    """(POINTS,) values of Student's t and their probabilities, to integrate over it; symmetric around 0."""
    from scipy.special import stdtrit

    nodes, weights = np.polynomial.legendre.leggauss(POINTS)
    return np.asarray(stdtrit(freedom, (nodes + 1) / 2)), weights / 2


def half_width(part: Estimate) -> float:
    """The distance within which an estimate lies from the truth with probability ``LEVEL``; infinite without spread."""
    from scipy.optimize import brentq

    scale = math.sqrt(part.row_variance + part.seed_variance)
    if scale == 0.0:
        return math.inf
    return scale * float(brentq(lambda x: chance(part, x * scale) - (1 - LEVEL), 0.5, 40.0, xtol=1e-6))


def compare(trials: Sequence[int], evidence: Evidence) -> tuple[Comparison, ...]:
    """Every pair of finalists, corrected for the number of pairs. One seed cannot tell any two apart."""
    pairs = [(i, j) for i in range(len(trials)) for j in range(i + 1, len(trials))]
    parts = [evidence.of_pair(i, j) for i, j in pairs]
    known = evidence.seed_cov is not None
    p = [chance(part, abs(part.value)) if known else 1.0 for part in parts]
    found = []
    for (i, j), part, raw, adjusted in zip(pairs, parts, p, holm(p), strict=True):
        half = half_width(part)
        interval = Interval(part.value - half, part.value + half, _about(evidence))
        different = bool(adjusted < 1 - LEVEL)
        found.append(Comparison(trials[i], trials[j], part.value, interval, raw, float(adjusted), different))
    return tuple(found)


def judge(
    finalists: Sequence[Finalist], evidence: Evidence | None, direction: Direction = "minimize", seed: int = 0
) -> Judgement:
    """Who wins the finals on new rows, or who cannot be told apart.

    A finalist that diverged on any seed is out: a mean over its other seeds would reward it for diverging. The
    ``evidence`` is that of the others in their order (None: there is no other one).

    The interval of the best finalist is corrected for its having been chosen on the same rows: those of the leaders
    hold for all of them at once, and nobody else was likely to be chosen (Zrnic and Fithian 2024, Locally
    simultaneous inference).

    Raises:
        ValueError: there is no finalist, or the evidence is not about these.
    """
    if not finalists:
        raise ValueError("there are no finalists to judge")
    stable = [f for f in finalists if f.stable]
    out = [Standing(f.trial, math.nan, math.nan, None, 0.0, f.cost, _diverged(f)) for f in finalists if not f.stable]
    if evidence is None or not stable:
        if stable:
            raise ValueError("finalists that did not diverge are judged by evidence")
        return Judgement(tuple(out), (), (), None, None, None, _sentence([], None, len(finalists), 0, None, None))
    if len(evidence.values) != len(stable):
        raise ValueError(f"evidence of {len(evidence.values)} finalists cannot judge {len(stable)}")
    sign, means = (-1.0 if direction == "maximize" else 1.0), evidence.means
    order = sorted(range(len(stable)), key=lambda k: (sign * means[k], stable[k].trial))
    comparisons = compare([stable[k].trial for k in range(len(stable))], evidence)
    different = {frozenset((c.first, c.second)) for c in comparisons if c.different}
    leading = [k for k in order if frozenset((stable[order[0]].trial, stable[k].trial)) not in different]
    errors = _errors(evidence, seed)
    shares = _shares_of_best(sign * means, errors)
    intervals = _intervals(evidence, leading, errors)
    standings = []
    for k in order:
        spread = _spread(evidence.values[k])
        standings.append(Standing(stable[k].trial, float(means[k]), spread, intervals[k], shares[k], stable[k].cost, 0))
    rank = {stable[k].trial: i for i, k in enumerate(order)}
    pairs = [c if rank[c.first] < rank[c.second] else _turned(c) for c in comparisons]
    pairs.sort(key=lambda c: (rank[c.first], rank[c.second]))
    leaders = [stable[k] for k in leading]
    cheapest = _cheapest(leaders)
    rows, seeds = _to_settle(evidence, leading, len(comparisons))
    sentence = _sentence(leaders, cheapest, len(finalists), evidence.values.shape[1], rows, seeds, evidence.resampled)
    trials = tuple(f.trial for f in leaders)
    return Judgement((*standings, *out), tuple(pairs), trials, cheapest, rows, seeds, sentence)


def _errors(evidence: Evidence, seed: int) -> Array:
    """(B, K) how far the means could be off: a multivariate t for the rows plus one for the seeds."""
    rng, k = np.random.default_rng(seed), len(evidence.values)
    one = evidence.of_one(0)
    rows = evidence.row_cov + np.eye(k) * evidence.one_row
    made = _t_draws(rng, rows, one.row_freedom)
    return made if evidence.seed_cov is None else made + _t_draws(rng, evidence.seed_cov, one.seed_freedom)


def _t_draws(rng: np.random.Generator, covariance: Array, freedom: float) -> Array:
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.clip(values, 0.0, None))
    normal = rng.standard_normal((DRAWS, len(covariance))) @ root.T
    return np.asarray(normal * np.sqrt(freedom / rng.chisquare(freedom, (DRAWS, 1))))


def _shares_of_best(losses: Array, errors: Array) -> list[float]:
    """(K,) how often each finalist is the best of means that are off by such errors; ties share."""
    drawn = losses + errors
    best = np.isclose(drawn, drawn.min(axis=1, keepdims=True), rtol=1e-12, atol=0.0)
    shares = (best / best.sum(axis=1, keepdims=True)).mean(axis=0)
    return [float(share) for share in shares]


def _intervals(evidence: Evidence, leading: Sequence[int], errors: Array) -> list[Interval]:
    """Each finalist's interval; the leaders' are so much wider that they hold for all of them at once."""
    parts = [evidence.of_one(k) for k in range(len(evidence.values))]
    halves = np.array([half_width(part) for part in parts])
    reach = (np.abs(errors[:, leading]) / halves[leading]).max(axis=1)
    factor = max(1.0, float(np.quantile(reach, LEVEL))) if len(leading) > 1 else 1.0
    found = []
    for k, (part, half) in enumerate(zip(parts, halves, strict=True)):
        wide = float(half) * (factor if k in leading else 1.0)
        found.append(Interval(*evidence.bounds(part, wide), _about(evidence)))
    return found


def _about(evidence: Evidence) -> str:
    """What the intervals are for."""
    if evidence.resampled:
        return NEW_FOLDS
    return ONE_SEED if evidence.seed_cov is None else NEW_ROWS


def _to_settle(evidence: Evidence, leading: Sequence[int], pairs: int) -> tuple[int | None, int | None]:
    """So many test rows, or so many seeds, would tell the first leader from all the others.

    (z + 0.84)^2 * (row variance * n / rows + seed variance * S / seeds) has to be below the squared difference, where
    z is the two-sided quantile for all pairs.
    """
    from scipy import stats

    if len(leading) < 2 or evidence.seed_cov is None or evidence.resampled:
        return None, None
    needed = (float(stats.norm.isf((1 - LEVEL) / 2 / pairs)) + POWER) ** 2
    rows, seeds = 0.0, 0.0
    for other in leading[1:]:
        part = evidence.of_pair(leading[0], other)
        room = part.value**2 / needed  # for the variance of the difference
        left, right = room - part.seed_variance, room - part.row_variance
        rows = max(rows, part.row_variance * evidence.rows / left if left > 0 else math.inf)
        seeds = max(seeds, part.seed_variance * evidence.values.shape[1] / right if right > 0 else math.inf)
    return (
        _rounded(max(rows, evidence.rows + 1)) if rows <= MOST_ROWS else None,
        math.ceil(max(seeds, evidence.values.shape[1] + 1)) if seeds <= MOST_SEEDS else None,
    )


def _rounded(count: float) -> int:
    """Up, to two digits."""
    unit = 10 ** max(0, math.floor(math.log10(count)) - 1)
    return math.ceil(count / unit) * unit


def _turned(c: Comparison) -> Comparison:
    interval = Interval(-c.interval.high, -c.interval.low, c.interval.method)
    return Comparison(c.second, c.first, -c.difference, interval, c.p, c.adjusted, c.different)


def _diverged(finalist: Finalist) -> int:
    return sum(not math.isfinite(value) for value in finalist.values)


def _spread(values: Array) -> float:
    return _deviation(values) if len(values) > 1 else math.nan


def _deviation(x: Array) -> float:
    """The standard deviation of two or more values; of equal ones 0, and not the rounding of their mean."""
    return float(x.std(ddof=1)) if np.ptp(x) > 0.0 else 0.0


def _cheapest(leaders: Sequence[Finalist]) -> int | None:
    costs = [f.cost for f in leaders]
    if not costs or not all(map(math.isfinite, costs)) or costs.count(min(costs)) > 1:
        return None
    return leaders[costs.index(min(costs))].trial


def _sentence(
    leaders: Sequence[Finalist],
    cheapest: int | None,
    finalists: int,
    seeds: int,
    rows: int | None,
    more: int | None,
    resampled: bool = False,
) -> str:
    if not leaders:
        return "every finalist diverged on some seed: there is no winner"
    first = leaders[0].trial
    if finalists == 1:
        return f"trial {first} is the only finalist"
    if len(leaders) == 1:
        return f"trial {first} wins"
    if seeds == 1:
        names = ", ".join(str(f.trial) for f in leaders[:-1]) + f" and {leaders[-1].trial}"
        return f"{names} were trained on one seed only: they cannot be told apart"
    *between, last = [str(f.trial) for f in leaders[1:]]
    names = f"{', '.join(between)} and {last}" if between else last
    text = f"trial {first} leads; on new rows it cannot be told apart from {names}"
    if cheapest is not None:
        text += f"; {cheapest} is the cheapest"
    if resampled:
        return text
    if rows is not None:
        return f"{text}; about {rows:,} test rows would settle it"
    if more is not None:
        return f"{text}; about {more} seeds would settle it"
    return f"{text}; more than {MOST_ROWS:,} test rows or {MOST_SEEDS} seeds would be needed to settle it"
