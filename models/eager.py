"""The portable training path: batched tensor operations in place, on any device, gradients by the chain rule.

Dimensions: A rows of a chunk, P parameters per row, B examples of a minibatch, D features, H hidden units, C outputs.
Activations are feature-major ``(A, H, B)`` and weights ``(A, out, in)``, as in torch's Linear.

    forward    z_l = W_l h_(l-1) + b_l,  with normalisation z_l <- scale (z_l - mean) / std + shift,  h_l = act(z_l),
               h_0 = x^T;  y_hat = softmax(z_L), or z_L for regression
               with dropout h_l <- h_l * mask_l before the next layer (models/dropout.py), and dh_l <- dh_l * mask_l
               residual h_l <- h_l + h_(l-1) behind the dropout, and dh_(l-1) <- dh_(l-1) + dh_l
               with ntk W_l h_(l-1) / sqrt(n_in) everywhere
    backward   dz_L = (y_hat - y) / B, or 2 (y_hat - y) / B; with weights w of the rows, w / sum w instead of 1 / B
               dW_l = dz_l h_(l-1)^T,  db_l = sum_B dz_l,  dz_(l-1) = (W_l^T dz_l) * act'(z_(l-1))
    step       g *= min(1, clip / (|g| + 1e-6)), then the update rule of models/update.py
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor

from sweeper.models.config import ACTIVATIONS, Task, TrialConfig
from sweeper.models.data import Data
from sweeper.models.eager_flow import ChunkFlow
from sweeper.models.gradient_flow import Flow, measured_step
from sweeper.models.graphs import Recordings, record_on_cuda
from sweeper.models.network import Chunk, Dropped, Network, Structure, segments, structure_of
from sweeper.models.rows import EpochSums, Rows
from sweeper.models.sizes import preferred_rows
from sweeper.models.update import Coefficients, coefficients

GPU_CHUNK = 256
EVAL_BLOCK = 256


class EagerPath:
    """Trains chunks of rows in a workspace that stays in the cache."""

    name = "eager"

    @classmethod
    def available(cls, device: torch.device) -> bool:
        """Everywhere."""
        return True

    @classmethod
    def trains(cls, config: TrialConfig) -> bool:
        """Everything."""
        return True

    def __init__(self, task: Task, batch_size: int, data: Data, sizes: tuple[int, ...], width: int) -> None:
        self.task, self.batch_size, self.data = task, batch_size, data
        device = data.x_train.device
        chunk = preferred_rows(sizes) if device.type == "cpu" else GPU_CHUNK
        self.net = Network(sizes, max(2, min(chunk, width)), data.x_train.dtype, device)  # until rows are normalised
        self.recordings = Recordings(record_on_cuda) if device.type == "cuda" else None

    def epoch(
        self, rows: Rows, active: Tensor, orders: Tensor, flow: Flow | None = None, outputs: Tensor | None = None
    ) -> EpochSums:
        """See ``TrainingPath.epoch``."""
        if (rows.normalization, rows.layout) != (self.net.normalization, self.net.layout):
            room = self.net.rows, self.net.dtype, self.net.device
            self.net = Network(rows.sizes, *room, rows.normalization, rows.layout)
        codes = rows.activation[active]
        # rows without dropout stand together, so that few of them go through masks of ones
        by_activation = torch.argsort(codes + len(ACTIVATIONS) * (rows.dropout[active] > 0), stable=True)
        sums = torch.empty(len(EpochSums._fields), len(active), dtype=torch.float64, device=rows.theta.device)
        with one_thread():
            for split in self._splits(rows, active, by_activation):
                # a batched product of one matrix takes other kernels than one of two: a lone row runs as two
                part = split.repeat(2) if len(split) == 1 else split
                watched = flow is not None and bool(flow.wanted[part].any())
                made = None if outputs is None else outputs.new_empty(len(part), *outputs.shape[1:])
                trained, watch = self._chunk(rows, active[part], orders[part], codes[part], watched, made)
                sums[:, part.to(sums.device)] = trained
                if outputs is not None and made is not None:
                    outputs[part.to(outputs.device)] = made
                if flow is not None and watch is not None:
                    clip = rows.clip[active[part]].to(sums.device)
                    flow.layers[part], flow.clip_rate[part] = watch.layers.cpu(), watch.clip_rate(clip).cpu()
        return EpochSums(*sums)

    def _splits(self, rows: Rows, active: Tensor, order: Tensor) -> Iterator[Tensor]:
        """``order``, indices of ``active``, in chunks of rows of one structure."""
        mine = active[order]
        columns = (order, mine, rows.residual[mine] > 0, rows.ntk[mine] > 0)
        alike: dict[Structure, list[int]] = {}
        for i, slot, residual, ntk in zip(*(column.tolist() for column in columns), strict=True):
            alike.setdefault(structure_of(rows.sizes_of(slot), residual, ntk), []).append(i)
        for numbers in alike.values():
            yield from torch.tensor(numbers).split(self.net.rows)

    def _chunk(
        self, rows: Rows, active: Tensor, orders: Tensor, codes: Tensor, watched: bool, outputs: Tensor | None
    ) -> tuple[Tensor, ChunkFlow | None]:
        """One epoch of a chunk: loads the rows into the workspace, trains and evaluates them, stores them back."""
        device = rows.theta.device
        orders = orders.to(device)
        data, (count, n) = self.data, orders.shape
        chunk = self.net.load(rows, active, segments(codes))
        plain = partial(self._step, chunk)
        steps, measured = -(-n // self.batch_size), measured_step(n, self.batch_size)
        watch = ChunkFlow(chunk) if watched else None
        c = coefficients(rows, active, steps)
        sums = torch.zeros(4, count, dtype=torch.float64, device=device)
        for step in range(steps):
            batch = orders[:, step * self.batch_size : (step + 1) * self.batch_size].reshape(-1)
            size = len(batch) // count
            seen = watch if step == measured else None
            if self.recordings is None or size < self.batch_size or seen is not None:
                loss, norm = plain(batch, c, step, seen)
            else:
                loss, norm = self.recordings.step(chunk, plain, batch, c, step)
            if watch is not None:
                watch.norms.append(norm.clone())
            if data.w_train is None:
                sums[0].add_(loss, alpha=size / n)
            else:
                sums[0].addcmul_(loss, data.w_train[batch].view(count, -1).sum(dim=1) / data.w_train.sum())
            sums[1].add_(norm, alpha=1 / steps)
        with chunk.averaged((rows.ema[active, None] > 0).to(device) if c.averages else None):
            self._evaluate(chunk, sums, outputs)
        chunk.store(rows)
        rows.t[active] += steps
        return sums, watch

    def _step(
        self, chunk: Chunk, batch: Tensor, c: Coefficients, step: int, watch: ChunkFlow | None = None
    ) -> tuple[Tensor, Tensor]:
        """Train the chunk on a minibatch of B training rows each, ``batch (A * B,)``; losses and norms ``(A,)``."""
        data = self.data
        x, y = data.x_train.index_select(0, batch), data.y_train.index_select(0, batch)
        dropped = Dropped(c.seeds, c.number[step], c.kept_from, c.kept_scale) if c.drops else None
        forward = chunk.forward(x.view(chunk.count, len(batch) // chunk.count, -1), dropped, training=True)
        w = None if data.w_train is None else data.w_train.index_select(0, batch).view(chunk.count, -1)
        smoothing = c.smoothing if c.smooths else None
        loss, dz = loss_and_gradient(forward.output, y.view(chunk.count, -1), self.task, w, smoothing)
        if watch is not None:
            watch.forward_done(forward)
        gradients = chunk.backward(forward, dz, c.clip)
        if watch is not None:
            watch.backward_done(gradients)
        chunk.update(c, step)
        if watch is not None:
            watch.stepped()
        return loss, gradients.norm

    def _evaluate(self, chunk: Chunk, sums: Tensor, outputs: Tensor | None) -> None:
        """Write loss and metric on the validation split into ``sums[2:] (2, A)``, and the outputs ``(A, v, C)``."""
        data, v, start = self.data, self.data.x_val.shape[0], 0
        counted = 0.0 if data.w_val is None else data.w_val.sum()
        for x, y in zip(data.x_val.split(EVAL_BLOCK), data.y_val.split(EVAL_BLOCK), strict=True):
            block = slice(start, start + len(y))
            start += len(y)
            w = None if data.w_val is None else data.w_val[block].expand(chunk.count, -1)
            output = chunk.forward(x.expand(chunk.count, -1, -1)).output
            target = y.expand(chunk.count, -1)
            if outputs is not None:
                outputs[:, block] = output.transpose(1, 2)
            right = output.argmax(dim=1) == target
            loss, _ = loss_and_gradient(output, target, self.task, w)
            if w is None:
                sums[2].add_(loss, alpha=len(y) / v)
                sums[3].add_(right.sum(dim=1), alpha=1 / v)
            else:
                sums[2].addcmul_(loss, w.sum(dim=1) / counted)
                sums[3].add_((right * w).sum(dim=1) / counted)
        if self.task == "regression":
            torch.sqrt(sums[2], out=sums[3])


def loss_and_gradient(
    output: Tensor, y: Tensor, task: Task, w: Tensor | None = None, smoothing: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Mean loss ``(A,)`` of ``output (A, C, B)`` against ``y (A, B)``, and its gradient ``(A, C, B)``.

    Cross-entropy: dz = (softmax(z) - onehot(y)) / B. Mean squared error: dz = 2 (z - y) / B. With weights ``w (A, B)``
    it is w / sum w instead of 1 / B, and 0 where no row counts. With label ``smoothing (A, 1)`` e, cross-entropy is
    that with the target ``(1 - e) onehot(y) + e / C``.
    """
    size = output.shape[2]
    share = None
    if w is not None:
        total = w.sum(dim=1, keepdim=True)
        share = (w / torch.where(total > 0, total, 1.0))[:, None]  # (A, 1, B)
    if task == "regression":
        error = output - y[:, None]
        if share is not None:
            return (error.square() * share).sum(dim=(1, 2)), error.mul_(share).mul_(2.0)
        return error.square().mean(dim=(1, 2)), error.mul_(2.0 / size)
    log_p = torch.log_softmax(output, dim=1)
    target = y[:, None]  # (A, 1, B)
    losses = log_p.gather(1, target)  # (A, 1, B), negative
    certain = log_p.new_full((), -1.0).expand_as(target)
    if smoothing is not None:
        e = smoothing[:, None]  # (A, 1, 1)
        losses = losses.mul(1.0 - e).add_(log_p.mean(dim=1, keepdim=True).mul_(e))
        certain = (e - 1.0).expand_as(target)
    loss = (losses.mean(dim=(1, 2)) if share is None else (losses * share).sum(dim=(1, 2))).neg_()
    dz = log_p.exp_()
    if smoothing is not None:
        dz.sub_(smoothing[:, None] / output.shape[1])
    dz.scatter_add_(1, target, certain)
    return loss, dz.div_(size) if share is None else dz.mul_(share)


@contextmanager
def one_thread() -> Iterator[None]:
    """Run CPU kernels on one thread: the split of a kernel among threads would show in a row's last bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
