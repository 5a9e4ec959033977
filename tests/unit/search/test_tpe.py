"""The batched TPE: Optuna's density, suggestions no worse than its sampler's, at a cost that a batch shares."""

from __future__ import annotations

import math

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from sweeper.search.axes import Axis, decode_point, encode_point, points_from_uniform
from sweeper.search.tpe import (
    CANDIDATES,
    OLDER,
    RECENT,
    ParzenEstimator,
    TpeBatch,
    age_weights,
    bandwidths,
    features,
    least_bandwidth,
    n_good,
    thinned,
)

SPACE = {
    "rate": FloatDistribution(1e-4, 1e-1, log=True),
    "shift": FloatDistribution(-3, 5),
    "kind": CategoricalDistribution(["x", "y", "z"]),
    "depth": IntDistribution(1, 6),
    "width": IntDistribution(8, 100, log=True),
    "share": FloatDistribution(0, 1, step=0.25),
}
AXES = [Axis.of(name, distribution) for name, distribution in SPACE.items()]


def random_points(n, axes=AXES, seed=0):
    return points_from_uniform(axes, np.random.default_rng(seed).random((n, len(axes))))


# Axes


def test_every_value_survives_the_way_to_its_code_and_back():
    for point in random_points(200):
        params = decode_point(AXES, point)
        again = decode_point(AXES, encode_point(AXES, params))
        assert again == pytest.approx(params)
        for name, value in params.items():
            assert SPACE[name]._contains(SPACE[name].to_internal_repr(value))


def test_values_have_equal_shares_of_a_stepped_axis_and_of_choices():
    codes = random_points(12_000)
    for d, axis in enumerate(AXES):
        if axis.name in ("kind", "depth", "share"):
            counts = np.bincount(codes[:, d].astype(int), minlength=len(axis.values))
            assert counts.min() > 0.9 * counts.mean()


