"""What a fitted model says about choices: effects with intervals, and where one choice beats another.

Names of dimensions: L levels of a choice, G points of the parameter it is looked at along, p columns of the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, groupby

import numpy as np
from numpy.typing import NDArray

from sweeper.insight.basis import Basis
from sweeper.insight.certainty import LEVEL, Interval, holm
from sweeper.insight.effects import Model, Term
from sweeper.insight.factors import FEW, Array, Factor
from sweeper.text import from_to, number

POINTS = 41
NEARBY = 0.1  # the share of a range within which trials support a statement about a point
GAP = 5  # of these points: two stretches this close are one, though in the gap itself nothing can be shown
ADJUSTED = "linear model, adjusted for the other parameters"
ACTORS = ("activation", "optimizer", "initialization")  # of two choices that interact, which one is compared


@dataclass(frozen=True)
class Effect:
    """One choice against the average of all, as a ratio or difference of the metric (see ``Scale``)."""

    level: str
    trials: int
    value: float
    interval: Interval


@dataclass(frozen=True)
class Pair:
    """Two choices: the ``better`` one's metric as a ratio to (or difference from) the ``worse`` one's.

    ``p`` is corrected for all pairs of the sweep; ``shown`` says whether it is below 5%.
    """

    parameter: str
    better: str
    worse: str
    value: float
    interval: Interval
    p: float
    shown: bool
    sentence: str


@dataclass(frozen=True)
class ChoiceEffects:
    """All choices of one parameter, the best first, and every pair of them."""

    parameter: str
    effects: tuple[Effect, ...]
    pairs: tuple[Pair, ...]
    sentence: str

    def pair(self, a: str, b: str) -> Pair | None:
        """The pair of two choices in either order."""
        return next((pair for pair in self.pairs if {pair.better, pair.worse} == {a, b}), None)


@dataclass(frozen=True)
class Region:
    """Where ``better`` beats the other: from ``low`` to ``high`` of a number, or at the choices ``levels``."""

    better: str
    low: float
    high: float
    levels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Condition:
    """How ``first`` against ``second`` depends on another parameter. The intervals behind the regions hold jointly.

    ``everywhere``: one of them wins wherever both were tried.
    """

    parameter: str
    first: str
    second: str
    along: str
    regions: tuple[Region, ...]
    everywhere: bool
    sentence: str

    @property
    def changes(self) -> bool:
        """Whether each of the two wins somewhere."""
        return len({region.better for region in self.regions}) > 1


@dataclass(frozen=True)
class Curve:
    """The adjusted metric of one choice along another parameter; None where no trials support it."""

    level: str
    middle: tuple[float | None, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class Interaction:
    """A pair of parameters whose effects depend on each other: curves for a plot and what can be said.

    ``points`` are numbers (``log``: drawn logarithmically) or choices.
    """

    parameter: str
    along: str
    log: bool
    points: tuple[float | str, ...]
    curves: tuple[Curve, ...]
    p: float
    conditions: tuple[Condition, ...]


def choice_effects(model: Model) -> tuple[ChoiceEffects, ...]:
    """The effects of every choice; p values of pairs are corrected over all choices together (Holm)."""
    choices = [f for f in model.table.factors if f.levels is not None]
    designs = {f.name: _level_designs(model, f) for f in choices}
    rows = [designs[f.name][i] - designs[f.name][j] for f in choices for i, j in _pairs(f)]
    adjusted = iter(holm(model.p_values(np.array(rows))).tolist() if rows else [])
    found = []
    for f in choices:
        effects = _effects(model, f, designs[f.name])
        pairs = [_pair(model, f, designs[f.name], i, j, next(adjusted)) for i, j in _pairs(f)]
        sentence = _choice_sentence(f.name, effects, pairs, model.table.basis)
        found.append(ChoiceEffects(f.name, tuple(effects), tuple(pairs), sentence))
    return tuple(found)


def interactions(model: Model) -> tuple[Interaction, ...]:
    """The pairs of parameters that the model holds, the strongest first."""
    return tuple(_interaction(model, term) for term in model.pairs)


def conditions_of(model: Model, parameter: str, first: str, second: str) -> tuple[Condition, ...]:
    """Where ``first`` beats ``second``, along every parameter that the choice interacts with."""
    found = []
    for term in model.pairs:
        if term.has(parameter):
            along = term.second if term.first == parameter else term.first
            actor, modifier = model.table.factor(parameter), model.table.factor(str(along))
            assert actor is not None
            assert modifier is not None
            condition = _Surface(model, actor, modifier).condition(first, second)
            found += [condition] if condition is not None else []
    return tuple(found)


def _level_designs(model: Model, factor: Factor) -> Array:
    """(L, p)."""
    assert factor.levels is not None
    return np.array([model.average_design({factor.name: float(i)}) for i in range(len(factor.levels))])


def _pairs(factor: Factor) -> list[tuple[int, int]]:
    assert factor.levels is not None
    return list(combinations(range(len(factor.levels)), 2))


def _effects(model: Model, factor: Factor, designs: Array) -> list[Effect]:
    assert factor.levels is not None
    estimates, errors = model.contrasts(designs - designs.mean(axis=0))
    order = [int(i) for i in np.argsort(estimates, kind="stable")]
    return [
        Effect(
            factor.levels[i],
            int(np.sum(factor.codes == i)),
            model.table.scale.shown(float(estimates[i])),
            _interval(model, float(estimates[i]), float(errors[i])),
        )
        for i in order
    ]


def _pair(model: Model, factor: Factor, designs: Array, i: int, j: int, p: float) -> Pair:
    assert factor.levels is not None
    [delta], [error] = model.contrasts((designs[i] - designs[j])[None])
    if delta > 0:
        i, j, delta = j, i, -delta
    scale, interval = model.table.scale, _interval(model, float(delta), float(error))
    better, worse, value = factor.levels[i], factor.levels[j], scale.shown(float(delta))
    shown = p < 1 - LEVEL and interval.excludes(scale.neutral)
    if shown:
        basis = model.table.basis
        sentence = f"{basis.where}{better} {basis.beats} {worse}: {scale.words(value, interval)}"
    else:
        sentence = f"{better} and {worse} cannot be told apart"
    return Pair(factor.name, better, worse, value, interval, p, shown, sentence)


def _interval(model: Model, estimate: float, error: float) -> Interval:
    half = model.half_width * error
    return model.table.scale.interval(estimate - half, estimate + half, ADJUSTED)


def _choice_sentence(name: str, effects: Sequence[Effect], pairs: Sequence[Pair], basis: Basis) -> str:
    best = effects[0].level
    beaten = [p for p in pairs if p.better == best and p.shown]
    others = len(effects) - 1
    if not any(p.shown for p in pairs):
        return f"{name}: no difference between {listed([e.level for e in effects])} can be shown"
    if not beaten:
        worst = next(p for p in pairs if p.shown)
        return f"{name}: no choice is clearly {'best' if basis.at_end else 'ahead'}; {worst.sentence}"
    if len(beaten) == others:
        strongest = min(beaten, key=lambda p: [e.level for e in effects].index(p.worse))
        return f"{name}: {best} {'is best' if basis.at_end else 'is ahead of all others'}; {strongest.sentence}"
    left = [e.level for e in effects[1:] if e.level not in {p.worse for p in beaten}]
    losers = [e.level for e in effects if e.level in {p.worse for p in beaten}]
    return f"{name}: {basis.where}{best} {basis.beats} {listed(losers)}; it cannot be told apart from {listed(left)}"


class _Surface:
    """The predicted scores of L choices at G points of another parameter, and which of them trials support."""

    def __init__(self, model: Model, actor: Factor, modifier: Factor) -> None:
        assert actor.levels is not None
        self.model, self.actor, self.modifier, self.levels = model, actor, modifier, actor.levels
        known = modifier.codes[~np.isnan(modifier.codes)]
        if modifier.levels is not None:
            self.points = np.arange(len(modifier.levels), dtype=np.float64)
            reach, enough = 0.5, FEW
        else:
            low, high = np.quantile(known, [0.02, 0.98])
            self.points = np.linspace(low, high, POINTS)
            reach, enough = NEARBY * (high - low), 3
        near = np.abs(modifier.codes[:, None] - self.points) <= reach  # (n, G)
        counts = np.array([(near & (actor.codes == i)[:, None]).sum(axis=0) for i in range(len(self.levels))])
        self.supported: NDArray[np.bool_] = counts >= enough  # (L, G)
        if modifier.levels is None:
            self.supported = np.array([_filled(row) for row in self.supported])
        self.designs = np.array(
            [[model.average_design({actor.name: i, modifier.name: x}) for x in self.points] for i in range(len(counts))]
        )  # (L, G, p)
        rows = [
            self.designs[i, g] - self.designs[j, g]
            for i, j in _pairs(actor)
            for g in np.flatnonzero(self.supported[i] & self.supported[j])
        ]
        self.width = model.joint_half_width(np.array(rows)) if rows else np.inf

    def signs(self, i: int, j: int) -> NDArray[np.int_]:
        """(G,) -1 where level i is better than j, 1 where it is worse, 0 where neither can be shown."""
        delta, error = self.model.contrasts(self.designs[i] - self.designs[j])
        certain = self.supported[i] & self.supported[j] & (np.abs(delta) > self.width * error)
        return np.where(certain, np.sign(delta), 0).astype(int)

    def condition(self, first: str, second: str) -> Condition | None:
        """Where one beats the other; None: nowhere, or one of them was hardly tried."""
        if first not in self.levels or second not in self.levels:
            return None
        i, j = self.levels.index(first), self.levels.index(second)
        signs = self.signs(i, j)
        regions = self._regions(signs, first, second)
        if not regions:
            return None
        tried = self.supported[i] & self.supported[j]
        everywhere = len(regions) == 1 and bool((signs[tried] == signs[tried][0]).all())
        if self.modifier.levels is not None:
            sentence = _sentence_of_choices(first, second, self.modifier, regions, self.model.table.basis)
        else:
            span = (self._number(int(np.argmax(tried))), self._number(len(tried) - 1 - int(np.argmax(tried[::-1]))))
            sentence = _sentence_of_numbers(first, second, self.modifier.name, regions, span, self.model.table.basis)
        return Condition(self.actor.name, first, second, self.modifier.name, regions, everywhere, sentence)

    def _regions(self, signs: NDArray[np.int_], first: str, second: str) -> tuple[Region, ...]:
        names = {-1: first, 1: second}
        if self.modifier.levels is not None:
            where = {sign: tuple(self.modifier.levels[g] for g in np.flatnonzero(signs == sign)) for sign in (-1, 1)}
            return tuple(Region(names[sign], np.nan, np.nan, levels) for sign, levels in where.items() if levels)
        runs: list[tuple[int, int, int]] = []  # sign, first and last point
        for sign, run in groupby(range(len(signs)), key=lambda g: int(signs[g])):
            points = list(run)
            if sign and runs and runs[-1][0] == sign and points[0] - runs[-1][2] <= GAP:
                runs[-1] = (sign, runs[-1][1], points[-1])
            elif sign:
                runs.append((sign, points[0], points[-1]))
        return tuple(
            Region(names[sign], self._number(start), self._number(end)) for sign, start, end in runs if end > start
        )

    def _number(self, g: int) -> float:
        return self.modifier.number(float(self.points[g]))

    def curves(self) -> tuple[Curve, ...]:
        """Each choice's predicted metric with pointwise intervals."""
        return tuple(self._curve(i) for i in range(len(self.levels)))

    def _curve(self, i: int) -> Curve:
        estimate, error = self.model.contrasts(self.designs[i])
        half = np.where(np.isfinite(error), self.model.half_width * error, 0.0)
        bounds = [sorted((self._value(e - h), self._value(e + h))) for e, h in zip(estimate, half, strict=True)]
        shown = self.supported[i] & np.isfinite(error)
        middle = tuple(self._value(e) if s else None for e, s in zip(estimate, shown, strict=True))
        return Curve(self.levels[i], middle, tuple(b[0] for b in bounds), tuple(b[1] for b in bounds))

    def _value(self, score: float) -> float:
        return self.model.table.scale.shown(float(score))


