"""Metrics of all rows of a cohort at once, each as scikit-learn defines it.

Dimensions: A rows (networks), v examples, C outputs (classes, or 1 for regression). All arithmetic is float64. A row
whose outputs are not finite scores NaN; so does a metric that its examples do not define, such as the area under the
curve where all are of one class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from sweeper.models.config import Task
from sweeper.models.metric_names import OF_TASK

Scorer = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""``scorer(outputs (A, v, C), y (v,), w (v,) | None) -> (A,)`` float64: logits or values, targets, example weights."""
Weighted = Callable[[Tensor, Tensor, Tensor], Tensor]  # the same, always with weights


def make_scorers(names: Iterable[str], task: Task, offset: float = 0.0, scale: float = 1.0) -> dict[str, Scorer]:
    """The scorers of metrics by plain name, such as ``roc_auc``.

    A regression's outputs and targets stand for ``value * scale + offset``; its metrics are in that unit, except
    ``loss``, the mean squared error of the outputs as they are.

    Raises:
        ValueError: the task has no metric of that name.
    """
    made: dict[str, Scorer] = {}
    for name in names:
        if name not in OF_TASK[task]:
            raise ValueError(f"a {task} has no {name}: it has {', '.join(OF_TASK[task])}")
        if task == "classification":
            made[name] = _finite_rows(_OF_CLASSES[name])
        else:
            unit = (0.0, 1.0) if name == "loss" else (offset, scale)
            made[name] = _finite_rows(_InUnits(_OF_VALUES[name], *unit))
    return made


def _finite_rows(score: Weighted) -> Scorer:
    """The same in float64, NaN for rows with outputs that are not finite."""

    def scored(outputs: Tensor, y: Tensor, w: Tensor | None = None) -> Tensor:
        outputs = outputs.double()
        weights = torch.ones(len(y), dtype=torch.float64, device=outputs.device) if w is None else w.double()
        finite = torch.isfinite(outputs).flatten(1).all(dim=1)
        return torch.where(finite, score(outputs, y, weights), torch.nan)

    return scored


# classification: outputs are logits


def _loss(outputs: Tensor, y: Tensor, w: Tensor) -> Tensor:
    """Cross-entropy: the mean of -log p of the true class."""
    log_p = torch.log_softmax(outputs, dim=2)
    return _mean(-log_p.gather(2, y.view(1, -1, 1).expand(len(outputs), -1, 1))[:, :, 0], w)


def _accuracy(outputs: Tensor, y: Tensor, w: Tensor) -> Tensor:
    return _mean((outputs.argmax(dim=2) == y).double(), w)


def _brier(outputs: Tensor, y: Tensor, w: Tensor) -> Tensor:
    """The mean of the sum over classes of (p - onehot(y))^2, halved for two classes (Brier 1950)."""
    classes = outputs.shape[2]
    onehot = torch.nn.functional.one_hot(y, classes).double()
    square = (torch.softmax(outputs, dim=2) - onehot).square().sum(dim=2)
    return _mean(square, w) / (2.0 if classes == 2 else 1.0)


def _roc_auc(outputs: Tensor, y: Tensor, w: Tensor) -> Tensor:
    """P(score of a positive > score of a negative) + P(equal) / 2; several classes: the mean of one against the rest.

    A class without an example is left out of the mean, where scikit-learn has no answer.
    """

    def area(sorted_scores: Tensor, positive: Tensor, weight: Tensor) -> Tensor:
        below = _before(weight * ~positive)  # (A, v + 1): the weight of the negatives before each position
        first, last = _ties(sorted_scores)
        beaten = (below.gather(1, first) + below.gather(1, last)) / 2
        up = weight * positive
        return (up * beaten).sum(dim=1) / (up.sum(dim=1) * below[:, -1])

    return _one_against_rest(outputs, y, w, area)


def _average_precision(outputs: Tensor, y: Tensor, w: Tensor) -> Tensor:
    """The sum over thresholds of (R_n - R_n-1) P_n; several classes: the mean of one against the rest."""

    def precision(sorted_scores: Tensor, positive: Tensor, weight: Tensor) -> Tensor:
        up = weight * positive
        first, _ = _ties(sorted_scores)
        found, taken = up.sum(dim=1, keepdim=True) - _before(up).gather(1, first), _before(weight)
        taken = taken[:, -1:] - taken.gather(1, first)
        return (up * found / taken).nansum(dim=1) / up.sum(dim=1)

    return _one_against_rest(outputs, y, w, precision)


def _one_against_rest(outputs: Tensor, y: Tensor, w: Tensor, area: Weighted) -> Tensor:
    """``area(scores in ascending order (A, v), whether positive, weights)``, of the second of two classes or a mean."""
    probabilities, classes = torch.softmax(outputs, dim=2), outputs.shape[2]
    found = []
    for label in [1] if classes == 2 else range(classes):
        if classes > 2 and not (y == label).any():
            continue
        scores, order = probabilities[:, :, label].sort(dim=1)
        found.append(area(scores.contiguous(), y[order] == label, w[order]))
    return torch.stack(found).mean(dim=0)


def _before(values: Tensor) -> Tensor:
    """``(A, v + 1)``: the sum of the values before each position, and of all at the end."""
    return torch.nn.functional.pad(values.cumsum(dim=1), (1, 0))


def _ties(sorted_scores: Tensor) -> tuple[Tensor, Tensor]:
    """For each position where the run of equal scores that it lies in begins, and the position after its end."""
    return torch.searchsorted(sorted_scores, sorted_scores), torch.searchsorted(
        sorted_scores, sorted_scores, right=True
    )


