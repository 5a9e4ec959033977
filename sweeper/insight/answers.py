"""Answers, from one sweep's trials, to three questions: ReLU or not, why initialization matters, Adam or SGD."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sweeper.insight.basis import Reports
from sweeper.insight.contrasts import ChoiceEffects, choice_effects, conditions_of, listed
from sweeper.insight.effects import Model, fit
from sweeper.insight.factors import Factor, Scale, Table
from sweeper.records import TrialRecord
from sweeper.spec.parse import SweepSpec
from sweeper.text import from_to, number

MANY_TRIALS = 100  # of each choice: what they do not show, more of them will not
FEW_TRIALS = 30  # a choice tried less often than this may be undecided for want of trials
TOO_FEW = "This sweep has too few different trials to say."
SPACES = {"activation": "activations", "optimizer": "optimizers", "initialization": "initializations"}


@dataclass(frozen=True)
class Answer:
    """A question, its answer in a sentence or two, what it rests on, and what would settle it ("" if it is settled)."""

    parameter: str
    question: str
    answer: str
    evidence: tuple[str, ...]
    next_step: str


@dataclass(frozen=True)
class _Sweep:
    spec: SweepSpec
    best_first: Sequence[TrialRecord]
    table: Table
    sample: Table
    model: Model | None
    effects: Mapping[str, ChoiceEffects]


def answers(
    spec: SweepSpec,
    best_first: Sequence[TrialRecord],
    table: Table,
    sample: Table,
    model: Model | None,
    effects: Sequence[ChoiceEffects],
    reports: Reports,
) -> tuple[Answer, ...]:
    """Those of the three questions that the sweep's parameters allow; ``best_first`` are its complete trials.

    ``table`` holds all trials, ``sample`` those that ``model`` was fitted to.
    """
    sweep = _Sweep(spec, best_first, table, sample, model, {e.parameter: e for e in effects})
    found = []
    rivals = [rival for rival in ("tanh", "sigmoid") if _varied(table, "activation", "relu", rival)]
    if rivals:
        question = f"When does ReLU beat {' or '.join(rivals)}?"
        found.append(_duel(sweep, "activation", "relu", rivals, question))
    if (factor := table.factor("initialization")) is not None:
        found.append(_initialization(sweep, factor, reports))
    if _varied(table, "optimizer", "adam", "sgd"):
        found.append(_duel(sweep, "optimizer", "adam", ["sgd"], "Under what conditions does Adam beat SGD?"))
    return tuple(found)


def _varied(table: Table, name: str, *levels: str) -> bool:
    factor = table.factor(name)
    return factor is not None and set(levels) <= set(factor.levels or ())


def _duel(sweep: _Sweep, parameter: str, one: str, rivals: Sequence[str], question: str) -> Answer:
    """One choice against each rival: on average, and where that depends on another parameter."""
    factor = sweep.table.factor(parameter)
    assert factor is not None
    evidence = _best_of_each(sweep, factor, [one, *rivals])
    step = _next_step(sweep, factor, [one, *rivals])
    if sweep.model is None or parameter not in sweep.effects:
        return Answer(parameter, question, TOO_FEW, evidence, step)
    averages, elsewhere, settled = [], [], True
    for rival in rivals:
        pair = sweep.effects[parameter].pair(one, rival)
        conditions = conditions_of(sweep.model, parameter, one, rival)
        averages.append(pair.sentence if pair else f"{one} or {rival} was tried too rarely to say")
        elsewhere += [condition.sentence for condition in conditions]
        settled &= bool(conditions) or (pair is not None and pair.shown)
    evidence += (sweep.table.basis.sentence,) if sweep.table.basis.pruned else ()
    if not elsewhere:
        evidence += ("That this depends on any other parameter cannot be shown.",)
    text = f"On average over the settings tried, {'; '.join([*averages, *elsewhere])}."
    return Answer(parameter, question, text, evidence, "" if settled else step)


def _initialization(sweep: _Sweep, factor: Factor, reports: Reports) -> Answer:
    """What the initialization does to the result, and to the gradients of the first epochs."""
    question = "Why does initialization matter for gradient flow?"
    levels = factor.levels or ()
    evidence = (*_best_of_each(sweep, factor, levels), *_gradient_curves(sweep.table, factor, reports))
    step = _next_step(sweep, factor, levels)
    if sweep.model is None or factor.name not in sweep.effects:
        return Answer(factor.name, question, TOO_FEW, evidence, step)
    evidence += (sweep.table.basis.sentence,) if sweep.table.basis.pruned else ()
    effects = sweep.effects[factor.name]
    shown = any(pair.shown for pair in effects.pairs)
    claims = [effects.sentence.removeprefix(f"{factor.name}: ")]
    known = {e.level for e in effects.effects}
    pairs = [(a, b) for i, a in enumerate(levels) for b in levels[i + 1 :] if {a, b} <= known]
    conditions = [c for a, b in pairs for c in conditions_of(sweep.model, factor.name, a, b)]
    conditions.sort(key=lambda c: not c.changes)
    claims += [c.sentence for c in conditions[:2]]
    text = f"On average over the settings tried, {'; '.join(claims)}. {_first_gradients(sweep.sample, factor, reports)}"
    return Answer(factor.name, question, text.strip(), evidence, "" if shown or conditions else step)


def _first_gradients(table: Table, factor: Factor, reports: Reports) -> str:
    """The adjusted effect of the initialization on the gradient norm of the first epoch, as the same model sees it."""
    norms = {n: r[0].metrics.get("grad_norm", math.nan) for n, r in reports.items() if r}
    first = np.array([norms.get(number, math.nan) for number in table.numbers])
    usable = np.isfinite(first) & (first > 0)
    scale = Scale("gradient norm", log=True, sign=1.0)
    model = fit(replace(table.rows(usable), scores=np.log(first[usable]), scale=scale, draws=None))
    if model is None:
        return ""
    effects = next((e for e in choice_effects(model) if e.parameter == factor.name), None)
    if effects is None or not any(pair.shown for pair in effects.pairs):
        return "That it changes the gradients of the first epoch cannot be shown."
    low, high = effects.effects[0], effects.effects[-1]
    pair = effects.pair(low.level, high.level)
    if pair is None or not pair.shown:
        return ""
    times = 1 / pair.value
    bounds = from_to(1 / pair.interval.high, 1 / pair.interval.low, 3)
    text = f"In the first epoch the gradients are smallest with {low.level} and largest with {high.level}, "
    return f"{text}{number(times, 2)} times as large (95%: {bounds}) at equal settings of the rest."


def _gradient_curves(table: Table, factor: Factor, reports: Reports) -> tuple[str, ...]:
    """Where the median gradient norm of each choice starts, and when it peaks: a late peak is a plateau left late."""
    parts = []
    for code, level in enumerate(factor.levels or ()):
        numbers = [n for n, c in zip(table.numbers, factor.codes, strict=True) if c == code]
        curves = [[r.metrics.get("grad_norm", math.nan) for r in reports[n]] for n in numbers if n in reports]
        length = max(map(len, curves), default=0)
        full = [curve for curve in curves if len(curve) == length and np.isfinite(curve).all()]
        if full:
            median = np.median(full, axis=0)
            peak = int(np.argmax(median)) + 1
            parts.append(
                f"{level} starts at {number(median[0], 2)}, peaks in epoch {peak}, ends at {number(median[-1], 2)}"
            )
    return (f"Median gradient norm before clipping: {'; '.join(parts)}.",) if parts else ()


def _best_of_each(sweep: _Sweep, factor: Factor, levels: Sequence[str]) -> tuple[str, ...]:
    """The best value that each choice reached, and in how many trials: what was seen, without a claim."""
    values = {t.number: t.value for t in sweep.best_first}
    maximize = sweep.spec.objective.direction == "maximize"
    parts = []
    for level in levels:
        code = (factor.levels or ()).index(level)
        found = [
            value
            for n, c in zip(sweep.table.numbers, factor.codes, strict=True)
            if c == code and (value := values.get(n)) is not None
        ]
        if found:
            parts.append(f"{level} {number(max(found) if maximize else min(found))} ({len(found):,})")
    return (f"Best {sweep.spec.objective.metric} with each (trials): {', '.join(parts)}.",) if parts else ()


def _next_step(sweep: _Sweep, factor: Factor, levels: Sequence[str]) -> str:
    """The sweep that isolates the question."""
    counts = {level: int(np.sum(factor.codes == code)) for code, level in enumerate(factor.levels or ())}
    if all(counts[level] >= MANY_TRIALS for level in levels):
        return ""
    rare = [f"{level} ({counts[level]})" for level in levels if counts.get(level, 0) < FEW_TRIALS]
    why = f"Few of the {len(sweep.table.numbers):,} trials used {listed(rare)}. " if rare else ""
    space = SPACES[factor.name]
    dataset = sweep.spec.dataset
    data = dataset.name or f'"{dataset.path}" --set dataset.target="{dataset.target}"'
    if sweep.spec.space.name == space:
        return f"{why}To settle it, run more trials of this space with search.sampler: random."
    return f"{why}To settle it: sweeper run --dataset {data} --space {space} --set search.sampler=random"
