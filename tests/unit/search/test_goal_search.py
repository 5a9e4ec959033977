"""Searching for several objectives and under constraints: deterministic, restorable, and better than chance."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sweeper.search.dominance import non_dominated
from sweeper.search.study import Outcome
from sweeper.states import TrialState
from tests.searches import drive, new_study

SPACE = {
    "learning_rate": {"float": [1e-5, 1.0], "log": True},
    "width": {"int": [4, 256], "log": True},
    "weight_decay": {"float": [1e-6, 1e-1], "log": True},
    "activation": {"choice": ["relu", "tanh", "sigmoid"]},
}
BOTH = ["minimize", "minimize"]


def loss(params):
    """Falls with the width, so that it trades with the size of the network."""
    rate = (math.log10(params["learning_rate"]) + 2.5) ** 2 + 0.2 * (math.log10(params["weight_decay"]) + 4) ** 2
    return rate + {"relu": 0.0, "tanh": 0.4, "sigmoid": 1.0}[params["activation"]] + 3 / math.log2(params["width"])


def two(number, params):
    if number % 9 == 8:
        return Outcome(TrialState.FAILED, None, (0, 5.0), diverged=True)
    return Outcome(TrialState.COMPLETE, loss(params), values=(loss(params), float(params["width"])))


def limited(number, params):
    """Small networks only: with a width above 16 the constraint is broken, by more the wider."""
    return Outcome(TrialState.COMPLETE, loss(params), excesses=(params["width"] / 16 - 1,))


def area(found):
    """What the front covers of the rectangle up to a loss of 6 and a width of 256 (on a logarithmic scale)."""
    points = np.array([(loss(params) / 6, math.log(params["width"] / 4) / math.log(64)) for params in found])
    points = points[(points < 1).all(axis=1)]
    front = points[non_dominated(points)]
    front = front[np.argsort(front[:, 0])]
    edges = np.append(front[1:, 0], 1.0)
    return float(((edges - front[:, 0]) * (1 - front[:, 1])).sum())


@pytest.mark.parametrize("sampler", ["tpe", "random", "sobol"])
def test_a_search_for_two_objectives_is_deterministic_and_can_be_restored(sampler):
    whole = drive(new_study(SPACE, sampler, direction=BOTH), 40, two)
    for cut in (7, 22, 33):
        study = new_study(SPACE, sampler, direction=BOTH)
        study.restore((params, two(n, params)) for n, params in enumerate(whole[:cut]))
        assert drive(study, 40, two, whole[:cut]) == whole


def test_the_front_of_tpe_covers_more_than_that_of_chance():
    covered = {
        sampler: [area(drive(new_study(SPACE, sampler, seed, BOTH), 80, two)) for seed in range(6)]
        for sampler in ("tpe", "random")
    }
    assert np.mean(covered["tpe"]) > np.mean(covered["random"]) + 0.02  # 0.85 and 0.81 were seen
    assert sum(a > b for a, b in zip(covered["tpe"], covered["random"], strict=True)) >= 5


def test_the_whole_front_is_searched_and_not_only_its_best_loss():
    later = [drive(new_study(SPACE, seed=seed, direction=BOTH), 120, two)[60:] for seed in range(4)]
    widths = np.array([[params["width"] for params in found] for found in later])
    assert (widths < 16).sum() > 4 * 8
    assert (widths > 30).sum() > 4 * 8


def test_an_objective_that_is_to_grow_is_searched_the_other_way():
    def grow(number, params):
        return Outcome(TrialState.COMPLETE, -loss(params), values=(-loss(params), float(params["width"])))

    mirrored = drive(new_study(SPACE, direction=["maximize", "minimize"]), 40, grow)
    assert mirrored == drive(new_study(SPACE, direction=BOTH), 40, lambda n, p: two(0, p))


def test_tpe_learns_to_satisfy_a_constraint_that_the_objective_pulls_away_from():
    total = 80
    free, bound = [], []
    for seed in range(4):
        free += drive(new_study(SPACE, seed=seed), total, lambda n, p: two(0, p))[-30:]
        bound += drive(new_study(SPACE, seed=seed), total, limited)[-30:]
    within = [np.mean([params["width"] <= 16 for params in found]) for found in (free, bound)]
    assert within[1] > 0.6 > 2 * within[0]  # a third of the space is within; 0.9 and 0.2 were seen
    assert np.median([loss(p) for p in bound]) < np.median(
        [loss(p) for p in drive(new_study(SPACE, "random"), 80, two)]
    )


def test_a_gaussian_process_is_told_of_constraints():
    narrow = {name: SPACE[name] for name in ("learning_rate", "width")}

    def outcome(number, params):
        value = (math.log10(params["learning_rate"]) + 2.5) ** 2 + 3 / math.log2(params["width"])
        state = TrialState.PRUNED if number == 5 else TrialState.COMPLETE
        excesses = () if number in (5, 6) else (params["width"] / 16 - 1,)
        return Outcome(state, value, (0, value), excesses=excesses)

    given = [
        {"learning_rate": 10.0 ** -(1 + i / 4), "width": width} for i, width in enumerate([4, 8, 12, 16, 40, 90] * 2)
    ]
    study = new_study(narrow, "gp", first=given, batch=12, window=12)
    known = drive(study, 12, outcome, batch=12, window=12)
    (bound,) = study.ask([12])
    free = new_study(narrow, "gp", batch=12, window=12)
    free.restore((params, Outcome(TrialState.COMPLETE, outcome(0, params).value)) for params in known)
    (unbound,) = free.ask([12])
    assert bound["width"] <= 24 < unbound["width"]
