"""The ended trials of a sweep as numbers: one column per searched parameter and one score, lower being better.

Names of dimensions: n trials, F factors.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweeper.insight.basis import MISSING, Basis, Reports, curves_of, sample, whole
from sweeper.insight.certainty import Interval
from sweeper.insight.unseen import DRAWS, ends, last_epoch
from sweeper.models.metric_names import larger_is_better
from sweeper.records import TrialRecord
from sweeper.search_spaces.vocabulary import Choice, FloatRange, IntRange
from sweeper.spec.parse import SweepSpec
from sweeper.states import Cause, TrialState
from sweeper.text import from_to, number

Ended = tuple[TrialRecord, float]  # and what it came to
Array = NDArray[np.float64]
MAX_ROWS = 2000  # more trials than this are sampled: the intervals are then narrow enough, and the time is bounded
OVERFLOW = 700.0  # the exponential of more is no number any more
FEW = 5  # a choice with fewer trials than this says nothing about itself


@dataclass(frozen=True, eq=False)
class Factor:
    """A parameter that varies. ``codes`` (n,): the index into ``levels``, or the number (its log10 when ``log``).

    NaN marks a trial without the parameter; ``parents`` are the parameters that decide whether it applies.
    """

    name: str
    levels: tuple[str, ...] | None
    log: bool
    codes: Array
    parents: tuple[str, ...] = ()

    @property
    def is_choice(self) -> bool:
        """Whether its values have no order."""
        return self.levels is not None

    def number(self, code: float) -> float:
        """The value behind the code of a number."""
        return 10.0**code if self.log else code

    @property
    def heights(self) -> Array:
        """(n,) positions on an axis from 0 to 1; NaN where a trial does not have it."""
        if self.levels is not None:
            return self.codes / max(1, len(self.levels) - 1)
        low, high = np.nanmin(self.codes), np.nanmax(self.codes)
        height: Array = (self.codes - low) / (high - low)
        return height

    @property
    def marks(self) -> list[tuple[float, str]]:
        """Positions on that axis, and what they stand for."""
        if self.levels is not None:
            return [(i / max(1, len(self.levels) - 1), level) for i, level in enumerate(self.levels)]
        low, high = float(np.nanmin(self.codes)), float(np.nanmax(self.codes))
        return [(share, number(self.number(low + share * (high - low)), 2)) for share in (0.0, 0.5, 1.0)]


@dataclass(frozen=True)
class Scale:
    """How scores turn into the objective: ``score = sign * (ln value if log else value)``.

    Differences of scores are shown as ratios of the metric (log) or as differences in its unit.
    """

    metric: str
    log: bool
    sign: float

    @property
    def neutral(self) -> float:
        """What no difference looks like."""
        return 1.0 if self.log else 0.0

    def scores(self, values: Array) -> Array:
        """Values of the objective as scores."""
        return self.sign * (np.log(values) if self.log else values)

    def shown(self, delta: float) -> float:
        """A difference of scores as a ratio or difference of the metric."""
        if not self.log:
            return self.sign * delta
        return math.exp(self.sign * delta) if self.sign * delta < OVERFLOW else math.inf

    def interval(self, low: float, high: float, method: str) -> Interval:
        """An interval of differences of scores, as it is shown."""
        bounds = sorted((self.shown(low), self.shown(high)))
        return Interval(bounds[0], bounds[1], method)

    def words(self, value: float, interval: Interval) -> str:
        """A shown difference as words, such as "val_loss 39% lower (95%: 30% to 47%)"."""
        if not self.log:
            low, high = sorted((abs(interval.low), abs(interval.high)))
            text = f"{self.metric} {number(abs(value), 3)} {'higher' if value > 0 else 'lower'}"
            return f"{text} (95%: {from_to(low, high, 2)})"
        if value < 1:
            near, far = 100 * (1 - interval.high), 100 * (1 - interval.low)
            return f"{self.metric} {100 * (1 - value):.0f}% lower (95%: {near:.0f}% to {far:.0f}%)"
        if value < 2:
            near, far = 100 * (interval.low - 1), 100 * (interval.high - 1)
            return f"{self.metric} {100 * (value - 1):.0f}% higher (95%: {near:.0f}% to {far:.0f}%)"
        return f"{self.metric} {number(value, 2)} times as high (95%: {from_to(interval.low, interval.high, 2)})"


@dataclass(frozen=True, eq=False)
class Table:
    """``scores`` (n,) of the trials ``numbers``; ``diverged`` counts those that stand at the worst value.

    Where pruned trials stand among them, ``draws`` (M, n) hold what they may have come to, and ``scores`` the means.
    """

    numbers: tuple[int, ...]
    scores: Array
    factors: tuple[Factor, ...]
    scale: Scale
    diverged: int
    basis: Basis = field(default_factory=lambda: whole(0))
    draws: Array | None = None

    def sample(self, seed: int = 0) -> Table:
        """At most ``MAX_ROWS`` of the trials, drawn without regard to their scores."""
        count = len(self.scores)
        if count <= MAX_ROWS:
            return self
        keep = np.zeros(count, dtype=bool)
        keep[np.random.default_rng(seed).choice(count, MAX_ROWS, replace=False)] = True
        return self.rows(keep)

    def rows(self, keep: NDArray[np.bool_]) -> Table:
        """The trials that ``keep`` (n,) marks."""
        factors = tuple(replace(f, codes=f.codes[keep]) for f in self.factors)
        numbers = tuple(n for n, kept in zip(self.numbers, keep, strict=True) if kept)
        draws = None if self.draws is None else self.draws[:, keep]
        return replace(self, numbers=numbers, scores=self.scores[keep], factors=factors, draws=draws)

    def factor(self, name: str) -> Factor | None:
        """The factor of this name, if it varies."""
        return next((factor for factor in self.factors if factor.name == name), None)


def spread(values: Sequence[float] | Array) -> bool:
    """Whether positive values range so widely that they are better drawn logarithmically."""
    x = np.asarray(values, dtype=np.float64)
    x = x[np.isfinite(x)]
    return len(x) > 1 and bool(x.min() > 0) and float(x.max() / x.min()) > 10


def final_value(trial: TrialRecord, metric: str) -> float | None:
    """What a trial came to: its value; when pruned, its last; infinity when it diverged; None: nothing is known."""
    if trial.state is TrialState.COMPLETE and trial.value is not None and math.isfinite(trial.value):
        return trial.value
    if trial.state is TrialState.PRUNED:
        last = trial.value if trial.value is not None else trial.metrics.get(metric)
        return last if last is not None and math.isfinite(last) else None
    return math.inf if trial.cause is Cause.DIVERGED else None


def build_table(spec: SweepSpec, trials: Sequence[TrialRecord], reports: Reports | None = None) -> Table:
    """The trials that say something about their parameters: complete, pruned and diverged ones.

    Given ``reports``, trials are made comparable (see ``basis``); else a pruned trial stands with its last value, which
    shows what happened and must not be compared with values of the end.

    A diverged trial counts as the worst of the others, as it does for the sampler. Its real loss is worse without a
    bound, so what is said about parameters that diverge is an understatement.
    """
    metric, maximize = spec.objective.metric, spec.objective.direction == "maximize"
    ended = [(t, v) for t in trials if t.params and (v := final_value(t, metric)) is not None]
    sign = -1.0 if maximize else 1.0
    if reports is not None and any(t.state is TrialState.PRUNED for t, _ in ended):
        picked = {trial.number for trial in sample(trials)}
        table = _compared(spec, [(t, v) for t, v in ended if t.number in picked], reports, sign)
        return replace(table, basis=replace(table.basis, sampled_from=len(ended)))
    values = np.array([v for _, v in ended])
    scale = _scale(metric, sign, values)
    scores = _worst_for_diverged(scale.scores(values))
    factors = _factors(spec, [t for t, _ in ended])
    diverged = int(np.isinf(values).sum())
    if not len(values) or diverged == len(values):
        return Table((), np.zeros(0), (), Scale(metric, False, 1.0), 0, whole(len(ended)))
    return Table(tuple(t.number for t, _ in ended), scores, factors, scale, diverged, whole(len(ended)))


def _compared(spec: SweepSpec, ended: Sequence[Ended], reports: Reports, sign: float) -> Table:
    """The table of a sweep with pruned trials: all at the same epoch, the ends of those stopped before it drawn."""
    curves = curves_of(spec, {t.number: (t, v) for t, v in ended}, reports)
    diverged: NDArray[np.bool_] = np.isinf(curves.values).sum(axis=1) > 0
    if diverged.all():
        return Table((), np.zeros(0), (), Scale(spec.objective.metric, False, 1.0), 0, whole(len(ended)))
    by_number = {t.number: t for t, _ in ended}
    factors = _factors(spec, [by_number[n] for n in curves.numbers])
    scale = _scale(spec.objective.metric, sign, curves.values)
    scores, lengths = scale.scores(curves.values), curves.lengths
    blocks = [block[~diverged] for block in _blocks(factors)]
    choices = [f.codes[~diverged] for f in factors if f.is_choice]
    width = sum(block.shape[1] for block in blocks)
    epoch, drawable = last_epoch(lengths[~diverged], width, choices, spec.training.epochs, MISSING)
    reached = lengths >= epoch
    known = ~diverged if drawable else ~diverged & reached
    drawn = np.repeat(scores[None, :, epoch - 1], DRAWS, axis=0)
    if blocks:
        drawn[:, known] = ends(scores[known], lengths[known], [b[known[~diverged]] for b in blocks], epoch)
    means = _worst_for_diverged(drawn.mean(axis=0))
    drawn[:, diverged] = means[diverged]
    pruned = sum(t.state is TrialState.PRUNED for t, _ in ended)
    basis = Basis(epoch, spec.training.epochs, int(reached.sum()), len(lengths), pruned, drawable and not reached.all())
    table = Table(curves.numbers, means, factors, scale, int(diverged.sum()), basis, drawn if basis.drawn else None)
    return table if drawable else table.rows(reached)


def _scale(metric: str, sign: float, values: Array) -> Scale:
    finite = values[np.isfinite(values)]
    return Scale(metric, not larger_is_better(metric) and len(finite) > 0 and bool(finite.min() > 0), sign)


def _worst_for_diverged(scores: Array) -> Array:
    finite = scores[np.isfinite(scores)]
    return np.where(np.isfinite(scores), scores, finite.max() if len(finite) else np.nan)


def _factors(spec: SweepSpec, trials: Sequence[TrialRecord]) -> tuple[Factor, ...]:
    params = [t.params or {} for t in trials]
    factors = (factor_of(name, spec, [point.get(name) for point in params]) for name in _names(spec, params))
    return tuple(f for f in factors if varies(f))


def _blocks(factors: Sequence[Factor]) -> list[Array]:
    """Each factor's (n, k) columns: dummies of a choice, a parabola of a number; NaN stands at the mean."""
    blocks: list[Array] = []
    for f in factors:
        if f.levels is not None:
            blocks.append(np.column_stack([f.codes == i for i in range(1, len(f.levels))]).astype(np.float64))
        else:
            x = np.nan_to_num((f.codes - np.nanmean(f.codes)) / np.nanstd(f.codes), nan=0.0)
            blocks.append(np.column_stack([x, x**2 - np.mean(x**2)]))
    return blocks


