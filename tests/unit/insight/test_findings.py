"""Planted effects are found and said with their thresholds; where there is only noise, nothing is claimed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sweeper.insight.advice import Advice, duplicates, edges, plateau, ranked
from sweeper.insight.contrasts import choice_effects, interactions
from sweeper.insight.effects import fit
from sweeper.insight.factors import MAX_ROWS, build_table
from sweeper.insight.findings import Insight, study_trials
from sweeper.insight.importance import importance
from sweeper.records import EpochReport, TrialRecord
from sweeper.report.effects import choice_bars
from sweeper.spec.parse import SweepSpec
from sweeper.states import Cause, TrialState
from tests.ended_sweeps import params_of, spec_of

SPACE = {
    "learning_rate": {"float": [1e-4, 1e-1], "log": True},
    "optimizer": {"choice": ["sgd", "momentum", "rmsprop", "adam", "adamw"]},
    "momentum": {"float": [0.5, 0.99], "when": {"optimizer": ["momentum"]}},
    "initialization": {"choice": ["normal", "xavier_uniform", "he_uniform"]},
    "weight_decay": {"float": [1e-6, 1e-2], "log": True},
    "activation": {"choice": ["relu", "tanh", "sigmoid"]},
}
Effect = Callable[[Mapping[str, Any]], float]
NOISE = 0.3


def nothing(params: Mapping[str, Any]) -> float:
    return 0.0


def learning_rate_valley(params: Mapping[str, Any]) -> float:
    return 0.6 * abs(math.log10(params["learning_rate"]) + 2.5)


def sweep_of(effect: Effect, count: int = 200, seed: int = 0, noise: float = NOISE) -> list[TrialRecord]:
    """Complete trials whose log value is the effect with noise added."""
    rng = np.random.default_rng(seed)
    trials = []
    for number in range(count):
        params = params_of(10_000 * seed + number)
        value = math.exp(effect(params) + noise * rng.standard_normal())
        trials.append(TrialRecord(number, TrialState.COMPLETE, params=params, value=value, epochs=1))
    return trials


def insight_of(effect: Effect, count: int = 200, seed: int = 0, spec: SweepSpec | None = None) -> Insight:
    return study_trials(spec or spec_of(), sweep_of(effect, count, seed), {})


def edges_of(spec: SweepSpec, trials: list[TrialRecord]) -> list[Advice]:
    return edges(spec, ranked(spec, trials), fit(build_table(spec, trials)))


def answer(insight: Insight, parameter: str) -> str:
    return next(a.answer for a in insight.answers if a.parameter == parameter)


def test_a_better_activation_is_found_with_its_size() -> None:
    def effect(params: Mapping[str, Any]) -> float:
        return learning_rate_valley(params) + math.log(2) * (params["activation"] == "sigmoid")

    insight = insight_of(effect)
    activation = next(c for c in insight.choices if c.parameter == "activation")
    pair = activation.pair("relu", "sigmoid")
    assert pair is not None
    assert pair.shown
    assert pair.better == "relu"
    assert not pair.interval.excludes(0.5)
    assert "relu beats sigmoid" in answer(insight, "activation")
    assert "relu and tanh cannot be told apart" in answer(insight, "activation").replace(
        "tanh and relu", "relu and tanh"
    )


def test_an_interaction_is_said_with_thresholds_near_the_true_ones() -> None:
    """Adam is better below a learning rate of 1e-2.5 and worse above it."""

    def effect(params: Mapping[str, Any]) -> float:
        return (params["optimizer"] == "adam") * 0.8 * (math.log10(params["learning_rate"]) + 2.5)

    insight = insight_of(effect, 400)
    found = insight.interactions[0]
    assert (found.parameter, found.along) == ("optimizer", "learning_rate")
    [condition] = [c for c in found.conditions if {c.first, c.second} == {"adam", "sgd"}]
    assert condition.changes
    low, high = sorted((condition.regions[0].high, condition.regions[1].low))
    assert 3e-4 < low < 10**-2.5 < high < 3e-2
    assert f"below learning_rate {condition.regions[0].high:.2g}" in answer(insight, "optimizer")
    assert f"loses above {condition.regions[1].low:.2g}" in answer(insight, "optimizer")


def test_an_interaction_of_two_choices_names_where_each_wins() -> None:
    def effect(params: Mapping[str, Any]) -> float:
        sign = 1 if params["initialization"] == "he_uniform" else -1
        return 0.6 * sign * (params["activation"] == "relu")

    found = interactions(fit(build_table(spec_of(), sweep_of(effect, 400))))[0]  # type: ignore[arg-type]
    assert (found.parameter, found.along) == ("activation", "initialization")
    [condition] = [c for c in found.conditions if {c.first, c.second} == {"relu", "tanh"}]
    assert condition.sentence == "relu beats tanh with initialization normal and xavier_uniform, loses with he_uniform"


def test_a_combination_that_nobody_tried_hides_no_effect() -> None:
    """TPE avoids what is bad: the cell is empty that would be needed for the average over all settings."""

    def effect(params: Mapping[str, Any]) -> float:
        worse = params["initialization"] == "normal" or params["activation"] == "sigmoid"
        return 0.8 * worse + 1.5 * (params["activation"] == "sigmoid")

    def tried(trial: TrialRecord) -> bool:
        params = trial.params or {}
        return (params["activation"], params["initialization"]) != ("sigmoid", "xavier_uniform")

    model = fit(build_table(spec_of(), [trial for trial in sweep_of(effect, 400) if tried(trial)]))
    assert model is not None
    [activation] = [c for c in choice_effects(model) if c.parameter == "activation"]
    for rival in ("relu", "tanh"):
        pair = activation.pair(rival, "sigmoid")
        assert pair is not None
        assert (pair.better, pair.shown) == (rival, True)
        assert 0.1 < pair.interval.low < pair.interval.high < 0.3


def test_effects_that_the_trials_do_not_determine_are_neither_claimed_nor_drawn() -> None:
    together = {"relu": "normal", "tanh": "xavier_uniform", "sigmoid": "he_uniform"}

    def effect(params: Mapping[str, Any]) -> float:
        return 2.0 * (params["activation"] == "sigmoid") + learning_rate_valley(params)

    trials = [
        t for t in sweep_of(effect, 600) if t.params and together[t.params["activation"]] == t.params["initialization"]
    ]
    insight = study_trials(spec_of(), trials, {})
    undetermined = [c for c in insight.choices if c.parameter in ("activation", "initialization")]
    assert len(undetermined) == 2
    assert not any(pair.shown for c in undetermined for pair in c.pairs)
    drawn = choice_bars(insight.choices, insight.scale)
    assert drawn is not None
    assert "optimizer" in drawn.alt
    assert "activation" not in drawn.alt


def test_noise_gives_no_claim_in_nineteen_of_twenty_sweeps() -> None:
    claims = 0
    for seed in range(40):
        model = fit(build_table(spec_of(), sweep_of(nothing, 100, seed)))
        assert model is not None
        claims += any(pair.shown for choice in choice_effects(model) for pair in choice.pairs)
        claims += any(pair.conditions for pair in interactions(model))
    assert claims <= 5


def test_intervals_of_effects_cover_the_truth() -> None:
    def effect(params: Mapping[str, Any]) -> float:
        return learning_rate_valley(params) + 0.5 * (params["activation"] == "tanh")

    covered = 0
    for seed in range(200):
        model = fit(build_table(spec_of(), sweep_of(effect, 100, seed)))
        assert model is not None
        [activation] = [c for c in choice_effects(model) if c.parameter == "activation"]
        pair = activation.pair("relu", "tanh")
        assert pair is not None
        covered += not pair.interval.excludes(math.exp(-0.5) if pair.better == "relu" else math.exp(0.5))
    assert 184 <= covered <= 200


def test_the_important_parameter_is_named_and_the_useless_ones_may_be_fixed() -> None:
    insight = insight_of(learning_rate_valley, 1000)
    first = insight.importance.parameters[0]
    assert first.parameter == "learning_rate"
    assert first.share > 0.8
    assert sum(entry.share for entry in insight.importance.parameters) == pytest.approx(1.0)
    useless = {advice.parameter for advice in insight.advice if advice.kind == "no effect"}
    assert "weight_decay" in useless
    assert "learning_rate" not in useless


def test_noise_has_no_important_parameter() -> None:
    found = importance(build_table(spec_of(), sweep_of(nothing)))
    assert found.parameters == ()
    assert "explain nothing" in found.sentence
    assert all(advice.kind != "no effect" for advice in insight_of(nothing).advice)


def test_initialization_is_explained_by_the_gradients_of_the_first_epoch() -> None:
    trials = sweep_of(lambda params: 0.7 * (params["initialization"] == "normal"))
    reports = {}
    for trial in trials:
        start = 0.1 if (trial.params or {})["initialization"] == "normal" else 2.0
        norms = [start * math.exp(0.1 * (trial.number % 7)), 1.0, 0.5]
        reports[trial.number] = [EpochReport(e, {"grad_norm": norm}) for e, norm in enumerate(norms)]
    found = next(a for a in study_trials(spec_of(), trials, reports).answers if a.parameter == "initialization")
    assert "smallest with normal" in found.answer
    assert "20 times as large" in found.answer
    assert any("normal starts at 0.1" in text and "peaks in epoch 2" in text for text in found.evidence)


def test_too_few_trials_are_said_to_be_too_few() -> None:
    insight = insight_of(learning_rate_valley, 10)
    assert insight.choices == ()
    assert "at least 30 trials" in insight.remark
    assert all(a.answer == "This sweep has too few different trials to say." for a in insight.answers)
    assert all("--set search.sampler=random" in a.next_step for a in insight.answers)


def test_questions_about_parameters_that_were_not_searched_are_not_asked() -> None:
    space = {"learning_rate": {"float": [1e-4, 1e-1], "log": True}, "optimizer": "adam", "activation": "relu"}
    spec = spec_of(space=space)
    trials = [
        TrialRecord(n, TrialState.COMPLETE, params={"learning_rate": 10 ** (-4 + n / 20)}, value=1.0 + n)
        for n in range(60)
    ]
    assert study_trials(spec, trials, {}).answers == ()


def test_a_diverged_trial_counts_as_the_worst_and_a_pruned_one_with_its_last_value() -> None:
    trials = [
        TrialRecord(0, TrialState.COMPLETE, params=params_of(0), value=0.5),
        TrialRecord(1, TrialState.FAILED, cause=Cause.DIVERGED, params=params_of(1)),
        TrialRecord(2, TrialState.PRUNED, params=params_of(2), metrics={"val_loss": 2.0}),
        TrialRecord(3, TrialState.FAILED, cause=Cause.LOST, params=params_of(3)),
        TrialRecord(4, TrialState.WAITING),
    ]
    table = build_table(spec_of(), trials)
    assert table.numbers == (0, 1, 2)
    assert np.exp(table.scores) == pytest.approx([0.5, 2.0, 2.0])
    assert table.diverged == 1


def test_an_accuracy_is_compared_by_differences_and_more_of_it_is_better() -> None:
    spec = spec_of(objective={"metric": "val_accuracy"})
    rng = np.random.default_rng(0)
    trials = []
    for n in range(150):
        params = params_of(n)
        value = 0.8 + 0.05 * (params["activation"] == "relu") + 0.01 * rng.standard_normal()
        trials.append(TrialRecord(n, TrialState.COMPLETE, params=params, value=value))
    [activation] = [c for c in study_trials(spec, trials, {}).choices if c.parameter == "activation"]
    pair = activation.pair("relu", "sigmoid")
    assert pair is not None
    assert pair.better == "relu"
    assert pair.value == pytest.approx(0.05, abs=0.01)
    assert "val_accuracy 0.0" in pair.sentence
    assert "higher" in pair.sentence


def test_a_winner_at_the_edge_is_told_how_far_to_widen() -> None:
    trials = sweep_of(lambda params: -math.log10(params["learning_rate"]), 100, noise=0.01)
    [edge] = [a for a in edges_of(spec_of(), trials) if a.parameter == "learning_rate"]
    assert edge.number == 1.0
    assert "upper edge of its range, and val_loss still improves towards it. Widen it to 1." in edge.sentence
    inner = sweep_of(learning_rate_valley, 100, noise=0.01)
    assert all(a.parameter != "learning_rate" for a in edges_of(spec_of(), inner))


def test_the_ends_of_a_short_list_of_values_are_no_edges_to_press_against() -> None:
    depth = {"int": [1, 3]}
    spec = spec_of(space={"depth": depth, "width": 32, "learning_rate": {"float": [1e-4, 1e-1], "log": True}})
    rng = np.random.default_rng(0)
    trials = [
        TrialRecord(
            n, TrialState.COMPLETE, params={"depth": 1 + n % 3, "width": 32, "learning_rate": 1e-2}, value=value
        )
        for n, value in enumerate(rng.random(100))
    ]
    assert edges_of(spec, trials) == []
    deep_wins = [replace(t, value=1.0 - (t.params or {})["depth"] / 10) for t in trials]
    [edge] = edges_of(spec, deep_wins)
    assert edge.sentence == (
        "depth: 10 of the best 10 trials lie at the upper edge of its range, and val_loss still improves towards it. "
        "Widen it to 6."
    )


def test_a_parameter_with_a_different_choice_in_nearly_every_trial_does_not_hide_the_others() -> None:
    trials = []
    for t in sweep_of(lambda params: math.log(2) * (params["activation"] == "sigmoid")):
        trials.append(replace(t, params={**(t.params or {}), "hidden_layers": [8 + t.number]}))
    spec = spec_of(space={**SPACE, "hidden_layers": {"choice": [[8 + n] for n in range(200)]}})
    insight = study_trials(spec, trials, {})
    assert {c.parameter for c in insight.choices} == {"activation", "optimizer", "initialization"}
    assert "relu beats sigmoid" in answer(insight, "activation")


def test_repeated_parameters_are_counted() -> None:
    trials = sweep_of(nothing, 10)
    assert duplicates(trials) == []
    again = [
        *trials,
        *(TrialRecord(10 + t.number, TrialState.COMPLETE, params=t.params, value=1.0) for t in trials[:4]),
    ]
    assert "4 of 14 trials repeat" in duplicates(again)[0].sentence


def test_a_sweep_that_stopped_improving_is_told_so() -> None:
    def trials(values: list[float]) -> list[TrialRecord]:
        return [TrialRecord(n, TrialState.COMPLETE, params=params_of(n), value=v) for n, v in enumerate(values)]

    stuck = plateau(spec_of(), ranked(spec_of(), trials([0.5] * 3 + [0.1] + [0.3] * 36)))
    assert "not improved since trial 3: the last 36 of 40 trials" in stuck[0].sentence
    falling = trials([1.0 - n / 50 for n in range(40)])
    assert plateau(spec_of(), ranked(spec_of(), falling)) == []
    slow = trials([1.0 - n / 10 for n in range(8)] + [0.2999 - n / 1e5 for n in range(52)])
    [told] = plateau(spec_of(), ranked(spec_of(), slow), noise=0.002)
    assert "The last 52 of 60 complete trials gained 0.00061, below the noise of 0.002" in told.sentence
    assert "With search.stop: {patience: 20} the search ends after about 28 of them" in told.sentence
    assert plateau(spec_of(), ranked(spec_of(), falling), noise=0.002) == []


def test_large_sweeps_are_sampled_and_the_same_sweep_gives_the_same_insight() -> None:
    trials = sweep_of(learning_rate_valley, MAX_ROWS + 500)
    insight = study_trials(spec_of(), trials, {})
    assert (insight.trials, insight.sampled_from) == (MAX_ROWS, MAX_ROWS + 500)
    small = trials[:80]
    assert study_trials(spec_of(), small, {}) == study_trials(spec_of(), small, {})
