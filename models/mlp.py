"""The multilayer perceptron: Linear layers with an activation between them.

Dimensions: B examples, D features, H hidden units, C outputs (classes, or 1 for regression).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from sweeper.models.config import Task, TrialConfig
from sweeper.models.data import Data
from sweeper.models.embedding import layout_of
from sweeper.models.embeddings import EmbeddingLayer
from sweeper.models.init import initialize
from sweeper.models.own_config import OwnConfig

LEAKY_SLOPE = 0.01

ACTIVATION_MODULES: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "leaky_relu": lambda: nn.LeakyReLU(LEAKY_SLOPE),
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "selu": nn.SELU,
}


NORMALIZATION_MODULES: dict[str, Callable[[int], nn.Module]] = {"layer": nn.LayerNorm, "batch": nn.BatchNorm1d}


class Mlp(nn.Sequential):
    """``Linear, [normalisation,] activation, Linear, .., Linear``; ``residual``: of hidden layers of equal width."""

    residual = False

    def forward(self, input: Tensor, mask: Callable[[Tensor, int], Tensor] | None = None) -> Tensor:
        """``(B, n_inputs) -> (B, n_outputs)``.

        ``mask`` gives what the activations of a hidden layer (from 0) are multiplied by in training.
        """
        x = before = input
        layer = 0
        for module in self:
            before = x if isinstance(module, nn.Linear) else before
            x = module(x)
            if not isinstance(module, nn.Linear | nn.LayerNorm | nn.BatchNorm1d | EmbeddingLayer):
                x = x if mask is None else x * mask(x, layer)
                if self.residual and layer > 0 and x.shape == before.shape:
                    x = x + before
                layer += 1
        return x


class _Undrawn(nn.Linear):
    """A Linear whose weights hold anything: torch's own initialization would draw from the global generator."""

    def reset_parameters(self) -> None:
        """Leave them to ``initialize``."""


class NtkLinear(nn.Linear):
    """A Linear with ``W x / sqrt(n_in) + b``."""

    def forward(self, input: Tensor) -> Tensor:
        """``(B, n_in) -> (B, n_out)``."""
        return nn.functional.linear(input * self.in_features**-0.5, self.weight, self.bias)


def build_mlp(
    config: TrialConfig, n_inputs: int, n_outputs: int, seed: int, columns: Sequence[int] | Tensor | None = None
) -> Mlp:
    """``Linear, [normalisation,] activation, Linear, .., Linear`` in float32 on the CPU.

    ``(B, n_inputs) -> (B, n_outputs)`` logits. All weights come from one generator seeded by ``seed``, layers in order.
    The biases in front of a batch normalisation stay at zero. No hidden layer: one Linear, i.e. logistic (softmax) or
    linear regression. ``columns (n_inputs,)`` says what the inputs are (``embedding.py``; None: numbers); where any are
    embedded, that layer comes first, named ``embedding``.
    """
    generator = torch.Generator().manual_seed(seed)
    layout = layout_of(config.embedding, columns, n_inputs)
    embedding = None if layout is None else EmbeddingLayer(layout, config.frequency_scale, generator)
    widths = (n_inputs if layout is None else layout.width, *config.hidden_layers, n_outputs)
    modules: list[nn.Module] = []
    activation, ntk = ACTIVATION_MODULES[config.activation], config.parametrization == "ntk"
    normalization = NORMALIZATION_MODULES.get(config.normalization)
    for n_in, n_out in pairwise(widths):
        # on the device meta, where nothing is drawn, torch takes 0.1 ms; its skip_init imports sympy, half a second
        linear: nn.Linear = _Undrawn(n_in, n_out, device="cpu", dtype=torch.float32)
        linear.__class__ = NtkLinear if ntk else nn.Linear
        initialize(linear, config.initialization, generator)
        if ntk:
            linear.weight.data.mul_(n_in**0.5)
        # a batch's mean takes a bias away again: its gradient would be nothing but rounding, which Adam blows up
        linear.bias.requires_grad_(config.normalization != "batch")
        modules += [linear, *([normalization(n_out)] if normalization else []), activation()]
    linear.bias.requires_grad_(True)
    named = dict(nn.Sequential(*modules[: modules.index(linear) + 1]).named_children())
    model = Mlp(OrderedDict(named if embedding is None else {"embedding": embedding} | named))
    model.residual = config.residual
    return model


def build_network(
    config: TrialConfig, n_inputs: int, n_outputs: int, seed: int, columns: Sequence[int] | Tensor | None = None
) -> nn.Module:
    """The network of a trial with its initial weights: an MLP, or the user's own module."""
    if isinstance(config, OwnConfig):
        from sweeper.models.own_row import build_own

        return build_own(config, n_inputs, n_outputs, seed)
    return build_mlp(config, n_inputs, n_outputs, seed, columns)


def count_outputs(data: Data, task: Task) -> int:
    """C: 1 for regression, else one more than the largest class index in the training and validation targets."""
    if task == "regression":
        return 1
    return int(max(data.y_train.max(), data.y_val.max())) + 1


@torch.no_grad()
def predict_probabilities(model: nn.Module, x: Tensor) -> Tensor:
    """Class probabilities ``(B, C)`` of ``x (B, D)``: the softmax of the model's logits; rows sum to 1."""
    return torch.softmax(model(x), dim=1)
