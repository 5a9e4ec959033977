"""The metrics by name: the task each belongs to and the direction in which it gets better. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

from sweeper.models.config import Task


@dataclass(frozen=True)
class Metric:
    """``larger``: larger is better. ``binary``: it needs a target of two classes. ``mean``: it is a mean over rows."""

    name: str
    task: Task
    larger: bool
    binary: bool = False
    mean: bool = False


_ALL = (
    Metric("loss", "classification", larger=False, mean=True),
    Metric("accuracy", "classification", larger=True, mean=True),
    Metric("roc_auc", "classification", larger=True),
    Metric("average_precision", "classification", larger=True),
    Metric("f1", "classification", larger=True, binary=True),
    Metric("f1_macro", "classification", larger=True),
    Metric("balanced_accuracy", "classification", larger=True),
    Metric("mcc", "classification", larger=True),
    Metric("brier", "classification", larger=False, mean=True),
    Metric("log_loss", "classification", larger=False, mean=True),
    Metric("loss", "regression", larger=False, mean=True),
    Metric("rmse", "regression", larger=False),
    Metric("mae", "regression", larger=False, mean=True),
    Metric("median_absolute_error", "regression", larger=False),
    Metric("r2", "regression", larger=True),
    Metric("mape", "regression", larger=False, mean=True),
)
OF_TASK: dict[Task, dict[str, Metric]] = {"classification": {}, "regression": {}}
for _metric in _ALL:
    OF_TASK[_metric.task][_metric.name] = _metric
LARGER_IS_BETTER = frozenset(metric.name for metric in _ALL if metric.larger)
STANDARD_ERROR = "standard_error"  # of the objective on the validation rows, where a sweep measures it
TRAINED = ("loss", "accuracy", "rmse")  # what training itself measures on the validation rows, after every epoch


def plain(name: str) -> str:
    """A metric's name without the rows that it is about: ``roc_auc`` of ``val_roc_auc`` and ``test_roc_auc``."""
    for rows in ("val_", "test_", "train_"):
        if name.startswith(rows):
            return name.removeprefix(rows)
    return name


def larger_is_better(name: str) -> bool:
    """Whether a metric, with or without ``val_``, ``test_`` or ``train_``, gets better as it grows."""
    return plain(name) in LARGER_IS_BETTER
