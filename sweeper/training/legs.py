"""One leg of a cohort on one device: what a worker is ordered to do, and what it answers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sweeper.scheduling.events import Shape
from sweeper.states import Cause
from sweeper.training.scoring import Scoring

if TYPE_CHECKING:
    from sweeper.models import TrainConfig, TrialConfig
    from sweeper.models.changes import Changes

Arrays = dict[str, np.ndarray]

LOSSES = ("train_loss", "val_loss")
LIMIT = 1e6
"""A regression's target is standardised, so that predicting its mean costs 1; guessing one of C classes costs ln C. A
loss of a million is a thousand standard deviations off, or a probability of exp(-1e6) for what was true."""


class RowStart(NamedTuple):
    """One row of a trial: the seed of its weights and batches, and the index of the fold whose data it trains on."""

    seed: int
    fold: int = 0


@dataclass(frozen=True)
class TrialStart:
    """A trial that takes its rows, one per seed and fold. ``states``: exported rows to go on from (None: epoch 0).

    ``changes`` are those of its hyperparameters between epochs. Without states it has ``replay`` epochs already, which
    are trained again and not reported.
    """

    number: int
    attempt: int
    shape: Shape
    config: TrialConfig
    rows: tuple[RowStart, ...]
    states: tuple[dict[str, Any], ...] | None = None
    changes: Changes = ()
    replay: int = 0


@dataclass(frozen=True)
class LegOrder:
    """Everything one leg needs. Training stops at ``epochs`` more epochs per row or after ``seconds``, whichever first.

    ``train`` holds for all trials, but for the batch size, which is their shape's; for ``width`` see ``RunLeg``.
    ``units`` are factors that turn a metric of the normalised target into the user's units. Weights come back with a
    finished trial only when its kept ``metric`` beats ``keep_better_than`` (None: any does); ``export`` asks for the
    state of the rows that go on, for a checkpoint, ``best_under_way`` for the weights of the best trial that goes on.
    A trial that has trained a number of epochs of ``pauses`` leaves with the state of its rows.
    """

    leg: int
    sweep: str
    cohort: int
    train: TrainConfig
    admit: tuple[TrialStart, ...]
    drop: tuple[int, ...]
    epochs: int
    width: int
    seconds: float
    metric: str
    minimize: bool
    units: Mapping[str, float] = field(default_factory=dict)
    keep_better_than: float | None = None
    export: bool = False
    best_under_way: bool = False
    scoring: Scoring | None = None
    pauses: tuple[int, ...] = ()


@dataclass(frozen=True)
class TrialLeg:
    """One trial's part of a leg: metrics per epoch from ``first_epoch`` on, the mean over its rows.

    Rows may end at different epochs by ``TrainConfig.patience``: one that has ended stands in later epochs with the
    metrics of the epoch that it kept. ``kept`` are the means over rows of these, of a row that goes on as if it ended
    now, and ``best_epoch`` is the mean over rows of their best epochs, counted from 1 (None: a row has no epoch).
    ``weights`` are those that the rows of the first seed kept, of several folds as ``sweeper.data.folds.joined`` puts
    them together. ``folds`` are the objective's values on each fold, kept or after the last epoch, none where the data
    has no folds. ``flow`` holds the gradient flow of the measured epochs, packed by ``sweeper.flow``. ``failed`` says
    which of the user's own metrics could not be computed, or what went wrong in the user's own model; ``cause`` says
    which of both. ``how`` says why a model of the user's own trained by itself. ``seconds`` is the trial's share of the
    leg's, ``parameters`` the size of one of its networks.
    """

    number: int
    attempt: int
    first_epoch: int
    metrics: Mapping[str, list[float]]
    finished: bool
    diverged: str | None
    seconds: float
    weights: Arrays | None = None
    states: tuple[dict[str, Any], ...] | None = None
    flow: Mapping[int, bytes] = field(default_factory=dict)
    folds: tuple[float, ...] = ()
    kept: Mapping[str, float] | None = None
    best_epoch: float | None = None
    failed: str | None = None
    cause: Cause = Cause.METRIC
    how: str = ""
    parameters: int = 0

    @property
    def epochs(self) -> int:
        """Finished epochs in all."""
        return self.first_epoch + len(next(iter(self.metrics.values()), []))


@dataclass(frozen=True)
class LegResult:
    """What one leg did; ``seconds`` is its wall time on the worker."""

    leg: int
    trials: tuple[TrialLeg, ...]
    seconds: float


def epochs_in(states: Sequence[Mapping[str, Any]]) -> int:
    """The finished epochs of a trial whose rows were exported: those of its longest row."""
    return max(len(state["history.val_loss"]) for state in states)


def curve_in(states: Sequence[Mapping[str, Any]], name: str, train: TrainConfig) -> list[float]:
    """The mean curve of a metric of a trial whose rows were exported, as in ``TrialLeg.metrics``, without units."""
    from sweeper.models.history import best_epoch

    longest, rows = epochs_in(states), []
    for state in states:
        values = state[f"history.{name}"].tolist()
        best = best_epoch(state[f"history.{train.monitor}"].tolist(), train.minimize)
        kept = values[best if train.keep == "best" and best is not None else -1]
        rows.append(values + [kept] * (longest - len(values)))
    return [float(np.mean(row)) for row in zip(*rows, strict=True)]


def cut_at_explosion(trial: TrialLeg) -> TrialLeg:
    """The leg up to the epoch before a loss exceeds ``LIMIT``, with that as its ``diverged``; else the leg as it is."""
    for at in range(trial.epochs - trial.first_epoch):
        for name in LOSSES:
            if trial.metrics[name][at] > LIMIT:
                cause = f"{name} exploded to {trial.metrics[name][at]:.3g} in epoch {trial.first_epoch + at}"
                kept = {metric: values[:at] for metric, values in trial.metrics.items()}
                return replace(
                    trial, metrics=kept, finished=False, diverged=cause, weights=None, states=None, kept=None
                )
    return trial


def cut_at_failure(trial: TrialLeg) -> TrialLeg:
    """The leg up to the epoch before a metric of the user's own ``failed``, NaN there; else the leg as it is."""
    if trial.failed is None or trial.diverged is not None:
        return trial
    count = trial.epochs - trial.first_epoch
    at = min((e for values in trial.metrics.values() for e in range(count) if math.isnan(values[e])), default=count)
    kept = {metric: values[:at] for metric, values in trial.metrics.items()}
    return replace(trial, metrics=kept, finished=False, weights=None, states=None, kept=None)
