"""The workspace of the eager path: the rows of one chunk, their activations and gradients, in buffers that stay.

Dimensions as in ``models/eager.py``: A rows of a chunk, P parameters per row, B examples, D features,
H units, C outputs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from sweeper.models.activations import KERNELS, Activation
from sweeper.models.buffers import Activations, aligned
from sweeper.models.config import ACTIVATIONS
from sweeper.models.dropout import words
from sweeper.models.eager_embeddings import Embedded, EmbeddingRows
from sweeper.models.embedding import EmbeddingLayout
from sweeper.models.rows import Rows, linear_slices
from sweeper.models.sizes import ROW_ALIGN, n_parameters, row_length
from sweeper.models.update import Coefficients, update_

EPSILON, MOMENTUM = 1e-5, 0.1  # torch's own, of normalisations
SHIFTED = ("sigmoid",)  # activations of which act(0) is not 0


class Segment(NamedTuple):
    """Neighbouring rows of a chunk that share an activation."""

    rows: slice
    kernel: Activation
    name: str


class Forward(NamedTuple):
    """What a forward pass left in the buffers ``at``; valid until the next one.

    inputs: what went into each layer, ``(A, H, B)``, the first being x. hidden: what the activations gave, before
    dropout and residual sum. output ``(A, C, B)``: logits, or predictions. masks: of dropout behind each hidden layer,
    if it was on. norms: of each hidden layer, where there are normalisations. embedded: what made the first input, if
    any.
    """

    at: Activations
    inputs: list[Tensor]
    hidden: list[Tensor]
    output: Tensor
    masks: list[Tensor]
    norms: list[Normed]
    embedded: Embedded | None

    @property
    def outputs(self) -> list[Tensor]:
        """What each layer gave, ``(A, H, B)``; valid until ``backward``."""
        return [*self.hidden, self.output]


class Normed(NamedTuple):
    """Of a normalisation: z without mean and deviation ``(A, H, B)``, 1 / deviation, its result.

    1 / deviation is ``(A, 1, B)`` of a layer, ``(A, H, 1)`` of a batch.
    """

    centred: Tensor
    inverse: Tensor
    result: Tensor


class Gradients(NamedTuple):
    """norm ``(A,)`` of the whole gradient before clipping, and the parts of each layer in a row's order.

    These are dw ``(A, out, in)`` and db ``(A, out)``, of a normalisation scale and shift ``(A, out)`` as well. In the
    first layer those of an embedding come before.
    """

    norm: Tensor
    layers: list[list[Tensor]]


class Structure(NamedTuple):
    """What the rows of a chunk have in common: per hidden layer whether its input is added to its output, per Linear
    what its products are multiplied by.
    """

    skips: tuple[bool, ...]
    factors: tuple[float, ...]


@lru_cache(maxsize=4096)
def structure_of(sizes: tuple[int, ...], residual: bool, ntk: bool) -> Structure:
    """The structure of a network of its own ``sizes``, which padding does not change."""
    pairs = list(pairwise(sizes))
    skips = tuple(residual and layer > 0 and n_in == n_out for layer, (n_in, n_out) in enumerate(pairs[:-1]))
    return Structure(skips, tuple(n_in**-0.5 if ntk else 1.0 for n_in, _ in pairs))


class Network:
    """Buffers for up to ``rows`` networks of one shape, or padded to it: parameters, gradients and activations.

    ``units (rows, 1, 1)`` and ``masks (rows, H, 1)`` of each hidden layer say which of its H units a row has: so many,
    and 1 for these and 0 for the padded ones behind them.
    """

    def __init__(
        self,
        sizes: tuple[int, ...],
        rows: int,
        dtype: torch.dtype,
        device: torch.device,
        normalization: str = "none",
        layout: EmbeddingLayout | None = None,
    ) -> None:
        self.sizes, self.rows, self.dtype, self.device, self.normalization = sizes, rows, dtype, device, normalization
        self.layout, self.layers = layout, linear_slices(sizes, normalization, layout)
        length = row_length(sizes, normalization, layout)
        # where what the optimizer changes ends in a row
        self.trained = n_parameters(sizes, normalization, layout) if normalization == "batch" else length
        self.planes = [torch.zeros(rows, length, dtype=dtype, device=device) for _ in range(7)]
        self.dw = [aligned(rows, p.n_out, p.n_in, dtype, device) for p in self.layers]
        self._buffers: dict[int, Activations] = {}
        make = partial(aligned, dtype=dtype, device=device)
        self.units = [torch.empty(rows, 1, 1, dtype=dtype, device=device) for _ in sizes[1:-1]]
        self.masks = [make(rows, width, 1) for width in sizes[1:-1]]
        self.embedding = None if layout is None else EmbeddingRows(layout, rows, make, device)

    def load(self, rows: Rows, active: Tensor, parts: list[Segment]) -> Chunk:
        """Copy the rows ``active (A,)``, on the CPU, in; the chunk that was loaded before is overwritten."""
        return Chunk(self, rows, active, parts)

    def buffers(self, batch: int) -> Activations:
        """The buffers for B = ``batch`` examples."""
        if batch not in self._buffers:
            made = Activations(self.sizes, self.rows, batch, self.dtype, self.device)
            if self.layout is not None:
                made.x = aligned(self.rows, batch, self.layout.n_inputs, self.dtype, self.device)
            self._buffers[batch] = made
        return self._buffers[batch]


class Chunk:
    """A rows in the workspace of ``net``, sorted by activation; all of them have one ``structure``.

    A row may have fewer units than the workspace in a layer: ``padded`` is true where any has. Parameters of units that
    it lacks are zeros, and so are the gradients: an input of zero gives zero in every layer, but for a sigmoid and what
    a layer normalisation shifts, which are masked.
    theta, m, v, the gradient d, a scratch, theta ``before`` a measured step and the ``average`` of theta, where any row
    has one, are ``(A, P)`` as in ``Rows``.
    """

    def __init__(self, net: Network, rows: Rows, active: Tensor, parts: list[Segment]) -> None:
        self.net, self.layers, self.parts, self.count = net, net.layers, parts, len(active)
        planes = [plane[: self.count] for plane in net.planes]
        self.theta, self.m, self.v, self.d, self.scratch, self.before, self.average = planes
        slots, self._active = active.tolist(), active.to(net.device)
        for plane, source in self._pairs(rows):
            torch.index_select(source, 0, self._active, out=plane)
        self.w = [self.theta[:, p.weight : p.bias].unflatten(1, (p.n_out, p.n_in)) for p in self.layers]
        self.b = [self.theta[:, p.bias : p.bias + p.n_out, None] for p in self.layers]
        norms = [(p.norm, p.n_out) for p in self.layers if p.norm is not None]
        running = [(p.running, p.n_out) for p in self.layers if p.running is not None]
        self.mean = [self.theta[:, at : at + width, None] for at, width in running]
        self.variance = [self.theta[:, at + width : at + 2 * width, None] for at, width in running]
        residual, ntk = (bool(getattr(rows, name)[slots[0]] > 0) for name in ("residual", "ntk"))
        self.structure = structure_of(rows.sizes_of(slots[0]), residual, ntk)
        self.skips, self.factors = self.structure
        self._set_widths([rows.hidden[slot] for slot in slots])
        self.scale = [self.theta[:, at : at + width, None] for at, width in norms]
        self.shift = [self.theta[:, at + width : at + 2 * width, None] for at, width in norms]

    def _set_widths(self, hidden: list[tuple[int, ...]]) -> None:
        """Fill in how many units each row has, and where any lacks some, which ones."""
        net = self.net
        self.padded = any(widths != net.sizes[1:-1] for widths in hidden)
        self.units, self.masks = ([each[: self.count] for each in kind] for kind in (net.units, net.masks))
        for layer, (units, mask) in enumerate(zip(self.units, self.masks, strict=True)):
            units.copy_(torch.tensor([widths[layer] for widths in hidden]).view(-1, 1, 1))
            if self.padded:
                mask.copy_(torch.arange(mask.shape[1], device=net.device)[None, :, None] < units)

    def store(self, rows: Rows) -> None:
        """Copy the chunk back to where its rows came from."""
        for plane, target in self._pairs(rows):
            target.index_copy_(0, self._active, plane)

    def _pairs(self, rows: Rows) -> list[tuple[Tensor, Tensor]]:
        average = [] if rows.average is None else [(self.average, rows.average)]
        return [(self.theta, rows.theta), (self.m, rows.m), (self.v, rows.v), *average]

    @contextmanager
    def averaged(self, where: Tensor | None) -> Iterator[None]:
        """Have the averaged weights in theta meanwhile, in the rows ``where (A, 1)`` is true; None: in none."""
        if where is None:
            yield
            return
        self.before.copy_(self.theta)
        torch.where(where, self.average, self.theta, out=self.theta)
        yield
        self.theta.copy_(self.before)

    def update(self, c: Coefficients, step: int) -> None:
        """Take a step of the optimizer along the gradient in d, and have it in the average."""
        planes = (self.theta, self.d, self.m, self.v, self.scratch, self.average)
        theta, d, m, v, scratch, average = (plane[:, : self.net.trained] for plane in planes)
        update_(theta, d, m, v, scratch=scratch, c=c, step=step)
        if c.averages:
            average.lerp_(theta, c.fresh[step])
            self.average[:, self.net.trained :].copy_(self.theta[:, self.net.trained :])

    def forward(self, x: Tensor, dropped: Dropped | None = None, *, training: bool = False) -> Forward:
        """The pass of the inputs ``x (A, B, D)``; in ``training`` with dropout and the statistics of the batch."""
        at = self.net.buffers(x.shape[1])
        if x.stride(0) % ROW_ALIGN:
            x = at.x[: self.count].copy_(x)
        h = x.transpose(1, 2)  # (A, D, B)
        embedded = None
        if self.net.embedding is not None:
            embedded = Embedded(self.net.embedding, self.theta, h)
            h = embedded.output
        inputs, hidden, masks, norms = [h], list[Tensor](), list[Tensor](), list[Normed]()
        for layer, (w, b) in enumerate(zip(self.w, self.b, strict=True)):
            z = at.z[layer][: self.count]  # (A, H, B)
            torch.baddbmm(b, w, h, alpha=self.factors[layer], out=z)
            if layer < len(self.w) - 1:
                h, before = at.h[layer][: self.count], z
                if self.scale:
                    norms.append(self._normed(at, layer, z, training))
                    before = norms[-1].result
                for rows, kernel, name in self.parts:
                    kernel.forward(before[rows], h[rows])
                    if self.padded and name in SHIFTED:
                        h[rows].mul_(self.masks[layer][rows])
                hidden.append(h)
                if dropped is not None:
                    mask, out = (kind[layer][: self.count] for kind in at.dropout)
                    masks.append(dropped.mask(layer, mask))
                    h = torch.mul(h, mask, out=out)
                if self.skips[layer]:
                    h = torch.add(h, inputs[-1], out=at.sums[layer][: self.count])
                inputs.append(h)
        return Forward(at, inputs, hidden, z, masks, norms, embedded)

    def _normed(self, at: Activations, layer: int, z: Tensor, training: bool) -> Normed:
        """scale (z - mean) / sqrt(var + eps) + shift.

        Mean and variance are those over the H units of each example; with batch normalisation of each unit over the B
        examples in training, else the running ones.
        """
        centred, result = (kind[layer][: self.count] for kind in at.norms)
        if self.mean and not training:
            torch.sub(z, self.mean[layer], out=centred)
            inverse = self.variance[layer].add(EPSILON).rsqrt_()
        else:
            mean = self._mean(z, layer)
            torch.sub(z, mean, out=centred)
            self._mask(centred, layer)
            variance = self._mean(torch.mul(centred, centred, out=result), layer)
            if self.mean:
                self.mean[layer].lerp_(mean, MOMENTUM)
                self.variance[layer].lerp_(variance * (z.shape[2] / (z.shape[2] - 1)), MOMENTUM)
            inverse = variance.add_(EPSILON).rsqrt_()
        centred.mul_(inverse)
        torch.addcmul(self.shift[layer], centred, self.scale[layer], out=result)
        return Normed(centred, inverse, result)

    def _mean(self, values: Tensor, layer: int) -> Tensor:
        """The mean of ``(A, H, B)`` that a normalisation takes: over the batch, or over the units that a row has."""
        return (
            values.mean(dim=2, keepdim=True) if self.mean else values.sum(dim=1, keepdim=True).div_(self.units[layer])
        )

    def _mask(self, values: Tensor, layer: int) -> None:
        """Have zeros for padded units in ``(A, H, B)``, from which a layer normalisation has taken a mean."""
        if self.padded and not self.mean:
            values.mul_(self.masks[layer])

    def _norm_backward(self, layer: int, normed: Normed, dy: Tensor) -> list[Tensor]:
        """The gradients of scale and shift ``(A, H)`` from that of the result, which becomes that of z in place.

        With n = (z - mean) / sqrt(var + eps) and g = dy * scale:  dz = (g - mean g - n mean(g n)) / sqrt(var + eps)
        """
        spare = normed.result
        found = [torch.mul(dy, normed.centred, out=spare).sum(dim=2), dy.sum(dim=2)]
        dy.mul_(self.scale[layer])
        parallel = self._mean(torch.mul(dy, normed.centred, out=spare), layer)
        dy.sub_(self._mean(dy, layer)).sub_(torch.mul(normed.centred, parallel, out=spare))
        self._mask(dy, layer)
        dy.mul_(normed.inverse)
        return found

    def backward(self, forward: Forward, dz: Tensor, clip: Tensor) -> Gradients:
        """Write the clipped gradient to d, from ``dz (A, C, B)`` at the output; overwrites the activations.

        dW_l = dz_l h_(l-1)^T,  db_l = sum_B dz_l,  dz_(l-1) = (W_l^T dz_l) * act'(z_(l-1))
        """
        at, inputs = forward.at, forward.inputs
        dw, layers = [g[: self.count] for g in self.net.dw], list[list[Tensor]]()
        masks = dict(enumerate(forward.masks))
        dz, of_norm = at.dz[-1][: self.count].copy_(dz), list[Tensor]()
        for layer in reversed(range(len(self.w))):
            torch.bmm(dz, inputs[layer].transpose(1, 2), out=dw[layer])
            if self.factors[layer] != 1.0:
                dw[layer].mul_(self.factors[layer])
            db = dz.sum(dim=2)
            if self.mean and layer < len(self.w) - 1:
                db.zero_()  # the bias in front of a batch normalisation stays at zero, see mlp.py
            layers.insert(0, [dw[layer], db, *of_norm])
            of_norm = []
            if layer > 0:
                z, h = at.z[layer - 1][: self.count], forward.hidden[layer - 1]
                z = forward.norms[layer - 1].result if forward.norms else z
                dh, below = at.dh[layer - 1][: self.count], at.dz[layer - 1][: self.count]
                torch.bmm(self.w[layer].transpose(1, 2), dz, out=dh)
                if self.factors[layer] != 1.0:
                    dh.mul_(self.factors[layer])
                if layer < len(self.w) - 1 and self.skips[layer]:
                    dh.add_(at.dh[layer][: self.count])
                g = torch.mul(dh, mask, out=mask) if (mask := masks.get(layer - 1)) is not None else dh
                for rows, kernel, _ in self.parts:
                    kernel.backward(g[rows], z[rows], h[rows], below[rows])
                if forward.norms:
                    of_norm = self._norm_backward(layer - 1, forward.norms[layer - 1], below)
                dz = below
        if forward.embedded is not None and self.net.embedding is not None:
            dh = self.net.embedding.outputs(inputs[0].shape[2])[1][: self.count]
            torch.bmm(self.w[0].transpose(1, 2), dz, out=dh)
            if self.factors[0] != 1.0:
                dh.mul_(self.factors[0])
            layers[0] = [*forward.embedded.backward(dh), *layers[0]]
        flat = [g.flatten(1) for parts in layers for g in parts]
        norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g, dim=1) for g in flat]), dim=0)
        scale = (clip / (norm[:, None] + 1e-6)).clamp_(max=1.0)  # (A, 1)
        start = 0
        for g in flat:
            torch.mul(g, scale, out=self.d[:, start : start + g.shape[1]])
            start += g.shape[1]
        return Gradients(norm, layers)


class Dropped(NamedTuple):
    """The dropout of one training step: number of the step ``(A,)``, ``Coefficients``' seeds, kept_from, kept_scale."""

    seeds: Tensor
    number: Tensor
    kept_from: Tensor
    kept_scale: Tensor

    def mask(self, layer: int, out: Tensor) -> Tensor:
        """Write the mask behind a hidden layer to ``out (A, H, B)`` and return it: 0, or 1 / (1 - p)."""
        drawn = words(self.seeds, self.number, layer, *out.shape[1:])
        return torch.mul(drawn >= self.kept_from.view(-1, 1, 1), self.kept_scale[:, None], out=out)


def segments(codes: Tensor) -> list[Segment]:
    """The runs of equal activation ``codes (A,)``, which are sorted."""
    kinds, counts = torch.unique_consecutive(codes, return_counts=True)
    ends = counts.cumsum(0).tolist()
    return [
        Segment(slice(end - count, end), KERNELS[ACTIVATIONS[kind]], ACTIVATIONS[kind])
        for kind, count, end in zip(kinds.tolist(), counts.tolist(), ends, strict=True)
    ]
