"""A user's own metric: which function of which file, with the text that it had when the sweep was made."""

from __future__ import annotations

import hashlib
import math
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class OwnMetric:
    """``function(y_true, y_pred) -> number`` in the file at the absolute path ``file``, which held ``text``.

    Both arguments are numpy arrays ``(v,)`` of the validation rows: labels as they stand in the table for a
    classification, numbers in the target's own unit for a regression.
    """

    file: str
    function: str
    text: str

    @property
    def name(self) -> str:
        """The metric's name: ``val_cost`` of a function ``cost``."""
        return f"val_{self.function}"

    @property
    def reference(self) -> str:
        """``file.py:function``, as a user writes it."""
        return f"{self.file}:{self.function}"

    @property
    def sha256(self) -> str:
        """The hash of the text."""
        return hashlib.sha256(self.text.encode("utf-8")).hexdigest()

    @property
    def changed(self) -> bool:
        """Whether the file says something else by now; a file that is gone does not."""
        try:
            with open(self.file, "rb") as stream:
                return hashlib.sha256(stream.read()).hexdigest() != self.sha256
        except OSError:
            return False


class OwnMetricError(ValueError):
    """A user's metric raised, or gave no finite number: the message names file, line and what happened."""


def call_metric(metric: OwnMetric, y_true: np.ndarray, y_pred: np.ndarray) -> float:
    """What the function says of predictions ``y_pred (v,)``, both as in ``OwnMetric``.

    Raises:
        OwnMetricError: the function raised, or gave no finite number.
    """
    try:
        value = _load(metric.file, metric.function, metric.text)(y_true, y_pred)
    except (Exception, SystemExit) as error:
        raise OwnMetricError(_what_happened(error, metric.file)) from error
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        problem = f"{metric.function} returned {type(value).__name__} where a number is needed"
        raise OwnMetricError(f"{os.path.basename(metric.file)}: {problem}") from error
    if not math.isfinite(number):
        raise OwnMetricError(f"{os.path.basename(metric.file)}: {metric.function} returned {number}")
    return number


@lru_cache(maxsize=32)
def _load(file: str, function: str, text: str) -> Callable[[np.ndarray, np.ndarray], Any]:
    """The function from the text, wherever this runs; where its folder is there, it may import its neighbours."""
    module = ModuleType(f"own_metrics_{hashlib.sha256(text.encode()).hexdigest()[:12]}")
    module.__file__ = file
    sys.modules[module.__name__] = module  # dataclasses and pickle look a class's module up by name
    sys.path.insert(0, os.path.dirname(file))
    try:
        exec(compile(text, file, "exec"), module.__dict__)  # noqa: S102 - the user's own code, named by the user
    finally:
        sys.path.remove(os.path.dirname(file))
    found: Callable[[np.ndarray, np.ndarray], Any] = module.__dict__[function]
    return found


def _what_happened(error: BaseException, file: str) -> str:
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    where = f", line {lines[-1]}" if lines else ""
    return f"{os.path.basename(file)}{where}: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