@dataclass(frozen=True)
class _Counts:
    """Weights of examples by class, ``(A, C)``: predicted rightly, predicted, and true ``(C,)``."""

    right: Tensor
    predicted: Tensor
    true: Tensor


def _counts(outputs: Tensor, y: Tensor, w: Tensor) -> _Counts:
    predicted, classes = outputs.argmax(dim=2), range(outputs.shape[2])
    hits = [(predicted == label).double() for label in classes]
    true = [w * (y == label) for label in classes]
    return _Counts(
        right=torch.stack([(hit * of_label).sum(dim=1) for hit, of_label in zip(hits, true, strict=True)], dim=1),
        predicted=torch.stack([(hit * w).sum(dim=1) for hit in hits], dim=1),
        true=torch.stack([of_label.sum() for of_label in true]),
    )


def _f1(outputs: Tensor, y: Tensor, w: Tensor) -> Tensor:
    """2 TP / (2 TP + FP + FN) of the second class; 0 where it neither occurs nor is predicted."""
    return _f1_of_classes(_counts(outputs, y, w))[:, 1].nan_to_num(0.0)


def _f1_macro(outputs: Tensor, y: Tensor, w: Tensor) -> Tensor:
    """The mean F1 of the classes that occur or are predicted."""
    return _f1_of_classes(_counts(outputs, y, w)).nanmean(dim=1)


def _f1_of_classes(counts: _Counts) -> Tensor:
    """``(A, C)``; NaN for a class that neither occurs nor is predicted."""
    return 2 * counts.right / (counts.predicted + counts.true)


def _balanced_accuracy(outputs: Tensor, y: Tensor, w: Tensor) -> Tensor:
    """The mean recall of the classes that occur."""
    counts = _counts(outputs, y, w)
    return (counts.right / counts.true).nanmean(dim=1)


def _mcc(outputs: Tensor, y: Tensor, w: Tensor) -> Tensor:
    """Matthews' correlation coefficient for any number of classes (Gorodkin 2004); 0 where nothing varies."""
    counts, total = _counts(outputs, y, w), w.sum()
    together = counts.right.sum(dim=1) * total - (counts.predicted * counts.true).sum(dim=1)
    of_predicted = total**2 - counts.predicted.square().sum(dim=1)
    of_true = total**2 - counts.true.square().sum()
    product = of_predicted * of_true
    return torch.where(product > 0, together / product.clamp(min=0).sqrt(), 0.0)


# regression: outputs are values


@dataclass(frozen=True)
class _InUnits:
    """A metric of predictions ``(A, v)`` and targets ``(v,)`` in the target's own unit, as a scorer."""

    score: Weighted
    offset: float
    scale: float

    def __call__(self, outputs: Tensor, y: Tensor, w: Tensor) -> Tensor:
        return self.score(outputs[:, :, 0] * self.scale + self.offset, y.double() * self.scale + self.offset, w)


def _mse(predicted: Tensor, y: Tensor, w: Tensor) -> Tensor:
    return _mean((predicted - y).square(), w)


def _rmse(predicted: Tensor, y: Tensor, w: Tensor) -> Tensor:
    return _mse(predicted, y, w).sqrt()


def _mae(predicted: Tensor, y: Tensor, w: Tensor) -> Tensor:
    return _mean((predicted - y).abs(), w)


def _median_absolute_error(predicted: Tensor, y: Tensor, w: Tensor) -> Tensor:
    """The weighted median of |error|: the mean of the two values between which exactly half of the weight lies."""
    errors, order = (predicted - y).abs().sort(dim=1)
    sums = w[order].cumsum(dim=1)  # (A, v)
    half = sums[:, -1:] / 2
    near = 1e-12 * half
    last = errors.shape[1] - 1
    low = torch.searchsorted(sums, half - near).clamp(max=last)
    high = torch.searchsorted(sums, half + near, right=True).clamp(max=last)
    return (errors.gather(1, low) + errors.gather(1, high))[:, 0] / 2


def _r2(predicted: Tensor, y: Tensor, w: Tensor) -> Tensor:
    """1 - squared error / squared deviation; where the target does not vary, 1 for no error, else 0."""
    if len(y) < 2:
        return torch.full((len(predicted),), torch.nan, dtype=torch.float64, device=predicted.device)
    error, spread = _mse(predicted, y, w), _mean((y - _mean(y[None], w)).square()[None], w)
    constant = torch.where(error == 0, 1.0, 0.0)
    return torch.where(spread > 0, 1 - error / spread, constant)


def _mape(predicted: Tensor, y: Tensor, w: Tensor) -> Tensor:
    """The mean of |error| / |target|, as a share: 0.1 is 10 percent."""
    return _mean((predicted - y).abs() / y.abs().clamp(min=torch.finfo(torch.float64).eps), w)


def _mean(values: Tensor, w: Tensor) -> Tensor:
    """``(A,)``: the weighted mean of ``values (A, v)``."""
    return (values * w).sum(dim=1) / w.sum()


_OF_CLASSES: dict[str, Weighted] = {
    "loss": _loss,
    "log_loss": _loss,
    "accuracy": _accuracy,
    "roc_auc": _roc_auc,
    "average_precision": _average_precision,
    "f1": _f1,
    "f1_macro": _f1_macro,
    "balanced_accuracy": _balanced_accuracy,
    "mcc": _mcc,
    "brier": _brier,
}
_OF_VALUES: dict[str, Weighted] = {
    "loss": _mse,
    "rmse": _rmse,
    "mae": _mae,
    "median_absolute_error": _median_absolute_error,
    "r2": _r2,
    "mape": _mape,
}
