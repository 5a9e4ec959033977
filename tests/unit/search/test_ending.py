"""The end of a search: patience beyond the noise, and a bound on what is left to gain that holds."""

from __future__ import annotations

import numpy as np
import pytest

from sweeper.search.ending import LEAST_TRIALS, STEADY, SURE, Ending, left_to_gain


def told(ending: Ending, costs: list[float | None], noise: float = 0.0) -> int | None:
    """After how many trials the search ends, asked after every one."""
    for trial, cost in enumerate(costs):
        ending.tell(trial, cost, noise, 2)
        if ending.reason(trial + 1) is not None:
            return trial + 1
    return None


def test_patience_counts_finished_trials_that_did_not_improve_the_best() -> None:
    assert told(Ending(3, None), [5.0, 4.0, 4.0, 4.5, None]) == 5
    assert told(Ending(3, None), [5.0, 4.0, 4.0, 4.5, 3.9, 4.0, 4.0]) is None


def test_gains_below_the_noise_of_the_best_do_not_count_and_the_reason_says_so() -> None:
    costs: list[float | None] = [1.0, 0.5, 0.499, 0.498, 0.497]
    assert told(Ending(3, None), costs) is None
    ending = Ending(3, None)
    assert told(ending, costs, noise=0.01) == 5
    assert ending.reason(5) == "the last 3 trials gained 0.003, below the noise of 0.01"


def test_without_an_answer_the_search_goes_on() -> None:
    assert told(Ending(3, 1.0), [None] * 50) is None


def test_what_is_left_has_to_stay_little_for_some_trials_after_the_first_complete_ones() -> None:
    costs: list[float | None] = [float(n) for n in range(100)]
    assert told(Ending(None, 1e9), costs) == LEAST_TRIALS + STEADY - 1
    costs[40] = -1e12  # so much better than the others that much seems to be left again
    assert told(Ending(None, 1e9), costs) is None


def test_the_answer_depends_on_the_trials_before_the_horizon_only_and_not_on_the_order_of_telling() -> None:
    costs = np.random.default_rng(0).random(120)
    late, early = Ending(None, 0.2), Ending(None, 0.2)
    for trial in np.random.default_rng(1).permutation(120):
        late.tell(int(trial), float(costs[trial]), 0.0, 1)
    answers = []
    for trial in range(120):
        early.tell(trial, float(costs[trial]), 0.0, 1)
        answers.append(early.reason(trial))
    assert answers == [late.reason(horizon) for horizon in range(120)]
    assert any(answers)


def test_a_trial_that_was_run_again_counts_as_it_ended_last() -> None:
    ending = Ending(2, None)
    assert told(ending, [1.0, 2.0, 2.0]) == 3
    ending.tell(2, 0.5, 0.0, 2)
    assert ending.reason(3) is None


@pytest.mark.parametrize("parameters", [1, 2, 6])
def test_the_bound_holds_as_often_as_it_says_for_random_points_in_a_bowl(parameters: int) -> None:
    rng = np.random.default_rng(parameters)
    holds, trials = [], 200
    for _ in range(400):
        costs = np.sort(np.square(rng.normal(size=(trials, parameters))).sum(axis=1))
        holds.append(left_to_gain(costs[:26], trials, parameters) >= costs[0])
    assert SURE - 0.06 < np.mean(holds) < 1.0
