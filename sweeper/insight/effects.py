"""A linear model of the trials' scores: the effect of each choice adjusted for everything else, with honest errors.

Why a linear model and not a forest's partial dependence: every statement is a contrast of coefficients, so its interval
is a formula that holds for any number of trials, and a claim can be refused exactly when the interval includes no
difference. A forest is biased towards the mean and its bootstrap costs hundreds of fits. Log scores make effects
multiplicative, restricted cubic splines (Harrell, Regression Modeling Strategies, 2015, section 2.4.5) take the U shape
of the learning rate, and pairs of parameters that interact are added as the data ask for them.

    score = b0 + sum_f main_f(x_f) + sum_(f,g) main_f(x_f) * main_g(x_g) + noise

Errors are the larger of the classical and the HC3 standard error (MacKinnon and White 1985), since trials far from the
optimum scatter more. The trials of an adaptive sampler are no random sample: choices that began badly were tried less.

Names of dimensions: n trials, p columns, m contrasts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations

import numpy as np
from scipy import optimize, stats

from sweeper.insight.certainty import LEVEL
from sweeper.insight.factors import FEW, Array, Factor, Table
from sweeper.insight.least_squares import MAX_LEVERAGE, between, independent, p_added, svd
from sweeper.insight.misfit import misfit

MIN_TRIALS = 30  # fewer say nothing about five parameters
PER_COLUMN = 4  # trials per column of the model
MAX_PAIRS = 4  # interactions that a reader can take in
AVERAGED = 400  # trials over which a contrast is averaged
DRAWS = 4000
SURE = 0.01  # a pair of parameters comes in below this p value: it is chosen among many, and changes all that is said
MAX_RARE = 0.2  # a parameter with more trials than this in rare choices is left out itself


@dataclass(frozen=True)
class Term:
    """A factor (``second`` None) or a pair of factors."""

    first: str
    second: str | None = None

    def has(self, name: str) -> bool:
        """Whether a factor is in it."""
        return name in (self.first, self.second)


@dataclass(frozen=True, eq=False)
class Spline:
    """A restricted cubic spline with k ``knots`` (k,), less ``centre`` (k - 1,), its mean over the trials."""

    knots: Array
    centre: Array


@dataclass(frozen=True, eq=False)
class Model:
    """A fitted model. ``estimate`` (p,), ``classical`` and ``robust`` (p, p) covariances, ``row_space`` (rank, p).

    ``splines`` are those of the numbers; ``explained`` is R^2; ``evidence`` holds the p value, corrected for
    the number of candidates, that brought each pair in.
    """

    table: Table
    raw: Array
    terms: tuple[Term, ...]
    splines: Mapping[str, Spline]
    estimate: Array
    classical: Array
    robust: Array
    row_space: Array
    dof: int
    explained: float
    evidence: Mapping[Term, float]

    @property
    def pairs(self) -> tuple[Term, ...]:
        """The interactions, the strongest evidence first."""
        return tuple(sorted((t for t in self.terms if t.second is not None), key=lambda t: self.evidence[t]))

    def average_design(self, at: Mapping[str, float]) -> Array:
        """(p,) mean design row of the trials with some factors set to codes; dependent parameters at their average."""
        mains, products = self._averages
        means = dict(mains)
        for f in self.table.factors:
            if f.name in at:
                means[f.name] = _columns(f, np.array([at[f.name]]), self.splines)[0]
            elif any(parent in at for parent in f.parents):
                means[f.name] = np.zeros_like(mains[f.name])
        changed = {name for name, mean in means.items() if mean is not mains[name]}
        blocks = [np.ones(1)]
        for term in self.terms:
            if term.second is None:
                blocks.append(means[term.first])
            elif changed & {term.first, term.second}:  # one of them is the same in all trials
                blocks.append(np.outer(means[term.first], means[term.second]).ravel())
            else:
                blocks.append(products[term])
        return np.concatenate(blocks)

    @cached_property
    def _averages(self) -> tuple[dict[str, Array], dict[Term, Array]]:
        """The mean over ``AVERAGED`` trials of each factor's columns, and of each pair's products."""
        count = len(self.table.scores)
        rows = np.unique(np.linspace(0, count - 1, min(count, AVERAGED)).astype(int))
        mains = {f.name: _columns(f, f.codes[rows], self.splines) for f in self.table.factors}
        products = {
            term: _products(mains[term.first], mains[term.second]).mean(axis=0)
            for term in self.terms
            if term.second is not None
        }
        return {name: columns.mean(axis=0) for name, columns in mains.items()}, products

    def contrasts(self, rows: Array) -> tuple[Array, Array]:
        """(m, p) contrasts -> (m,) estimates, (m,) standard errors: infinite where the trials do not determine it."""
        estimates = rows @ self.estimate
        classical = np.einsum("ij,jk,ik->i", rows, self.classical, rows)
        robust = np.einsum("ij,jk,ik->i", rows, self.robust, rows)
        errors = np.sqrt(np.maximum(np.maximum(classical, robust), 0.0))
        outside = np.linalg.norm(rows - rows @ self.row_space.T @ self.row_space, axis=1)
        errors[outside > 1e-6 * np.maximum(1.0, np.linalg.norm(rows, axis=1))] = np.inf
        return estimates, errors

    def p_values(self, rows: Array) -> Array:
        """(m,) two-sided p values of contrasts; 1 where a contrast has no error to be judged by."""
        estimates, errors = self.contrasts(rows)
        with np.errstate(divide="ignore", invalid="ignore"):
            t = np.where(errors > 0, np.abs(estimates) / errors, 0.0)
        p: Array = 2 * stats.t.sf(t, self.dof)
        return p

    @property
    def half_width(self) -> float:
        """How many standard errors reach from an estimate to the end of its interval."""
        return float(stats.t.ppf((1 + LEVEL) / 2, self.dof))

    @property
    def one_sided(self) -> float:
        """The same to a bound on one side, as an equivalence test needs it (Schuirmann 1987)."""
        return float(stats.t.ppf(LEVEL, self.dof))

    def joint_half_width(self, rows: Array, seed: int = 0) -> float:
        """The same for intervals that cover all (m,) contrasts at once: the quantile of the largest |t| (sup-t)."""
        known = rows[np.isfinite(self.contrasts(rows)[1])]
        if not len(known):
            return np.inf
        eigenvalues, vectors = np.linalg.eigh(self.robust)
        root = vectors * np.sqrt(np.maximum(eigenvalues, 0.0))  # (p, p)
        noise = known @ root @ np.random.default_rng(seed).standard_normal((len(root), DRAWS))  # (m, draws)
        spread = noise.std(axis=1, keepdims=True)
        largest = np.max(np.abs(noise) / np.where(spread > 0, spread, np.inf), axis=0)
        tail = 2 * stats.norm.sf(np.quantile(largest, LEVEL))
        return float(stats.t.isf(tail / 2, self.dof))  # the normal quantile, widened for the degrees of freedom

    def p_without(self, name: str) -> float:
        """The p value of every term of a factor at once: large when the trials show no effect of it."""
        kept = tuple(term for term in self.terms if not term.has(name))
        codes = {f.name: f.codes for f in self.table.factors}
        full = _design(self.table.factors, codes, self.terms, self.splines)
        reduced = _design(self.table.factors, codes, kept, self.splines)
        return p_added(svd(reduced)[0], full, self.table.scores)

    def largest_effect(self, name: str) -> float:
        """An upper bound (95%) of a factor's effect: the standard deviation, over trials, of its share.

        The F statistic of q columns has the noncentrality n effect^2 / sigma^2, whose upper confidence limit is where
        the statistic would be this small in 5% of cases (Steiger 2004, Psychological Methods 9).
        """
        kept = tuple(term for term in self.terms if not term.has(name))
        codes = {f.name: f.codes for f in self.table.factors}
        base = svd(_design(self.table.factors, codes, kept, self.splines))[0]
        full = _design(self.table.factors, codes, self.terms, self.splines)
        added = full - base @ (base.T @ full)
        v, s, _ = independent(added, float(np.linalg.norm(full)))
        residual = self.table.scores - base @ (base.T @ self.table.scores)
        explained = float(np.square(v.T @ residual).sum())
        variance = (float(residual @ residual) - explained) / self.dof
        if not len(s) or variance <= 0:
            return np.inf
        statistic = explained / len(s) / variance
        count = len(residual)

        def excess(noncentrality: float) -> float:
            return float(stats.ncf.cdf(statistic, len(s), self.dof, noncentrality)) - (1 - LEVEL)

        low, high = 1e-9, 10.0 * (len(s) * statistic + 10)
        limit = optimize.brentq(excess, low, high) if excess(low) > 0 > excess(high) else high
        return float(np.sqrt(limit * variance / count))

    def p_mixed(self, name: str) -> float:
        """The smallest corrected p value of a factor's products with each other factor, in the scores as they are."""
        codes = {f.name: f.codes for f in self.table.factors}
        base = svd(_design(self.table.factors, codes, self.terms, self.splines))[0]
        mains = {
            f.name: _columns(f, f.codes, self.splines)[:, : None if f.is_choice else 2] for f in self.table.factors
        }
        others = [f.name for f in self.table.factors if f.name != name]
        found = [p_added(base, _products(mains[name], mains[other]), self.raw) for other in others]
        return min([1.0, *(p * len(others) for p in found)])


