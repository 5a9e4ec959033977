"""Models as users write them: build functions, one for each kind of module that a sweep has to cope with."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Gated(nn.Module):
    """A gated layer with layer norm and dropout."""

    def __init__(self, inputs: int, units: int, outputs: int, rate: float) -> None:
        super().__init__()
        self.value, self.gate = nn.Linear(inputs, units), nn.Linear(inputs, units)
        self.norm, self.drop, self.out = nn.LayerNorm(units), nn.Dropout(rate), nn.Linear(units, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.drop(self.norm(self.value(x) * torch.sigmoid(self.gate(x)))))


def gated(trial: Any, data: Any) -> nn.Module:
    units = trial.suggest_int("units", 8, 16, step=8)
    return Gated(data.n_inputs, units, data.n_outputs, trial.suggest_float("rate", 0.0, 0.5))


class Residual(nn.Module):
    """A residual layer behind a batch norm."""

    def __init__(self, inputs: int, units: int, outputs: int) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(inputs, units), nn.BatchNorm1d(units)
        self.second, self.out = nn.Linear(units, units), nn.Linear(units, outputs)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.norm(self.first(x)))
        return self.out(h + torch.tanh(self.second(h)))


def residual(trial: Any, data: Any) -> nn.Module:
    return Residual(data.n_inputs, trial.suggest_categorical("units", [8, 16]), data.n_outputs)


class Convolution(nn.Module):
    """Two convolutions on images of 8 times 8 points."""

    def __init__(self, filters: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, filters, 3, padding=1)
        self.second = nn.Conv2d(filters, 2 * filters, 3, padding=1)
        self.out = nn.Linear(8 * filters, outputs)

    def forward(self, x: Tensor) -> Tensor:
        h = nn.functional.max_pool2d(torch.relu(self.first(x.view(-1, 1, 8, 8))), 2)
        return self.out(nn.functional.max_pool2d(torch.relu(self.second(h)), 2).flatten(1))


def convolution(trial: Any, data: Any) -> nn.Module:
    return Convolution(trial.suggest_int("filters", 2, 4, step=2), data.n_outputs)


class Branching(nn.Module):
    """What it computes depends on its numbers."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first, self.out = nn.Linear(inputs, 8), nn.Linear(8, outputs)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        if h.mean() > 0:
            h = h * 0.5
        return self.out(torch.tanh(h))


def branching(trial: Any, data: Any) -> nn.Module:
    return Branching(data.n_inputs, data.n_outputs)


class Scaling(Branching):
    """It reads a number out of a tensor."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        return self.out(torch.tanh(h / h.abs().max().item()))


def scaling(trial: Any, data: Any) -> nn.Module:
    return Scaling(data.n_inputs, data.n_outputs)


class Noisy(Branching):
    """It draws random numbers by itself."""

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.tanh(nn.functional.dropout(self.first(x), 0.2, self.training)))


def noisy(trial: Any, data: Any) -> nn.Module:
    return Noisy(data.n_inputs, data.n_outputs)


class Buffered(nn.Module):
    """Buffers that stay, that are counted up in place, and that are set anew."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first, self.out = nn.Linear(inputs, 8), nn.Linear(8, outputs)
        self.register_buffer("scale", torch.linspace(0.5, 1.5, inputs))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mean", torch.zeros(inputs))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.steps += 1
            self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(0)
        return self.out(torch.tanh(self.first((x - self.mean) * self.scale)))


def buffered(trial: Any, data: Any) -> nn.Module:
    return Buffered(data.n_inputs, data.n_outputs)


class Broken(Branching):
    """It fails as it trains."""

    def forward(self, x: Tensor) -> Tensor:
        raise KeyError("no such thing") from None


def broken(trial: Any, data: Any) -> nn.Module:
    return Broken(data.n_inputs, data.n_outputs)
