"""Trains trials of the user's own model side by side: torch.vmap over modules that have one structure.

Dimensions: A rows, W >= A rows of a padded group, B examples of a minibatch, D inputs, C outputs, v validation rows.

A group is as wide as the next power of two, padded with copies of its last row, because kernels of another width may
round otherwise. ``examine`` finds out, once per structure, whether a row gets the same numbers as alone and whether
its bits depend on its place, its neighbours or the width; rows that it says no to train one by one. What it does
follows from the structure and the data alone, so that a trial is trained in the same way wherever it runs.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from sweeper.models.config import Task
from sweeper.models.data import Data
from sweeper.models.own_layers import RowDropout, with_row_norms
from sweeper.models.own_row import OwnModelError, OwnRow

_functorch: Any = torch._C._functorch
WIDTHS = (1, 2, 4, 8, 16)
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-9}  # of the largest number
BLOCK = 2048  # validation rows at once


@dataclass(frozen=True)
class Verdict:
    """Whether rows of a structure are fused; ``reason``: why not. ``least`` is the smallest width with equal bits."""

    fuse: bool
    reason: str = ""
    least: int = 1

    def width(self, rows: int) -> int:
        """How wide a group of so many rows is."""
        return next(width for width in WIDTHS if width >= max(rows, self.least))


class Program:
    """The operations of one structure on W rows at once."""

    def __init__(self, row: OwnRow) -> None:
        self.base = copy.deepcopy(row.module)
        with_row_norms(self.base)
        self.draw = next((m.draw for m in self.base.modules() if isinstance(m, RowDropout)), row.draw)
        named = [(name, p) for name, p in self.base.named_parameters() if p.requires_grad]
        self.shapes = {name: p.shape for name, p in named}
        self.fixed = {name: p.detach() for name, p in self.base.named_parameters() if not p.requires_grad}
        self.buffers = tuple(row.buffers)
        self.rates = len(self.draw.rates)

    def leaves(self, theta: Tensor) -> dict[str, Tensor]:
        """The parameters by name as views of ``theta (W, P)``."""
        found, start = {}, 0
        for name, shape in self.shapes.items():
            found[name] = theta[:, start : start + shape.numel()].unflatten(1, shape or (1,)).view(len(theta), *shape)
            start += shape.numel()
        return found

    def stacked(self, rows: Sequence[OwnRow]) -> dict[str, Tensor]:
        """The buffers of the rows, side by side."""
        each = [row.buffers for row in rows]
        return {name: torch.stack([buffers[name] for buffers in each]) for name in self.buffers}

    def train(
        self, leaves: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor, drawn: tuple[Tensor, ...]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Outputs ``(W, B, C)`` in training for ``x (W, B, D)``, and the buffers afterwards.

        ``drawn`` are ``Draw``'s seed, step, kept_from and scale for all rows.
        """
        self.base.train()

        def call(leaves: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor, *drawn: Tensor) -> Any:
            self.draw.begin(*drawn)
            state = {**self.fixed, **leaves, **buffers}
            output = functional_call(self.base, state, (x,))
            return output, {name: state[name] for name in buffers}

        found: tuple[Tensor, dict[str, Tensor]] = torch.vmap(call, randomness="error")(leaves, buffers, x, *drawn)
        return found

    def predict(self, leaves: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor) -> Tensor:
        """Outputs ``(W, v, C)`` for ``x (v, D)``, not in training."""
        self.base.eval()

        def call(leaves: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor) -> Any:
            return functional_call(self.base, {**self.fixed, **leaves, **buffers}, (x,))

        width = len(next(iter(leaves.values())))
        with torch.no_grad():
            blocks = [part.expand(width, *part.shape) for part in x.split(BLOCK)]
            parts = [torch.vmap(call, randomness="error")(leaves, buffers, block) for block in blocks]
        return torch.cat(parts, dim=1)


def losses_of(
    outputs: Tensor, y: Tensor, task: Task, w: Tensor | None = None, smoothing: Tensor | None = None
) -> Tensor:
    """The mean loss ``(W,)`` of ``outputs (W, B, C)`` against ``y (W, B)``, as ``solo.loss_of`` has it of one row.

    ``w (W, B)`` are weights, ``smoothing (W, 1)`` that of the labels.
    """
    if task == "regression":
        losses = (outputs[..., 0] - y).square()
    else:
        log_p = torch.log_softmax(outputs, dim=-1)
        losses = -log_p.gather(-1, y[..., None])[..., 0]
        if smoothing is not None:
            losses = losses * (1.0 - smoothing) - log_p.mean(dim=-1) * smoothing
    if w is None:
        return losses.mean(dim=1)
    total = w.sum(dim=1)
    return (w * losses).sum(dim=1) / torch.where(total > 0, total, 1.0)


@dataclass(frozen=True)
class _Step:
    """What one step on a minibatch gave: outputs, gradient, buffers, and predictions after it, of each row."""

    outputs: Tensor
    gradient: Tensor
    buffers: dict[str, Tensor]
    predicted: Tensor

    def row(self, place: int) -> list[Tensor]:
        """All numbers of the row at a place."""
        return [t[place] for t in (self.outputs, self.gradient, *self.buffers.values(), self.predicted)]


