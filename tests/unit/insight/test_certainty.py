"""Intervals hold on new rows and new seeds as often as they say, and the verdict claims no more than that."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from benchmarks.simulated_finals import Case, Counts, simulate
from sweeper.insight.certainty import T_METHOD, Finalist, chance, half_width, holm, judge, mean_interval
from sweeper.insight.evidence import Estimate, Evidence, evidence_of_means, evidence_of_metric

TIE, APART = (0.0, 0.0, 0.0), (0.0, 0.4, 0.4)


def scores(rng: np.random.Generator, truths: list[float], seeds: int = 5, rows: int = 400) -> list[np.ndarray]:
    """(S, n) scores for each finalist, which share most of the noise of rows and of seeds."""
    common = rng.standard_normal(rows) + 0.02 * rng.standard_normal((seeds, 1))
    return [
        truth + common + 0.1 * rng.standard_normal(rows) + 0.1 * rng.standard_normal((seeds, rows)) for truth in truths
    ]


def entrants(evidence: Evidence) -> list[Finalist]:
    """Finalists 0, 1, 2 ..., of which later ones are cheaper."""
    return [Finalist(k, tuple(values), cost=100.0 - k) for k, values in enumerate(evidence.values)]


def counted(metric: str, gaps: tuple[float, ...], finals: int = 60) -> Counts:
    """Simulated finals of several sizes; `python -m benchmarks --only coverage` has more of them."""
    counts = Counts()
    for draw, (seeds, rows, effect) in enumerate(((2, 300, 0.1), (5, 300, 0.05), (3, 900, 0.1))):
        counts += simulate(Case(metric, gaps, seeds, rows, effect), finals // 3, seed=draw)
    return counts


def test_the_t_interval_covers_the_truth_of_1000_noisy_objectives_at_its_level() -> None:
    rng = np.random.default_rng(0)
    truths = rng.uniform(0.1, 2.0, 1000)
    covered = sum(not mean_interval(t + 0.1 * rng.standard_normal(10)).excludes(t) for t in truths)
    assert 930 <= covered <= 970


def test_the_t_interval_is_scipys() -> None:
    values = np.random.default_rng(3).normal(size=7)
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    found = mean_interval(values)
    assert found.method == T_METHOD
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert "no interval" in mean_interval([1.0]).method


def test_holms_correction_is_that_of_the_paper() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]).max() <= 1.0


@pytest.mark.parametrize("metric", ["loss", "accuracy", "mse"])
def test_the_winners_interval_holds_its_true_mean_and_ties_are_not_told_apart(metric: str) -> None:
    """Of 60 finals 95% are 57 with a deviation of 1.7, and 5% are 3; the long version counts thousands."""
    tied = counted(metric, TIE)
    assert tied.covered >= 52
    assert tied.false_families <= 8
    assert tied.false_sole <= 6


def test_true_differences_are_found_where_rows_suffice() -> None:
    found = simulate(Case("loss", APART, 5, 900, 0.05), 30, seed=5)
    assert found.covered >= 25
    assert found.false_sole == 0
    assert found.told_apart >= 0.9 * found.apart


def test_the_probability_of_being_best_is_rarely_high_where_all_are_equally_good() -> None:
    for seeds in (2, 3, 10):
        found = simulate(Case("loss", TIE, seeds, 300, 0.1), 30, seed=seeds)
        assert found.certain <= 6, seeds  # a calibrated one passes 0.95 for three equal finalists in 5% to 10%


def test_the_chance_of_two_t_variables_is_that_of_draws() -> None:
    rng = np.random.default_rng(4)
    for rows, seeds, freedom in ((1.0, 1.0, 1), (1.0, 0.05, 2), (0.2, 1.0, 6)):
        draws = np.abs(
            math.sqrt(rows) * rng.standard_t(50, 400_000) + math.sqrt(seeds) * rng.standard_t(freedom, 400_000)
        )
        estimate = Estimate(0.0, rows, seeds, 50, 1.0, freedom)
        assert chance(estimate, float(np.quantile(draws, 0.95))) == pytest.approx(0.05, abs=0.002)
        assert half_width(estimate) == pytest.approx(float(np.quantile(draws, 0.95)), rel=0.04)


def test_variances_of_rows_and_seeds_are_those_of_the_crossed_design() -> None:
    """The sum of the means' variance over rows and over seeds, less what both have of single cells."""
    rng = np.random.default_rng(6)
    estimated, means = [], []
    for _ in range(400):
        cells = 0.3 * rng.standard_normal((4, 50)) + 0.2 * rng.standard_normal(50) + 0.1 * rng.standard_normal((4, 1))
        evidence = evidence_of_means([cells])
        assert evidence.seed_cov is not None
        estimated.append(evidence.row_cov[0, 0] + evidence.seed_cov[0, 0])
        means.append(cells.mean())
    true = 0.2**2 / 50 + 0.1**2 / 4 + 0.3**2 / 200
    assert np.mean(estimated) == pytest.approx(true, rel=0.1)
    assert np.var(means) == pytest.approx(true, rel=0.2)


