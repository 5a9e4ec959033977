"""The portable training path: batched tensor operations in place, on any device, gradients by the chain rule.

Dimensions: A rows of a chunk, P parameters per row, B examples of a minibatch, D features, H hidden units, C outputs.
Activations are feature-major ``(A, H, B)`` and weights ``(A, out, in)``, as in torch's Linear.

    forward    z_l = W_l h_(l-1) + b_l,  h_l = act(z_l),  h_0 = x^T;  y_hat = softmax(z_L), or z_L for regression
    backward   dz_L = (y_hat - y) / B, or 2 (y_hat - y) / B
               dW_l = dz_l h_(l-1)^T,  db_l = sum_B dz_l,  dz_(l-1) = (W_l^T dz_l) * act'(z_(l-1))
    step       g *= min(1, clip / (|g| + 1e-6)), then the update rule of models/update.py
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from sweeper.models.activations import KERNELS, Activation
from sweeper.models.config import ACTIVATIONS, Task
from sweeper.models.data import Data
from sweeper.models.eager_flow import ChunkFlow
from sweeper.models.gradient_flow import Flow, measured_step
from sweeper.models.graphs import Recordings, record_on_cuda
from sweeper.models.rows import EpochSums, Rows, linear_slices
from sweeper.models.sizes import ROW_ALIGN, preferred_rows, row_length
from sweeper.models.update import Coefficients, coefficients, update_

GPU_CHUNK = 256
EVAL_BLOCK = 256


class Segment(NamedTuple):
    """Neighbouring rows of a chunk that share an activation."""

    rows: slice
    kernel: Activation
    name: str


class EagerPath:
    """Trains chunks of rows in a workspace that stays in the cache."""

    name = "eager"

    @classmethod
    def available(cls, device: torch.device) -> bool:
        """Everywhere."""
        return True

    def __init__(self, task: Task, batch_size: int, data: Data, sizes: tuple[int, ...], width: int) -> None:
        self.task, self.batch_size, self.data = task, batch_size, data
        device = data.x_train.device
        chunk = preferred_rows(sizes) if device.type == "cpu" else GPU_CHUNK
        self.net = Network(sizes, max(2, min(chunk, width)), data.x_train.dtype, device)
        self.recordings = Recordings(record_on_cuda) if device.type == "cuda" else None

    def epoch(
        self, rows: Rows, active: Tensor, orders: Tensor, flow: Flow | None = None, outputs: Tensor | None = None
    ) -> EpochSums:
        """See ``Path.epoch``."""
        codes = rows.activation.cpu()[active]
        by_activation = torch.argsort(codes, stable=True)
        sums = torch.empty(len(EpochSums._fields), len(active), dtype=torch.float64, device=rows.theta.device)
        with one_thread():
            for split in by_activation.split(self.net.rows):
                # a batched product of one matrix takes other kernels than one of two: a lone row runs as two
                part = split.repeat(2) if len(split) == 1 else split
                watch = None
                if flow is not None and flow.wanted[part].any():
                    watch = ChunkFlow(self.net, measured_step(orders.shape[1], self.batch_size))
                trained = self._chunk(rows, active[part], orders[part], codes[part], watch)
                if outputs is not None:
                    outputs[part.to(outputs.device)] = self._outputs()
                sums[:, part.to(sums.device)] = trained
                if flow is not None and watch is not None:
                    clip = rows.clip[active[part].to(rows.clip.device)]
                    flow.layers[part], flow.clip_rate[part] = watch.layers.cpu(), watch.clip_rate(clip).cpu()
        return EpochSums(*sums)

    def _chunk(self, rows: Rows, active: Tensor, orders: Tensor, codes: Tensor, watch: ChunkFlow | None) -> Tensor:
        """One epoch of a chunk: loads the rows into the workspace, trains and evaluates them, stores them back."""
        net, device = self.net, rows.theta.device
        active, orders = active.to(device), orders.to(device)
        count, n = orders.shape
        net.load(rows, active, segments(codes))
        steps = -(-n // self.batch_size)
        c = coefficients(rows, active, steps)
        sums = torch.zeros(4, count, dtype=torch.float64, device=device)
        for step in range(steps):
            batch = orders[:, step * self.batch_size : (step + 1) * self.batch_size].reshape(-1)
            size = len(batch) // count
            measured = watch is not None and step == watch.measured
            if self.recordings is None or size < self.batch_size or measured:
                loss, norm = self._step(batch, c, step, watch)
            else:
                loss, norm = self.recordings.step(net, self._step, batch, c, step)
                if watch is not None:
                    watch.backward_done(norm.clone())
            sums[0].add_(loss, alpha=size / n)
            sums[1].add_(norm, alpha=1 / steps)
        self._evaluate(sums)
        net.store(rows, active)
        rows.t[active] += steps
        return sums

    def _step(self, batch: Tensor, c: Coefficients, step: int, watch: ChunkFlow | None = None) -> tuple[Tensor, Tensor]:
        """Train the workspace on a minibatch of B training rows each, ``batch (A * B,)``; losses and norms ``(A,)``."""
        net, data = self.net, self.data
        x, y = data.x_train.index_select(0, batch), data.y_train.index_select(0, batch)
        output = net.forward(x.view(net.count, len(batch) // net.count, -1))
        loss, dz = loss_and_gradient(output, y.view(net.count, -1), self.task)
        if watch is not None:
            watch.forward_done()
        norm = net.backward(dz, c.clip)
        if watch is not None:
            watch.backward_done(norm)
        update_(net.theta, net.d, net.m, net.v, scratch=net.scratch, c=c, step=step)
        if watch is not None:
            watch.stepped()
        return loss, norm

    def _outputs(self) -> Tensor:
        """The workspace's outputs ``(A, v, C)`` on the validation split."""
        blocks = self.data.x_val.split(EVAL_BLOCK)
        return torch.cat([self.net.forward(x.expand(self.net.count, -1, -1)).transpose(1, 2) for x in blocks], dim=1)

    def _evaluate(self, sums: Tensor) -> None:
        """Write loss and metric on the validation split into ``sums[2:] (2, A)``."""
        data, v = self.data, self.data.x_val.shape[0]
        for x, y in zip(data.x_val.split(EVAL_BLOCK), data.y_val.split(EVAL_BLOCK), strict=True):
            output = self.net.forward(x.expand(sums.shape[1], -1, -1))
            target = y.expand(sums.shape[1], -1)
            if self.task == "classification":
                sums[3].add_((output.argmax(dim=1) == target).sum(dim=1), alpha=1 / v)
            loss, _ = loss_and_gradient(output, target, self.task)
            sums[2].add_(loss, alpha=len(y) / v)
        if self.task == "regression":
            torch.sqrt(sums[2], out=sums[3])


