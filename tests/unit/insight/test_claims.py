"""Over simulated sweeps whose truth is known the report does not claim what is false, and finds what is true."""

from __future__ import annotations

import pytest

from benchmarks.claims import SURFACES, claims, judged
from benchmarks.fake_sweeps import NULLS, SPEEDS, TRUTHS, fake_sweep
from sweeper.insight.advice import small
from sweeper.insight.effects import fit
from sweeper.insight.factors import build_table
from sweeper.insight.findings import study_trials

SWEEPS = 6


def false_claims(surface: str, search: str, kinds: tuple[str, ...]) -> int:
    verdicts = [judged(NULLS[surface], fake_sweep(NULLS[surface], search, 128, seed)) for seed in range(SWEEPS)]
    return sum(len(verdict.false & set(kinds)) for verdict in verdicts)


@pytest.mark.parametrize("surface", ["cliff", "curved"])
def test_what_curves_miss_under_tpe_is_no_difference_and_no_interaction(surface: str) -> None:
    assert false_claims(surface, "tpe", ("beats", "interaction", "condition", "no effect")) <= 1


def test_noise_that_differs_between_settings_is_no_boundary() -> None:
    assert false_claims("uneven noise", "random", ("beats", "boundary")) <= 1


@pytest.mark.parametrize("search", ["tpe, asha", "tpe, median", "tpe, hyperband"])
def test_who_only_learns_faster_is_not_said_to_end_ahead_when_slow_trials_are_pruned(search: str) -> None:
    made = [claims(fake_sweep(SPEEDS["late"], search, 128, seed)) for seed in range(SWEEPS)]
    ends = [found for found, at_end in made if at_end]
    assert len(ends) >= SWEEPS - 2
    assert sum(bool(found["beats"] | found["interaction"]) for found in ends) <= 1


def test_where_too_few_went_on_the_beginning_is_compared_and_every_sentence_says_so() -> None:
    sweep = fake_sweep(NULLS["tie"], "tpe, halving", 128, 0)
    insight = study_trials(sweep.spec, sweep.trials, sweep.reports)
    said = [choice.sentence for choice in insight.choices] + [answer.answer for answer in insight.answers]
    assert not any(" beats " in sentence or " is best" in sentence for sentence in said)
    assert not insight.basis.at_end
    assert "Who leads there need not lead at the end" in insight.basis.sentence
    assert any("adam leads sgd" in sentence and f"at epoch {insight.basis.epoch}" in sentence for sentence in said)
    assert "no effect" not in {advice.kind for advice in insight.advice}


@pytest.mark.parametrize("search", ["tpe, asha", "tpe, median"])
def test_a_true_effect_at_the_end_is_found_with_a_pruner(search: str) -> None:
    made = [claims(fake_sweep(TRUTHS["optimizer 50%"], search, 128, seed)) for seed in range(4)]
    assert sum(at_end and found["beats"] == {"optimizer"} for found, at_end in made) >= 3


@pytest.mark.parametrize("search", ["random", "tpe"])
def test_true_effects_are_found(search: str) -> None:
    made = [claims(fake_sweep(TRUTHS["optimizer 20%"], search, 128, seed))[0] for seed in range(3)]
    assert all(found["beats"] == {"optimizer"} for found in made)
    crossing = [claims(fake_sweep(TRUTHS["crossing"], search, 128, seed))[0] for seed in range(2)]
    assert all("optimizer, learning_rate" in found["condition"] for found in crossing)


def test_an_optimum_at_the_edge_is_found() -> None:
    made = [claims(fake_sweep(TRUTHS["edge"], "tpe", 128, seed))[0] for seed in range(4)]
    assert sum(found["boundary"] == {"learning_rate"} for found in made) >= 3


def test_a_small_effect_is_told_from_one_at_the_margin() -> None:
    def named(surface: str) -> int:
        sweeps = [fake_sweep(SURFACES[surface], "random", 128, seed) for seed in range(10)]
        models = [fit(build_table(sweep.spec, sweep.trials, sweep.reports)) for sweep in sweeps]
        return sum("optimizer" in {one.parameter for one in small(model)} for model in models if model is not None)

    assert named("optimizer 10%") <= 1
    assert named("tie") >= 5
