"""The search of an objective of the user's own: which results a suggestion sees, and what follows from them."""

from __future__ import annotations

from typing import Any

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, distribution_to_json

from sweeper.search.objective_study import ObjectiveStudy
from sweeper.search.optuna_samplers import gaussian_process
from sweeper.search.ranking import Outcome
from sweeper.search.study import Study
from sweeper.search_spaces import load_space
from sweeper.spec.models import SearchSpec
from sweeper.states import TrialState

RANGES = {
    "x": distribution_to_json(FloatDistribution(-10.0, 10.0)),
    "kind": distribution_to_json(CategoricalDistribution(["a", "b"])),
}


def searched(sampler: str, order: list[int], make: Any = None, restart_at: int | None = None) -> list[dict[str, Any]]:
    """What 60 trials are given, of batches of 2 in a window of 8, whose results arrive in an ``order`` within it."""

    def study() -> ObjectiveStudy:
        return ObjectiveStudy(sampler, 3, "minimize", 2, 8, make=make)

    def end(number: int, params: dict[str, Any]) -> Outcome:
        one.describe(number, params, RANGES)
        return Outcome(TrialState.COMPLETE, (params["x"] - 3) ** 2 + (params["kind"] == "b"))

    one, given, outcomes, told = study(), [], {}, 0
    for begin in range(0, 60, 2):
        while told < begin + 2 - 8:
            told += 1
        for number in sorted(range(told), key=lambda n: order[n % len(order)]):
            if number not in outcomes:
                params = {"x": float(np.random.default_rng(number).uniform(-10, 10)), "kind": "a"} | given[number]
                outcomes[number] = end(number, params)
                one.tell(number, outcomes[number])
        if begin == restart_at:
            described, one = one._described, study()
            for number, trial in described.items():
                one.describe(number, trial.params, RANGES)
            one.restore([({}, outcomes.get(number)) for number in range(begin)])
        given += one.ask(range(begin, begin + 2))
    return given


def test_suggestions_depend_on_the_window_only() -> None:
    sampler = "tpe"
    once = searched(sampler, [0, 1, 2])
    assert searched(sampler, [2, 0, 1]) == once
    assert searched(sampler, [0, 1, 2], restart_at=30) == once
    assert once[:6] == [{}] * 6  # nothing has been shown yet
    assert all(set(one) == {"x", "kind"} for one in once[8:])


def test_tpe_learns() -> None:
    late = [one["x"] for one in searched("tpe", [0])[40:]]
    assert abs(float(np.median(late)) - 3) < 2


def test_an_optuna_sampler_is_asked_in_the_same_window() -> None:
    def make(seed: int) -> optuna.samplers.BaseSampler:
        return optuna.samplers.TPESampler(seed=seed, multivariate=False)

    assert searched("own", [0, 1], make) == searched("own", [1, 0], make, restart_at=20)


def test_gp_has_a_suggestion_for_every_shown_parameter() -> None:
    study = ObjectiveStudy("gp", 0, "maximize", 1, 1, make=gaussian_process)
    study.ask([0])
    study.describe(0, {"x": 1.0, "kind": "b"}, RANGES)
    study.tell(0, Outcome(TrialState.COMPLETE, 2.0))
    [given] = study.ask([1])
    assert -10 <= given["x"] <= 10
    assert given["kind"] in ("a", "b")


def test_given_points_come_first() -> None:
    study = ObjectiveStudy("random", 0, "minimize", 2, 4, first=[{"x": 1.5}])
    assert study.ask([0, 1]) == [{"x": 1.5}, {}]


def test_a_sampler_of_ones_own_searches_a_declared_space_too() -> None:
    def make(seed: int) -> optuna.samplers.BaseSampler:
        return optuna.samplers.RandomSampler(seed=seed)

    space, search = load_space("mlp"), SearchSpec(sampler="random").model_copy(update={"sampler": "own"})
    one, other = (Study(space, search, "minimize", 2, 4, make=make) for _ in range(2))
    assert one.ask([0, 1]) == other.ask([0]) + other.ask([1])
