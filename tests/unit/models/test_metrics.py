"""Metrics of a cohort's outputs, each compared with scikit-learn's."""

import warnings

import numpy as np
import pytest
import sklearn.metrics as sk
import torch

from sweeper.models.metric_names import OF_TASK, larger_is_better
from sweeper.models.metrics import make_scorers

ROWS, EXAMPLES = 4, 120
CLASS_NAMES, VALUE_NAMES = list(OF_TASK["classification"]), list(OF_TASK["regression"])


def logits(classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Outputs ``(A, v, C)`` with many equal scores, and targets ``(v,)``."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, EXAMPLES)
    outputs = rng.normal(size=(ROWS, EXAMPLES, classes)) + 1.5 * np.eye(classes)[y] * np.arange(ROWS)[:, None, None]
    return np.round(outputs), y


def expected(name: str, p: np.ndarray, y: np.ndarray, w: np.ndarray | None) -> float:
    """scikit-learn's value for probabilities ``p (v, C)``."""
    classes, predicted = p.shape[1], p.argmax(axis=1)
    score = p[:, 1] if classes == 2 else p
    weight = {"sample_weight": w}
    scores = {
        "loss": lambda: sk.log_loss(y, p, labels=range(classes), **weight),
        "log_loss": lambda: sk.log_loss(y, p, labels=range(classes), **weight),
        "accuracy": lambda: sk.accuracy_score(y, predicted, **weight),
        "roc_auc": lambda: sk.roc_auc_score(y, score, multi_class="ovr", **weight),
        "average_precision": lambda: sk.average_precision_score(y, score, **weight),
        "f1": lambda: sk.f1_score(y, predicted, zero_division=0, **weight),
        "f1_macro": lambda: sk.f1_score(y, predicted, average="macro", **weight),
        "balanced_accuracy": lambda: sk.balanced_accuracy_score(y, predicted, **weight),
        "mcc": lambda: sk.matthews_corrcoef(y, predicted, **weight),
        "brier": lambda: sk.brier_score_loss(y, p, labels=range(classes), **weight),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(scores[name]())


def scores(name: str, outputs: np.ndarray, y: np.ndarray, w: np.ndarray | None) -> list[float]:
    """Our values of every row."""
    [scorer] = make_scorers([name], "classification").values()
    return scorer(torch.tensor(outputs), torch.tensor(y), None if w is None else torch.tensor(w)).tolist()


def softmax(outputs: np.ndarray) -> np.ndarray:
    """Probabilities of logits."""
    return torch.softmax(torch.tensor(outputs), dim=-1).numpy()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("name", CLASS_NAMES)
def test_a_metric_of_classes_is_scikit_learns_for_every_row_with_equal_scores_and_weights(name, classes, weighted):
    if name == "f1" and classes > 2:
        pytest.skip("F1 of one class needs two classes")
    outputs, y = logits(classes)
    w = np.random.default_rng(1).uniform(0.1, 3.0, EXAMPLES) if weighted else None

    found = scores(name, outputs, y, w)

    assert found == pytest.approx([expected(name, softmax(row), y, w) for row in outputs], rel=1e-12)


@pytest.mark.parametrize("name", [n for n in CLASS_NAMES if n not in ("f1", "roc_auc", "average_precision")])
def test_a_class_without_an_example_counts_as_in_scikit_learn(name):
    outputs, y = logits(4)
    y = np.where(y == 2, 1, y)

    found = scores(name, outputs, y, None)

    assert found == pytest.approx([expected(name, softmax(row), y, None) for row in outputs], rel=1e-12)


@pytest.mark.parametrize("name", ["roc_auc", "average_precision"])
def test_a_class_without_an_example_is_left_out_of_a_mean_of_one_against_the_rest(name):
    outputs, y = logits(4)
    y = np.where(y == 2, 1, y)
    binary = {"roc_auc": sk.roc_auc_score, "average_precision": sk.average_precision_score}[name]

    found = scores(name, outputs, y, None)

    each = [[binary(y == c, softmax(row)[:, c]) for c in (0, 1, 3)] for row in outputs]
    assert found == pytest.approx(np.mean(each, axis=1).tolist(), rel=1e-12)


def test_examples_of_one_class_have_no_area_under_the_curve_and_a_constant_prediction_no_correlation():
    outputs, y = logits(2)

    assert np.isnan(scores("roc_auc", outputs, np.zeros_like(y), None)).all()
    assert scores("mcc", np.zeros_like(outputs), y, None) == [0.0] * ROWS
    assert scores("f1", np.zeros_like(outputs) + np.array([1.0, 0.0]), np.zeros_like(y), None) == [0.0] * ROWS


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("examples", [EXAMPLES, EXAMPLES + 1])
@pytest.mark.parametrize("name", VALUE_NAMES)
def test_a_metric_of_values_is_scikit_learns_in_the_targets_own_unit(name, examples, weighted):
    rng = np.random.default_rng(2)
    y, outputs = rng.normal(size=examples), rng.normal(size=(ROWS, examples, 1))
    w = rng.uniform(0.1, 3.0, examples) if weighted else None
    offset, scale = 150.0, 70.0
    reference = {
        "loss": lambda t, p: sk.mean_squared_error(t, p, sample_weight=w) / scale**2,
        "rmse": lambda t, p: sk.root_mean_squared_error(t, p, sample_weight=w),
        "mae": lambda t, p: sk.mean_absolute_error(t, p, sample_weight=w),
        "median_absolute_error": lambda t, p: sk.median_absolute_error(t, p, sample_weight=w),
        "r2": lambda t, p: sk.r2_score(t, p, sample_weight=w),
        "mape": lambda t, p: sk.mean_absolute_percentage_error(t, p, sample_weight=w),
    }[name]

    [scorer] = make_scorers([name], "regression", offset, scale).values()
    found = scorer(torch.tensor(outputs), torch.tensor(y), None if w is None else torch.tensor(w)).tolist()

    wanted = [reference(y * scale + offset, row[:, 0] * scale + offset) for row in outputs]
    assert found == pytest.approx(wanted, rel=1e-10)


def test_equal_weights_halve_at_two_errors_as_no_weights_do():
    [scorer] = make_scorers(["median_absolute_error"], "regression").values()
    outputs, y = torch.tensor([[[1.0], [2.0], [4.0], [8.0]]]), torch.zeros(4)

    assert scorer(outputs, y, torch.full((4,), 0.1)).tolist() == pytest.approx([3.0])


def test_a_target_that_does_not_vary_has_an_r2_as_in_scikit_learn():
    [scorer] = make_scorers(["r2"], "regression").values()
    y = torch.full((5,), 3.0)

    assert scorer(torch.stack([y, y + 1])[:, :, None], y, None).tolist() == [1.0, 0.0]


@pytest.mark.parametrize(("task", "name"), [(t, n) for t, names in OF_TASK.items() for n in names])
def test_a_row_that_broke_scores_nan_and_touches_no_other_row(task, name):
    outputs, y = logits(2)
    targets = torch.tensor(y) if task == "classification" else torch.tensor(y).double()
    outputs = torch.tensor(outputs if task == "classification" else outputs[:, :, :1])
    [scorer] = make_scorers([name], task).values()
    whole = scorer(outputs, targets, None)
    broken = outputs.clone()
    broken[1, 3] = torch.nan

    found = scorer(broken, targets, None)

    assert found[1].isnan()
    assert found[[0, 2, 3]].tolist() == whole[[0, 2, 3]].tolist()


def test_a_task_without_the_metric_says_which_it_has():
    with pytest.raises(ValueError, match="a regression has no roc_auc: it has loss, rmse, mae"):
        make_scorers(["roc_auc"], "regression")


@pytest.mark.parametrize(
    ("name", "larger"), [("val_roc_auc", True), ("test_r2", True), ("mcc", True), ("val_mae", False), ("loss", False)]
)
def test_the_direction_of_a_metric_does_not_depend_on_the_rows_it_is_about(name, larger):
    assert larger_is_better(name) is larger
