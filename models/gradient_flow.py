"""Gradient flow: how a minibatch passes through each layer of a network, and the plain PyTorch run that measures it.

Dimensions: A active rows, L Linear layers, S = len(FLOW_STATISTICS), H units of a layer, B examples of the minibatch.
What is measured is one training step, the last one with a full minibatch in an epoch. A layer is a Linear (weight and
bias together, and scale and shift of its normalisation; an embedding of the inputs belongs to the first one) with the
activation behind it, before any dropout and residual sum; the last one has none. Per layer:

    grad_norm        |g|                    g: the layer's gradient before clipping and weight decay
    weight_norm      |theta|                before the step
    update_ratio     |step| / |theta|       the step as taken, weight decay included; 0 / 0 = 0
    activation_mean  mean h                 over the layer's H units and the B examples, before the step;
    activation_std   sqrt(mean (h - mean h)^2)    the outputs, for the last layer
    saturated        share of h whose slope is below 1 - SATURATED of its largest (tanh, sigmoid; else NaN)
    dead             share of units with h = 0 for all B examples (relu; else NaN)

tanh' = 1 - h^2 has the maximum 1 and sigmoid' = h (1 - h) = (1 - (2h - 1)^2) / 4 the maximum 1/4: saturated means
h^2 > SATURATED and (2h - 1)^2 > SATURATED.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sweeper.models.config import FLOW_STATISTICS
from sweeper.models.embeddings import EmbeddingLayer

SATURATED = 0.95
CENTRED = {"tanh": (1.0, 0.0), "sigmoid": (2.0, 1.0)}  # a h - b lies in (-1, 1): saturated when its square is large


@dataclass(frozen=True, eq=False)
class EpochFlow:
    """One trial's statistics of one epoch: ``layers (L, S)`` float64 on the CPU, first layer first.

    ``clip_rate`` is the share of the epoch's steps whose gradient was clipped.
    """

    layers: Tensor
    clip_rate: float


@dataclass(frozen=True, eq=False)
class Flow:
    """What a path fills in during an epoch of A rows: layers ``(A, L, S)``, clip_rate ``(A,)``, float64 on the CPU.

    ``wanted (A,)`` int64 on the CPU tells the rows whose entries are used; the others may hold anything.
    """

    wanted: Tensor
    layers: Tensor
    clip_rate: Tensor

    @classmethod
    def empty(cls, wanted: list[bool], n_layers: int) -> Flow:
        """Room for rows, as many as ``wanted`` has entries."""
        layers = torch.full((len(wanted), n_layers, len(FLOW_STATISTICS)), math.nan, dtype=torch.float64)
        return cls(torch.tensor(wanted, dtype=torch.int64), layers, torch.zeros(len(wanted), dtype=torch.float64))

    def rows(self) -> list[EpochFlow | None]:
        """The statistics of each active row, None where they were not wanted."""
        parts = zip(self.wanted.tolist(), self.layers.unbind(), self.clip_rate.tolist(), strict=True)
        return [EpochFlow(layers, rate) if wanted else None for wanted, layers, rate in parts]


def is_measured(epoch: int, interval: int | None) -> bool:
    """Whether epoch ``epoch`` (from 0) is one of every ``interval`` epochs, the first included. None: none is."""
    return interval is not None and epoch % interval == 0


def measured_step(n: int, batch_size: int) -> int:
    """The step (from 0) of an epoch that is measured: the last one with a full minibatch of n examples."""
    return n // batch_size - 1


def update_ratio(step: Tensor, weights: Tensor) -> Tensor:
    """|step| / |weights| of norms of one shape; 0 where nothing moved."""
    return torch.where(step > 0, step / weights, 0.0)


class Watch:
    """One training step of a plain model, seen through hooks. Everything is in the dtype of the model.

    Make it before the forward pass; call ``backward_done`` after ``loss.backward()`` and before clipping, ``stepped``
    after the optimizer's step.
    """

    def __init__(self, model: nn.Sequential, activation: str) -> None:
        self.activation = activation
        self.layers: list[list[nn.Parameter]] = []
        sources: list[nn.Module] = []
        before = list[nn.Parameter]()  # of an embedding
        for module in model:
            if isinstance(module, EmbeddingLayer):
                before += module.parameters()
            elif isinstance(module, nn.Linear):
                self.layers.append([*before, *module.parameters()])
                before = []
            elif isinstance(module, nn.LayerNorm | nn.BatchNorm1d):
                self.layers[-1] += module.parameters()
            else:
                sources.append(module)
        self.before = [self._flat(layer, "data") for layer in self.layers]
        self.outputs: list[Tensor] = []  # one of each layer, (B, H)
        self.hooks = [source.register_forward_hook(self._keep) for source in [*sources, model[-1]]]
        self.gradients: list[Tensor] = []

    def _keep(self, module: nn.Module, inputs: object, output: Tensor) -> None:
        self.outputs.append(output.detach().clone())

    def backward_done(self) -> None:
        """Keep the gradients."""
        for hook in self.hooks:
            hook.remove()
        self.gradients = [self._flat(layer, "grad") for layer in self.layers]

    def stepped(self) -> Tensor:
        """The statistics ``(L, S)``."""
        rows = []
        for i, (layer, before) in enumerate(zip(self.layers, self.before, strict=True)):
            step = (self._flat(layer, "data") - before).norm()
            h, hidden = self.outputs[i], i < len(self.layers) - 1
            saturated = dead = torch.tensor(math.nan)
            if hidden and self.activation in CENTRED:
                factor, shift = CENTRED[self.activation]
                saturated = ((factor * h - shift).square() > SATURATED).double().mean()
            if hidden and self.activation == "relu":
                dead = (h == 0).all(dim=0).double().mean()
            ratio = update_ratio(step, before.norm())
            numbers = (self.gradients[i].norm(), before.norm(), ratio, h.mean(), h.std(correction=0), saturated, dead)
            rows.append(torch.stack([number.double().cpu() for number in numbers]))
        return torch.stack(rows)

    @staticmethod
    def _flat(layer: list[nn.Parameter], what: str) -> Tensor:
        return torch.cat([getattr(p, what).detach().reshape(-1) for p in layer if p.requires_grad])
