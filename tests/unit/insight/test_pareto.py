"""Dominance, the order in which samplers learn, and the front and the best trials of a sweep."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sweeper.insight.pareto import best_first, beyond, feasible, pareto_front, violations
from sweeper.records import TrialRecord
from sweeper.search.dominance import crowding, fronts, non_dominated
from sweeper.search.ranking import Outcome, fractions, rank, ranks
from sweeper.spec.parse import load_spec
from sweeper.states import TrialState

COMPLETE, PRUNED, FAILED = TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAILED


def costs_of(seed, n=60, m=2, whole=False):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 6, (n, m)).astype(float) if whole else rng.normal(size=(n, m))


# Dominance


@pytest.mark.parametrize("whole", [False, True], ids=["all different", "many equal"])
@pytest.mark.parametrize("m", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(5))
def test_fronts_are_those_of_the_definition_and_of_optuna(seed, m, whole):
    from optuna.study._multi_objective import _fast_non_domination_rank

    costs = costs_of(seed, m=m, whole=whole)
    beats = (costs[:, None] <= costs[None]).all(axis=2) & (costs[:, None] < costs[None]).any(axis=2)
    np.testing.assert_array_equal(non_dominated(costs), ~beats.any(axis=0))
    np.testing.assert_array_equal(fronts(costs), _fast_non_domination_rank(costs))


def test_enough_fronts_are_right_and_everything_else_is_behind_them():
    costs = costs_of(3, n=200)
    whole, part = fronts(costs), fronts(costs, enough=20)
    told_apart = part < part.max()
    assert told_apart.sum() >= 20
    np.testing.assert_array_equal(part[told_apart], whole[told_apart])
    assert whole[~told_apart].min() > whole[told_apart].max()


def test_nothing_has_no_front():
    assert len(fronts(np.zeros((0, 2)))) == 0
    assert len(crowding(np.zeros((0, 2)))) == 0


def test_the_ends_of_a_front_are_alone_and_the_crowded_come_last():
    front = np.array([[0.0, 4.0], [0.1, 3.9], [0.2, 3.8], [2.0, 1.0], [4.0, 0.0]])
    distance = crowding(front)
    assert np.isinf(distance[[0, 4]]).all()
    assert distance[1] < distance[2] < distance[3]
    np.testing.assert_allclose(crowding(front * [1, 1e6]), distance)  # whatever the units


# Ranking


def test_feasible_trials_come_first_then_pruned_then_those_beyond_the_constraints_then_diverged_ones():
    outcomes = {
        0: Outcome(FAILED, None, (0, 9.0), diverged=True),
        1: Outcome(COMPLETE, 0.1, excesses=(0.5, -1.0)),
        2: Outcome(COMPLETE, 0.9, excesses=(-0.5, -1.0)),
        3: Outcome(PRUNED, 0.5, (2, 0.5)),
        4: Outcome(COMPLETE, 0.3, excesses=(0.1, 0.2)),
        5: Outcome(FAILED),
        6: Outcome(COMPLETE, 0.8),
    }
    keys = ranks(outcomes, [1.0])
    assert keys.pop(5) is None
    assert sorted(keys, key=keys.get) == [6, 2, 3, 4, 1, 0]
    assert keys == {number: rank(outcome, 1.0) for number, outcome in outcomes.items() if number != 5}


def test_with_several_objectives_fronts_come_before_values_and_ends_before_the_crowded():
    values = [(0.5, 5.0), (0.1, 9.0), (0.9, 1.0), (0.52, 4.9), (0.9, 9.0), (0.6, 6.0)]
    outcomes = {n: Outcome(COMPLETE, v[0], values=v) for n, v in enumerate(values)}
    outcomes[6] = Outcome(COMPLETE, 0.0, values=(0.0, 0.0), excesses=(0.3,))
    outcomes[7] = Outcome(COMPLETE, 0.0)  # its second objective is unknown
    keys = ranks(outcomes, [1.0, 1.0])
    assert keys[7] is None
    assert {n for n, key in keys.items() if key and key[:2] == (0.0, 0.0)} == {0, 1, 2, 3}
    assert max(keys[1], keys[2]) < min(keys[0], keys[3])
    assert max(keys[0], keys[3]) < keys[5] < keys[6]
    assert keys[5] < keys[4]


def test_a_direction_turns_the_order_round():
    outcomes = {n: Outcome(COMPLETE, v[0], values=v) for n, v in enumerate([(0.9, 1.0), (0.5, 1.0), (0.9, 2.0)])}
    keys = ranks(outcomes, [-1.0, 1.0])
    assert keys[0] < min(keys[1], keys[2])


def test_places_of_two_sweeps_interleave_whatever_their_values():
    first = fractions({0: (0.0, 5.0), 1: (0.0, 1.0), 2: None, 3: (3.0, 0.0)})
    second = fractions({4: (0.0, 1e6), 5: (0.0, 2e6), 6: (0.0, 3e6)})
    assert first == {1: (0.0,), 0: (1 / 3,), 3: (2 / 3,), 2: None}
    assert second == {4: (0.0,), 5: (1 / 3,), 6: (2 / 3,)}


# Fronts and the best of a sweep


def trial(number, loss, size, accuracy=0.9, state=COMPLETE):
    metrics = {"val_loss": loss, "parameters": float(size), "val_accuracy": accuracy}
    return TrialRecord(number, state, params={}, value=loss, metrics=metrics)


def spec_with(**sections):
    return load_spec({"dataset": {"name": "digits"}, **sections})


TWO = spec_with(objectives=[{"metric": "val_loss"}, {"metric": "parameters"}], constraints=["val_accuracy >= 0.8"])
TRIALS = [
    trial(0, 0.5, 100),
    trial(1, 0.3, 500),
    trial(2, 0.3, 500),
    trial(3, 0.4, 600),
    trial(4, 0.1, 50, accuracy=0.7),
    trial(5, 0.2, 50, state=PRUNED),
    trial(6, math.nan, 10),
    trial(7, 0.5, 90, accuracy=0.8),
]


def test_the_front_holds_feasible_trials_that_nothing_beats_in_order_of_the_first_objective():
    assert [t.number for t in pareto_front(TRIALS, TWO)] == [1, 2, 7]


def test_the_front_of_one_objective_is_its_best_trial():
    one = spec_with()
    assert [t.number for t in pareto_front(TRIALS[:4], one)] == [1, 2]
    assert [t.number for t in pareto_front(TRIALS, one)] == [4]
    assert pareto_front([], TWO) == []


def test_the_best_come_first_and_those_that_break_a_constraint_last_by_how_far():
    more = [*TRIALS, trial(8, 0.05, 10, accuracy=0.4)]
    assert [t.number for t in best_first(more, TWO)] == [1, 2, 3, 0, 7, 4, 8]
    assert [t.number for t in best_first(more[-1:] + more[4:5], TWO)] == [4, 8]


def test_a_violation_is_told_with_its_numbers():
    assert violations(TRIALS[4], TWO) == ["val_accuracy is 0.7: it must be >= 0.8"]
    assert not feasible(TRIALS[4], TWO)
    assert beyond(TRIALS[4], TWO) == pytest.approx(0.125)
    assert feasible(TRIALS[0], TWO)
    assert violations(TRIALS[0], TWO) == []
    unknown = TrialRecord(9, COMPLETE, value=0.1, metrics={"val_loss": 0.1})
    assert violations(unknown, TWO) == ["val_accuracy is unknown: it must be >= 0.8"]
