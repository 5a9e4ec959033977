"""How far chance may move the value of a sweep's best trial, from the rows that validate it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sweeper.models.metric_names import STANDARD_ERROR, plain
from sweeper.records import SweepRecord
from sweeper.spec.goals import values_of_folds

if TYPE_CHECKING:
    import torch

    from sweeper.data.dataset import Dataset
    from sweeper.spec.parse import SweepSpec

SUMMARY = "noise"  # the key in a sweep's summary


def noise_of(metrics: Mapping[str, float]) -> float:
    """How far chance may move a trial's objective: its standard error on the rows that validate.

    Of k folds with values of variance s^2 it is sqrt((1/k + 1/(k-1)) s^2), since they share training rows (Nadeau and
    Bengio 2003, Inference for the generalization error). 0: nothing is known.
    """
    folds = [value for value in values_of_folds(metrics) if value is not None]
    if len(folds) > 1:
        return _of_folds(folds)
    found = metrics.get(STANDARD_ERROR, 0.0)
    return found if math.isfinite(found) else 0.0


def noise_on(spec: SweepSpec, dataset: Dataset, validation: torch.Tensor) -> float:
    """The same of a model whose networks say ``validation (v, C)`` of the rows that validate; 0: it is not known."""
    import torch

    from sweeper.models.standard_errors import make_error

    goal, rows = spec.objective.metric, dataset.averaged()
    known = goal.startswith("val_") and goal not in spec.own_names
    error = make_error(plain(goal), rows.task, rows.target_std) if known else None
    if error is None:
        return 0.0
    weights = None if rows.w_val is None else torch.tensor(rows.w_val)
    found = float(error(validation[None], torch.tensor(rows.y_val), weights)[0])
    return found if math.isfinite(found) else 0.0


def noise_in(record: SweepRecord) -> float:
    """The noise of the best value as the end of the sweep has kept it; 0: it has not, or nothing was known."""
    return float(record.summary.get(SUMMARY, 0.0))


def _of_folds(values: Sequence[float]) -> float:
    count, mean = len(values), math.fsum(values) / len(values)
    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    return math.sqrt((1 / count + 1 / (count - 1)) * variance)
