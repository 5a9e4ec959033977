"""How a winner predicts is computed from weights and validation rows, and agrees with what training reported."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from sweeper.insight.winner_check import (
    MAX_CLASSES,
    OTHERS,
    ClassCheck,
    ValueCheck,
    check_classes,
    check_values,
    from_json,
    to_json,
)
from sweeper.report.figures import figure_of
from sweeper.report.winner import winner_plots, winner_sentences
from tests.winners import trained


def test_a_classifiers_confusion_matrix_counts_the_validation_rows_and_its_accuracy_is_the_reported_one() -> None:
    winner = trained("digits")
    check, data = winner.check(3), winner.dataset
    assert isinstance(check, ClassCheck)
    counts = np.array(check.confusion)
    assert counts.sum() == check.rows == len(data.y_val)
    assert counts.sum(axis=1).tolist() == np.bincount(data.y_val, minlength=10).tolist()
    assert counts.trace() == check.right
    assert check.right / check.rows == pytest.approx(winner.history.val_accuracy[-1])
    assert sum(b.rows for b in check.bins) == check.rows
    assert from_json(to_json(check)) == check


def test_a_regressions_error_is_the_reported_one_in_the_targets_unit() -> None:
    winner = trained("diabetes")
    check = winner.check(3)
    assert isinstance(check, ValueCheck)
    assert check.rmse == pytest.approx(winner.dataset.in_target_units(winner.history.val_rmse[-1]), rel=1e-5)
    assert len(check.points) == check.rows == len(winner.dataset.y_val)
    assert from_json(to_json(check)) == check


def logits_of(chances: np.ndarray) -> np.ndarray:
    return np.log(np.column_stack([chances, 1 - chances]))


def test_a_calibrated_classifier_passes_and_one_that_is_too_sure_does_not() -> None:
    rng = np.random.default_rng(0)
    chances = rng.uniform(0.5, 0.999, 4000)
    right = rng.random(4000) < chances
    y = np.where(right, 0, 1)
    honest = check_classes(0, logits_of(chances), y, ("a", "b"), seed=0)
    assert honest.calibration_error <= honest.calibrated < 0.03
    assert "nothing speaks against its probabilities" in winner_sentences(honest)[-1]
    boasting = check_classes(0, logits_of(0.5 + chances / 2.001), y, ("a", "b"), seed=0)
    assert boasting.calibration_error > 0.1
    assert "too sure of itself" in winner_sentences(boasting)[-1]


def test_the_calibration_error_is_the_mean_gap_of_the_bins() -> None:
    """Two rows said 0.95 of which one is right, two said 0.65 of which both are: (2 * 0.45 + 2 * 0.35) / 4."""
    check = check_classes(0, logits_of(np.array([0.95, 0.95, 0.65, 0.65])), np.array([0, 1, 0, 0]), ("a", "b"), seed=0)
    assert check.calibration_error == pytest.approx(0.4)
    assert [(b.rows, round(b.accuracy, 3)) for b in check.bins] == [(2, 1.0), (2, 0.5)]
    assert "b taken for a (1 of 1)" in winner_sentences(check)[1]


def test_of_many_classes_those_with_mistakes_keep_their_line() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 60, 3000)
    guessed = np.where((y == 7) & (rng.random(3000) < 0.5), 11, y)
    logits = np.eye(60)[guessed] * 5.0
    check = check_classes(0, logits, y, tuple(f"c{i}" for i in range(60)), seed=0)
    assert len(check.classes) == MAX_CLASSES
    assert {"c7", "c11", OTHERS} <= set(check.classes)
    assert sum(map(sum, check.confusion)) == 3000
    assert winner_sentences(check)[1].startswith("Most frequent mistakes: c7 taken for c11")
    assert {plot.name for plot in winner_plots(check)} == {"confusion", "calibration"}


def test_biased_predictions_are_told_and_unbiased_ones_are_not() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(100, 20, 400)
    noise = rng.normal(0, 5, 400)
    fair = winner_sentences(check_values(0, truth + noise, truth, "price", seed=0))
    assert any("No bias can be shown" in text for text in fair)
    high = winner_sentences(check_values(0, truth + noise + 4, truth, "price", seed=0))
    assert any("too high on average: by 4" in text or "too high on average: by 3.9" in text for text in high)
    growing = winner_sentences(check_values(0, truth + noise * (truth / 100) ** 4, truth, "price", seed=0))
    assert any("Errors grow with the predicted value" in text for text in growing)


def test_the_ticks_of_large_targets_do_not_run_into_each_other() -> None:
    truth = np.random.default_rng(0).uniform(80_000, 440_000, 200)
    [plot] = winner_plots(check_values(0, truth + 2000, truth, "price", seed=0))
    for axes in figure_of(plot).axes:
        low, high = axes.get_xlim()
        boxes = [t.get_window_extent() for t in axes.get_xticklabels() if low <= t.get_position()[0] <= high]
        assert len(boxes) >= 3
        assert all(left.x1 < right.x0 for left, right in pairwise(boxes))


def test_one_validation_row_gives_a_check() -> None:
    check = check_values(0, np.array([1.0]), np.array([2.0]), "y", seed=0)
    assert math.isnan(check.explained)
    assert winner_plots(check)
    assert winner_sentences(check)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"kind": "ClassCheck"}', '{"kind": "ValueCheck", "trial": 1}'])
def test_a_file_that_is_no_check_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"no check|Expecting"):
        from_json(text)
