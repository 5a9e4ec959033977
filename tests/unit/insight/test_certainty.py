"""Intervals cover the truth as often as they say, and the verdict on finalists claims no more than the seeds show."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from sweeper.insight.certainty import (
    BOOTSTRAP_METHOD,
    T_METHOD,
    Finalist,
    compare,
    holm,
    judge,
    mean_interval,
    median_interval,
    probability_best,
    summarize,
)


def objective(rng: np.random.Generator, truth: float, seeds: int) -> np.ndarray:
    """Values of one noisy objective on some seeds."""
    return truth + 0.1 * rng.standard_normal(seeds)


def finalists(rng: np.random.Generator, truths: list[float], seeds: int = 10, noise: float = 0.02) -> list[Finalist]:
    """Finalists that share most of the noise of a seed, as common random numbers make them."""
    common = 0.2 * rng.standard_normal(seeds)
    return [
        Finalist(number, tuple(truth + common + noise * rng.standard_normal(seeds)), cost=float(10 - number))
        for number, truth in enumerate(truths)
    ]


def test_the_t_interval_covers_the_truth_of_1000_noisy_objectives_at_its_level() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(1000):
        truth = rng.uniform(0.1, 2.0)
        covered += not mean_interval(objective(rng, truth, 10)).excludes(truth)
    assert 930 <= covered <= 970


def test_the_interval_of_a_paired_difference_covers_the_truth_of_1000_pairs_at_its_level() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(1000):
        first, second = rng.uniform(0.1, 2.0, 2)
        [comparison] = compare(finalists(rng, [first, second]))
        covered += not comparison.interval.excludes(first - second)
    assert 930 <= covered <= 970


def test_the_bootstrap_interval_covers_the_median_of_1000_skewed_objectives_at_its_level() -> None:
    rng = np.random.default_rng(2)
    covered = 0
    for draw in range(1000):
        values = rng.exponential(1.0, 60)
        covered += not median_interval(values, seed=draw).excludes(math.log(2))
    assert 930 <= covered <= 970


def test_an_interval_names_its_method() -> None:
    summary = summarize([1.0, 2.0, 4.0])
    assert summary.mean_interval.method == T_METHOD
    assert summary.median_interval.method == BOOTSTRAP_METHOD
    assert summary.deviation == pytest.approx(np.std([1, 2, 4], ddof=1))
    assert "no interval" in summarize([1.0]).mean_interval.method


def test_the_t_interval_is_scipys() -> None:
    values = np.random.default_rng(3).normal(size=7)
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    found = mean_interval(values)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_holms_correction_is_that_of_the_paper() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]).max() <= 1.0


def test_a_finalist_that_is_better_on_every_seed_wins_though_seeds_differ_more_than_finalists() -> None:
    verdict = judge(finalists(np.random.default_rng(4), [0.5, 0.4, 0.6]))
    assert verdict.sentence == "trial 1 wins"
    assert verdict.leaders == (1,)
    assert [standing.trial for standing in verdict.standings] == [1, 0, 2]
    assert verdict.standings[0].probability_best > 0.99


def test_equal_finalists_cannot_be_told_apart_and_the_cheapest_is_named() -> None:
    verdict = judge(finalists(np.random.default_rng(5), [0.5, 0.5, 0.5, 0.9], noise=0.05))
    assert set(verdict.leaders) == {0, 1, 2}
    names = [str(trial) for trial in verdict.leaders]
    assert verdict.sentence == f"{names[0]}, {names[1]} and {names[2]} cannot be told apart; 2 is the cheapest"


def test_equal_finalists_are_rarely_told_apart() -> None:
    rng = np.random.default_rng(6)
    wrong = sum(any(c.different for c in compare(finalists(rng, [0.5] * 5))) for _ in range(400))
    assert wrong <= 0.05 * 400 + 2.5 * math.sqrt(400 * 0.05 * 0.95)


def test_equal_values_have_no_deviation_and_an_interval_of_no_width() -> None:
    found = summarize([0.8888888888888888] * 6)
    assert (found.deviation, found.mean_interval.low) == (0.0, found.mean_interval.high)


def test_the_p_value_of_a_pair_is_that_of_scipys_paired_t_test() -> None:
    first, second = finalists(np.random.default_rng(9), [0.5, 0.6])
    [comparison] = compare([first, second])
    assert comparison.p == pytest.approx(stats.ttest_rel(first.values, second.values).pvalue, rel=1e-12)


def test_a_difference_that_is_the_same_on_every_seed_but_for_rounding_is_certain() -> None:
    [comparison] = compare([Finalist(1, (0.30, 0.31, 0.32)), Finalist(2, (0.10, 0.11, 0.12))])
    assert comparison.different


def test_the_best_of_a_maximized_metric_is_the_highest() -> None:
    verdict = judge(finalists(np.random.default_rng(7), [0.5, 0.4, 0.9]), "maximize")
    assert verdict.sentence == "trial 2 wins"


def test_the_probabilities_of_being_best_sum_to_one_and_ties_share() -> None:
    twins = [Finalist(3, (1.0, 2.0, 3.0)), Finalist(5, (1.0, 2.0, 3.0)), Finalist(6, (4.0, 5.0, 6.0))]
    assert probability_best(twins) == pytest.approx([0.5, 0.5, 0.0])
    assert probability_best(finalists(np.random.default_rng(8), [0.5] * 4)).sum() == pytest.approx(1.0)


def test_a_finalist_that_diverges_on_a_seed_is_out() -> None:
    verdict = judge([Finalist(1, (0.1, math.nan, 0.1)), Finalist(2, (0.5, 0.52, 0.51))])
    assert verdict.leaders == (2,)
    assert verdict.standings[-1].diverged == 1
    assert judge([Finalist(1, (math.inf,))]).sentence == "every finalist diverged on some seed: there is no winner"


def test_one_seed_or_one_finalist_is_said_to_be_no_contest() -> None:
    assert "one seed only" in judge([Finalist(1, (0.1,)), Finalist(2, (0.2,))]).sentence
    assert judge([Finalist(7, (0.1, 0.2))]).sentence == "trial 7 is the only finalist"


def test_finalists_without_common_seeds_are_refused() -> None:
    with pytest.raises(ValueError, match="common seeds"):
        compare([Finalist(1, (0.1, 0.2)), Finalist(2, (0.2,))])
    with pytest.raises(ValueError, match="no finalists"):
        judge([])
    with pytest.raises(ValueError, match="nothing to summarize"):
        summarize([math.nan])
