"""The plateau vectors against torch's ReduceLROnPlateau."""

from __future__ import annotations

import math

import pytest
import torch

from sweeper.models import PlateauConfig, TrainConfig, TrialConfig, build_mlp
from sweeper.models.plateau import Plateau
from sweeper.models.solo import make_optimizer, make_plateau

CONFIGS = [
    PlateauConfig(),
    PlateauConfig(patience=0, factor=0.1, min_lr=0.0),
    PlateauConfig(patience=1, cooldown=2, threshold=0.1),
    PlateauConfig(patience=2, cooldown=1, threshold=0.0, min_lr=0.02),
]


@pytest.mark.parametrize("config", CONFIGS)
def test_every_row_follows_its_own_torch_scheduler(config: PlateauConfig) -> None:
    generator, width = torch.Generator().manual_seed(3), 6
    trials = [TrialConfig(learning_rate=0.1 * 0.5**row, hidden_layers=(), optimizer="sgd") for row in range(width)]
    optimizers = [make_optimizer(trial, build_mlp(trial, 1, 1, 0)) for trial in trials]
    schedulers = [make_plateau(TrainConfig(plateau=config), optimizer) for optimizer in optimizers]
    plateau, rates = Plateau.empty(config, width), torch.tensor([t.learning_rate for t in trials], dtype=torch.float64)

    for epoch in range(40):
        active = torch.arange(width) if epoch % 3 else torch.tensor([4, 1])  # rows step at different epochs
        losses = torch.rand(len(active), generator=generator, dtype=torch.float64) + 10 / (epoch + 1)
        if epoch == 20:
            losses[0] = math.nan
        rates[active] = plateau.step(active, losses, rates[active])
        for row, loss in zip(active.tolist(), losses.tolist(), strict=True):
            scheduler = schedulers[row]
            assert scheduler is not None
            scheduler.step(loss)
        assert rates.tolist() == [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
    assert rates[0] < 0.1


def test_a_cleared_slot_forgets() -> None:
    plateau, one = Plateau.empty(PlateauConfig(patience=0), 2), torch.tensor([1])
    rate = torch.tensor([0.1], dtype=torch.float64)
    plateau.step(one, torch.tensor([1.0]).double(), rate)
    plateau.clear(1)
    assert plateau.step(one, torch.tensor([5.0]).double(), rate).item() == 0.1
