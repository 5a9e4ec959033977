"""The user's own modules: equal to plain PyTorch, side by side as alone, and by themselves where they must."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tests.own_modules as modules
from sweeper.models import Data, History, TrainConfig, batch_order, train_cohort
from sweeper.models.config import PlateauConfig
from sweeper.models.own_cohort import OwnCohort, how
from sweeper.models.own_config import OwnConfig
from sweeper.models.own_row import OwnRow, build_own
from sweeper.models.own_structure import structure
from sweeper.models.solo import dropout_mask, evaluate, loss_of, make_optimizer, make_plateau
from tests.tiny import identical

TRAIN = TrainConfig(epochs=2, batch_size=16, clip_norm=0.5, plateau=PlateauConfig(patience=0, threshold=0.2))
VALUES = {"gated": {"units": 8, "rate": 0.3}, "residual": {"units": 8}, "convolution": {"filters": 2}}
FUSED = ("gated", "residual", "convolution", "buffered")
ALONE = {
    "branching": "forward() branches on a tensor's value (line 72)",
    "scaling": "forward() calls .item() (line 86)",
    "noisy": "forward() draws random numbers outside nn.Dropout (line 97)",
}


@dataclass(frozen=True)
class Builder:
    """A function of ``tests.own_modules`` as a sweep has it."""

    function: str
    file: str = modules.__file__

    def __call__(self, *args: Any) -> Any:
        return getattr(modules, self.function)(*args)

    def happened(self, error: BaseException) -> str:
        return f"line {self.line_of(error)}: {error}"

    def line_of(self, error: BaseException) -> int | None:
        lines, at = [], error.__traceback__
        while at is not None:
            lines += [at.tb_lineno] if at.tb_frame.f_code.co_filename == self.file else []
            at = at.tb_next
        return lines[-1] if lines else None


def data_of(dtype: torch.dtype = torch.float64, task: str = "classification") -> Data:
    """40 training rows of 64 inputs, so that the last of three minibatches is short."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 64, dtype=dtype, generator=generator)
    y = (x[:, :3] + 0.3 * torch.randn(60, 3, dtype=dtype, generator=generator)).argmax(dim=1)
    target = y if task == "classification" else x[:, 0] * x[:, 1]
    return Data(x[:40], target[:40], x[40:], target[40:])


def configs_of(name: str) -> list[OwnConfig]:
    params = VALUES.get(name, {})
    extra: list[dict[str, Any]] = [
        {"optimizer": "adamw", "weight_decay": 0.1, "label_smoothing": 0.1},
        {"optimizer": "momentum", "ema_decay": 0.8},
        {"optimizer": "adam", "clip_norm": 10.0},
    ]
    return [OwnConfig.of({"learning_rate": 0.02, **each, **params}, Builder(name)) for each in extra]


class Masked(nn.Module):
    """Dropout as the plain MLP's oracle has it."""

    def __init__(self, rate: float, seed: int) -> None:
        super().__init__()
        self.rate, self.seed, self.step = rate, seed, 0

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        self.step += 1
        return x * dropout_mask(x, self.rate, self.seed, self.step - 1, 0)


def plain(config: OwnConfig, train: TrainConfig, data: Data, seed: int) -> list[float]:
    """The validation losses of a loop in plain PyTorch."""
    outputs = 1 if data.y_train.is_floating_point() else 3
    model = build_own(config, 64, outputs, seed).to(data.x_train)
    if isinstance(model, modules.Gated):
        model.drop = Masked(model.drop.p, seed)
    optimizer = make_optimizer(config, model)  # type: ignore[arg-type]
    plateau, average, losses = make_plateau(train, optimizer), None, []
    steps = 0
    clip = train.clip_norm if config.clip_norm is None else config.clip_norm
    for epoch in range(train.epochs):
        model.train()
        for batch in batch_order(40, seed, epoch).split(16):
            optimizer.zero_grad()
            output = model(data.x_train[batch])
            loss_of(output, data.y_train[batch], train.task, None, config.label_smoothing).backward()
            nn.utils.clip_grad_norm_(model.parameters(), clip or 1e30)
            optimizer.step()
            state = {name: p.detach().clone() for name, p in model.named_parameters()}
            steps += 1
            share = max(1 - config.ema_decay, 10 / (steps + 9))
            average = {n: p if steps == 1 else (1 - share) * average[n] + share * p for n, p in state.items()}
        model.eval()
        if config.ema_decay > 0:
            model.load_state_dict({**model.state_dict(), **average})
        losses.append(evaluate(model, data, train.task)[0])
        model.load_state_dict({**model.state_dict(), **state})
        if plateau is not None:
            plateau.step(losses[-1])
    return losses