def test_a_drawn_mean_has_the_variance_of_the_formula() -> None:
    each = scores(np.random.default_rng(7), [0.5, 0.6])
    formula = evidence_of_means(each)
    drawn = evidence_of_metric(lambda w: np.array(each) @ w / w.sum(), 400)
    assert drawn.values == pytest.approx(formula.values)
    assert np.diag(drawn.row_cov) == pytest.approx(np.diag(formula.row_cov), rel=0.25)


def test_a_weighted_row_counts_as_often_as_it_says() -> None:
    """Weights of 0 and 1 are the rows of weight 1 alone."""
    each = scores(np.random.default_rng(8), [0.5, 0.7], rows=200)
    weights = np.repeat([1.0, 0.0], 100)
    weighted, alone = evidence_of_means(each, weights), evidence_of_means([one[:, :100] for one in each])
    assert weighted.values == pytest.approx(alone.values)
    assert weighted.row_cov == pytest.approx(alone.row_cov, rel=0.02)
    assert weighted.rows == pytest.approx(100)


def test_an_observed_share_of_one_has_an_interval_all_the_same() -> None:
    evidence = evidence_of_means([np.ones((10, 30))], scale="share")
    [standing] = judge(entrants(evidence), evidence, "maximize").standings
    assert standing.interval is not None
    assert standing.mean == standing.interval.high == 1.0
    exact = stats.binomtest(30, 30).proportion_ci(method="exact").low
    assert standing.interval.low == pytest.approx(exact, abs=0.04)


def test_a_positive_metric_has_an_interval_of_positive_numbers() -> None:
    rows = np.full((3, 20), 1e-4)
    rows[:, 0] = 1.0
    evidence = evidence_of_means([rows], scale="positive")
    [standing] = judge(entrants(evidence), evidence).standings
    assert standing.interval is not None
    assert 0.0 < standing.interval.low < standing.mean < standing.interval.high


def test_the_same_difference_on_two_seeds_is_not_certain() -> None:
    """Without rows it had p = 0; here one row of 30 differs."""
    first = np.ones((2, 30))
    second = first.copy()
    second[:, 3] = 0.0
    evidence = evidence_of_means([first, second], scale="share")
    verdict = judge(entrants(evidence), evidence, "maximize")
    assert verdict.leaders == (0, 1)
    assert not verdict.comparisons[0].different
    assert verdict.standings[0].probability_best < 0.95


def test_scores_without_any_spread_prove_nothing() -> None:
    evidence = evidence_of_means([np.full((3, 10), 0.2), np.full((3, 10), 0.1)])
    verdict = judge(entrants(evidence), evidence)
    assert verdict.leaders == (1, 0)
    assert [c.p for c in verdict.comparisons] == [1.0]


def test_a_finalist_that_is_better_wins_and_pairs_name_the_better_one_first() -> None:
    evidence = evidence_of_means(scores(np.random.default_rng(4), [0.5, 0.4, 0.6]))
    verdict = judge(entrants(evidence), evidence)
    assert verdict.sentence == "trial 1 wins"
    assert verdict.leaders == (1,)
    assert [standing.trial for standing in verdict.standings] == [1, 0, 2]
    assert [(c.first, c.second) for c in verdict.comparisons] == [(1, 0), (1, 2), (0, 2)]
    assert all(c.difference < 0 for c in verdict.comparisons)
    assert verdict.standings[0].probability_best > 0.99
    assert judge(entrants(evidence), evidence, "maximize").sentence == "trial 2 wins"


