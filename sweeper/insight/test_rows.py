"""What networks score on the test rows, row by row where the metric is a mean, and how sure that is on new rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sweeper.insight.certainty import half_width
from sweeper.insight.evidence import Evidence, Scale, evidence_of_folds, evidence_of_means, evidence_of_metric
from sweeper.models.metric_names import LARGER_IS_BETTER, OF_TASK
from sweeper.records import SweepRecord
from sweeper.spec.own_metrics import OwnMetric, OwnMetricError, call_metric

if TYPE_CHECKING:
    from sweeper.data.dataset import Dataset
    from sweeper.models.config import Task
    from sweeper.training.scoring import Scoring

Array = NDArray[np.float64]
Outputs = NDArray[np.float32]  # (t, C) of one network on the test rows: logits, or the value on the dataset's scale
SUMMARY = "test"  # the key in a sweep's summary
SHARE = "accuracy"
OWN_DRAWS = 100  # of rows, each of which calls a function of the user's own for every network


@dataclass(frozen=True)
class WinnerTest:
    """The kept model on ``rows`` test rows. ``scores`` by plain metric name; ``intervals`` of some, for new rows."""

    trial: int
    rows: int
    scores: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]

    def to_json(self) -> dict[str, Any]:
        """The record as JSON data."""
        intervals = {name: list(bounds) for name, bounds in self.intervals.items()}
        return {"trial": self.trial, "rows": self.rows, "scores": dict(self.scores), "intervals": intervals}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> WinnerTest:
        """The record that ``to_json`` wrote."""
        intervals = {name: (float(low), float(high)) for name, (low, high) in data["intervals"].items()}
        return cls(data["trial"], data["rows"], dict(data["scores"]), intervals)


def read_test(record: SweepRecord) -> WinnerTest | None:
    """How the kept model does on the test rows, once that was measured."""
    data = record.summary.get(SUMMARY)
    return WinnerTest.from_json(data) if data else None


def row_scores(metric: str, dataset: Dataset, outputs: Outputs) -> Array | None:
    """(t,) what a network scores on each test row, where the metric (by plain name) is a mean over rows; else None."""
    from scipy.special import log_softmax

    made, y = outputs.astype(np.float64), dataset.y_test
    if dataset.task == "classification":
        if metric in ("loss", "log_loss"):
            return np.asarray(-log_softmax(made, axis=1)[np.arange(len(y)), y])
        return np.asarray(made.argmax(axis=1) == y, dtype=np.float64) if metric == SHARE else None
    errors = made[:, 0] - y.astype(np.float64)
    if metric == "loss":
        return np.asarray(errors**2)
    return np.asarray(np.abs(errors) * dataset.target_std) if metric == "mae" else None


def evidence_on_test(
    metric: str, dataset: Dataset, outputs: Sequence[Sequence[Outputs]], seed: int = 0, scoring: Scoring | None = None
) -> Evidence:
    """The evidence on a metric by plain name; ``outputs`` are those of K finalists on S seeds each.

    A metric of the user's own is known to ``scoring``.
    """
    own = None if scoring is None else scoring.own_metric(metric)
    if scoring is not None and own is not None:
        return _by_drawing_for(own, scoring, dataset, outputs, seed)
    if row_scores(metric, dataset, outputs[0][0]) is None:
        return _by_drawing(metric, dataset, outputs, seed)
    scores = [np.stack([_known(row_scores(metric, dataset, one)) for one in each]) for each in outputs]
    return evidence_of_means(scores, dataset.w_test, scale_of(metric))


def evidence_in_folds(values: Array, metric: str, task: Task, folds: int) -> Evidence:
    """The evidence of ``values`` (K, J), a metric by plain name on the rows that each of k ``folds`` leaves out."""
    scale: Scale = "positive" if metric in OF_TASK[task] and scale_of(metric) == "positive" else "plain"
    return evidence_of_folds(values, 1 / folds, scale)


def winner_test(
    trial: int,
    dataset: Dataset,
    outputs: Outputs,
    scores: Mapping[str, float],
    intervals: Sequence[str],
    seed: int = 0,
    scoring: Scoring | None = None,
) -> WinnerTest:
    """The record of one network with these ``scores``, with intervals for new rows of the metrics named."""
    found = {}
    for name in intervals:
        evidence = evidence_on_test(name, dataset, [[outputs]], seed, scoring)
        estimate = evidence.of_one(0)
        half = half_width(estimate)
        if math.isfinite(half):
            found[name] = evidence.bounds(estimate, half)
    finite = {name: value for name, value in scores.items() if math.isfinite(value)}
    return WinnerTest(trial, len(dataset.y_test), finite, found)


@dataclass(frozen=True)
class RowDifference:
    """The first network's score less the second's on common test rows, and its 95% interval for new rows."""

    value: float
    low: float
    high: float


def difference_between(metric: str, dataset: Dataset, first: Outputs, second: Outputs) -> RowDifference:
    """Two single networks compared row by row, in a metric by plain name."""
    estimate = evidence_on_test(metric, dataset, [[first], [second]]).of_pair(0, 1)
    half = half_width(estimate)
    return RowDifference(estimate.value, estimate.value - half, estimate.value + half)


def scale_of(metric: str) -> Scale:
    """What values a metric can have, by plain name."""
    return "share" if metric == SHARE else "score" if metric in LARGER_IS_BETTER else "positive"


def _known(scores: Array | None) -> Array:
    if scores is None:
        raise ValueError("the metric is no mean over rows")
    return scores


def _by_drawing_for(
    metric: OwnMetric, scoring: Scoring, dataset: Dataset, outputs: Sequence[Sequence[Outputs]], seed: int
) -> Evidence:
    """Of a user's own function, which is called for every network and draw of rows. It knows no weights of rows."""
    import torch

    y = torch.tensor(dataset.y_test)
    made = [scoring.in_own_terms(torch.tensor(one), y) for each in outputs for one in each]

    def score(counts: Array) -> Array:
        drawn = np.repeat(np.arange(len(y)), counts.astype(np.int64))
        values = [_called(metric, truth[drawn], predicted[drawn]) for truth, predicted in made]
        return np.reshape(values, (len(outputs), -1))

    return evidence_of_metric(score, len(y), None, "plain", seed, OWN_DRAWS)


def _called(metric: OwnMetric, truth: NDArray[Any], predicted: NDArray[Any]) -> float:
    """NaN where the function fails, as on rows drawn without one of the classes."""
    try:
        return call_metric(metric, truth, predicted)
    except OwnMetricError:
        return math.nan


def _by_drawing(metric: str, dataset: Dataset, outputs: Sequence[Sequence[Outputs]], seed: int) -> Evidence:
    import torch

    from sweeper.models.metrics import make_scorers

    scorer = make_scorers([metric], dataset.task, dataset.target_mean, dataset.target_std)[metric]
    made = torch.tensor(np.stack([one for each in outputs for one in each]))  # (K * S, t, C)
    y = torch.tensor(dataset.y_test)

    def score(weights: Array) -> Array:
        return scorer(made, y, torch.tensor(weights)).numpy().reshape(len(outputs), -1)

    return evidence_of_metric(score, len(y), dataset.w_test, scale_of(metric), seed)
