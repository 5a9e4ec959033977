"""The gradient flow of a chunk of the eager path, taken from its buffers while it trains.

Dimensions as in ``models/eager.py`` and ``models/gradient_flow.py``: A rows, L layers, P parameters per row, H units,
B examples. Norms and means are sums in float64: the square of a vanishing float32 gradient would be zero.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from models.config import ACTIVATIONS
from models.gradient_flow import CENTRED, SATURATED, update_ratio

if TYPE_CHECKING:
    from models.eager import Network


class ChunkFlow:
    """Sees every step of an epoch of the chunk in ``net`` and measures step ``measured``.

    ``codes (A,)`` on the CPU are the rows' activations as indices of ``ACTIVATIONS``. ``layers`` is ``(A, L, S)`` then.
    """

    def __init__(self, net: Network, codes: Tensor, measured: int) -> None:
        self.net, self.codes, self.measured = net, codes, measured
        self.norms: list[Tensor] = []  # of the whole gradient, one (A,) for each step
        self.before: Tensor | None = None  # theta (A, P) while the measured step is on
        self.parts: list[Tensor] = []

    def forward_done(self) -> None:
        """Before the backward pass, which may overwrite the activations."""
        if len(self.norms) == self.measured:
            self.before = self.net.theta.clone()
            self.parts = [output_statistics(self.net.outputs, self.codes)]

    def backward_done(self, norm: Tensor) -> None:
        """With the norms ``(A,)`` before clipping."""
        self.norms.append(norm)
        if self.before is not None:
            pairs = zip(self.net.dw, self.net.db, strict=True)
            squares = [norms_of(dw[: len(norm)].flatten(1)).square() + norms_of(db).square() for dw, db in pairs]
            self.parts.append(torch.stack(squares, dim=1).sqrt())  # hypot's last bits depend on a row's position

    def stepped(self) -> None:
        """After the update."""
        if self.before is None:
            return
        weights = self._layer_norms(self.before)
        steps = self._layer_norms(torch.sub(self.net.theta, self.before, out=self.before))
        outputs, gradients = self.parts
        own = torch.stack([gradients, weights, update_ratio(steps, weights)], dim=2)
        self.layers, self.before = torch.cat([own, outputs], dim=2), None

    def clip_rate(self, clip: Tensor) -> Tensor:
        """The share ``(A,)`` of steps with ``clip / (norm + 1e-6) < 1``, for the bounds ``clip (A,)``."""
        norms = torch.stack(self.norms)  # (steps, A)
        return (clip / (norms + 1e-6) < 1.0).double().mean(dim=0)

    def _layer_norms(self, plane: Tensor) -> Tensor:
        """The norms ``(A, L)`` of the layers in ``plane (A, P)``."""
        return torch.stack([norms_of(plane[:, p.weight : p.bias + p.n_out]) for p in self.net.layers], dim=1)


def norms_of(rows: Tensor) -> Tensor:
    """The norm of each row of ``(A, N)``, as ``(A,)`` float64."""
    return torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64)


def output_statistics(outputs: list[Tensor], codes: Tensor) -> Tensor:
    """activation_mean, activation_std, saturated and dead, as ``(A, L, 4)`` float64, of ``outputs``: L of (A, H, B).

    Sums are of the distance from a row's first activation: equal ones have no variance. ``codes`` are on the CPU.
    """
    names = {ACTIVATIONS[code] for code in codes.unique().tolist()}
    factor, shift, relu = _constants(codes, outputs[0].device)
    found = []
    for number, h in enumerate(outputs):
        first = h[:, :1, :1].double()
        away = h.to(torch.float64, copy=True).sub_(first).flatten(1)
        mean = away.mean(dim=1)
        std = (norms_of(away).square() / away.shape[1] - mean.square()).clamp(min=0.0).sqrt()
        saturated = dead = torch.full_like(mean, math.nan)
        if number < len(outputs) - 1 and names & CENTRED.keys():
            far = (h * factor[:, None, None].to(h) - shift[:, None, None].to(h)).square_() > SATURATED
            saturated = far.sum(dim=(1, 2)).double() / away.shape[1] + 0.0 * factor
        if number < len(outputs) - 1 and "relu" in names:
            dead = (h.amax(dim=2) <= 0).double().mean(dim=1) + relu
        found.append(torch.stack([first[:, 0, 0] + mean, std, saturated, dead], dim=1))
    return torch.stack(found, dim=1)


def _constants(codes: Tensor, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Per row ``(A,)``: factor and shift of ``CENTRED``, and 0 for relu; NaN where there is none."""
    table = [(*CENTRED.get(name, (math.nan, math.nan)), 0.0 if name == "relu" else math.nan) for name in ACTIVATIONS]
    factor, shift, relu = torch.tensor(table, dtype=torch.float64)[codes].to(device).unbind(dim=1)
    return factor, shift, relu