class Network:
    """The workspace of up to ``rows`` networks: parameters, gradients and activations of the chunk at hand.

    theta, m, v, the gradient d, a scratch and theta ``before`` a measured step are ``(A, P)`` as in ``Rows``.
    """

    def __init__(self, sizes: tuple[int, ...], rows: int, dtype: torch.dtype, device: torch.device) -> None:
        self.sizes, self.rows, self.dtype, self.device = sizes, rows, dtype, device
        self.layers = linear_slices(sizes)
        self.planes = [torch.zeros(rows, row_length(sizes), dtype=dtype, device=device) for _ in range(6)]
        self.buffers: dict[int, Activations] = {}
        self.dw = [aligned(rows, p.n_out, p.n_in, dtype, device) for p in self.layers]

    def load(self, rows: Rows, active: Tensor, parts: list[Segment]) -> None:
        """Copy the rows ``active (A,)`` in; from now on the workspace has A rows."""
        self.parts, self.count = parts, len(active)
        planes = [plane[: self.count] for plane in self.planes]
        self.theta, self.m, self.v, self.d, self.scratch, self.before = planes
        for plane, source in zip((self.theta, self.m, self.v), (rows.theta, rows.m, rows.v), strict=True):
            torch.index_select(source, 0, active, out=plane)
        self.w = [self.theta[:, p.weight : p.bias].unflatten(1, (p.n_out, p.n_in)) for p in self.layers]
        self.b = [self.theta[:, p.bias : p.bias + p.n_out, None] for p in self.layers]

    def store(self, rows: Rows, active: Tensor) -> None:
        """Copy the workspace's rows back to ``active (A,)``."""
        for plane, target in zip((self.theta, self.m, self.v), (rows.theta, rows.m, rows.v), strict=True):
            target.index_copy_(0, active, plane)

    def forward(self, x: Tensor) -> Tensor:
        """The outputs ``(A, C, B)`` (logits) for inputs ``x (A, B, D)``; valid until the next call."""
        batch = x.shape[1]
        if batch not in self.buffers:
            self.buffers[batch] = Activations(self.sizes, self.rows, batch, self.dtype, self.device)
        self.at = self.buffers[batch]
        if x.stride(0) % ROW_ALIGN:
            x = self.at.x[: self.count].copy_(x)
        h = x.transpose(1, 2)  # (A, D, B)
        self.inputs = [h]
        for layer, (w, b) in enumerate(zip(self.w, self.b, strict=True)):
            z = self.at.z[layer][: self.count]  # (A, H, B)
            torch.baddbmm(b, w, h, out=z)
            if layer < len(self.w) - 1:
                h = self.at.h[layer][: self.count]
                for rows, kernel, _ in self.parts:
                    kernel.forward(z[rows], h[rows])
                self.inputs.append(h)
        return z

    @property
    def outputs(self) -> list[Tensor]:
        """What each layer gave in the last ``forward``, ``(A, H, B)``; valid until ``backward``."""
        return [*self.inputs[1:], self.at.z[-1][: self.count]]

    def backward(self, dz: Tensor, clip: Tensor) -> Tensor:
        """Write the clipped gradient to d, from ``dz (A, C, B)`` at the output; returns the norms ``(A,)`` before it.

        dW_l = dz_l h_(l-1)^T,  db_l = sum_B dz_l,  dz_(l-1) = (W_l^T dz_l) * act'(z_(l-1))
        """
        dw, db = [g[: self.count] for g in self.dw], list[Tensor]()
        self.db = db
        dz = self.at.dz[-1][: self.count].copy_(dz)
        for layer in reversed(range(len(self.w))):
            torch.bmm(dz, self.inputs[layer].transpose(1, 2), out=dw[layer])
            db.insert(0, dz.sum(dim=2))
            if layer > 0:
                z, h = self.at.z[layer - 1][: self.count], self.inputs[layer]
                dh, below = self.at.dh[layer - 1][: self.count], self.at.dz[layer - 1][: self.count]
                torch.bmm(self.w[layer].transpose(1, 2), dz, out=dh)
                for rows, kernel, _ in self.parts:
                    kernel.backward(dh[rows], z[rows], h[rows], below[rows])
                dz = below
        flat = [g.flatten(1) for pair in zip(dw, db, strict=True) for g in pair]
        norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g, dim=1) for g in flat]), dim=0)
        scale = (clip / (norm[:, None] + 1e-6)).clamp_(max=1.0)  # (A, 1)
        start = 0
        for g in flat:
            torch.mul(g, scale, out=self.d[:, start : start + g.shape[1]])
            start += g.shape[1]
        return norm


