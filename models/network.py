"""The workspace of the eager path: the rows of one chunk, their activations and gradients, in buffers that stay.

Dimensions as in ``models/eager.py``: A rows of a chunk, P parameters per row, B examples, D features,
H units, C outputs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property, partial
from typing import NamedTuple

import torch
from torch import Tensor

from sweeper.models.activations import KERNELS, Activation
from sweeper.models.config import ACTIVATIONS
from sweeper.models.dropout import words
from sweeper.models.eager_embeddings import Embedded, EmbeddingRows
from sweeper.models.embedding import EmbeddingLayout
from sweeper.models.rows import Rows, linear_slices
from sweeper.models.sizes import ROW_ALIGN, n_parameters, row_length
from sweeper.models.update import Coefficients, update_

EPSILON, MOMENTUM = 1e-5, 0.1  # torch's own, of normalisations


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


class Network:
    """Buffers for up to ``rows`` networks of one shape: parameters, gradients and activations."""

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
        self.embedding = None if layout is None else EmbeddingRows(layout, rows, make, device)

    def load(self, rows: Rows, active: Tensor, parts: list[Segment]) -> Chunk:
        """Copy the rows ``active (A,)`` in; the chunk that was loaded before is overwritten."""
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
    """A rows in the workspace of ``net``, sorted by activation; all of them are ``residual`` and ``ntk``, or none.

    theta, m, v, the gradient d, a scratch, theta ``before`` a measured step and the ``average`` of theta, where any row
    has one, are ``(A, P)`` as in ``Rows``.
    """

    def __init__(self, net: Network, rows: Rows, active: Tensor, parts: list[Segment]) -> None:
        self.net, self.layers, self.parts, self.count = net, net.layers, parts, len(active)
        planes = [plane[: self.count] for plane in net.planes]
        self.theta, self.m, self.v, self.d, self.scratch, self.before, self.average = planes
        for plane, source in self._pairs(rows):
            torch.index_select(source, 0, active, out=plane)
        self.w = [self.theta[:, p.weight : p.bias].unflatten(1, (p.n_out, p.n_in)) for p in self.layers]
        self.b = [self.theta[:, p.bias : p.bias + p.n_out, None] for p in self.layers]
        norms = [(p.norm, p.n_out) for p in self.layers if p.norm is not None]
        running = [(p.running, p.n_out) for p in self.layers if p.running is not None]
        self.mean = [self.theta[:, at : at + width, None] for at, width in running]
        self.variance = [self.theta[:, at + width : at + 2 * width, None] for at, width in running]
        self.residual, ntk = (bool(getattr(rows, name)[active[0]] > 0) for name in ("residual", "ntk"))
        self.factors = [p.n_in**-0.5 if ntk else 1.0 for p in self.layers]
        self.scale = [self.theta[:, at : at + width, None] for at, width in norms]
        self.shift = [self.theta[:, at + width : at + 2 * width, None] for at, width in norms]

    def store(self, rows: Rows, active: Tensor) -> None:
        """Copy the chunk back to the rows ``active (A,)``."""
        for plane, target in self._pairs(rows):
            target.index_copy_(0, active, plane)

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
                for rows, kernel, _ in self.parts:
                    kernel.forward(before[rows], h[rows])
                hidden.append(h)
                if dropped is not None:
                    mask, out = (kind[layer][: self.count] for kind in at.dropout)
                    masks.append(dropped.mask(layer, mask))
                    h = torch.mul(h, mask, out=out)
                if self.skips(layer):
                    h = torch.add(h, inputs[-1], out=at.sums[layer][: self.count])
                inputs.append(h)
        return Forward(at, inputs, hidden, z, masks, norms, embedded)

    def skips(self, layer: int) -> bool:
        """Whether the input of a hidden layer (from 0) is added to its output."""
        return self.residual and layer > 0 and self.layers[layer].n_in == self.layers[layer].n_out

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
            mean = z.mean(dim=self.along, keepdim=True)
            torch.sub(z, mean, out=centred)
            variance = torch.mul(centred, centred, out=result).mean(dim=self.along, keepdim=True)
            if self.mean:
                self.mean[layer].lerp_(mean, MOMENTUM)
                self.variance[layer].lerp_(variance * (z.shape[2] / (z.shape[2] - 1)), MOMENTUM)
            inverse = variance.add_(EPSILON).rsqrt_()
        centred.mul_(inverse)
        torch.addcmul(self.shift[layer], centred, self.scale[layer], out=result)
        return Normed(centred, inverse, result)

    @property
    def along(self) -> int:
        """The dimension of ``(A, H, B)`` that normalisations average over."""
        return 2 if self.mean else 1

    def _norm_backward(self, layer: int, normed: Normed, dy: Tensor) -> list[Tensor]:
        """The gradients of scale and shift ``(A, H)`` from that of the result, which becomes that of z in place.

        With n = (z - mean) / sqrt(var + eps) and g = dy * scale:  dz = (g - mean g - n mean(g n)) / sqrt(var + eps)
        """
        spare = normed.result
        found = [torch.mul(dy, normed.centred, out=spare).sum(dim=2), dy.sum(dim=2)]
        dy.mul_(self.scale[layer])
        parallel = torch.mul(dy, normed.centred, out=spare).mean(dim=self.along, keepdim=True)
        dy.sub_(dy.mean(dim=self.along, keepdim=True)).sub_(torch.mul(normed.centred, parallel, out=spare))
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
                if layer < len(self.w) - 1 and self.skips(layer):
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


def segments(codes: Tensor) -> list[Segment]:
    """The runs of equal activation ``codes (A,)``, which are sorted."""
    kinds, counts = torch.unique_consecutive(codes, return_counts=True)
    ends = counts.cumsum(0).tolist()
    return [
        Segment(slice(end - count, end), KERNELS[ACTIVATIONS[kind]], ACTIVATIONS[kind])
        for kind, count, end in zip(kinds.tolist(), counts.tolist(), ends, strict=True)
    ]
