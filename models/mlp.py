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


def build_mlp(
    config: TrialConfig, n_inputs: int, n_outputs: int, seed: int, columns: Sequence[int] | Tensor | None = None
) -> nn.Sequential:
    """``Linear, [LayerNorm,] activation, Linear, .., Linear`` in float32 on the CPU.

    ``(B, n_inputs) -> (B, n_outputs)`` logits. All weights come from one generator seeded by ``seed``, layers in order.
    No hidden layer: one Linear, i.e. logistic (softmax) or linear regression. ``columns (n_inputs,)`` says what the
    inputs are (``embedding.py``; None: numbers); where any are embedded, that layer comes first, named ``embedding``.
    """
    generator = torch.Generator().manual_seed(seed)
    layout = layout_of(config.embedding, columns, n_inputs)
    embedding = None if layout is None else EmbeddingLayer(layout, config.frequency_scale, generator)
    widths = (n_inputs if layout is None else layout.width, *config.hidden_layers, n_outputs)
    modules: list[nn.Module] = []
    activation = ACTIVATION_MODULES[config.activation]
    for n_in, n_out in pairwise(widths):
        # on meta, because nn.Linear's own initialization would draw from the global generator; torch's skip_init does
        # the same and imports sympy, half a second of a worker's first leg
        linear = nn.Linear(n_in, n_out, device="meta")
        linear.weight = nn.Parameter(torch.empty(n_out, n_in, dtype=torch.float32))
        linear.bias = nn.Parameter(torch.empty(n_out, dtype=torch.float32))
        initialize(linear, config.initialization, generator)
        modules += [linear, *([nn.LayerNorm(n_out)] if config.normalization == "layer" else []), activation()]
    made = nn.Sequential(*modules[: modules.index(linear) + 1])
    return made if embedding is None else nn.Sequential(OrderedDict([("embedding", embedding), *made.named_children()]))


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
