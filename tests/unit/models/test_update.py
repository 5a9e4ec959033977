"""The one update rule against torch.optim."""

from __future__ import annotations

import pytest
import torch

from sweeper.models import TrialConfig, build_mlp
from sweeper.models.rows import Rows
from sweeper.models.solo import make_optimizer
from sweeper.models.update import coefficients, update_

SIZES = (3, 4, 2)
CONFIGS = {
    "sgd": TrialConfig(optimizer="sgd"),
    "sgd with decay": TrialConfig(optimizer="sgd", weight_decay=0.1),
    "momentum": TrialConfig(optimizer="momentum", momentum=0.8, weight_decay=0.1),
    "nesterov": TrialConfig(optimizer="momentum", momentum=0.7, nesterov=True, weight_decay=0.1),
    "nesterov without momentum": TrialConfig(optimizer="momentum", momentum=0.0, nesterov=True),
    "rmsprop": TrialConfig(optimizer="rmsprop", weight_decay=0.1),
    "adam": TrialConfig(optimizer="adam", beta1=0.8, beta2=0.95, weight_decay=0.1),
    "adam without memory": TrialConfig(optimizer="adam", beta1=0.0, beta2=0.0),
    "lion": TrialConfig(optimizer="lion", weight_decay=0.1, beta1=0.9, beta2=0.99),
    "lion with one beta": TrialConfig(optimizer="lion", beta1=0.95, beta2=0.95),
    "adamw": TrialConfig(optimizer="adamw", weight_decay=0.1),
}


@pytest.mark.parametrize("steps_per_epoch", [1, 4])
def test_every_row_moves_as_its_torch_optimizer(steps_per_epoch: int) -> None:
    configs = [TrialConfig(**{**vars(c), "hidden_layers": (4,), "learning_rate": 0.03}) for c in CONFIGS.values()]
    models = [build_mlp(config, 3, 2, seed).double() for seed, config in enumerate(configs)]
    optimizers = [make_optimizer(config, model) for config, model in zip(configs, models, strict=True)]
    rows = Rows.empty(SIZES, len(configs), torch.float64)
    for slot, (config, model) in enumerate(zip(configs, models, strict=True)):
        rows.admit(slot, config, model, clip_norm=None)
    active, generator = torch.arange(len(configs)), torch.Generator().manual_seed(0)

    for _ in range(12 // steps_per_epoch):
        c = coefficients(rows, active, steps_per_epoch)
        for step in range(steps_per_epoch):
            gradient = torch.zeros_like(rows.theta)
            for slot, (model, optimizer) in enumerate(zip(models, optimizers, strict=True)):
                for p in model.parameters():
                    p.grad = torch.randn(p.shape, generator=generator, dtype=torch.float64)
                flat = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
                gradient[slot, : len(flat)] = flat
                optimizer.step()
            update_(rows.theta, gradient, rows.m, rows.v, scratch=torch.empty_like(gradient), c=c, step=step)
        rows.t += steps_per_epoch

    for name, slot, model in zip(CONFIGS, active, models, strict=True):
        for key, weight in model.state_dict().items():
            torch.testing.assert_close(rows.state_dict(int(slot))[key], weight, rtol=1e-12, atol=1e-13, msg=name)


def test_padding_stays_zero() -> None:
    rows = Rows.empty((1, 1), 1, torch.float32)
    rows.admit(0, TrialConfig(hidden_layers=()), build_mlp(TrialConfig(hidden_layers=()), 1, 1, 0), clip_norm=1.0)
    gradient = torch.zeros_like(rows.theta)
    gradient[0, :2] = 1.0
    c = coefficients(rows, torch.tensor([0]), 1)
    update_(rows.theta, gradient, rows.m, rows.v, scratch=torch.empty_like(gradient), c=c, step=0)
    assert rows.theta[0, :2].all()
    assert not rows.theta[0, 2:].any()
