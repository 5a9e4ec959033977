"""What one trial's training leaves behind."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from sweeper.models.config import Task, TrainConfig
from sweeper.models.gradient_flow import EpochFlow

METRICS: dict[Task, str] = {"classification": "val_accuracy", "regression": "val_rmse"}


def metric_names(task: Task, scored: Iterable[str] = ()) -> list[str]:
    """The lists of a history that are filled for a task, and those of the scorers ``scored``."""
    return ["train_loss", "grad_norm", "val_loss", METRICS[task], "learning_rate", *scored]


@dataclass
class History:
    """Per-epoch metrics and the weights of one trial. Entry e of every list belongs to epoch e (from 0).

    ``train_loss`` is the mean over the epoch's examples of the loss each minibatch had before its step; ``val_loss``
    and ``val_accuracy`` (classification) or ``val_rmse`` (regression) are taken on the whole validation split after
    the epoch's last step; ``learning_rate`` is the rate of the next step, after the epoch's plateau step (at the end of
    a schedule that of its last step); ``grad_norm`` is the mean over the epoch's steps of the global gradient norm
    before clipping. Only epochs in which all of these are finite are
    listed: the first epoch that is not ends the trial with ``diverged`` true and ``divergence`` saying what broke.
    ``best_epoch`` (from 0) is the best one by ``TrainConfig.monitor``. ``state_dict`` has the names of ``build_mlp``'s
    module, on the CPU: the weights after the best epoch with ``keep="best"``, else (and where the trial has diverged)
    the last ones. ``flow`` holds the gradient flow of the measured
    epochs among those listed, ``extra`` the metrics of the scorers by name (NaN where one is not defined).
    """

    train_loss: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_accuracy: list[float] = field(default_factory=list)
    val_rmse: list[float] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)
    grad_norm: list[float] = field(default_factory=list)
    diverged: bool = False
    divergence: str | None = None
    state_dict: dict[str, Tensor] = field(default_factory=dict)
    flow: dict[int, EpochFlow] = field(default_factory=dict)
    extra: dict[str, list[float]] = field(default_factory=dict)
    best_epoch: int | None = None

    def series(self, name: str) -> list[float]:
        """The list of a metric by name, one of this class or of the scorers."""
        return self.extra[name] if name in self.extra else getattr(self, name, [])

    def extend(self, metrics: Mapping[str, Sequence[float]], scored: Iterable[str] = ()) -> None:
        """List further epochs; ``scored`` are the names of the scorers' metrics."""
        for name, values in metrics.items():
            (self.extra.setdefault(name, []) if name in scored else getattr(self, name)).extend(values)

    @property
    def epochs(self) -> int:
        """Finished epochs, all of them finite."""
        return len(self.val_loss)

    @property
    def improved(self) -> bool:
        """Whether the last epoch is the best so far."""
        return self.best_epoch is not None and self.best_epoch == self.epochs - 1

    def kept_epoch(self, train: TrainConfig) -> int:
        """The epoch whose metrics and weights count, once the trial has finished."""
        return self.epochs - 1 if train.keep == "last" or self.best_epoch is None else self.best_epoch

    def has_finished(self, train: TrainConfig) -> bool:
        """Whether all epochs are done, or the best one is ``train.patience`` epochs ago."""
        waited = 0 if self.best_epoch is None else self.epochs - 1 - self.best_epoch
        return self.epochs >= train.epochs or (train.patience is not None and waited >= train.patience)

    def record(
        self,
        train: TrainConfig,
        *,
        train_loss: float,
        grad_norm: float,
        val_loss: float,
        val_metric: float,
        learning_rate: float,
        flow: EpochFlow | None = None,
        scores: Mapping[str, float] | None = None,
    ) -> bool:
        """List one more epoch and return True, or set ``diverged`` and return False when a number is not finite."""
        numbers = {"train_loss": train_loss, "grad_norm": grad_norm, "val_loss": val_loss}
        numbers[METRICS[train.task]] = val_metric
        for name, value in numbers.items():
            if not math.isfinite(value):
                self.diverged, self.divergence = True, f"{name} became {value} in epoch {self.epochs}"
                return False
        if flow is not None:
            self.flow[self.epochs] = flow
        for name, value in (numbers | {"learning_rate": learning_rate}).items():
            getattr(self, name).append(value)
        for name, value in (scores or {}).items():
            self.extra.setdefault(name, []).append(value)
        values = self.series(train.monitor)
        if self.best_epoch is None or is_better(values[-1], values[self.best_epoch], train.minimize):
            self.best_epoch = self.epochs - 1
        return True


def is_better(value: float, best: float, minimize: bool) -> bool:
    """Whether ``value`` beats ``best``, which came before; NaN is worse than any number, and gives way to NaN."""
    return math.isnan(best) or (value < best if minimize else value > best)


def best_epoch(values: Sequence[float], minimize: bool) -> int | None:
    """The index of the best of ``values``, as ``History.best_epoch`` (None: there are none)."""
    best: int | None = None
    for epoch, value in enumerate(values):
        if best is None or is_better(value, values[best], minimize):
            best = epoch
    return best
