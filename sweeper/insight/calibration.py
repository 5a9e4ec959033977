"""The temperature by which a classifier's outputs are divided where its probabilities are too sure, or not enough.

Names of dimensions: n rows, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sweeper.records import SweepRecord
from sweeper.text import number

Array = NDArray[np.float64]
SUMMARY = "calibration"  # the record's key in a sweep's summary
LEAST_ROWS = 200  # of validation, that one number can be fitted on
COLDEST, HOTTEST = 0.05, 20.0
CHANCE = 0.001  # of a gain like that where the probabilities hold
BINS = 10


@dataclass(frozen=True)
class Fit:
    """How well probabilities fit some rows: the mean ``loss``, and the ``error``.

    That is the expected calibration error, the mean distance of confidence and accuracy over ten bins of confidence.
    """

    loss: float
    error: float


@dataclass(frozen=True)
class Calibration:
    """The ``temperature`` of the kept model, fitted on ``rows`` validation rows; how it fits them and the test."""

    temperature: float
    rows: int
    validation_before: Fit
    validation_after: Fit
    test_before: Fit
    test_after: Fit

    def to_json(self) -> dict[str, Any]:
        """The record as JSON data, with the sentence for those who read it there."""
        return {**asdict(self), "sentence": self.sentence}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Calibration:
        """The record that ``to_json`` wrote."""
        fits = {name: Fit(**value) for name, value in data.items() if name.endswith(("_before", "_after"))}
        return cls(temperature=data["temperature"], rows=data["rows"], **fits)

    @property
    def sentence(self) -> str:
        """What was done, and what it is worth."""
        sure = "too sure of itself" if self.temperature > 1 else "not sure enough of itself"
        text = (
            f"The model was {sure}, so its outputs are divided by {number(self.temperature, 3)} (temperature scaling, "
        )
        text += f"fitted on {self.rows:,} validation rows): "
        fits = (
            ("validation", self.validation_before, self.validation_after),
            ("test", self.test_before, self.test_after),
        )
        parts = [
            f"on the {rows} rows the loss goes from {number(before.loss)} to {number(after.loss)} and the calibration "
            f"error from {number(before.error, 2)} to {number(after.error, 2)}"
            for rows, before, after in fits
        ]
        return f"{text}{', '.join(parts)}."


def read_calibration(record: SweepRecord) -> Calibration | None:
    """The calibration in a sweep's summary, if its model needed any."""
    data = record.summary.get(SUMMARY)
    return None if data is None else Calibration.from_json(data)


def fit_temperature(logits: Array, y: NDArray[np.int64], w: Array | None = None) -> float | None:
    """The temperature T at which softmax(logits / T) has the lowest loss (Guo and others 2017); None: leave it at 1.

    ``logits (n, C)``, classes ``y (n,)``, weights of rows ``w (n,)``. It stays at 1 on fewer than ``LEAST_ROWS`` rows,
    and where chance explains the gain: twice the gain in log likelihood is a chi square with one degree of freedom
    where the probabilities hold as they are (Wilks 1938).
    """
    from scipy.optimize import minimize_scalar
    from scipy.stats import chi2

    if len(y) < LEAST_ROWS:
        return None
    own = np.ones(len(y)) if w is None else np.asarray(w, dtype=np.float64) / np.mean(w)
    found = minimize_scalar(
        lambda log: float(np.mean(own * _losses(logits / math.exp(log), y))),
        bounds=(math.log(COLDEST), math.log(HOTTEST)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    temperature = math.exp(found.x)
    gain = float(np.sum(own * (_losses(logits, y) - _losses(logits / temperature, y))))
    return temperature if chi2.sf(2.0 * gain, 1) < CHANCE else None


def fit_of(logits: Array, y: NDArray[np.int64], w: Array | None = None) -> Fit:
    """How well the probabilities of ``logits (n, C)`` fit classes ``y (n,)`` with weights ``w (n,)``."""
    from scipy.special import softmax

    own = np.ones(len(y)) if w is None else np.asarray(w, dtype=np.float64)
    own = own / own.sum()
    chances = softmax(logits, axis=1)
    confidence, right = chances.max(axis=1), chances.argmax(axis=1) == y
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    apart = np.bincount(bins, own * (confidence - right), BINS)
    return Fit(float(own @ _losses(logits, y)), float(np.abs(apart).sum()))


def _losses(logits: Array, y: NDArray[np.int64]) -> Array:
    from scipy.special import log_softmax

    return np.asarray(-log_softmax(logits, axis=1)[np.arange(len(y)), y])
