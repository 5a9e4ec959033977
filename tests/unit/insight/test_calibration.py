"""Temperatures: the right one is found, and none where nothing speaks for one."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.special import log_softmax, softmax
from sklearn.metrics import log_loss

from sweeper.insight.calibration import Calibration, fit_of, fit_temperature


def drawn(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits that say the truth about their classes."""
    random = np.random.default_rng(seed)
    logits = 2.0 * random.standard_normal((rows, 3))
    return logits, np.array([random.choice(3, p=row) for row in softmax(logits, axis=1)])


@pytest.mark.parametrize("temperature", [0.4, 2.5])
def test_logits_that_are_too_large_or_too_small_get_their_temperature_back(temperature: float) -> None:
    logits, y = drawn(4000)
    found = fit_temperature(logits * temperature, y)
    assert found == pytest.approx(temperature, rel=0.1)
    before, after = fit_of(logits * temperature, y), fit_of(logits * temperature / found, y)
    assert before.loss == pytest.approx(log_loss(y, softmax(logits * temperature, axis=1)))
    assert after.loss < before.loss
    assert after.error < before.error / 2


def test_probabilities_that_hold_are_left_alone_in_nearly_every_sample_and_few_rows_fit_nothing() -> None:
    changed = [fit_temperature(*drawn(300, seed)) is not None for seed in range(100)]
    assert sum(changed) <= 1
    logits, y = drawn(150)
    assert fit_temperature(logits * 4, y) is None


def test_a_row_of_weight_two_counts_as_two_rows() -> None:
    logits, y = drawn(400)
    w = np.where(np.arange(400) < 100, 2.0, 1.0)
    twice = np.r_[np.arange(400), np.arange(100)]
    assert fit_temperature(3 * logits, y, w) == pytest.approx(fit_temperature(3 * logits[twice], y[twice]), rel=1e-3)
    weighted, repeated = fit_of(logits, y, w), fit_of(logits[twice], y[twice])
    assert (weighted.loss, weighted.error) == pytest.approx((repeated.loss, repeated.error))
    assert fit_of(log_softmax(logits, axis=1), y).loss == pytest.approx(fit_of(logits, y).loss)


def test_the_record_survives_json_and_says_what_was_done() -> None:
    logits, y = drawn(300)
    fits = [fit_of(scale * logits, y) for scale in (3.0, 1.0, 3.0, 1.0)]
    record = Calibration(3.0, 300, *fits)
    assert Calibration.from_json(json.loads(json.dumps(record.to_json()))) == record
    assert record.sentence.startswith("The model was too sure of itself, so its outputs are divided by 3 ")