def test_a_step_of_a_tenth_gives_the_numbers_a_reader_expects():
    axis = Axis.of("p", FloatDistribution(0.1, 0.9, step=0.1))
    assert axis.values == (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    assert [axis.encode(value) for value in axis.values] == list(range(9))


def test_a_long_range_is_continuous_inside_and_whole_numbers_outside():
    axis = Axis.of("n", IntDistribution(1, 5000, log=True))
    assert axis.values is None
    assert axis.size == 5000
    for value in (1, 2, 77, 4999, 5000):
        assert axis.decode(axis.encode(value)) == value
    assert {axis.decode(0.0), axis.decode(1.0)} == {1, 5000}


def test_a_value_outside_an_axis_has_no_code_and_one_from_json_has_the_same():
    axis = Axis.of("layers", CategoricalDistribution(["[]", "[64]"]))
    assert axis.encode("[64]") == 1.0
    assert math.isnan(axis.encode("[9]"))
    assert math.isnan(AXES[0].encode(0.5))
    assert math.isnan(AXES[3].encode("3"))


# Density


@pytest.mark.parametrize(
    ("axes", "n"),
    [
        (AXES, 0),
        (AXES, 1),
        (AXES, 2),
        (AXES[:3], 15),
        (AXES[:3], 120),
        (AXES[3:4], 20),
        (AXES[4:5], 20),
        (AXES[5:], 20),
    ],
)
def test_the_density_equals_optunas_parzen_estimator(axes, n):
    """Fails loudly when Optuna changes what we follow: it reads private parts of Optuna on purpose.

    Stepped axes with many trials are compared alone: among equal values, Optuna's unstable sorting decides which of
    the trials gets which bandwidth, and that only shows in the product with other axes.
    """
    from optuna.samplers._tpe.parzen_estimator import _ParzenEstimator, _ParzenEstimatorParameters
    from optuna.samplers._tpe.sampler import default_gamma, default_weights

    space = {axis.name: SPACE[axis.name] for axis in axes}

    def internal(points):
        return {
            axis.name: np.array([space[axis.name].to_internal_repr(axis.decode(c)) for c in points[:, d]], dtype=float)
            for d, axis in enumerate(axes)
        }

    seen, where = random_points(n, axes), random_points(50, axes, seed=1)
    theirs = _ParzenEstimator(
        internal(seen), space, _ParzenEstimatorParameters(1.0, True, False, default_weights, True)
    )
    ours = ParzenEstimator(axes, seen)
    difference = ours.log_density(features(axes, where)) - np.log(ours.weights.sum()) - theirs.log_pdf(internal(where))
    ranges = math.log(math.log(1e3) * 8) if len(axes) > 1 else 0.0  # density per unit of the axis or of the parameter
    np.testing.assert_allclose(difference, ranges, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(age_weights(n), default_weights(n))
    assert n_good(n) == default_gamma(n)


def test_no_bandwidth_is_below_the_least_which_shrinks_as_trials_come_in():
    mus = np.array([0.2, 0.21, 0.22, np.nan, 0.9])
    wide = bandwidths(mus, 0.5)
    np.testing.assert_array_equal(wide[:2], 0.5)
    assert wide[4] == max(0.5, bandwidths(mus)[4])
    assert wide[3] == 1.0
    assert [least_bandwidth(n) for n in (0, 1, 100, 10_000)] == [1.0, 1.0, 0.1, 0.01]


def test_samples_follow_the_density():
    """On both kinds of axes the shares of samples equal the estimator's probabilities."""
    axes = [AXES[1], AXES[3]]
    estimator = ParzenEstimator(axes, random_points(7, axes))
    rng = np.random.default_rng(5)
    samples = estimator.sample(rng.random((40_000, 3)))
    grid = np.array([[(i + 0.5) / 200, g] for i in range(200) for g in range(6)])
    mass = np.exp(estimator.log_density(features(axes, grid))).reshape(200, 6)
    mass /= mass.sum()
    np.testing.assert_allclose(
        np.bincount(samples[:, 1].astype(int), minlength=6) / 40_000, mass.sum(axis=0), atol=0.01
    )
    shares = np.histogram(samples[:, 0], bins=20, range=(0, 1))[0] / 40_000
    np.testing.assert_allclose(shares, mass.sum(axis=1).reshape(20, 10).sum(axis=1), atol=0.01)


def test_one_more_kernel_adds_its_density_and_peaks_at_its_point():
    estimator = ParzenEstimator(AXES, random_points(40))
    member = random_points(1, seed=3)[0]
    others = random_points(500, seed=4)
    at_member = features(AXES, member[None]) @ estimator.extra_kernel(member)
    assert (features(AXES, others) @ estimator.extra_kernel(member)).max() < at_member[0]


# Batches


def batch(axes, good, bad, size=8, seed=0, applies=None):
    u = np.random.default_rng(seed).random((size, CANDIDATES, len(axes) + 1))
    return TpeBatch(axes, good, bad, u, applies)


def test_suggestions_gather_where_the_good_trials_are():
    axes = AXES[:2]
    good = np.array([0.8, 0.2]) + 0.02 * (random_points(25, axes, seed=7) - 0.5)
    points = []
    tpe = batch(axes, good, random_points(40, axes))
    for b in range(8):
        points.append(tpe.pick(b))
        tpe.add(points[-1])
    assert np.median(np.abs(np.array(points) - [0.8, 0.2])) < 0.1


def test_members_of_a_batch_keep_their_distance():
    """Constant liar: with it the picks of one batch lie further apart than without."""
    axes = AXES[:2]
    good, bad = np.array([[0.5, 0.5], [0.52, 0.48]]), random_points(30, axes)

    def spread(liar):
        distances = []
        for seed in range(10):
            tpe, picks = batch(axes, good, bad, seed=seed), []
            for b in range(8):
                picks.append(tpe.pick(b))
                if liar:
                    tpe.add(picks[-1])
            picks = np.array(picks)
            gaps = np.linalg.norm(picks[:, None] - picks[None], axis=-1) + np.eye(8)
            distances.append(gaps.min(axis=1).mean())
        return np.mean(distances)

    assert spread(liar=True) > 1.3 * spread(liar=False)


def test_what_does_not_apply_is_left_out_and_counts_in_no_comparison():
    """Axis 1 applies only to choice 0; a suggestion with another choice has no value there."""
    axes = [AXES[2], AXES[1]]

    def applies(points):
        return np.column_stack([np.ones(len(points), bool), points[:, 0] == 0])

    seen = random_points(60, axes)
    seen[seen[:, 0] != 0, 1] = np.nan
    tpe = batch(axes, seen[:10], seen[10:], size=64, applies=applies)
    picks = np.array([tpe.pick(b) for b in range(64)])
    assert np.array_equal(np.isnan(picks[:, 1]), picks[:, 0] != 0)
    assert 0 < np.isnan(picks[:, 1]).mean() < 1


# Quality and cost, see also benchmarks/suggest.py


def test_a_batch_builds_two_estimators_however_many_it_suggests(monkeypatch):
    """What makes a batch cheap; `python -m benchmarks --only suggest` has the milliseconds."""
    built = []
    original = ParzenEstimator.__init__
    monkeypatch.setattr(
        ParzenEstimator,
        "__init__",
        lambda self, axes, points, *rest: built.append(len(points)) or original(self, axes, points, *rest),
    )
    seen = random_points(5000)
    tpe = batch(AXES, seen[:25], seen[25:], size=32)
    for b in range(32):
        tpe.add(tpe.pick(b))
    assert sorted(built) == [25, 4975]


def test_the_mixture_has_every_bad_trial_up_to_a_few_thousand_and_of_more_the_newest_and_a_weighted_sample():
    few = np.arange(RECENT + OLDER) + 7
    rows, weights = thinned(few)
    assert weights is None
    assert list(rows) == list(few)
    earlier: set[int] = set()
    for n in (400_000, 100_000, 10_000, 3500):
        rows, weights = thinned(np.arange(n))
        assert RECENT + OLDER // 2 * 0.95 < len(rows) <= RECENT + OLDER * 1.05
        assert list(rows[-RECENT:]) == list(range(n - RECENT, n))
        assert weights.sum() == pytest.approx(age_weights(n).sum(), rel=0.02)
        middle = weights[rows < n // 2].sum() / age_weights(n)[: n // 2].sum()
        assert middle == pytest.approx(1.0, rel=0.05)
        older = set(rows[:-RECENT].tolist())
        assert {row for row in earlier if row < n - RECENT} <= older  # a longer history keeps a part of these
        earlier = older


@pytest.mark.slow
def test_the_best_of_100_trials_is_within_noise_of_optunas_own_tpe():
    from benchmarks.suggest import FUNCTIONS, best_with_batch_tpe, best_with_optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    worse = []
    for function in FUNCTIONS.values():
        ours = [best_with_batch_tpe(function, seed, trials=100, batch=8, window=16) for seed in range(8)]
        theirs = [best_with_optuna(function, seed, trials=100, batch=8, window=16) for seed in range(8)]
        noise = 1.25 * np.std(theirs, ddof=1) * math.sqrt(2 / 8)  # standard error of a difference of medians
        worse.append((np.median(ours) - np.median(theirs)) / noise)
    assert np.mean(worse) < 1.5
    assert max(worse) < 3