class Activations:
    """The buffers of one minibatch size: x, then z and dz per layer, h and dh per hidden layer."""

    def __init__(self, sizes: tuple[int, ...], rows: int, batch: int, dtype: torch.dtype, device: torch.device) -> None:
        def buffers(widths: tuple[int, ...]) -> list[Tensor]:
            return [aligned(rows, width, batch, dtype, device) for width in widths]

        self.x = aligned(rows, batch, sizes[0], dtype, device)
        self.z, self.dz = buffers(sizes[1:]), buffers(sizes[1:])
        self.h, self.dh = buffers(sizes[1:-1]), buffers(sizes[1:-1])


def aligned(rows: int, height: int, width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A buffer ``(rows, height, width)`` with a gap between rows, so that each begins on a 64 byte boundary.

    The last bits of a matrix product depend on where its operands begin, and those of an element-wise kernel on which
    elements fall into its scalar tail. With every row at the same boundary and walked by itself, neither depends on a
    row's position.
    """
    length = -(-height * width // ROW_ALIGN) * ROW_ALIGN + ROW_ALIGN
    flat = torch.empty(rows, length, dtype=dtype, device=device)
    return flat[:, : height * width].unflatten(1, (height, width))


def loss_and_gradient(output: Tensor, y: Tensor, task: Task) -> tuple[Tensor, Tensor]:
    """Mean loss ``(A,)`` of ``output (A, C, B)`` against ``y (A, B)``, and its gradient ``(A, C, B)``.

    Cross-entropy: dz = (softmax(z) - onehot(y)) / B. Mean squared error: dz = 2 (z - y) / B.
    """
    size = output.shape[2]
    if task == "regression":
        error = output - y[:, None]
        return error.square().mean(dim=(1, 2)), error.mul_(2.0 / size)
    log_p = torch.log_softmax(output, dim=1)
    target = y[:, None]  # (A, 1, B)
    loss = log_p.gather(1, target).mean(dim=(1, 2)).neg_()
    dz = log_p.exp_()
    dz.scatter_add_(1, target, dz.new_full((), -1.0).expand_as(target))
    return loss, dz.div_(size)


def segments(codes: Tensor) -> list[Segment]:
    """The runs of equal activation ``codes (A,)``, which are sorted."""
    kinds, counts = torch.unique_consecutive(codes, return_counts=True)
    ends = counts.cumsum(0).tolist()
    return [
        Segment(slice(end - count, end), KERNELS[ACTIVATIONS[kind]], ACTIVATIONS[kind])
        for kind, count, end in zip(kinds.tolist(), counts.tolist(), ends, strict=True)
    ]


@contextmanager
def one_thread() -> Iterator[None]:
    """Run CPU kernels on one thread: the split of a kernel among threads would show in a row's last bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
