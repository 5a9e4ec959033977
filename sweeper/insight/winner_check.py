"""How a winner's predictions on the validation rows compare with the truth: confusion and calibration, or residuals."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sweeper.insight.certainty import Interval, mean_interval

if TYPE_CHECKING:
    import torch

    from sweeper.data.dataset import Dataset

Array = NDArray[np.float64]
BINS = 10
DRAWS = 400  # of outcomes that a calibrated model could have had
MAX_CLASSES = 20  # in a confusion matrix; the others are one class of their own
MAX_POINTS = 1000  # of a scatter
OTHERS = "(others)"


@dataclass(frozen=True)
class Bin:
    """Rows of similar confidence: the mean of it, and the share that was predicted right."""

    rows: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class ClassCheck:
    """A classifier on ``rows`` rows. ``confusion`` counts rows by true class, then by predicted class.

    ``calibration_error`` is the expected calibration error (Guo et al. 2017, On Calibration of Modern Neural
    Networks): the mean over rows of |accuracy - confidence| of their bin. ``calibrated`` is what a perfectly calibrated
    model stays below in 95% of samples of this size.
    """

    trial: int
    rows: int
    classes: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    right: int
    bins: tuple[Bin, ...]
    confidence: float
    calibration_error: float
    calibrated: float


@dataclass(frozen=True)
class ValueCheck:
    """A regression on ``rows`` rows, in the target's unit. ``points`` are (truth, prediction), a sample of the rows.

    ``bias`` is the mean of prediction - truth; ``growth`` is the rank correlation of the error's size with the
    prediction, ``growth_p`` its p value.
    """

    trial: int
    rows: int
    target: str
    points: tuple[tuple[float, float], ...]
    rmse: float
    mae: float
    explained: float
    bias: float
    bias_interval: Interval
    growth: float
    growth_p: float


Check = ClassCheck | ValueCheck


def check_winner(dataset: Dataset, trial: int, validation: torch.Tensor, seed: int = 0) -> Check:
    """Compare predictions on the validation rows, of all folds, with the truth; the test rows are not touched.

    ``validation (v, C)`` is what the networks say of them.
    """
    outputs: Array = validation.double().numpy()
    y = np.concatenate([part.y_val for part in dataset.folds or (dataset,)])
    if dataset.class_names is not None:
        return check_classes(trial, outputs, y, dataset.class_names, seed)
    truth = y.astype(np.float64) * dataset.target_std + dataset.target_mean
    predicted = outputs[:, 0] * dataset.target_std + dataset.target_mean
    return check_values(trial, predicted, truth, dataset.target_name, seed)


def to_json(check: Check) -> str:
    """The check as text that ``from_json`` reads."""
    return json.dumps({"kind": type(check).__name__, **asdict(check)})


def from_json(text: str) -> Check:
    """The check that ``to_json`` wrote.

    Raises:
        ValueError: the text is something else.
    """
    try:
        data = json.loads(text)
        kind = data.pop("kind")
        if kind == ClassCheck.__name__:
            data["bins"] = tuple(Bin(**b) for b in data["bins"])
            data["confusion"] = tuple(map(tuple, data["confusion"]))
            return ClassCheck(**{**data, "classes": tuple(data["classes"])})
        data["bias_interval"] = Interval(**data["bias_interval"])
        return ValueCheck(**{**data, "points": tuple((float(t), float(p)) for t, p in data["points"])})
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"this is no check of a winner: {error}") from error


def check_classes(trial: int, logits: Array, y: NDArray[np.int64], names: tuple[str, ...], seed: int) -> ClassCheck:
    """A classifier's ``logits (v, C)`` against the true classes ``y (v,)``."""
    from scipy.special import softmax
    from sklearn.metrics import confusion_matrix

    chances = softmax(logits, axis=1)
    guessed, confidence = chances.argmax(axis=1), chances.max(axis=1)
    right = guessed == y
    counts, classes = _gathered(confusion_matrix(y, guessed, labels=range(len(names))), names)
    where = np.minimum((confidence * BINS).astype(int), BINS - 1)  # (v,)
    rows = np.bincount(where, minlength=BINS)
    said = np.bincount(where, confidence, BINS)
    hits = np.bincount(where, right, BINS)
    bins = tuple(Bin(int(n), float(s / n), float(h / n)) for n, s, h in zip(rows, said, hits, strict=True) if n)
    rng = np.random.default_rng(seed)
    drawn = [np.bincount(where, rng.random(len(y)) < confidence, BINS) for _ in range(DRAWS)]
    return ClassCheck(
        trial=trial,
        rows=len(y),
        classes=classes,
        confusion=counts,
        right=int(right.sum()),
        bins=bins,
        confidence=float(confidence.mean()),
        calibration_error=float(np.abs(hits - said).sum() / len(y)),
        calibrated=float(np.quantile([np.abs(d - said).sum() / len(y) for d in drawn], 0.95)),
    )


def _gathered(counts: NDArray[np.int64], names: tuple[str, ...]) -> tuple[tuple[tuple[int, ...], ...], tuple[str, ...]]:
    """A confusion matrix of at most ``MAX_CLASSES`` classes: those with the most errors, the rest as one."""
    if len(names) > MAX_CLASSES:
        errors = counts.sum(axis=0) + counts.sum(axis=1) - 2 * np.diag(counts)
        kept = np.sort(np.argsort(-errors, kind="stable")[: MAX_CLASSES - 1])
        place = np.full(len(names), MAX_CLASSES - 1)
        place[kept] = np.arange(MAX_CLASSES - 1)
        small = np.zeros((MAX_CLASSES, MAX_CLASSES), dtype=np.int64)
        np.add.at(small, (place[:, None], place[None, :]), counts)
        counts, names = small, (*(names[i] for i in kept), OTHERS)
    return tuple(tuple(int(n) for n in row) for row in counts), names


def check_values(trial: int, predicted: Array, truth: Array, target: str, seed: int) -> ValueCheck:
    """A regression's predictions ``(v,)`` against the truth ``(v,)``, both in the target's unit."""
    from scipy import stats
    from sklearn.metrics import r2_score

    errors = predicted - truth
    growth = (
        stats.spearmanr(np.abs(errors), predicted) if len(errors) > 2 and np.ptp(predicted) > 0 else (math.nan, 1.0)
    )
    some = np.random.default_rng(seed).permutation(len(truth))[:MAX_POINTS]
    return ValueCheck(
        trial=trial,
        rows=len(truth),
        target=target,
        points=tuple((float(truth[i]), float(predicted[i])) for i in some),
        rmse=float(np.sqrt(np.mean(errors**2))),
        mae=float(np.abs(errors).mean()),
        explained=float(r2_score(truth, predicted)) if len(truth) > 1 else math.nan,
        bias=float(errors.mean()),
        bias_interval=mean_interval(errors),
        growth=float(growth[0]),
        growth_p=float(growth[1]),
    )
