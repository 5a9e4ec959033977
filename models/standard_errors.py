"""How far a metric on some examples may be off by chance: its standard error over examples like these.

Dimensions: A rows (networks), v examples, C outputs. Weights of examples count as in the metric itself.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sweeper.models.config import Task
from sweeper.models.metrics import Scorer, make_scorers

PSEUDO = 4.0  # two right and two wrong examples more, so that no share is without an error (Agresti and Coull 1998)
SHARES = ("accuracy", "roc_auc", "average_precision", "f1", "f1_macro", "balanced_accuracy", "mcc")
_BY_CLASS = frozenset(SHARES) - {"accuracy"}
_Losses = Callable[[Tensor, Tensor], Tensor]  # outputs (A, v, C), y (v,) -> (A, v)


def make_error(name: str, task: Task, scale: float = 1.0) -> Scorer | None:
    """A scorer of the standard error of a metric, by plain name; None: it is not known for this one.

    Of a mean over examples it is s / sqrt(v), of a root or a share of a mean that times the derivative. A score between
    0 and 1 that is no mean counts as a share of right examples, of C times as many as the rarest class has. For
    ``scale`` see ``make_scorers``.
    """
    if name in SHARES:
        return _error_of_share(make_scorers([name], task)[name], by_class=name in _BY_CLASS)
    if name in ("rmse", "r2"):
        return _error_of_squares(scale, root=name == "rmse")
    losses = _LOSSES.get((task, name))
    if losses is None:
        return None
    unit = 1.0 if name == "loss" or task == "classification" else scale

    def error(outputs: Tensor, y: Tensor, w: Tensor | None = None) -> Tensor:
        return unit * _of_mean(losses(outputs.double(), y), _weights(y, w))

    return error


def _of_mean(values: Tensor, w: Tensor) -> Tensor:
    """``(A,)``: of the weighted mean of ``values (A, v)``, sqrt(v / (v - 1) sum (w (x - mean))^2) / sum w."""
    mean = (values * w).sum(dim=1, keepdim=True) / w.sum()
    squares = (w * (values - mean)).square().sum(dim=1)
    return (squares * len(w) / max(1, len(w) - 1)).sqrt() / w.sum()


def _weights(y: Tensor, w: Tensor | None) -> Tensor:
    return torch.ones(len(y), dtype=torch.float64, device=y.device) if w is None else w.double()


def _error_of_share(score: Scorer, by_class: bool) -> Scorer:
    def error(outputs: Tensor, y: Tensor, w: Tensor | None = None) -> Tensor:
        weights = _weights(y, w)
        size = weights.sum() ** 2 / weights.square().sum()  # in examples that count alike
        if by_class:
            of_class = torch.bincount(y, weights)
            of_class = of_class[of_class > 0]
            size = size * of_class.min() * len(of_class) / weights.sum()
        share = (score(outputs, y, w) * size + PSEUDO / 2) / (size + PSEUDO)
        return (share * (1 - share) / (size + PSEUDO)).clamp(min=0).sqrt()

    return error


def _error_of_squares(scale: float, *, root: bool) -> Scorer:
    def error(outputs: Tensor, y: Tensor, w: Tensor | None = None) -> Tensor:
        weights, squares = _weights(y, w), _squares(outputs.double(), y)
        mean = (squares * weights).sum(dim=1) / weights.sum()
        if root:
            return scale * _of_mean(squares, weights) / (2 * mean.sqrt()).clamp(min=1e-300)
        truth = y.double()
        around = (truth - (truth * weights).sum() / weights.sum()).square()
        spread = ((around * weights).sum() / weights.sum()).clamp(min=1e-300)
        return _of_mean(squares - (mean / spread)[:, None] * around, weights) / spread  # both vary with the examples

    return error


def _cross_entropy(outputs: Tensor, y: Tensor) -> Tensor:
    log_p = torch.log_softmax(outputs, dim=2)
    return -log_p.gather(2, y.view(1, -1, 1).expand(len(outputs), -1, 1))[:, :, 0]


def _brier(outputs: Tensor, y: Tensor) -> Tensor:
    classes = outputs.shape[2]
    onehot = torch.nn.functional.one_hot(y, classes).double()
    return (torch.softmax(outputs, dim=2) - onehot).square().sum(dim=2) / (2.0 if classes == 2 else 1.0)


def _squares(outputs: Tensor, y: Tensor) -> Tensor:
    return (outputs[:, :, 0] - y.double()).square()


def _distances(outputs: Tensor, y: Tensor) -> Tensor:
    return (outputs[:, :, 0] - y.double()).abs()


_LOSSES: dict[tuple[Task, str], _Losses] = {
    ("classification", "loss"): _cross_entropy,
    ("classification", "log_loss"): _cross_entropy,
    ("classification", "brier"): _brier,
    ("regression", "loss"): _squares,
    ("regression", "mae"): _distances,
}
