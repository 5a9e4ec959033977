"""The standard error of a metric: as scipy has it for means, and as drawing the rows again has it for the others."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from sweeper.models.metrics import make_scorers
from sweeper.models.standard_errors import make_error

ROWS = 400


def test_of_means_it_is_scipys() -> None:
    rng = np.random.default_rng(0)
    outputs, y = rng.normal(size=(2, ROWS, 3)), rng.integers(0, 3, ROWS)
    log_p = outputs - np.log(np.exp(outputs).sum(axis=2, keepdims=True))
    expected = stats.sem(-log_p[:, np.arange(ROWS), y], axis=1)
    found = make_error("loss", "classification")
    assert found is not None
    np.testing.assert_allclose(found(torch.tensor(outputs), torch.tensor(y), None).numpy(), expected, rtol=1e-12)
    values, truth = rng.normal(size=(2, ROWS, 1)), rng.normal(size=ROWS)
    of_mae = make_error("mae", "regression", scale=3.0)
    assert of_mae is not None
    expected = 3.0 * stats.sem(np.abs(values[:, :, 0] - truth), axis=1)
    np.testing.assert_allclose(of_mae(torch.tensor(values), torch.tensor(truth), None).numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "task"),
    [("accuracy", "classification"), ("brier", "classification"), ("balanced_accuracy", "classification"),
     ("f1_macro", "classification"), ("roc_auc", "classification"), ("rmse", "regression"), ("r2", "regression")],
)  # fmt: skip
def test_of_others_it_is_about_that_of_rows_drawn_again(name, task) -> None:
    rng = np.random.default_rng(1)
    if task == "classification":
        y = rng.integers(0, 2, ROWS)
        outputs = rng.normal(size=(1, ROWS, 2)) + 1.2 * np.eye(2)[y]
    else:
        y = rng.normal(size=ROWS)
        outputs = (y + 0.5 * rng.normal(size=ROWS))[None, :, None]
    made, target = torch.tensor(outputs), torch.tensor(y)
    scorer, error = make_scorers([name], task, 0.0, 2.0)[name], make_error(name, task, 2.0)
    assert error is not None
    drawn = [
        float(scorer(made, target, torch.tensor(rng.multinomial(ROWS, np.full(ROWS, 1 / ROWS)).astype(float))))
        for _ in range(150)
    ]
    assert float(error(made, target, None)) == pytest.approx(np.std(drawn), rel=0.3)


def test_a_perfect_share_has_an_error_and_a_median_none_that_is_known() -> None:
    y = torch.tensor([0, 1] * 20)
    error = make_error("accuracy", "classification")
    assert error is not None
    assert float(error(10.0 * torch.nn.functional.one_hot(y)[None].double(), y, None)) > 0.02
    assert make_error("median_absolute_error", "regression") is None
