"""TPE for a whole batch: one pair of Parzen estimators, shared by every suggestion of the batch.

The tree-structured Parzen estimator (Bergstra et al. 2011, "Algorithms for Hyper-Parameter Optimization"; components
as in Watanabe 2023, arXiv:2304.11127) with the choices of Optuna 5's ``TPESampler``: multivariate kernels (one product
kernel per trial), ``gamma = min(ceil(0.1 n), 25)`` good trials, old trials weighted down linearly, bandwidths from
neighbour distances with the "magic clip", a prior kernel over the whole range, 24 candidates per suggestion, random
suggestions until 10 trials are known, pending trials counted as bad (constant liar).

Four things differ. Bandwidths are at least ``1 / sqrt(n)`` of the range after n trials; for what that brings see
decisions.md. A trial that does not have a parameter counts with the prior kernel on that axis; candidates are compared
on the axes that apply to them only. Within a batch the estimators are built once: a suggestion enters the bad mixture
as one more kernel, while the bandwidths of the others stay. And of more than ``RECENT + OLDER`` bad trials the mixture
has the newest and a sample of the older ones, each of which stands for several: a suggestion costs the same after any
number of trials.

All candidates of a batch are scored against all kernels by ONE matrix product, because the log of a product kernel is
linear in the features ``x^2, x, 1`` of a continuous axis and in the indicators of a finite one.

Names of dimensions: N kernels, M candidates, D axes, G values of a finite axis, F features, B suggestions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from sweeper.search.axes import Array, Axis

STARTUP = 10
CANDIDATES = 24
RECENT, OLDER = 1000, 2000  # bad trials that count one by one: the newest, and at most so many of those before them
_CHUNK = 1 << 16  # elements of the (M, N) score matrix worked on at a time, so that they stay in cache
_LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)

Applies = Callable[[Array], NDArray[np.bool_]]


def n_good(n: int) -> int:
    """How many of n finished trials count as good."""
    return min(math.ceil(0.1 * n), 25)


def n_good_of_front(n: int) -> int:
    """The same where trials are ranked by several objectives: the front to be covered grows with n."""
    return math.ceil(0.1 * n)


def least_bandwidth(n: int) -> float:
    """The least bandwidth, as a share of the range, after n trials."""
    return 1.0 / math.sqrt(max(n, 1))


def age_weights(n: int) -> Array:
    """(n,) weights of n trials in the order of their numbers: the newest 25 count fully, older ones linearly less."""
    if n < 25:
        return np.ones(n)
    return np.concatenate([np.linspace(1.0 / n, 1.0, num=n - 25), np.ones(25)])


def thinned(rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], Array | None]:
    """The rows (N,) of bad trials, oldest first, that the mixture has (n,), and their weights (n,) (None: by age).

    Up to ``RECENT + OLDER`` of them are all kept. Of more, the older ones are halved until they are about ``OLDER`` at
    most, and one that is left weighs for those that are not. Which ones are left depends on the row alone (golden
    section hashing: evenly spread over the rows), so that a longer history keeps a part of what a shorter one kept.
    """
    older = len(rows) - RECENT
    if older <= OLDER:
        return rows, None
    halvings = math.ceil(math.log2(older / OLDER))
    mixed = rows[:older].astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    left = np.flatnonzero(mixed < np.uint64(2 ** (64 - halvings)))
    kept = np.concatenate([left, np.arange(older, len(rows))])
    weights = age_weights(len(rows))
    weights[:older] *= 2.0**halvings
    return rows[kept], weights[kept]


class ParzenEstimator:
    """A mixture of product kernels, one per point (N, D) in the order of trial numbers, and a prior kernel (last).

    ``weights`` (N,) are those of the points, by default by their age. Densities are not normalised over them (the
    factor is the same for every candidate). No bandwidth of a point is below ``least``.
    """

    def __init__(self, axes: Sequence[Axis], points: Array, weights: Array | None = None, least: float = 0.0) -> None:
        self.axes, self._least = tuple(axes), least
        self._n_kernels = len(points) + 1
        self.weights = np.append(age_weights(len(points)) if weights is None else weights, 1.0)
        codes = np.vstack([points, np.full(len(self.axes), np.nan)])
        self._mus = [_positions(axis, codes[:, d]) for d, axis in enumerate(self.axes)]
        self._sigmas = [bandwidths(mu, least) for mu in self._mus]
        self._centres = [np.sort(mu[~np.isnan(mu)]) for mu in self._mus]
        self._columns = self._kernel_columns(codes, self._mus, self._sigmas)  # (F, N)

    def log_density(self, features: Array) -> Array:
        """(M,) log of the weighted sum of kernels at the points with these features (M, F)."""
        log_weights = np.log(self.weights)
        result = np.empty(len(features))
        step = max(1, _CHUNK // self._n_kernels)
        buffer = np.empty((step, self._n_kernels))
        for start in range(0, len(features), step):
            rows = features[start : start + step]
            scores = np.matmul(rows, self._columns, out=buffer[: len(rows)])
            scores += log_weights
            top = scores.max(axis=1, keepdims=True)
            scores -= top
            np.maximum(scores, -700.0, out=scores)  # below, exp underflows, which costs twenty times as much
            np.exp(scores, out=scores)
            result[start : start + step] = np.log(scores.sum(axis=1)) + top[:, 0]
        return result

    def extra_kernel(self, point: Array) -> Array:
        """(F,) the column of one more kernel of weight 1 at a point (D,), with bandwidths from the known neighbours."""
        mus = [_positions(axis, point[d : d + 1]) for d, axis in enumerate(self.axes)]
        sigmas = [np.array([self._width_beside(d, float(mu[0]))]) for d, mu in enumerate(mus)]
        return self._kernel_columns(point[None], mus, sigmas)[:, 0]

    def sample(self, u: Array) -> Array:
        """Numbers in [0, 1) (M, D + 1) -> (M, D) points drawn from the mixture."""
        shares = np.cumsum(self.weights)
        kernel = np.searchsorted(shares, u[:, 0] * shares[-1], side="right")
        points = np.empty((len(u), len(self.axes)))
        row = 0
        for d, axis in enumerate(self.axes):
            height = 3 if axis.values is None else len(axis.values)
            if axis.values is None:
                mu, sigma = _known(self._mus[d][kernel]), self._sigmas[d][kernel]
                below, above = ndtr(-mu / sigma), ndtr((1 - mu) / sigma)
                points[:, d] = np.clip(mu + sigma * ndtri(below + u[:, d + 1] * (above - below)), 0.0, 1.0)
            else:
                mass = np.exp(self._columns[row : row + height, kernel])  # (G, M)
                points[:, d] = (np.cumsum(mass, axis=0)[:-1] < u[:, d + 1]).sum(axis=0)
            row += height
        return points

    def _kernel_columns(self, codes: Array, mus: Sequence[Array], sigmas: Sequence[Array]) -> Array:
        """(F, n) the log kernels at codes (n, D) as linear functions of ``features``."""
        blocks = []
        for axis, code, mu, sigma in zip(self.axes, codes.T, mus, sigmas, strict=True):
            if axis.choices is not None:
                blocks.append(_choice_rows(len(axis.choices), code, self._n_kernels))
            elif axis.edges is not None:
                blocks.append(_bin_rows(axis.edges, _known(mu), sigma))
            else:
                blocks.append(_gauss_rows(_known(mu), sigma))
        return np.concatenate(blocks, axis=0)

    def _width_beside(self, d: int, mu: float) -> float:
        """The bandwidth that one more centre would get on axis d."""
        if math.isnan(mu):
            return 1.0
        known = self._centres[d]
        at = int(np.searchsorted(known, mu, side="right"))
        left = mu - (known[at - 1] if at > 0 else 0.0)
        right = (known[at] if at < len(known) else 1.0) - mu
        if len(known) and at in (0, len(known)):
            left, right = (right, right) if at == 0 else (left, left)
        return float(np.clip(max(left, right), max(1.0 / min(100.0, 3.0 + len(known)), self._least), 1.0))


class TpeBatch:
    """The suggestions of one batch: estimators built once, then ``pick`` and ``add`` in turn.

    Args:
        axes: the D parameters.
        good: (., D) the good trials, at least one, in the order of their numbers.
        bad: (., D) all others and the trials that were pending when the batch began, in the order of their numbers.
        u: (B, CANDIDATES, D + 1) uniform numbers in [0, 1); suggestion b uses u[b] and no other randomness.
        applies: maps points (M, D) to which axes apply to each (M, D); None: all do.
        aging: whether older good trials count less, and bandwidths are at least ``least_bandwidth`` of all.
        weights: (.,) of the bad trials; by default by their age.
    """

    def __init__(
        self,
        axes: Sequence[Axis],
        good: Array,
        bad: Array,
        u: Array,
        applies: Applies | None = None,
        aging: bool = True,
        weights: Array | None = None,
    ) -> None:
        least = least_bandwidth(len(good) + len(bad)) if aging else 0.0
        self._high = ParzenEstimator(axes, bad, weights, least)
        low = ParzenEstimator(axes, good, None if aging else np.ones(len(good)), least)
        candidates = low.sample(u.reshape(-1, u.shape[-1]))
        mask = None if applies is None else applies(candidates)
        self._features = features(axes, candidates, mask)
        self._good = low.log_density(self._features)
        self._bad = self._high.log_density(self._features)
        self._candidates = candidates if mask is None else np.where(mask, candidates, np.nan)
        self._per_pick = u.shape[1]

    def pick(self, b: int) -> Array:
        """(D,) the best candidate of suggestion b; NaN on axes that do not apply. ``add`` it before the next pick."""
        own = slice(b * self._per_pick, (b + 1) * self._per_pick)
        best = int(np.argmax(self._good[own] - self._bad[own]))
        point: Array = self._candidates[own][best]
        return point

    def add(self, point: Array) -> None:
        """Count a suggestion (D,) of this batch as bad, so that the next ones keep their distance."""
        self._bad = np.logaddexp(self._bad, self._features @ self._high.extra_kernel(point))


class GroupedTpeBatch:
    """The suggestions of one batch where groups of axes are searched apart, each by a ``TpeBatch`` of its own.

    Args:
        groups: indices of axes, each axis in one group.
        batches: of each group.
        applies: as for ``TpeBatch``: what does not apply is left out of a suggestion in the end.
    """

    def __init__(
        self, groups: Sequence[Sequence[int]], batches: Sequence[TpeBatch], applies: Applies | None = None
    ) -> None:
        self._groups, self._batches, self._applies = [list(group) for group in groups], batches, applies

    def pick(self, b: int) -> Array:
        """As ``TpeBatch.pick``."""
        point = np.empty(sum(map(len, self._groups)))
        for group, batch in zip(self._groups, self._batches, strict=True):
            point[group] = batch.pick(b)
        return point if self._applies is None else np.where(self._applies(point[None])[0], point, np.nan)

    def add(self, point: Array) -> None:
        """As ``TpeBatch.add``."""
        for group, batch in zip(self._groups, self._batches, strict=True):
            if not np.isnan(point[group]).all():
                batch.add(point[group])


def features(axes: Sequence[Axis], points: Array, applies: NDArray[np.bool_] | None = None) -> Array:
    """(M, F) what the kernels' columns are multiplied with; zeros where an axis does not apply to a point (M, D)."""
    blocks = []
    for d, axis in enumerate(axes):
        x = points[:, d]
        if axis.values is None:
            block = np.stack([x * x, x, np.ones_like(x)], axis=1)
        else:
            block = (x[:, None] == np.arange(len(axis.values))).astype(np.float64)
        blocks.append(block if applies is None else block * applies[:, d, None])
    return np.concatenate(blocks, axis=1)


