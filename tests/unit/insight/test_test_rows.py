"""Scores of single test rows are those whose mean scikit-learn gives, weighted as the rows are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from sweeper.data.dataset import Dataset, load_dataset
from sweeper.insight.ensemble import beside_finalists
from sweeper.insight.test_rows import WinnerTest, evidence_on_test, row_scores, winner_test
from sweeper.spec.models import DatasetSpec, SplitSpec
from sweeper.spec.own_metrics import OwnMetric
from sweeper.training.scoring import Scoring


@pytest.fixture(scope="module")
def cancer() -> Dataset:
    return load_dataset(DatasetSpec(name="breast_cancer"), SplitSpec(), "standard")


@pytest.fixture(scope="module")
def diabetes() -> Dataset:
    return load_dataset(DatasetSpec(name="diabetes"), SplitSpec(), "standard")


def drawn(dataset: Dataset, seed: int = 0) -> np.ndarray:
    """Outputs of a network that nobody trained."""
    shape = (len(dataset.y_test), dataset.n_outputs)
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_the_mean_of_the_row_scores_is_scikit_learns_metric(cancer: Dataset, diabetes: Dataset) -> None:
    outputs = drawn(cancer)
    chances = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
    loss, accuracy = row_scores("loss", cancer, outputs), row_scores("accuracy", cancer, outputs)
    assert loss is not None
    assert accuracy is not None
    assert loss.mean() == pytest.approx(metrics.log_loss(cancer.y_test, chances), rel=1e-5)
    assert accuracy.mean() == pytest.approx(metrics.accuracy_score(cancer.y_test, outputs.argmax(axis=1)))
    values = drawn(diabetes)
    mae = row_scores("mae", diabetes, values)
    assert mae is not None
    truth = diabetes.y_test * diabetes.target_std + diabetes.target_mean
    said = values[:, 0] * diabetes.target_std + diabetes.target_mean
    assert mae.mean() == pytest.approx(metrics.mean_absolute_error(truth, said), rel=1e-5)
    assert row_scores("roc_auc", cancer, outputs) is None


@pytest.mark.parametrize("metric", ["roc_auc", "f1", "accuracy", "loss"])
def test_the_evidence_on_a_metric_is_about_its_value(cancer: Dataset, metric: str) -> None:
    weighted = replace(cancer, w_test=np.random.default_rng(1).uniform(0.5, 2.0, len(cancer.y_test)).astype(np.float32))
    outputs = [[drawn(cancer, 10 * k + s) for s in range(2)] for k in range(2)]
    evidence = evidence_on_test(metric, weighted, outputs)
    logits = outputs[1][0]
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    w, y = weighted.w_test, cancer.y_test
    expected = {
        "roc_auc": metrics.roc_auc_score(y, chances[:, 1], sample_weight=w),
        "f1": metrics.f1_score(y, logits.argmax(axis=1), sample_weight=w),
        "accuracy": metrics.accuracy_score(y, logits.argmax(axis=1), sample_weight=w),
        "loss": metrics.log_loss(y, chances, sample_weight=w),
    }
    assert evidence.values[1, 0] == pytest.approx(expected[metric], rel=1e-4)
    assert (np.diag(evidence.row_cov) > 0).all()


def test_the_winners_test_is_the_same_after_its_way_through_json(cancer: Dataset) -> None:
    tested = winner_test(3, cancer, drawn(cancer), {"loss": 0.7, "accuracy": 0.5, "f1": float("nan")}, ("accuracy",))
    assert tested.rows == len(cancer.y_test)
    assert set(tested.scores) == {"loss", "accuracy"}
    low, high = tested.intervals["accuracy"]
    assert 0.0 < low < high < 1.0
    assert WinnerTest.from_json(tested.to_json()) == tested


def test_the_evidence_on_a_function_of_ones_own_is_as_large_as_that_on_the_same_metric_by_name(cancer: Dataset) -> None:
    own = OwnMetric("own.py", "hits", "def hits(y_true, y_pred):\n    return (y_true == y_pred).mean()")
    scoring = Scoring("classification", (), (own,), cancer.class_labels, 0.0, 1.0)
    outputs = [[drawn(cancer, 10 * k + s) for s in range(3)] for k in range(2)]
    named, called = evidence_on_test("accuracy", cancer, outputs), evidence_on_test("hits", cancer, outputs, 0, scoring)
    np.testing.assert_allclose(called.values, named.values)
    np.testing.assert_allclose(np.diag(called.row_cov), np.diag(named.row_cov), rtol=0.5)
    assert called.seed_cov is not None


def test_an_ensemble_stands_beside_finalists_by_the_rows_that_both_see(cancer: Dataset) -> None:
    ensemble, alone = drawn(cancer), drawn(cancer, 1)
    same, other = beside_finalists("loss", cancer, ensemble, {7: [ensemble, ensemble], 4: [alone]})
    assert (same.trial, same.difference) == (7, 0.0)
    first, second = row_scores("loss", cancer, ensemble), row_scores("loss", cancer, alone)
    assert first is not None
    assert second is not None
    assert other.mean == pytest.approx(second.mean())
    bounds = stats.ttest_rel(first, second).confidence_interval()
    assert (other.low, other.high) == pytest.approx((bounds.low, bounds.high), rel=0.02)
