"""Finals with a known truth: scores of networks that nobody trained, drawn by seed and row, and what is said of them.

Names of dimensions: K finalists, S seeds, n test rows. A population has an effect of each seed (partly common to the
finalists, and of another size for each), of each row, of each row on each finalist, and of each row on each network.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sweeper.insight.certainty import Finalist, Judgement, judge
from sweeper.insight.evidence import Evidence, evidence_of_means, evidence_of_metric

Array = NDArray[np.float64]
CERTAIN = 0.95
METRICS = ("loss", "accuracy", "mse", "rmse")
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(80)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()


@dataclass(frozen=True)
class Case:
    """One kind of finals. ``gaps`` (K,) say how much worse than the best a finalist is, in the margin of a classifier
    or as a share of a regression's squared error; ``seed_effect`` is a typical deviation over seeds in the same."""

    metric: str
    gaps: tuple[float, ...]
    seeds: int
    rows: int
    seed_effect: float


@dataclass
class Counts:
    """What was said in so many finals, and how often it was true."""

    finals: int = 0
    covered: int = 0
    false_families: int = 0
    sole: int = 0
    false_sole: int = 0
    told_apart: int = 0  # of pairs that differ
    apart: int = 0  # pairs that differ
    certain: int = 0  # probability of being the best above CERTAIN
    width: float = 0.0  # of the winner's interval, summed

    def add(self, verdict: Judgement, truth: Array, better: float) -> None:
        """Count one verdict; ``better`` is 1 where a higher metric is better, else -1. Ties are equal truths."""
        first = verdict.standings[0]
        assert first.interval is not None
        self.finals += 1
        self.covered += bool(first.interval.low <= truth[first.trial] <= first.interval.high)
        self.width += first.interval.high - first.interval.low
        self.certain += bool(first.probability_best > CERTAIN)
        false = False
        for pair in verdict.comparisons:
            gap = truth[pair.first] - truth[pair.second]
            false |= pair.different and (gap == 0.0 or gap * pair.difference < 0.0)
            self.apart += bool(gap != 0.0)
            self.told_apart += bool(pair.different and gap * pair.difference > 0.0)
        self.false_families += bool(false)
        if len(verdict.leaders) == 1:
            others = np.delete(better * truth, first.trial)
            self.sole += 1
            self.false_sole += not better * truth[first.trial] > others.max()

    def __iadd__(self, other: Counts) -> Counts:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)
        return self


def simulate(case: Case, finals: int, seed: int) -> Counts:
    """Draw so many finals of one kind, and judge each of them."""
    rng, counts = np.random.default_rng(seed), Counts()
    better = 1.0 if case.metric == "accuracy" else -1.0
    for draw in range(finals):
        scores, truth = DRAWS["classes" if case.metric in ("loss", "accuracy") else "values"](case, rng)
        evidence = _evidence(case, scores, draw)
        entrants = [Finalist(k, tuple(values)) for k, values in enumerate(evidence.values)]
        counts.add(judge(entrants, evidence, "maximize" if better > 0 else "minimize", draw), truth, better)
    return counts


def _evidence(case: Case, scores: Array, seed: int) -> Evidence:
    if case.metric != "rmse":
        return evidence_of_means(list(scores), scale="share" if case.metric == "accuracy" else "positive")
    return evidence_of_metric(lambda w: np.sqrt(scores @ w / w.sum()), case.rows, scale="positive", seed=seed)


def _seed_effects(case: Case, rng: np.random.Generator) -> tuple[Array, Array]:
    """(K, S) effects of seeds, and their deviations (K,): half to twice the typical one."""
    k = len(case.gaps)
    deviations = case.seed_effect * np.exp(rng.uniform(-math.log(2), math.log(2), k))
    common, own = rng.standard_normal(case.seeds), rng.standard_normal((k, case.seeds))
    return deviations[:, None] * (math.sqrt(0.3) * common + math.sqrt(0.7) * own), deviations


def _classes(case: Case, rng: np.random.Generator) -> tuple[Array, Array]:
    """(K, S, n) cross-entropy or correctness of normal margins, and the true means (K,).

    The margins of every finalist have the same deviation, so that finalists without a gap are exactly equal.
    """
    k, s, n = len(case.gaps), case.seeds, case.rows
    seed_effects, deviations = _seed_effects(case, rng)
    own = np.sqrt(0.7**2 - deviations**2)[:, None, None] * rng.standard_normal((k, s, n))
    margins = own + 0.5 * rng.standard_normal((k, 1, n)) + 2.0 * rng.standard_normal(n)
    centres, spread = 1.5 - np.asarray(case.gaps), math.sqrt(0.7**2 + 0.5**2 + 2.0**2)
    margins += centres[:, None, None] + seed_effects[:, :, None]
    if case.metric == "accuracy":
        from scipy.stats import norm

        return (margins > 0).astype(np.float64), norm.cdf(centres / spread)
    truth = np.logaddexp(0.0, -(centres[:, None] + spread * _NODES)) @ _WEIGHTS
    return np.logaddexp(0.0, -margins), truth.round(12)


def _values(case: Case, rng: np.random.Generator) -> tuple[Array, Array]:
    """(K, S, n) squared errors with heavy tails, and the true mean squared or root mean squared errors (K,)."""
    k, s, n = len(case.gaps), case.seeds, case.rows
    seed_effects, deviations = _seed_effects(case, rng)
    errors = 0.3 * rng.standard_normal((k, s, n)) + 0.3 * rng.standard_normal((k, 1, n))
    errors += rng.standard_t(6, n) / math.sqrt(1.5)
    sizes = np.sqrt(1.0 + np.asarray(case.gaps))
    mse = (1.0 + 0.3**2 + 0.3**2) * sizes**2
    if case.metric == "mse":  # E (1 + seed effect)^2 = 1 + deviation^2
        sizes = sizes / np.sqrt(1.0 + deviations**2)
    errors *= sizes[:, None, None] * (1.0 + seed_effects[:, :, None])
    return errors**2, mse if case.metric == "mse" else np.sqrt(mse)


DRAWS: dict[str, Callable[[Case, np.random.Generator], tuple[Array, Array]]] = {"classes": _classes, "values": _values}
