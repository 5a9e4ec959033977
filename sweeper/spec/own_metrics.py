"""A user's own metric: what its function says of predictions, and what is wrong with an answer that is no number."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from sweeper.spec.user_code import UserFunction

if TYPE_CHECKING:
    import numpy as np


class OwnMetric(UserFunction):
    """``function(y_true, y_pred) -> number``.

    Both arguments are numpy arrays ``(v,)`` of the validation rows: labels as they stand in the table for a
    classification, numbers in the target's own unit for a regression.
    """

    @property
    def name(self) -> str:
        """The metric's name: ``val_cost`` of a function ``cost``."""
        return f"val_{self.function}"


class OwnMetricError(ValueError):
    """A user's metric raised, or gave no finite number: the message names file, line and what happened."""


def call_metric(metric: OwnMetric, y_true: np.ndarray, y_pred: np.ndarray) -> float:
    """What the function says of predictions ``y_pred (v,)``, both as in ``OwnMetric``.

    Raises:
        OwnMetricError: the function raised, or gave no finite number.
    """
    try:
        value = metric(y_true, y_pred)
    except (Exception, SystemExit) as error:
        raise OwnMetricError(metric.happened(error)) from error
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        problem = f"{metric.function} returned {type(value).__name__} where a number is needed"
        raise OwnMetricError(f"{metric.file_name}: {problem}") from error
    if not math.isfinite(number):
        raise OwnMetricError(f"{metric.file_name}: {metric.function} returned {number}")
    return number