def fit(table: Table) -> Model | None:
    """The model of a table with the interactions that its trials ask for; None: there are too few trials.

    Choices with fewer than ``FEW`` trials are left out with their trials. Pairs of which one is a choice are added one
    by one, the strongest first, while its p value times the number of candidates stays below 5%; one with a combination
    that was never tried is left out, see ``_p_pair``.
    """
    table = _common(table)
    count = len(table.scores)
    if count < MIN_TRIALS or not table.factors or np.ptp(table.scores) == 0.0:
        return None
    codes = {f.name: f.codes for f in table.factors}
    terms = tuple(Term(f.name) for f in table.factors)
    for n_knots in (5, 4, 3, 2):
        splines = {f.name: _fit_spline(f, n_knots) for f in table.factors if not f.is_choice}
        design = _design(table.factors, codes, terms, splines)
        if design.shape[1] * PER_COLUMN <= count:
            break
    else:
        return None
    table, raw = _without_misfit(table, design), table.scores
    candidates = _candidates(table)
    evidence: dict[Term, float] = {}
    while candidates and len(evidence) < MAX_PAIRS:
        base = svd(design)[0]
        p = {term: _p_pair(table, term, splines, base, design.shape[1]) for term in candidates}
        best = min(p, key=lambda term: p[term])
        corrected = p[best] * len(candidates)
        if corrected >= SURE:
            break
        evidence[best] = corrected
        terms = (*terms, best)
        candidates.remove(best)
        design = _design(table.factors, codes, terms, splines)
    return _fitted(table, raw, terms, splines, design, evidence)


