"""The layer that embeds numbers and categories in plain PyTorch.

Dimensions: B examples, D inputs, N numbers among them, E outputs and F waves of each, k frequencies, M categories.

    plr     h = relu(W [cos 2 pi w x, sin 2 pi w x] + b)      Gorishniy et al. 2022, arXiv 2203.05556: F = 2 k
    pbld    h = [x, W cos(2 pi w x + p) + b]                   Holzmueller et al. 2024, arXiv 2407.04491: F = k
    a category's h = T x, with x one-hot: a row of T, zeros for an unknown one

Each number has its own frequencies w, phases p, weight W and bias b, and each text column its own table T; all of them
are learned.
"""

from __future__ import annotations

from math import pi, sqrt

import torch
from torch import Tensor, nn

from sweeper.models.embedding import EmbeddingLayout


class EmbeddingLayer(nn.Module):
    """``(B, D) -> (B, width)``: the embedded numbers, the inputs that are passed on, the embedded categories.

    Parameters: frequencies (and phases) ``(N, k)``, weight ``(N, E, F)``, bias ``(N, E)``, categories.i ``(M, size)``.
    They are drawn from ``generator`` in this order: frequencies from N(0, ``scale``^2), phases from all angles, weight
    and bias uniformly within 1 / sqrt(F), categories from N(0, 1).
    """

    frequencies: Tensor
    phases: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self, layout: EmbeddingLayout, scale: float, generator: torch.Generator) -> None:
        super().__init__()
        self.layout = layout
        shapes = {name: torch.empty(shape) for name, shape in layout.shapes.items()}
        tables = [shapes.pop(name) for name in list(shapes) if name.startswith("categories.")]
        for name, values in shapes.items():
            self.register_parameter(name, nn.Parameter(values))
            if name == "frequencies":
                nn.init.normal_(values, std=scale, generator=generator)
            else:
                limit = pi if name == "phases" else 1.0 / sqrt(layout.shapes["weight"][2])
                nn.init.uniform_(values, -limit, limit, generator=generator)
        for table in tables:
            nn.init.normal_(table, generator=generator)
        if tables:
            self.categories = nn.ParameterList(tables)

    def forward(self, x: Tensor) -> Tensor:
        """The outputs for the inputs ``x``."""
        layout, parts = self.layout, list[Tensor]()
        if layout.numbers:
            numbers = x[:, list(layout.numbers)]  # (B, N)
            parts.append(self._embedded(numbers).flatten(1))
        if layout.passed:
            parts.append(x[:, list(layout.passed)])
        if layout.categories:
            parts += [x[:, a:b] @ table for (a, b), table in zip(layout.categories, self.categories, strict=True)]
        return torch.cat(parts, dim=1)

    def _embedded(self, x: Tensor) -> Tensor:
        """Numbers ``(B, N) -> (B, N, E)``."""
        z = 2.0 * pi * self.frequencies * x[:, :, None]  # (B, N, k)
        if self.layout.kind == "pbld":
            made = torch.einsum("bnf,nef->bne", torch.cos(z + self.phases), self.weight) + self.bias
            return torch.cat([x[:, :, None], made], dim=2)
        waves = torch.cat([torch.cos(z), torch.sin(z)], dim=2)  # (B, N, F)
        return torch.relu(torch.einsum("bnf,nef->bne", waves, self.weight) + self.bias)