def label(value: Any) -> str:
    """A choice as text."""
    return value if isinstance(value, str) else json.dumps(value)


def _names(spec: SweepSpec, params: Sequence[Mapping[str, Any]]) -> list[str]:
    declared = [p.name for p in spec.space.parameters if not p.constant]
    seen = list(dict.fromkeys(name for point in params for name in point))
    return list(dict.fromkeys([*declared, *(seen if spec.space.is_function else ())])) or seen


def factor_of(name: str, spec: SweepSpec, values: Sequence[Any]) -> Factor:
    """A parameter from its value in every trial (None: the trial does not have it)."""
    declared = next((p for p in spec.space.parameters if p.name == name), None)
    present = [value for value in values if value is not None]
    parents = tuple(parent for parent, _ in declared.when) if declared else ()
    if declared is not None:
        is_number = isinstance(declared.domain, FloatRange | IntRange)
        log = is_number and declared.domain.log  # type: ignore[union-attr]
    else:  # a function's parameters are known by their values only
        is_number = all(isinstance(v, int | float) and not isinstance(v, bool) for v in present)
        is_number = is_number and len(set(present)) > FEW
        log = is_number and min(present) > 0 and max(present) / min(present) > 30
    if is_number:
        numbers = np.array([math.nan if value is None else float(value) for value in values])
        return Factor(name, None, log, np.log10(numbers) if log else numbers, parents)
    levels = _levels(None if declared is None else declared.domain, present)
    index = {level: float(i) for i, level in enumerate(levels)}
    codes = [math.nan if value is None else index[label(value)] for value in values]
    return Factor(name, tuple(levels), False, np.array(codes), parents)


def _levels(domain: Any, present: Sequence[Any]) -> list[str]:
    """The choices that occur, in the order of the space as far as it lists them."""
    found = {label(value) for value in present}
    listed = [label(_plain(value)) for value in domain.values] if isinstance(domain, Choice) else []
    return [*(text for text in listed if text in found), *sorted(found - set(listed))]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def varies(factor: Factor) -> bool:
    """Whether trials differ in it."""
    return len(np.unique(factor.codes[~np.isnan(factor.codes)])) > 1