def _common(table: Table) -> Table:
    """Without the choices that were tried too rarely and their trials, or without a parameter made of such choices."""
    keep, unusable = np.ones(len(table.scores), dtype=bool), set()
    for f in table.factors:
        if f.levels is not None:
            rare = [i for i in range(len(f.levels)) if np.sum(f.codes == i) < FEW]
            dropped = np.isin(f.codes, rare)
            if dropped.sum() > MAX_RARE * len(dropped):
                unusable.add(f.name)
            else:
                keep &= ~dropped
    table = table.rows(keep)
    factors = []
    for f in table.factors:
        present = np.unique(f.codes[~np.isnan(f.codes)])
        if len(present) < 2 or f.name in unusable:
            continue
        if f.levels is not None:
            levels = tuple(f.levels[int(i)] for i in present)
            codes = np.where(np.isnan(f.codes), np.nan, np.searchsorted(present, f.codes))
            factors.append(replace(f, levels=levels, codes=codes))
        else:
            factors.append(f)
    return replace(table, factors=tuple(factors))


def _without_misfit(table: Table, design: Array) -> Table:
    """The table with the scores that the trials would have if the numbers' effects were as smooth as the model's."""
    base = svd(design)[0]
    residual = table.scores - base @ (base.T @ table.scores)
    numbers = tuple(f for f in table.factors if not f.is_choice)
    left = misfit(numbers, residual)
    return replace(table, scores=table.scores - left, draws=None if table.draws is None else table.draws - left)


def _candidates(table: Table) -> list[Term]:
    """Pairs with a choice in them, neither of which depends on another parameter."""
    free = [f for f in table.factors if not f.parents and not np.isnan(f.codes).any()]
    return [Term(f.name, g.name) for f, g in combinations(free, 2) if f.is_choice or g.is_choice]


def _fit_spline(factor: Factor, count: int) -> Spline:
    """Knots at equal distances: an adaptive sampler crowds a few values, and the shape is asked for everywhere."""
    codes = factor.codes[~np.isnan(factor.codes)]
    low, high = np.quantile(codes, [0.02, 0.98])
    count = min(count, len(np.unique(codes)), 3 if factor.parents else count)
    knots: Array = np.linspace(low, high, max(count, 2)) if high > low else np.array([codes.min(), codes.max()])
    return Spline(knots, _spline(codes, knots).mean(axis=0))


