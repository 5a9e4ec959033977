"""The embeddings of a chunk of rows, forwards and backwards, in buffers that stay.

Dimensions as in ``models/embeddings.py``, which has the formulas, and A rows of a chunk. The numbers of all rows are
one batch of A N small products, each of which begins on a boundary of its own, as ``network.aligned`` has it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import pi, prod

import torch
from torch import Tensor

from sweeper.models.embedding import EmbeddingLayout
from sweeper.models.rows import embedding_slices

Make = Callable[[int, int, int], Tensor]  # a buffer of so many matrices, their height and width


@dataclass(frozen=True)
class Waves:
    """Buffers for A N numbers of B examples: angles z and their gradient ``(A N, k, B)``, waves f and theirs
    ``(A N, F, B)``, outputs e and theirs ``(A N, E, B)``; and the outputs of the whole layer ``(A, width, B)``.
    """

    z: Tensor
    dz: Tensor
    f: Tensor
    df: Tensor
    e: Tensor
    de: Tensor


class EmbeddingRows:
    """Workspace for up to ``rows`` rows with a ``layout``; ``make`` makes buffers."""

    def __init__(self, layout: EmbeddingLayout, rows: int, make: Make, device: torch.device) -> None:
        self.layout, self.rows, self.make = layout, rows, make
        self.plr = layout.kind == "plr"
        self.numbers, self.passed = (
            torch.tensor(part, dtype=torch.int64, device=device) for part in (layout.numbers, layout.passed)
        )
        self.slices = embedding_slices(layout)
        self._outputs: dict[int, tuple[Tensor, Tensor]] = {}
        self._waves: dict[int, Waves] = {}

    @cached_property
    def weights(self) -> tuple[Tensor, Tensor]:
        """A copy of W ``(A N, E, F)``, and its gradient."""
        count = self.rows * len(self.layout.numbers)
        shape = count, self.layout.made, self.layout.waves
        return self.make(*shape), self.make(*shape)

    def outputs(self, batch: int) -> tuple[Tensor, Tensor]:
        """Outputs ``(A, width, B)`` and their gradient for B = ``batch`` examples."""
        if batch not in self._outputs:
            shape = self.rows, self.layout.width, batch
            self._outputs[batch] = self.make(*shape), self.make(*shape)
        return self._outputs[batch]

    def waves(self, batch: int) -> Waves:
        """The buffers for B = ``batch`` examples."""
        if batch not in self._waves:
            heights = (self.layout.embedding.frequencies, self.layout.waves, self.layout.made)
            count = self.rows * len(self.layout.numbers)
            self._waves[batch] = Waves(*(self.make(count, height, batch) for height in heights for _ in range(2)))
        return self._waves[batch]


class Embedded:
    """One forward pass of a chunk with the parameters ``theta (A, P)``: ``output (A, width, B)`` of ``x (A, D, B)``."""

    def __init__(self, space: EmbeddingRows, theta: Tensor, x: Tensor) -> None:
        self.space, self.x, self.count, self.batch = space, x, len(x), x.shape[2]
        self.parameters = {
            name: theta[:, start : start + prod(shape)].unflatten(1, shape)
            for name, (start, shape) in space.slices.items()
        }
        layout = space.layout
        self.output = space.outputs(self.batch)[0][: self.count]
        place = layout.embedded
        if layout.numbers:
            self._embed_numbers()
        self.output[:, place : place + len(layout.passed)] = x[:, space.passed]
        place += len(layout.passed)
        for i, (start, stop) in enumerate(layout.categories):
            size = layout.embedding.category_size
            made = torch.bmm(self.parameters[f"categories.{i}"].transpose(1, 2), x[:, start:stop])
            self.output[:, place : place + size] = made
            place += size

    def _by_row(self, buffer: Tensor) -> Tensor:
        """A buffer ``(rows N, ..)`` as ``(A, N, ..)``."""
        n = len(self.space.layout.numbers)
        return buffer[: self.count * n].unflatten(0, (self.count, n))

    def _embed_numbers(self) -> None:
        space, layout = self.space, self.space.layout
        self.values = self.x[:, space.numbers]  # (A, N, B)
        at, own, (w, _) = space.waves(self.batch), self.parameters, space.weights
        count, k = self.count * len(layout.numbers), layout.embedding.frequencies
        z, f, e = at.z[:count], at.f[:count], at.e[:count]
        torch.mul((2.0 * pi * own["frequencies"])[..., None], self.values[:, :, None], out=self._by_row(at.z))
        if not space.plr:
            self._by_row(at.z).add_(own["phases"][..., None])
        torch.cos(z, out=f[:, :k])
        if space.plr:
            torch.sin(z, out=f[:, k:])
        self._by_row(w).copy_(own["weight"])
        torch.bmm(w[:count], f, out=e)
        made = self._by_row(at.e).add_(own["bias"][..., None])
        out = self.output[:, : layout.embedded].unflatten(1, (len(layout.numbers), layout.embedding.size))
        if space.plr:
            torch.clamp_min(made, 0.0, out=out)
        else:
            out[:, :, 0] = self.values
            out[:, :, 1:] = made

    def backward(self, dh: Tensor) -> list[Tensor]:
        """The gradients of the parameters in their order, each ``(A, ..)``, from that of the output."""
        layout = self.space.layout
        found = self._numbers_backward(dh[:, : layout.embedded]) if layout.numbers else []
        place = layout.embedded + len(layout.passed)
        for start, stop in layout.categories:
            part = dh[:, place : place + layout.embedding.category_size]
            found.append(torch.bmm(self.x[:, start:stop], part.transpose(1, 2)))
            place += layout.embedding.category_size
        return found

    def _numbers_backward(self, dh: Tensor) -> list[Tensor]:
        """With e = W f + b:  dW = de f^T,  db = sum_B de,  df = W^T de,  dw = 2 pi sum_B dz x."""
        space, layout = self.space, self.space.layout
        at, (w, dw) = space.waves(self.batch), space.weights
        n, k = len(layout.numbers), layout.embedding.frequencies
        count, dh = self.count * n, dh.unflatten(1, (n, layout.embedding.size))
        z, dz, f, df, de = (buffer[:count] for buffer in (at.z, at.dz, at.f, at.df, at.de))
        if space.plr:
            torch.mul(dh, self._by_row(at.e) > 0, out=self._by_row(at.de))
        else:
            self._by_row(at.de).copy_(dh[:, :, 1:])
        torch.bmm(de, f.transpose(1, 2), out=dw[:count])
        torch.bmm(w[:count].transpose(1, 2), de, out=df)
        if space.plr:
            torch.mul(df[:, k:], f[:, :k], out=dz)
            dz.sub_(df[:, :k].mul_(f[:, k:]))
        else:
            torch.mul(torch.sin(z, out=z), df, out=dz).neg_()
        phases = [] if space.plr else [self._by_row(at.dz).sum(dim=3)]
        moved = torch.mul(self._by_row(at.dz), self.values[:, :, None], out=self._by_row(at.z))
        return [moved.sum(dim=3).mul_(2.0 * pi), *phases, self._by_row(dw), self._by_row(at.de).sum(dim=3)]