def test_equal_finalists_are_all_leaders_and_the_rows_that_would_settle_it_are_said() -> None:
    evidence = evidence_of_means(scores(np.random.default_rng(5), [0.5, 0.505, 0.9]))
    verdict = judge(entrants(evidence), evidence)
    assert set(verdict.leaders) == {0, 1}
    first, second = verdict.leaders
    assert verdict.sentence.startswith(
        f"trial {first} leads; on new rows it cannot be told apart from {second}; 1 is the"
    )
    assert verdict.rows_to_settle is not None
    assert verdict.rows_to_settle > 400
    assert verdict.sentence.endswith(f"about {verdict.rows_to_settle:,} test rows would settle it")
    more = np.random.default_rng(5)
    enough = evidence_of_means(scores(more, [0.5, 0.505, 0.9], rows=40 * verdict.rows_to_settle, seeds=5))
    assert len(judge(entrants(enough), enough).leaders) == 1


def test_the_leaders_intervals_are_wider_than_the_one_of_a_lone_finalist() -> None:
    each = scores(np.random.default_rng(9), [0.5, 0.5, 0.5], rows=50)
    together = evidence_of_means(each)
    verdict = judge(entrants(together), together)
    first = verdict.standings[0]
    assert len(verdict.leaders) == 3
    assert first.interval is not None
    assert (first.interval.high - first.interval.low) / 2 > half_width(together.of_one(first.trial))


def test_the_probabilities_of_being_best_sum_to_one() -> None:
    evidence = evidence_of_means(scores(np.random.default_rng(8), [0.5] * 4))
    found = judge(entrants(evidence), evidence).standings
    assert sum(standing.probability_best for standing in found) == pytest.approx(1.0)


def test_a_finalist_that_diverges_on_a_seed_is_out() -> None:
    evidence = evidence_of_means(scores(np.random.default_rng(1), [0.5], seeds=3))
    verdict = judge([Finalist(1, (0.1, math.nan, 0.1)), Finalist(2, tuple(evidence.values[0]))], evidence)
    assert verdict.leaders == (2,)
    assert verdict.standings[-1].diverged == 1
    assert verdict.standings[-1].interval is None
    assert (
        judge([Finalist(1, (math.inf,))], None).sentence == "every finalist diverged on some seed: there is no winner"
    )


def test_one_seed_or_one_finalist_is_said_to_be_no_contest() -> None:
    one_seed = evidence_of_means(scores(np.random.default_rng(2), [0.1, 0.9], seeds=1))
    verdict = judge(entrants(one_seed), one_seed)
    assert "one seed only" in verdict.sentence
    assert verdict.standings[0].interval is not None
    assert "these very networks" in verdict.standings[0].interval.method
    alone = evidence_of_means(scores(np.random.default_rng(2), [0.1], seeds=2))
    assert judge([Finalist(7, tuple(alone.values[0]))], alone).sentence == "trial 7 is the only finalist"


def test_finalists_without_evidence_are_refused() -> None:
    evidence = evidence_of_means(scores(np.random.default_rng(2), [0.1]))
    with pytest.raises(ValueError, match="no finalists"):
        judge([], None)
    with pytest.raises(ValueError, match="cannot judge 2"):
        judge([Finalist(1, (0.1,)), Finalist(2, (0.2,))], evidence)
    with pytest.raises(ValueError, match="judged by evidence"):
        judge([Finalist(1, (0.1,))], None)


def test_a_perfect_score_that_is_no_mean_has_an_interval_all_the_same_and_none_goes_beyond_one() -> None:
    def perfect(weights: np.ndarray) -> np.ndarray:
        return np.full((2, 3), 1.0 if weights.any() else np.nan)

    evidence = evidence_of_metric(perfect, 30, scale="score")
    judged = judge([Finalist(1, (1.0,) * 3, 1.0), Finalist(2, (1.0,) * 3, 2.0)], evidence, "maximize", 0)
    for standing in judged.standings:
        assert standing.interval is not None
        assert standing.interval.low < 1.0 - 1 / 30
        assert standing.interval.high == 1.0
    assert not any(pair.different for pair in judged.comparisons)
