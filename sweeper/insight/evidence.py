"""How far the finalists' test scores could be off on new rows and new seeds: both were drawn, and both are counted.

Names of dimensions: K finalists, S seeds that all of them were trained on, n test rows that all of them were tested
on, C outputs of a network. The design is crossed: every network of every finalist is tested on every row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Scale = Literal["share", "score", "positive", "plain"]
DRAWS = 400  # of rows, for a metric that is no mean
LEAST_DRAWS = 100
WORK = 400_000_000  # predictions that all draws together may score
ROUNDING = 1e-12
LARGEST = 30.0  # exponent of a bound
PSEUDO_ROWS = 4.0  # two right and two wrong ones, for a share

Score = Callable[[Array], Array]
"""``score(weights (n,)) -> (K, S)``: the metric of every network where each row counts so often."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """The mean of a metric for each finalist, and the covariances of these means.

    ``values`` (K, S) are the metric by finalist and seed on all test rows. ``row_cov`` (K, K) is the covariance that
    comes from which rows were drawn, ``seed_cov`` (K, K) that from which seeds were drawn (None: one seed). ``rows`` is
    the number of rows (of weighted ones: of equal rows that would say as much). On the ``scale`` "share" the metric is
    a mean of zeros and ones, on "score" it is at most 1 and no such mean, on "positive" it cannot be negative. Of
    ``resampled`` evidence the S values are those of folds, which stand for rows, too, and ``rows`` is their number.
    """

    values: Array
    row_cov: Array
    seed_cov: Array | None
    rows: float
    scale: Scale = "plain"
    resampled: bool = False

    @property
    def means(self) -> Array:
        """(K,) means over the seeds."""
        return np.asarray(self.values.mean(axis=1))

    def of_one(self, k: int) -> Estimate:
        """A finalist's mean: where its interval is centred, and its variances.

        Of a share, as if two more rows had been right and two wrong for every network (Agresti and Coull 1998): an
        observed 100% has an interval, too. So has any score of 1, which drawing rows again never changes: the weight of
        one row is added to its deviation.
        """
        centre, rows, seeds = float(self.means[k]), float(self.row_cov[k, k]), self._seeds(k)
        if self.scale == "share":
            n, more = self.rows, self.rows + PSEUDO_ROWS
            spread, right = rows * n * (n - 1), centre  # the sum of squares around the mean
            centre = (n * right + PSEUDO_ROWS / 2) / more
            spread += n * (right - centre) ** 2 + PSEUDO_ROWS / 2 * ((1 - centre) ** 2 + centre**2)
            rows, seeds = spread / more / (more - 1), seeds * (n / more) ** 2
        elif self.scale == "score":
            rows += self.one_row
        return Estimate(centre, rows, seeds, self._row_freedom, 1.0 + (len(self.values) - 1) / 2, self._shared_freedom)

    def of_pair(self, first: int, second: int) -> Estimate:
        """The mean of first - second, and its variances.

        Of a share, as if each had been right alone on one more row (Bonett and Price 2012).
        """
        rows = _difference(self.row_cov, first, second) + 2.0 * self.one_row
        seeds = 0.0 if self.seed_cov is None else _difference(self.seed_cov, first, second)
        centre = float(self.means[first] - self.means[second])
        return Estimate(centre, rows, seeds, self._row_freedom, len(self.values) / 2, self._shared_freedom)

    def bounds(self, estimate: Estimate, half_width: float) -> tuple[float, float]:
        """The interval around a finalist's mean.

        Of a positive metric it is the one of its logarithm, mean * exp(+- half width / mean): losses of single rows
        are skewed to the right, and so is the error of their mean when rows are few.
        """
        if self.scale == "positive" and estimate.value > 0 and math.isfinite(half_width):
            factor = math.exp(min(half_width / estimate.value, LARGEST))
            return estimate.value / factor, estimate.value * factor
        low, high = estimate.value - half_width, estimate.value + half_width
        low = max(0.0, low) if self.scale == "share" else low
        return low, min(1.0, high) if self.scale in ("share", "score") else high

    @property
    def one_row(self) -> float:
        """The variance that one more row adds to a metric that may stand at its edge."""
        return 1.0 / self.rows**2 if self.scale in ("share", "score") else 0.0

    @property
    def _row_freedom(self) -> float:
        return max(1.0, self.rows - 1)

    @property
    def _shared_freedom(self) -> int:
        return self.values.shape[1] - 1

    def _seeds(self, k: int) -> float:
        return 0.0 if self.seed_cov is None else max(0.0, float(self.seed_cov[k, k]))


@dataclass(frozen=True)
class Estimate:
    """One estimate: its value, its variance over rows and over seeds, and the degrees of freedom of both."""

    value: float
    row_variance: float
    seed_variance: float
    row_freedom: float
    finalists: float  # whose seeds its variance over seeds rests on
    seeds_less_one: int

    @property
    def seed_freedom(self) -> float:
        """Degrees of freedom of the variance over seeds."""
        return self.finalists * self.seeds_less_one


def evidence_of_means(scores: Sequence[Array], weights: Array | None = None, scale: Scale = "plain") -> Evidence:
    """Of a metric that is a mean over rows; ``scores`` has an array ``(S, n)`` for each of the K finalists.

    ``weights`` ``(n,)`` are the rows' own.
    """
    own = np.ones(scores[0].shape[1]) if weights is None else np.asarray(weights, dtype=np.float64)
    own = own / own.mean()
    values = np.array([[float(np.mean(own * row)) for row in each] for each in scores])  # (K, S)
    n_rows = scores[0].shape[1]

    def covariance(rows: Sequence[Array], means: Array) -> Array:
        """(K, K) of weighted means: the rows' influences w (x - mean) (n,) are what varies."""
        made = np.stack([own * (row - mean) for row, mean in zip(rows, means, strict=True)])  # (K, n)
        spread = np.ptp(made, axis=1) > ROUNDING * np.abs(means)  # (K,)
        made[~spread] = 0.0
        return made @ made.T / max(1, n_rows - 1) / n_rows

    together = covariance([each.mean(axis=0, dtype=np.float64) for each in scores], values.mean(axis=1))
    seeds = range(values.shape[1])
    apart = np.mean([covariance([each[s] for each in scores], values[:, s]) for s in seeds], axis=0)
    size = float(own.sum() ** 2 / (own**2).sum())
    return Evidence(values, together, _seed_covariance(values, together, apart), size, scale)