def _filled(supported: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(G,) everything between the first and the last supported point: a spline may be read there, with its error."""
    where = np.flatnonzero(supported)
    filled = np.zeros_like(supported)
    if len(where):
        filled[where[0] : where[-1] + 1] = True
    return filled


def _interaction(model: Model, term: Term) -> Interaction:
    first, second = model.table.factor(term.first), model.table.factor(str(term.second))
    assert first is not None
    assert second is not None
    actor, modifier = (first, second) if _rank(first) <= _rank(second) else (second, first)
    surface = _Surface(model, actor, modifier)
    if modifier.levels is not None:
        points: tuple[float | str, ...] = modifier.levels
    else:
        points = tuple(modifier.number(float(x)) for x in surface.points)
    found = [c for a, b in combinations(surface.levels, 2) if (c := surface.condition(a, b)) is not None]
    found.sort(key=lambda c: not c.changes)  # stable: those with a change of sides first
    curves = surface.curves()
    return Interaction(actor.name, modifier.name, modifier.log, points, curves, model.evidence[term], tuple(found))


def _rank(factor: Factor) -> int:
    if factor.levels is None:
        return len(ACTORS) + 1
    return ACTORS.index(factor.name) if factor.name in ACTORS else len(ACTORS)


def _sentence_of_choices(first: str, second: str, along: Factor, regions: Sequence[Region], basis: Basis) -> str:
    where = {region.better: listed(region.levels) for region in regions}
    lead = f"{basis.where}{first} {basis.beats} {second}"
    if first in where and second in where:
        return f"{lead} with {along.name} {where[first]}, {basis.loses} with {where[second]}"
    better, worse = (first, second) if first in where else (second, first)
    lead = f"{basis.where}{better} {basis.beats} {worse}"
    if len(regions[0].levels) == len(along.levels or ()):
        return f"{lead} with every {along.name}"
    return f"{lead} with {along.name} {where[better]} (with others, no difference can be shown)"


def _sentence_of_numbers(
    first: str, second: str, along: str, regions: Sequence[Region], span: tuple[float, float], basis: Basis
) -> str:
    if regions[0].better != first and len({region.better for region in regions}) == 1:
        first, second = second, first
    lead = f"{basis.where}{first} {basis.beats} {second}"
    if len(regions) == 1:
        low, high = regions[0].low, regions[0].high
        if (low, high) == span:
            return f"{lead} at every {along} tried with both ({from_to(low, high, 2)})"
        if low == span[0]:
            return f"{lead} below {along} {number(high, 2)} (above, no difference can be shown)"
        if high == span[1]:
            return f"{lead} above {along} {number(low, 2)} (below, no difference can be shown)"
    if len(regions) == 2 and regions[0].better != regions[1].better:
        below, above = regions
        if below.better == first:
            return f"{lead} below {along} {number(below.high, 2)}, {basis.loses} above {number(above.low, 2)}"
        return f"{lead} above {along} {number(above.low, 2)}, {basis.loses} below {number(below.high, 2)}"
    wins = listed([from_to(r.low, r.high, 2) for r in regions if r.better == first])
    losses = listed([from_to(r.low, r.high, 2) for r in regions if r.better != first])
    rest = f", {basis.loses} at {losses}" if losses else " (elsewhere, no difference can be shown)"
    return f"{lead} at {along} {wins}{rest}"


def listed(words: Sequence[str]) -> str:
    """Words as "a, b and c"."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
