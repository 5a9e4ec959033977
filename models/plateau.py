"""ReduceLROnPlateau as vectors: every row has its own best loss, patience and cooldown."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sweeper.models.config import PlateauConfig

MIN_CHANGE = 1e-8  # torch's ``eps``: a smaller reduction is not made


@dataclass
class Plateau:
    """The scheduler state of K rows, on the CPU: best ``(K,)`` float64, bad_epochs and cooldown ``(K,)`` int64."""

    config: PlateauConfig
    best: Tensor
    bad_epochs: Tensor
    cooldown: Tensor

    @classmethod
    def empty(cls, config: PlateauConfig, width: int) -> Plateau:
        """``width`` rows that have seen no epoch."""
        counters = [torch.zeros(width, dtype=torch.int64) for _ in range(2)]
        return cls(config, torch.full((width,), torch.inf, dtype=torch.float64), *counters)

    def clear(self, slot: int) -> None:
        """Forget the row in ``slot``."""
        self.best[slot], self.bad_epochs[slot], self.cooldown[slot] = torch.inf, 0, 0

    def step(self, active: Tensor, val_loss: Tensor, lr: Tensor) -> Tensor:
        """The learning rates ``(A,)`` float64 of the rows ``active (A,)`` after an epoch with ``val_loss (A,)``.

        ``lr (A,)`` are the rates before. A NaN loss counts as a bad epoch.

            bad = 0 if loss < best * (1 - threshold) else bad + 1;  best = loss if better
            if cooldown > 0: cooldown -= 1, bad = 0
            if bad > patience: lr = max(lr * factor, min_lr), cooldown = config.cooldown, bad = 0
        """
        config, best = self.config, self.best[active]
        better = val_loss < best * (1.0 - config.threshold)
        self.best[active] = torch.where(better, val_loss, best)

        cooldown = self.cooldown[active]
        bad = torch.where(better | (cooldown > 0), 0, self.bad_epochs[active] + 1)
        cooldown = (cooldown - 1).clamp(min=0)

        reduce = bad > config.patience
        self.bad_epochs[active] = torch.where(reduce, 0, bad)
        self.cooldown[active] = torch.where(reduce, config.cooldown, cooldown)
        reduced = (lr * config.factor).clamp(min=config.min_lr)
        return torch.where(reduce & (lr - reduced > MIN_CHANGE), reduced, lr)