def examine(rows: Sequence[OwnRow], data: Data, task: Task, batch_size: int) -> Verdict:
    """Whether rows of the structure of these two, which have not trained, may be fused on this data.

    A step of both, on a whole minibatch and on the short one at the end of an epoch, is compared with each row's own.
    """
    sizes = dict.fromkeys([batch_size, len(data.x_train) % batch_size or batch_size])
    least = 1
    try:
        _functorch._set_vmap_fallback_enabled(False)
        program = Program(rows[0])
        for size in sizes:
            x, y = data.x_train[:size], data.y_train[:size]
            solo = [_alone(row, x, y, data.x_val[:BLOCK], task) for row in rows]
            whole = _beside(program, [*rows, *[rows[0]] * (WIDTHS[-1] - 2)], x, y, data.x_val[:BLOCK], task)
            for place, alone in enumerate(solo):
                if (problem := _difference(whole.row(place), alone)) is not None:
                    return Verdict(False, problem)
            found = _least_width(program, rows, whole, x, y, data.x_val[:BLOCK], task)
            if found is None:
                return Verdict(False, "the numbers of a trial depend on those beside it")
            least = max(least, found)
    except (Exception, SystemExit) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        return Verdict(False, _refusal(rows[0], error))
    finally:
        _functorch._set_vmap_fallback_enabled(True)
    return Verdict(True, least=least)


def _alone(row: OwnRow, x: Tensor, y: Tensor, x_val: Tensor, task: Task) -> list[Tensor]:
    """The numbers of one row's step, after which the row is as it was."""
    from sweeper.models.solo import loss_of

    before = {name: tensor.clone() for name, tensor in row.buffers.items()}
    output = row.train(x, torch.tensor(0, device=x.device), row.draw.columns(x))
    gradient = row.gradient(loss_of(output, y, task))
    after = {name: tensor.clone() for name, tensor in row.buffers.items()}
    with torch.no_grad():
        row.module.eval()
        predicted = row.module(x_val)
        row.module.train()
    restore(row, before)
    return [output.detach(), gradient, *after.values(), predicted]


def _beside(program: Program, rows: Sequence[OwnRow], x: Tensor, y: Tensor, x_val: Tensor, task: Task) -> _Step:
    """The same step of several rows at once."""
    theta = torch.stack([row.theta for row in rows])
    leaves = {name: view.detach().requires_grad_() for name, view in program.leaves(theta).items()}
    seeds = torch.tensor([row.seed for row in rows], device=x.device)
    columns = [torch.stack(column) for column in zip(*(row.draw.columns(x) for row in rows), strict=True)]
    buffers = program.stacked(rows)
    wide = (len(rows), *x.shape)
    outputs, buffers = program.train(leaves, buffers, x.expand(wide), (seeds, torch.zeros_like(seeds), *columns))
    loss = losses_of(outputs, y.expand(len(rows), -1), task)
    gradient = flat(torch.autograd.grad(loss.sum(), list(leaves.values()), allow_unused=True), leaves)
    buffers = {name: tensor.detach() for name, tensor in buffers.items()}
    predicted = program.predict(program.leaves(theta), buffers, x_val)
    return _Step(outputs.detach(), gradient, buffers, predicted)


def _least_width(
    program: Program, rows: Sequence[OwnRow], whole: _Step, x: Tensor, y: Tensor, x_val: Tensor, task: Task
) -> int | None:
    """The smallest width from which on a row has the same bits at either end of a group; None: at none."""
    wanted = whole.row(0)
    for width in reversed(WIDTHS):
        for place in {0, width - 1}:
            group = [rows[1]] * width
            group[place] = rows[0]
            found = _beside(program, group, x, y, x_val, task).row(place)
            if not all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True)):
                wider = width * 2
                return wider if wider <= WIDTHS[-1] else None
    return WIDTHS[0]


def flat(gradients: Sequence[Tensor | None], leaves: dict[str, Tensor]) -> Tensor:
    """The gradients ``(W, P)`` of the leaves; 0 for those that had no part in the loss."""
    pairs = zip(leaves.values(), gradients, strict=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).reshape(len(p), -1) for p, g in pairs], dim=1)


def restore(row: OwnRow, buffers: dict[str, Tensor]) -> None:
    """Set a row's buffers."""
    for name, tensor in row.buffers.items():
        tensor.copy_(buffers[name])


def _difference(fused: Sequence[Tensor], alone: Sequence[Tensor]) -> str | None:
    for a, b in zip(fused, alone, strict=True):
        if a.shape != b.shape:
            return f"its numbers have another shape, {tuple(a.shape)} and not {tuple(b.shape)}"
        if not b.is_floating_point():
            if not torch.equal(a, b):
                return "a buffer of whole numbers differs from that of a step alone"
            continue
        largest, off = b.abs().max().item(), (a - b).abs().max().item()
        if not off <= TOLERANCE.get(b.dtype, 1e-4) * max(largest, 1e-6):
            return f"one step differs from that alone by {off:.1e} of {largest:.1e}"
    return None


_SAID = {
    r"\.item\(\)": "calls .item()",
    r"data-dependent control flow": "branches on a tensor's value",
    r"vmap: called random operation|randomness": "draws random numbers outside nn.Dropout",
    r"dynamic shape|nonzero|output shape": "makes tensors whose shape depends on values",
}


def _refusal(row: OwnRow, error: BaseException) -> str:
    """Why torch refused, with the line of the user's file: ``forward() calls .item() (line 12)``."""
    builder = row.config.builder
    assert builder is not None
    if isinstance(error, OwnModelError):
        return error.problem
    text = " ".join(str(error).split())
    line = builder.line_of(error)
    where = "" if line is None else f" (line {line})"
    for pattern, said in _SAID.items():
        if re.search(pattern, text):
            return f"forward() {said}{where}"
    missing = re.search(r"aten::\w+", text)
    if missing and ("atching rule" in text or "fallback" in text):
        return f"torch has no batched form of {missing[0]}{where}"
    return f"torch refuses: {text[:120]}{where}"
