"""Dropout and batch normalisation for the user's own modules, each row of a group for itself.

Dimensions: B examples of a minibatch, H features behind it (all dimensions but the first), L dropout layers.

Dropout's masks are those of ``dropout.py``: they depend on the trial's seed, its step, and the place of the layer
among those of a forward pass, so that a trial draws the same ones alone and beside others.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from sweeper.models.dropout import threshold, words

DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass
class Draw:
    """What the dropout layers of a module draw from in one step; set before each forward pass.

    ``seed`` and ``step`` are int64 ``()``; ``kept_from`` int64 and ``scale`` ``(L,)``, of each layer the smallest word
    that is kept, and 1 / (1 - p). ``calls`` counts the dropouts of this pass.
    """

    seed: Tensor | None = None
    step: Tensor | None = None
    kept_from: Tensor | None = None
    scale: Tensor | None = None
    calls: int = 0
    rates: list[float] = field(default_factory=list)

    def begin(self, seed: Tensor, step: Tensor, kept_from: Tensor, scale: Tensor) -> None:
        """A forward pass of one row begins."""
        self.seed, self.step, self.kept_from, self.scale, self.calls = seed, step, kept_from, scale, 0

    def columns(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """``kept_from`` and ``scale`` of this module's own rates, on the device and in the dtype of ``like``."""
        rates = torch.tensor(self.rates, dtype=torch.float64)
        kept_from = torch.where(rates < 1.0, threshold(rates), 2**32)
        scale = torch.where(rates < 1.0, 1.0 / (1.0 - rates), 0.0)
        return kept_from.to(like.device), scale.to(like)


class RowDropout(nn.Module):
    """``nn.Dropout`` of one row; ``channels``: whole channels are left out, as by ``nn.Dropout2d``."""

    def __init__(self, draw: Draw, place: int, channels: bool) -> None:
        super().__init__()
        self.draw, self.place, self.channels = draw, place, channels

    def forward(self, x: Tensor) -> Tensor:
        """``(B, ...)`` with units left out, and the others scaled, in training."""
        draw = self.draw
        if not self.training or draw.seed is None or draw.step is None:
            return x
        assert draw.kept_from is not None
        assert draw.scale is not None
        shape = x.shape[1:2] if self.channels else x.shape[1:]
        drawn = words(draw.seed.view(1), draw.step.view(1), draw.calls, math.prod(shape), x.shape[0])[0].T
        draw.calls += 1
        kept = (drawn >= draw.kept_from[self.place]).reshape(x.shape[0], *shape)
        if self.channels:
            kept = kept.reshape(*kept.shape, *[1] * (x.ndim - 2))
        return torch.where(kept, x * draw.scale[self.place], 0.0)


class RowBatchNorm(nn.Module):
    """``nn.BatchNorm1d`` and its like without operations in place: ``torch.vmap`` refuses the running statistics.

    Parameters and buffers are those of ``norm`` and have its names.
    """

    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(self, norm: nn.modules.batchnorm._BatchNorm) -> None:
        super().__init__()
        self.eps, self.momentum, self.training = norm.eps, norm.momentum, norm.training
        self.weight, self.bias = norm.weight, norm.bias
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            self.register_buffer(name, getattr(norm, name))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, ...)``, normalised by its own statistics in training, else by the running ones."""
        dims, shape = [0, *range(2, x.ndim)], [1, -1, *[1] * (x.ndim - 2)]
        if self.training or self.running_mean is None:
            var, mean = torch.var_mean(x, dims, correction=0)
            self._track(mean.detach(), var.detach(), x.numel() // x.shape[1])
        else:
            assert self.running_var is not None
            mean, var = self.running_mean, self.running_var
        normed = (x - mean.view(shape)) * torch.rsqrt(var.view(shape) + self.eps)
        return normed if self.weight is None else normed * self.weight.view(shape) + self.bias.view(shape)

    def _track(self, mean: Tensor, var: Tensor, n: int) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked = self.num_batches_tracked + 1
        share = 1.0 / self.num_batches_tracked.to(mean) if self.momentum is None else self.momentum
        self.running_mean = self.running_mean + share * (mean - self.running_mean)
        self.running_var = self.running_var + share * (var * (n / (n - 1)) - self.running_var)


def with_row_dropout(module: nn.Module) -> Draw:
    """Exchange the dropout layers inside ``module`` for ours; their rates stand in the draw that is returned."""
    draw = Draw()
    known: dict[int, RowDropout] = {}

    def exchanged(child: nn.Module) -> nn.Module | None:
        if type(child) not in DROPOUTS:
            return None
        if id(child) not in known:
            known[id(child)] = RowDropout(draw, len(draw.rates), type(child) is not nn.Dropout)
            draw.rates.append(float(child.p))  # type: ignore[arg-type]
        return known[id(child)]

    _exchange(module, exchanged)
    return draw


def with_row_norms(module: nn.Module) -> None:
    """Exchange the batch normalisations inside ``module`` for ours."""
    known: dict[int, RowBatchNorm] = {}

    def exchanged(child: nn.Module) -> nn.Module | None:
        if type(child) not in NORMS:
            return None
        return known.setdefault(id(child), RowBatchNorm(child))  # type: ignore[arg-type]

    _exchange(module, exchanged)


def _exchange(module: nn.Module, exchanged: Callable[[nn.Module], nn.Module | None]) -> None:
    for parent in list(module.modules()):
        for name, child in list(parent._modules.items()):
            new = None if child is None else exchanged(child)
            if new is not None and child is not None:
                new.train(child.training)
                parent._modules[name] = new
