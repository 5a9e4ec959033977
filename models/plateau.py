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
        config = self.config
        floor = 1.0 - config.threshold
        state = [getattr(self, name)[active].tolist() for name in ("best", "bad_epochs", "cooldown")]
        found = []
        for loss, rate, best, bad, cooldown in zip(val_loss.tolist(), lr.tolist(), *state, strict=True):
            better = loss < best * floor
            bad = 0 if better or cooldown > 0 else bad + 1  # noqa: PLW2901
            rest, reduced = max(cooldown - 1, 0), rate
            if bad > config.patience:
                bad, rest, reduced = 0, config.cooldown, max(rate * config.factor, config.min_lr)  # noqa: PLW2901
            after = reduced if rate - reduced > MIN_CHANGE else rate
            found.append((loss if better else best, bad, rest, after))
        columns = list(zip(*found, strict=True))
        self.best[active] = torch.tensor(columns[0], dtype=torch.float64)
        self.bad_epochs[active], self.cooldown[active] = torch.tensor(columns[1]), torch.tensor(columns[2])
        return torch.tensor(columns[3], dtype=torch.float64)
