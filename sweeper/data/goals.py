"""Checks what a sweep is judged by against its data, before anything is trained."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from sweeper.errors import SpecError, nearest
from sweeper.models.metric_names import OF_TASK, plain
from sweeper.spec.goals import places_of
from sweeper.spec.own_metrics import OwnMetricError, call_metric
from sweeper.text import listed

if TYPE_CHECKING:
    from sweeper.data.dataset import Dataset
    from sweeper.data.rows import Rows
    from sweeper.spec.parse import SweepSpec

NEED_BOTH = ("roc_auc", "average_precision")  # not defined where all rows are of one class


def check_goals(spec: SweepSpec, dataset: Dataset) -> None:
    """Refuse metrics that the task does not have or these rows do not define, and metrics of the user's own that fail.

    Raises:
        SpecError: with the key of the objective, constraint or metric.
    """
    spec.check_task(dataset.task, dataset.task_reason)
    judged: tuple[Rows, ...] = dataset.folds or (dataset,)
    for key, name in places_of(spec.objectives, spec.constraints):
        metric = OF_TASK[dataset.task].get(plain(name))
        if metric is None or not name.startswith("val_"):
            continue
        if metric.binary and dataset.n_outputs != 2:
            problem = f"{name} needs a target of two classes, and this one has {dataset.n_outputs}"
            raise SpecError(problem, key=key, remedy=f"Use {name}_macro")
        if metric.name in NEED_BOTH and any(len(np.unique(rows.y_val)) < 2 for rows in judged):
            problem = f"{name} is not defined, since validation rows are all of one class"
            raise SpecError(problem, key=key, remedy="Hold out more rows for validation")
        if metric.name == "mape" and any(_near_zero(dataset, rows.y_val) for rows in judged):
            problem = f"{name} divides by the target, which is 0 in a validation row"
            raise SpecError(problem, key=key, remedy="Use val_mae or val_median_absolute_error")
    _check_own(spec, dataset, judged[0])


def _check_own(spec: SweepSpec, dataset: Dataset, rows: Rows) -> None:
    """Call every metric of the user's own once, with targets as predictions that belong to other rows."""
    for i, metric in enumerate(spec.metrics):
        key = f"metrics.{i}"
        if metric.changed:
            problem = f"{os.path.basename(metric.file)} has changed since this sweep was made"
            raise SpecError(problem, key=key, remedy="Restore the file, or start a new sweep")
        truth = in_own_terms(dataset, rows.y_val)
        try:
            call_metric(metric, truth, np.roll(truth, 1))
        except OwnMetricError as error:
            remedy = f"Write def {metric.function}(y_true, y_pred) that returns a finite number"
            raise SpecError(str(error), key=key, remedy=remedy) from error


def in_own_terms(dataset: Dataset, y: np.ndarray) -> np.ndarray:
    """Targets as the table has them: labels, or float64 numbers in their own unit."""
    if dataset.class_labels is not None:
        return np.array(dataset.class_labels)[y]
    return y.astype(np.float64) * dataset.target_std + dataset.target_mean


def with_class_weights(spec: SweepSpec, dataset: Dataset) -> Dataset:
    """The dataset whose training rows count as ``training.class_weights`` says, times what they counted before.

    ``balanced`` is scikit-learn's: n / (classes * rows of the class).

    Raises:
        SpecError: the target has no classes, or a label that is weighted is none of them.
    """
    wanted = spec.training.class_weights
    if wanted is None:
        return dataset
    key, labels = "training.class_weights", dataset.class_labels
    if labels is None:
        problem = f"a regression has no classes{f' ({dataset.task_reason})' if dataset.task_reason else ''}"
        raise SpecError(problem, key=key, remedy="Set dataset.task: classification, or remove it")
    names = [str(label) for label in labels]
    factors = np.ones(len(labels))
    if isinstance(wanted, str):
        counts = np.bincount(dataset.y_train, weights=dataset.w_train, minlength=len(labels))
        factors = counts.sum() / (len(labels) * counts)
    else:
        for name, weight in wanted.items():
            if name not in names:
                remedy = nearest(name, names) if len(names) <= 20 else f"The classes are {listed(names)}"
                raise SpecError(f"the target has no class {name!r}", key=key, remedy=remedy)
            factors[names.index(name)] = weight

    def weighted(rows: Rows) -> np.ndarray:
        before = 1.0 if rows.w_train is None else rows.w_train
        made = (factors[rows.y_train] * before).astype(np.float32)
        made.setflags(write=False)
        return made

    folds = tuple(replace(fold, w_train=weighted(fold)) for fold in dataset.folds)
    return replace(dataset, w_train=weighted(dataset), folds=folds)


def _near_zero(dataset: Dataset, y: np.ndarray) -> bool:
    """Whether a standardised target stands for 0, as far as float32 can tell."""
    return bool((np.abs(y * dataset.target_std + dataset.target_mean) < 1e-6 * dataset.target_std).any())