def _columns(factor: Factor, codes: Array, splines: Mapping[str, Spline]) -> Array:
    """(n, k) columns of one factor: dummies without the first level, or a centred spline; NaN becomes 0, its mean."""
    if factor.levels is not None:
        return np.column_stack([codes == i for i in range(1, len(factor.levels))]).astype(np.float64)
    spline = splines[factor.name]
    return np.nan_to_num(_spline(codes, spline.knots) - spline.centre, nan=0.0)


def _products(first: Array, second: Array) -> Array:
    """(n, j) and (n, k) columns -> (n, j k) products."""
    return (first[:, :, None] * second[:, None, :]).reshape(len(first), -1)


def _spline(codes: Array, knots: Array) -> Array:
    """(n, len(knots) - 1) columns of a restricted cubic spline, which is linear outside its knots."""
    k = (knots - knots[0]) / (knots[-1] - knots[0])
    x = (codes - knots[0]) / (knots[-1] - knots[0])
    columns = [x]
    for j in range(len(k) - 2):
        # s_j = (x-k_j)+^3 - (x-k_l)+^3 (k_m-k_j)/(k_m-k_l) + (x-k_m)+^3 (k_l-k_j)/(k_m-k_l) with l = m-1
        last = k[-1] - k[-2]
        spline = np.maximum(x - k[j], 0.0) ** 3
        spline = spline - np.maximum(x - k[-2], 0.0) ** 3 * (k[-1] - k[j]) / last
        columns.append(spline + np.maximum(x - k[-1], 0.0) ** 3 * (k[-2] - k[j]) / last)
    return np.column_stack(columns)


def _design(
    factors: Sequence[Factor], codes: Mapping[str, Array], terms: Sequence[Term], splines: Mapping[str, Spline]
) -> Array:
    """(n, p) design matrix with a constant."""
    count = len(next(iter(codes.values())))
    mains = {f.name: _columns(f, codes[f.name], splines) for f in factors}
    blocks = [np.ones((count, 1))]
    for term in terms:
        first = mains[term.first]
        if term.second is None:
            blocks.append(first)
        else:
            blocks.append(_products(first, mains[term.second]))
    return np.hstack(blocks)


def _fitted(
    table: Table,
    raw: Array,
    terms: tuple[Term, ...],
    splines: Mapping[str, Spline],
    design: Array,
    evidence: Mapping[Term, float],
) -> Model:
    u, s, vt = svd(design)
    inverse = (vt.T / s) @ u.T  # (p, n)
    dof = len(table.scores) - len(s)
    leverage = np.minimum(np.sum(u**2, axis=1), MAX_LEVERAGE)
    scores = table.scores[None] if table.draws is None else table.draws  # (M, n)
    estimates = scores @ inverse.T  # (M, p)
    residuals = scores - estimates @ design.T
    classical = (vt.T / s**2) @ vt * float(np.mean(np.sum(residuals**2, axis=1)) / dof)
    weighted = inverse * np.sqrt(np.mean(residuals**2, axis=0)) / (1 - leverage)
    robust = weighted @ weighted.T
    if table.draws is not None:
        classical, robust = classical + between(estimates), robust + between(estimates)
        dof = max(1, dof - (table.basis.trials - table.basis.reached))
    estimate = estimates.mean(axis=0)
    residual = table.scores - design @ estimate
    spread = raw - raw.mean()
    explained = 1 - float(residual @ residual) / float(spread @ spread)
    return Model(table, raw, terms, splines, estimate, classical, robust, vt, dof, explained, evidence)


def _p_pair(table: Table, pair: Term, splines: Mapping[str, Spline], base: Array, size: int) -> float:
    """The p value of a pair's columns beyond a model of ``size`` columns, of which ``base`` (n, rank) is a basis.

    1 where a column is not determined, because a combination was never tried: with it in the model no choice of the
    two had an effect on the average of all settings, however plain it is in those that were tried.
    """
    codes = {f.name: f.codes for f in table.factors}
    block = _design([f for f in table.factors if pair.has(f.name)], codes, (pair,), splines)[:, 1:]
    if (size + block.shape[1]) * PER_COLUMN > len(table.scores):
        return 1.0
    scores = table.scores if table.draws is None else table.draws
    unseen = table.basis.trials - table.basis.reached
    return p_added(base, block, scores, at_least=block.shape[1], unseen=unseen)
