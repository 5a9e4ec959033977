"""Everything that the trials of an ended sweep teach, put together: sentences with the numbers behind them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sweeper.insight.advice import Advice, advise, ranked
from sweeper.insight.answers import Answer, Reports, answers
from sweeper.insight.basis import Basis, sample
from sweeper.insight.contrasts import ChoiceEffects, Interaction, choice_effects, interactions
from sweeper.insight.effects import MIN_TRIALS, fit
from sweeper.insight.factors import Scale, build_table
from sweeper.insight.importance import Importance, importance
from sweeper.records import TrialRecord
from sweeper.spec.parse import SweepSpec

ADAPTIVE = ("tpe", "gp", "cmaes")  # samplers that learn from results
CHOSEN = "The sampler chose the trials of this sweep by earlier results: averages are over the settings it preferred."


@dataclass(frozen=True)
class Insight:
    """What was found in ``trials`` trials, drawn from ``sampled_from``, ``diverged`` of them at the worst value.

    ``explained`` is the linear model's R^2; without a model it is None, ``choices`` and ``interactions`` are empty, and
    ``remark`` says why. ``basis`` says at which epoch trials are compared, and ``chosen`` what an adaptive sampler
    means for averages (empty: it was none). Effects are ratios or differences of the metric, as ``scale`` says.
    """

    trials: int
    sampled_from: int
    diverged: int
    scale: Scale
    explained: float | None
    importance: Importance
    choices: tuple[ChoiceEffects, ...]
    interactions: tuple[Interaction, ...]
    answers: tuple[Answer, ...]
    advice: tuple[Advice, ...]
    basis: Basis
    chosen: str
    remark: str

    @property
    def sentences(self) -> tuple[str, ...]:
        """Where the better choice depends on another parameter, at most three claims for each interaction."""
        claims = [[c.sentence for c in pair.conditions if not c.everywhere] for pair in self.interactions]
        return tuple(sentence for pair in claims for sentence in pair[:3])


def choices_of(
    spec: SweepSpec, trials: Sequence[TrialRecord], reports: Reports, seed: int = 0
) -> tuple[ChoiceEffects, ...]:
    """What the trials teach of choices, as ``study_trials`` finds it; none where they are too few."""
    model = fit(build_table(spec, trials, _sampled(trials, reports)).sample(seed))
    return choice_effects(model) if model is not None else ()


def _sampled(trials: Sequence[TrialRecord], reports: Reports) -> Reports:
    """The reports of the trials that are compared, and not of the best that are drawn as well."""
    picked = [trial.number for trial in sample(trials)]
    return {number: reports[number] for number in picked if number in reports}


def study_trials(
    spec: SweepSpec, trials: Sequence[TrialRecord], reports: Reports, seed: int = 0, noise: float = 0.0
) -> Insight:
    """What the trials teach; ``noise`` is how far chance may move the best value (0: that is not known).

    The same trials and seed give the same insight.
    """
    reports = _sampled(trials, reports)
    everything = build_table(spec, trials, reports)
    table = everything.sample(seed)
    model = fit(table)
    weights = importance(table, seed)
    effects = choice_effects(model) if model is not None else ()
    best_first = ranked(spec, trials)
    count = len(table.numbers)
    remark = ""
    if model is None:
        remark = f"Effects need at least {MIN_TRIALS} trials with different parameters and values; there are {count}."
    return Insight(
        count,
        max(len(everything.numbers), everything.basis.sampled_from),
        table.diverged,
        table.scale,
        None if model is None else model.explained,
        weights,
        effects,
        interactions(model) if model is not None else (),
        answers(spec, best_first, everything, table, model, effects, reports),
        advise(spec, trials, model, weights, noise),
        everything.basis,
        CHOSEN if spec.search.sampler in ADAPTIVE else "",
        remark,
    )