def bandwidths(mus: Array, least: float = 0.0) -> Array:
    """(n,) the larger distance to a neighbouring centre, clipped; 1 (the prior's) where a centre is NaN.

    The ends of the range count as neighbours only of a single centre.
    """
    sigmas = np.ones(len(mus))
    known = np.flatnonzero(~np.isnan(mus))
    n = len(known)
    if n == 0:
        return sigmas
    order = known[np.argsort(mus[known], kind="stable")]
    gaps = np.diff(mus[order], prepend=0.0, append=1.0)
    width = np.maximum(gaps[:-1], gaps[1:])
    if n >= 2:
        width[0], width[-1] = gaps[1], gaps[-2]
    sigmas[order] = np.clip(width, max(1.0 / min(100.0, 2.0 + n), least), 1.0)
    return sigmas


def _gauss_rows(mu: Array, sigma: Array) -> Array:
    """(3, n) log of Gaussians truncated to [0, 1]: ``-(x - mu)^2 / 2 sigma^2 - log(sigma mass)`` by powers of x."""
    curve = 0.5 / sigma**2
    mass = ndtr((1.0 - mu) / sigma) - ndtr(-mu / sigma)
    return np.stack([-curve, 2 * curve * mu, -curve * mu**2 - np.log(sigma * mass) - _LOG_SQRT_2PI])