def trained(configs: Sequence[OwnConfig], data: Data, train: TrainConfig = TRAIN) -> list[History]:
    return train_cohort(configs, train, data, [3] * len(configs))


@pytest.mark.parametrize("name", [*FUSED, "branching", "scaling"])
def test_every_module_trains_as_in_plain_pytorch(name: str) -> None:
    data, configs = data_of(), configs_of(name)
    for config, history in zip(configs, trained(configs, data), strict=True):
        assert history.val_loss == pytest.approx(plain(config, TRAIN, data, 3), rel=1e-9)


def test_a_regression_trains_as_in_plain_pytorch() -> None:
    data, configs, train = data_of(task="regression"), configs_of("residual"), replace(TRAIN, task="regression")
    configs = [replace(config, label_smoothing=0.0) for config in configs]
    for config, history in zip(configs, trained(configs, data, train), strict=True):
        assert history.val_loss == pytest.approx(plain(config, train, data, 3), rel=1e-9)
        assert history.val_rmse == pytest.approx([loss**0.5 for loss in history.val_loss])


@pytest.mark.parametrize("name", FUSED)
def test_a_fused_row_has_the_same_bits_alone_and_beside_others(name: str) -> None:
    data, configs = data_of(torch.float32), configs_of(name)
    row = OwnRow(configs[0], 64, 3, 0, data.x_train)
    assert how(row, data, "classification", 16) == ""
    for numbers in ([0, 1, 2], [2, 1, 0], [1], [2, 0, 2, 0, 1]):
        for number, history in zip(numbers, trained([configs[n] for n in numbers], data), strict=True):
            assert identical(history, trained([configs[number], configs[0]], data)[0])
    # a bias in front of a batch norm has rounding errors for a gradient, which Adam makes steps of
    off = 1e-2 if name == "residual" else 1e-4
    for fused, alone in zip(
        trained(configs, data), trained([replace(c, fuse=False) for c in configs], data), strict=True
    ):
        assert fused.val_loss == pytest.approx(alone.val_loss, rel=off)
        assert fused.state_dict.keys() == alone.state_dict.keys()


@pytest.mark.parametrize(("name", "reason"), ALONE.items())
def test_what_cannot_be_fused_says_why_and_draws_the_same_again(name: str, reason: str) -> None:
    data, config = data_of(torch.float32), configs_of(name)[0]
    assert how(OwnRow(config, 64, 3, 0, data.x_train), data, "classification", 16) == reason
    first, second = trained([config, config], data)
    assert identical(first, second)


@pytest.mark.parametrize("name", ["gated", "residual", "buffered", "noisy"])
def test_a_row_goes_on_elsewhere_as_if_it_had_stayed(name: str) -> None:
    data, configs = data_of(torch.float32), configs_of(name)
    train = replace(TRAIN, epochs=4, keep="best")
    wanted = trained(configs, data, train)
    here, there = (OwnCohort(train, data, 3) for _ in range(2))
    for number, config in enumerate(configs):
        here.admit(number, config, 3)
    here.leg(2)
    for number in reversed(range(3)):
        there.admit(number, configs[number], 3, here.export(number))
    for report in there.leg(2):
        history = wanted[report.key]
        assert report.metrics["val_loss"] == history.val_loss[2:]
        assert report.finished
        assert all(torch.equal(report.state_dict[name], tensor) for name, tensor in history.state_dict.items())


def test_an_error_in_forward_ends_its_own_trial_alone() -> None:
    data, config = data_of(torch.float32), configs_of("branching")[0]
    broken = replace(config, builder=Builder("broken"))
    cohort = OwnCohort(TRAIN, data, 2)
    cohort.admit("good", config, 0)
    cohort.admit("bad", broken, 0)
    good, bad = cohort.leg(2)
    assert good.finished
    assert bad.failed == "line 129: 'no such thing'"
    assert cohort.free == 2


def test_structures_differ_in_everything_but_weights_and_rates() -> None:
    def of(module: nn.Module) -> str:
        return structure(module)

    class Power(nn.Module):
        def __init__(self, exponent: float) -> None:
            super().__init__()
            self.linear, self.exponent = nn.Linear(2, 2), exponent

        def forward(self, x: Tensor) -> Tensor:
            return self.linear(x**self.exponent)

    assert of(Power(2.0)) == of(Power(2.0))
    assert of(Power(2.0)) != of(Power(3.0))
    assert of(nn.Sequential(nn.Linear(2, 2), nn.ReLU())) != of(nn.Sequential(nn.Linear(2, 2), nn.Tanh()))
    data = data_of()
    rows = [
        OwnRow(OwnConfig.of({"units": 8, "rate": rate}, Builder("gated")), 64, 3, 0, data.x_train)
        for rate in (0.0, 0.4)
    ]
    assert of(rows[0].module) == of(rows[1].module)
