"""Hyperparameters that change between two epochs of a trial: which can, and what a change does. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sweeper.models.averages import average_by
from sweeper.models.config import TrialConfig

Changes = Sequence[tuple[int, TrialConfig]]
"""From that epoch on (counted from 0) the trial trains with that configuration; the epochs rise, from 1 on."""

CHANGEABLE = (
    *("learning_rate", "weight_decay", "momentum", "beta1", "beta2"),
    *("dropout", "label_smoothing", "clip_norm", "ema_decay"),
)
RATES = ("lr", "initial_lr", "max_lr", "min_lr")  # what torch's schedulers keep in a parameter group


def check_changes(config: TrialConfig, changes: Changes) -> Changes:
    """The changes, unless something among them cannot change while a trial trains.

    NAdam's beta1 cannot, since its steps depend on all that were before; nor can averaging begin or end.

    Raises:
        ValueError: it does, or the epochs do not rise.
    """
    last = 0
    for epoch, changed in changes:
        if epoch <= last:
            raise ValueError(f"the configuration changes in epoch {epoch}, after epoch {last}: epochs have to rise")
        fixed = {name: getattr(config, name) for name in CHANGEABLE}
        if replace(changed, **fixed) != config:
            raise ValueError(f"only {', '.join(CHANGEABLE)} can change while a trial trains")
        if config.optimizer == "nadam" and changed.beta1 != config.beta1:
            raise ValueError("beta1 of nadam cannot change while a trial trains")
        if (config.ema_decay > 0.0) != (changed.ema_decay > 0.0):
            raise ValueError("ema_decay cannot become 0 or stop to be 0 while a trial trains")
        last = epoch
    return changes


def split_at(config: TrialConfig, changes: Changes, epochs: int) -> tuple[TrialConfig, Changes]:
    """The configuration that a trial had in the last of so many epochs, and the changes that are still to come."""
    done = [changed for epoch, changed in changes if epoch < epochs]
    return done[-1] if done else config, [change for change in changes if change[0] >= epochs]


def change_optimizer(optimizer: Any, scheduler: Any, average: Any, before: TrialConfig, after: TrialConfig) -> None:
    """Give a torch optimizer, its scheduler and its averaged weights (None: there are none) the new hyperparameters.

    What a schedule or a plateau has made of the learning rate so far stays: lr *= after / before.
    """
    ratio = after.learning_rate / before.learning_rate
    for group in optimizer.param_groups:
        for name in RATES:
            if name in group:
                group[name] *= ratio
        group["weight_decay"] = after.weight_decay
        if "betas" in group:
            group["betas"] = (after.beta1, after.beta2)
        if after.optimizer == "momentum":
            group["momentum"] = after.momentum
    for part in getattr(scheduler, "_schedulers", [] if scheduler is None else [scheduler]):
        part.base_lrs = [rate * ratio for rate in part.base_lrs]
    if average is not None:
        average.multi_avg_fn = average_by(after.ema_decay)