def _bin_rows(edges: Array, mu: Array, sigma: Array) -> Array:
    """(G, n) log probabilities of the bins between the edges under Gaussians truncated to [0, 1]."""
    pairs, which = np.unique(mu + 1j * sigma, return_inverse=True)  # few: centres are bin centres
    z = (edges[:, None] - pairs.real) / pairs.imag
    flip = z[:-1] > 0  # the right tail is computed as a left one, where ndtr keeps its relative precision
    mass = np.where(flip, ndtr(-z[:-1]) - ndtr(-z[1:]), ndtr(z[1:]) - ndtr(z[:-1]))
    total = ndtr(z[-1]) - ndtr(z[0])
    rows: Array = np.log(np.maximum(mass, 1e-300)) - np.log(total)
    return rows[:, which]


def _choice_rows(n_choices: int, codes: Array, n_kernels: int) -> Array:
    """(G, n) log probabilities of the choices: the own choice, smoothed by 1/n_kernels over all; uniform for NaN."""
    known = ~np.isnan(codes)
    rows = np.full((n_choices, len(codes)), -math.log(n_choices))
    total = 1.0 + n_choices / n_kernels
    rows[:, known] = math.log(1.0 / n_kernels / total)
    rows[codes[known].astype(int), known] = math.log((1.0 + 1.0 / n_kernels) / total)
    return rows


def _positions(axis: Axis, codes: Array) -> Array:
    """(n,) kernel centres on [0, 1] of codes on a numeric axis; NaN where there is none, or the axis is unordered."""
    if axis.choices is not None:
        return np.full(len(codes), np.nan)
    if axis.centers is None:
        return codes
    known = ~np.isnan(codes)
    return np.where(known, axis.centers[np.where(known, codes, 0).astype(int)], np.nan)


def _known(mus: Array) -> Array:
    """Centres with the prior's (the middle of the range) where there is none."""
    return np.where(np.isnan(mus), 0.5, mus)
