"""Buffers of the eager path, in which each row begins on a boundary of its own.

Dimensions as in ``models/eager.py``: B examples, H units, C outputs.
"""

from __future__ import annotations

from functools import cached_property, partial

import torch
from torch import Tensor

from sweeper.models.sizes import ROW_ALIGN


class Activations:
    """The buffers of one minibatch size: x, then z and dz per layer, h and dh per hidden layer.

    ``dropout``, ``norms`` and ``sums`` are for hidden layers that have them, made when they are first asked for.
    """

    def __init__(self, sizes: tuple[int, ...], rows: int, batch: int, dtype: torch.dtype, device: torch.device) -> None:
        self._make = partial(aligned, rows, width=batch, dtype=dtype, device=device)
        self._hidden = sizes[1:-1]
        self.x = aligned(rows, batch, sizes[0], dtype, device)
        self.z, self.dz = self._each(sizes[1:]), self._each(sizes[1:])
        self.h, self.dh = self._each(self._hidden), self._each(self._hidden)

    @cached_property
    def dropout(self) -> tuple[list[Tensor], list[Tensor]]:
        """Masks, and activations after them."""
        return self._each(self._hidden), self._each(self._hidden)

    @cached_property
    def norms(self) -> tuple[list[Tensor], list[Tensor]]:
        """What normalisations make of z before and after scale and shift."""
        return self._each(self._hidden), self._each(self._hidden)

    @cached_property
    def sums(self) -> list[Tensor]:
        """Outputs of layers with their inputs."""
        return self._each(self._hidden)

    def _each(self, heights: tuple[int, ...]) -> list[Tensor]:
        return [self._make(height) for height in heights]


def aligned(rows: int, height: int, width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A buffer ``(rows, height, width)`` with a gap between rows, so that each begins on a 64 byte boundary.

    The last bits of a matrix product depend on where its operands begin, and those of an element-wise kernel on which
    elements fall into its scalar tail. With every row at the same boundary and walked by itself, neither depends on a
    row's position.
    """
    length = -(-height * width // ROW_ALIGN) * ROW_ALIGN + ROW_ALIGN
    flat = torch.empty(rows, length, dtype=dtype, device=device)
    return flat[:, : height * width].unflatten(1, (height, width))
