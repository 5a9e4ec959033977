"""One training step of a chunk recorded once and replayed: on a GPU a small network's step is nothing but launches.

A recording reads and writes fixed buffers. What changes is copied into them first: before each step the indices of the
minibatch and the coefficients of the step in one piece, as each copy is a launch, and before the first step the others.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sweeper.models.network import Chunk
from sweeper.models.update import CHANGING, CONSTANT, Coefficients

Work = Callable[[], None]
Step = Callable[[Tensor, Coefficients, int], tuple[Tensor, Tensor]]  # indices, coefficients, step -> loss, norm
KEPT = 32  # recordings; a chunk's composition changes when a trial ends, and hardly ever comes back after many others


def record_on_cuda(work: Work) -> Work:
    """A CUDA graph of ``work``, which has to have run before; calling it replays it."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


class Recording:
    """A step for one composition of a chunk: A rows, B examples, the order of activations, the branches that it takes.

    The first call runs the step as it is, records it, and replays the recording from the same state. Where the two
    differ in a single bit, or the recording fails, ``usable`` is false and the step is run as it is from then on.
    """

    def __init__(self, chunk: Chunk, step: Step, indices: Tensor, c: Coefficients, record: Callable[[Work], Work]):
        self._chunk, self._step = chunk, step
        self._indices = indices.clone()
        steps = steps_of(c)
        self._now = steps[0].clone()  # (E, 1, A, 1)
        columns: dict[str, Any] = {name: getattr(c, name).clone() for name in CONSTANT}
        columns |= dict(zip(CHANGING, self._now, strict=True)) | {"number": c.number[:1].clone()}
        self._c = c._replace(**columns)
        self._steps, self._of = steps, c
        self._loss: Tensor | None = None
        self._norm: Tensor | None = None
        self.usable = False
        self._replay = self._recorded(record)

    def __call__(self, indices: Tensor, c: Coefficients, step: int) -> tuple[Tensor, Tensor]:
        """Do the step; loss and norm ``(A,)`` are valid until the next call."""
        if self._of is not c:
            self._steps, self._of = steps_of(c), c
            for name in CONSTANT:
                getattr(self._c, name).copy_(getattr(c, name))
        self._indices.copy_(indices)
        self._now.copy_(self._steps[step])
        self._c.number.copy_(c.number[step : step + 1])
        self._replay()
        assert self._loss is not None
        assert self._norm is not None
        return self._loss, self._norm

    def _work(self) -> None:
        loss, norm = self._step(self._indices, self._c, 0)
        if self._loss is None or self._norm is None:
            self._loss, self._norm = torch.empty_like(loss), torch.empty_like(norm)
        self._loss.copy_(loss)
        self._norm.copy_(norm)

    def _recorded(self, record: Callable[[Work], Work]) -> Work:
        """Record from the present state and leave the chunk in that state."""
        planes = (self._chunk.theta, self._chunk.m, self._chunk.v, *([self._chunk.average] if self._c.averages else []))
        before = [plane.clone() for plane in planes]

        def restore() -> None:
            for plane, kept in zip(planes, before, strict=True):
                plane.copy_(kept)

        self._work()  # the libraries set themselves up, which cannot be recorded
        wanted = self._results(planes)
        try:
            restore()
            replay = record(self._work)
            restore()
            replay()
            same = all(torch.equal(x, y) for x, y in zip(self._results(planes), wanted, strict=True))
        except RuntimeError as error:
            warnings.warn(f"a step could not be recorded ({str(error)[:200]}): it runs unrecorded", stacklevel=2)
            same, replay = False, self._work
        restore()
        self.usable = same
        return replay if same else self._work

    def _results(self, planes: Sequence[Tensor]) -> list[Tensor]:
        assert self._loss is not None
        assert self._norm is not None
        return [tensor.nan_to_num(nan=1.25e30).clone() for tensor in (*planes, self._loss, self._norm)]


def steps_of(c: Coefficients) -> Tensor:
    """The E coefficients that change from step to step, as ``(S, E, 1, A, 1)``."""
    return torch.stack([getattr(c, name) for name in CHANGING], dim=1)[:, :, None]


class Recordings:
    """The recordings of one network, by composition; the one used longest ago goes first."""

    def __init__(self, record: Callable[[Work], Work]) -> None:
        self._record, self._kept = record, OrderedDict[Any, Recording]()
        self.replayed = 0

    def step(self, chunk: Chunk, step: Step, indices: Tensor, c: Coefficients, number: int) -> tuple[Tensor, Tensor]:
        """Step ``number`` of ``chunk``."""
        parts = tuple((part.rows.start, part.rows.stop, part.name) for part in chunk.parts)
        key = (chunk.count, len(indices), parts, c.branches, chunk.structure, chunk.padded)
        if key not in self._kept:
            self._kept[key] = Recording(chunk, step, indices, c, self._record)
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        self.replayed += self._kept[key].usable
        return self._kept[key](indices, c, number)