def evidence_of_folds(values: Array, test_share: float, scale: Scale = "plain") -> Evidence:
    """Of repeated k-fold splits; ``values`` (K, J) are the metric by finalist on the rows that each fold leaves out.

    Folds share training rows, so their values are not independent: their variance counts (1/J + n_test / n_train)
    instead of 1/J times (Nadeau and Bengio 2003, Inference for the generalization error). ``test_share`` is the
    share of all rows that a fold leaves out, n_test / (n_test + n_train).
    """
    folds = values.shape[1]
    ratio = test_share / (1.0 - test_share)
    covariance = np.atleast_2d(np.cov(values)) * (1.0 / folds + ratio)
    return Evidence(values, covariance, np.zeros_like(covariance), float(folds), scale, resampled=True)


def evidence_of_metric(
    score: Score,
    rows: int,
    weights: Array | None = None,
    scale: Scale = "plain",
    seed: int = 0,
    most_draws: int = DRAWS,
) -> Evidence:
    """Of any metric: rows are drawn again with replacement, the same ones for every network."""
    own = np.ones(rows) if weights is None else np.asarray(weights, dtype=np.float64)
    values = score(own)
    draws = int(np.clip(WORK // (values.size * rows), LEAST_DRAWS, most_draws))
    rng = np.random.default_rng(seed)
    drawn = np.array([score(own * rng.multinomial(rows, np.full(rows, 1 / rows))) for _ in range(draws)])  # (B, K, S)
    drawn = drawn[np.isfinite(drawn).all(axis=(1, 2))]  # a draw without one of the classes has no area under the curve
    if len(drawn) < 2:
        raise ValueError(f"the metric cannot be computed on rows that are drawn again from {rows} test rows")
    together = np.atleast_2d(np.cov(drawn.mean(axis=2).T))
    apart = np.mean([np.atleast_2d(np.cov(drawn[:, :, s].T)) for s in range(values.shape[1])], axis=0)
    size = float(own.sum() ** 2 / (own**2).sum())
    return Evidence(values, together, _seed_covariance(values, together, apart), size, scale)


def _difference(covariance: Array, first: int, second: int) -> float:
    """The variance of a difference; what is left of equal variances by rounding is none."""
    both = float(covariance[first, first] + covariance[second, second])
    left = both - 2 * float(covariance[first, second])
    return left if left > ROUNDING * both else 0.0


def _seed_covariance(values: Array, together: Array, apart: Array) -> Array | None:
    """(K, K) covariance of the means over seeds, without the part of it that ``together`` has already.

    Networks of one finalist differ on single rows, which makes both the rows' and the seeds' covariance larger:
    with ``apart``, the rows' covariance of one network, that part is (apart - together) / (S - 1), and counted once.

    A few seeds say little about a variance, so it is moved towards the finalists' common one: of K finalists the
    common one weighs (K - 1) / 2 times as much as each one's own (as Smyth 2004 does, with a fixed weight).
    """
    n_finalists, n_seeds = values.shape
    if n_seeds < 2:
        return None
    centred = values - values.mean(axis=1, keepdims=True)
    centred[np.ptp(values, axis=1) <= ROUNDING * np.abs(values[:, 0])] = 0.0
    own = centred @ centred.T / (n_seeds - 1) / n_seeds - (apart - together) / (n_seeds - 1)
    variance = np.trace(own) / n_finalists
    among = (own.sum() - np.trace(own)) / max(1, n_finalists * (n_finalists - 1))
    common = np.full_like(own, among)
    np.fill_diagonal(common, variance)
    weight = (n_finalists - 1) / 2
    return np.asarray((own + weight * common) / (1 + weight))
