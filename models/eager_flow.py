"""The gradient flow of a chunk of the eager path, taken from its buffers while it trains.

Dimensions as in ``models/eager.py`` and ``models/gradient_flow.py``: A rows, L layers, P parameters per row, H units,
B examples. Means are sums in float64, and so are norms below ``SMALL``: the square of a vanishing float32 gradient
would be zero.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sweeper.models.gradient_flow import CENTRED, SATURATED, update_ratio
from sweeper.models.network import Chunk, Forward, Gradients

SMALL = 1e-12  # of norms: far above it no square that counts is lost in float32, whose smallest is 1e-38


class ChunkFlow:
    """Sees one training step of a chunk, and the gradient norms of all steps of the epoch.

    Call ``forward_done``, ``backward_done`` and ``stepped`` in this order in the measured step; then ``layers`` is
    ``(A, L, S)``. It works in buffers that the step has yet to write: fresh memory costs more than the sums themselves.
    """

    def __init__(self, chunk: Chunk) -> None:
        self.chunk = chunk
        self.norms: list[Tensor] = []  # of the whole gradient before clipping, one (A,) for each step
        self.layers = torch.empty(0)
        self._outputs = self._gradients = torch.empty(0)

    def forward_done(self, forward: Forward) -> None:
        """Before the backward pass, which may overwrite the activations."""
        self.chunk.before.copy_(self.chunk.theta)
        self._outputs = output_statistics(self.chunk, forward)

    def backward_done(self, gradients: Gradients) -> None:
        """With the gradients before clipping."""
        zero = torch.zeros((), dtype=torch.float64, device=gradients.norm.device)
        squares = [sum((norms_of(g.flatten(1)).square() for g in layer), zero) for layer in gradients.layers]
        self._gradients = torch.stack(squares, dim=1).sqrt()  # hypot's last bits depend on a row's position

    def stepped(self) -> None:
        """After the update."""
        theta, before = self.chunk.theta, self.chunk.before
        weights = self._layer_norms(before)
        steps = self._layer_norms(torch.sub(theta, before, out=before))
        own = torch.stack([self._gradients, weights, update_ratio(steps, weights)], dim=2)
        self.layers = torch.cat([own, self._outputs], dim=2)

    def clip_rate(self, clip: Tensor) -> Tensor:
        """The share ``(A,)`` of steps with ``clip / (norm + 1e-6) < 1``, for the bounds ``clip (A,)``."""
        norms = torch.stack(self.norms)  # (steps, A)
        return (clip / (norms + 1e-6) < 1.0).double().mean(dim=0)

    def _layer_norms(self, plane: Tensor) -> Tensor:
        """The norms ``(A, L)`` of the layers in ``plane (A, P)``."""
        ends = [layer.end for layer in self.chunk.layers]
        return torch.stack([norms_of(plane[:, start:end]) for start, end in zip([0, *ends], ends, strict=False)], dim=1)


def norms_of(rows: Tensor) -> Tensor:
    """The norm of each row of ``(A, N)``, as ``(A,)`` float64; summed in float64 where float32 squares could fail."""
    norms = torch.linalg.vector_norm(rows, dim=1).double()
    beyond = (norms < SMALL) | norms.isinf()
    return torch.where(beyond, wide_norms(rows), norms) if beyond.any() else norms


def wide_norms(rows: Tensor) -> Tensor:
    """The same, all summed in float64, which takes three times as long."""
    return torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64)


def output_statistics(chunk: Chunk, forward: Forward) -> Tensor:
    """activation_mean, activation_std, saturated and dead, as ``(A, L, 4)`` float64, of a forward pass.

    Sums are of the distance from a row's first activation: equal ones have no variance. Overwrites the gradients of
    the layers' outputs.
    """
    found = []
    for layer, h in enumerate(forward.outputs):  # (A, H, B)
        spare = forward.at.dz[layer][: chunk.count]
        away, hidden = torch.sub(h, h[:, :1, :1], out=spare), layer < len(chunk.layers) - 1
        mask = chunk.masks[layer] if hidden and chunk.padded else None
        units = chunk.units[layer].view(-1).double() if hidden else torch.tensor(float(h.shape[1]), device=h.device)
        if mask is not None:
            away.mul_(mask)
        away = away.flatten(1)
        mean = away.sum(dim=1, dtype=torch.float64) / (units * h.shape[2])
        std = (wide_norms(away).square() / (units * h.shape[2]) - mean.square()).clamp(min=0.0).sqrt()
        shares = torch.full((2, len(h)), math.nan, dtype=torch.float64, device=h.device)
        if hidden:
            for rows, _, name in chunk.parts:
                own = None if mask is None else mask[rows]
                if name in CENTRED:
                    shares[0, rows] = saturated(h[rows], name, spare[rows], own) / (units[rows] * h.shape[2])
                elif name == "relu":
                    dead = (h[rows].amax(dim=2) <= 0).double()
                    shares[1, rows] = (dead if own is None else dead.mul_(own[:, :, 0])).sum(dim=1) / units[rows]
        found.append(torch.stack([h[:, 0, 0] + mean, std, *shares], dim=1))
    return torch.stack(found, dim=1)


def saturated(h: Tensor, name: str, spare: Tensor, mask: Tensor | None) -> Tensor:
    """How many ``(A,)`` of the activations ``h (A, H, B)`` are, of a kind in ``CENTRED``; overwrites ``spare``.

    Those that are not in the ``mask (A, H, 1)`` do not count.
    """
    factor, shift = CENTRED[name]
    place = torch.mul(h, factor, out=spare).sub_(shift) if shift else h
    found = torch.mul(place, place, out=spare).gt_(SATURATED)
    return (found if mask is None else found.mul_(mask)).sum(dim=(1, 2), dtype=torch.float64)
