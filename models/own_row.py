"""One trial of the user's own model while it trains: its module, and its weights as one vector.

Dimensions: P parameters, B examples of a minibatch, D inputs, C outputs, v validation rows.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from sweeper.models.own_config import OwnConfig
from sweeper.models.own_layers import with_row_dropout

RANDOM = threading.RLock()  # torch, numpy and Python have one generator each for all threads of a process
PLANES = ("theta", "m", "v", "average")
KEPT, BUFFER = "kept.", "buffer."


class OwnModelError(ValueError):
    """The user's own model cannot be built or trained; the message says why, with file and line where they are known.

    ``remedy`` is what to do about it.
    """

    def __init__(self, problem: str, remedy: str | None = None) -> None:
        super().__init__(problem)
        self.problem, self.remedy = problem, remedy


@contextmanager
def seeded(*seeds: int) -> Iterator[None]:
    """Global random numbers as they follow from ``seeds``, in this block alone; afterwards they are as before.

    Torch's are of the CPU: what a user draws on a graphics card follows from its own generator, which is seeded too.
    """
    with RANDOM:
        devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
        before = random.getstate(), np.random.get_state()
        seed = int(np.random.SeedSequence(seeds).generate_state(1, np.uint64)[0] >> 1)
        try:
            with torch.random.fork_rng(devices):
                torch.manual_seed(seed)
                random.seed(seed)
                np.random.seed(seed % 2**32)
                yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])


def build_own(config: OwnConfig, n_inputs: int, n_outputs: int, seed: int) -> nn.Module:
    """The user's module with the initial weights that ``seed`` draws, on the CPU.

    Raises:
        OwnModelError: the function raised, or returned no module.
    """
    assert config.builder is not None
    with seeded(seed):
        try:
            module = config.build(n_inputs, n_outputs)
        except (Exception, SystemExit) as error:
            raise OwnModelError(config.builder.happened(error)) from error
    if not isinstance(module, nn.Module):
        problem = f"{config.builder.function} returned {type(module).__name__}, where a torch.nn.Module is needed"
        raise OwnModelError(problem, "Return the module")
    if not any(p.requires_grad for p in module.parameters()):
        raise OwnModelError(f"the module that {config.builder.function} returned has no parameters to train")
    return module


class OwnRow:
    """A module whose trained parameters are views of ``theta (P,)``, with the optimizer's ``m`` and ``v`` beside it.

    ``average`` are the averaged weights where the trial has them. Dropout layers are exchanged for ours; what else
    draws random numbers draws those of (seed, epoch).
    """

    def __init__(self, config: OwnConfig, n_inputs: int, n_outputs: int, seed: int, like: Tensor) -> None:
        self.config, self.seed, self.outputs = config, seed, n_outputs
        self.module = build_own(config, n_inputs, n_outputs, seed).to(like)
        self.draw = with_row_dropout(self.module)
        self.parameters = [p for p in self.module.parameters() if p.requires_grad]
        odd = [name for name, p in self.module.named_parameters() if p.requires_grad and p.dtype != like.dtype]
        if odd:
            raise OwnModelError(f"the parameter {odd[0]} is not of the data's type {like.dtype}")
        self.theta = torch.cat([p.detach().reshape(-1) for p in self.parameters])
        start = 0
        for p in self.parameters:
            p.data = self.theta[start : start + p.numel()].view(p.shape)
            start += p.numel()
        self.m, self.v = torch.zeros_like(self.theta), torch.zeros_like(self.theta)
        self.average = torch.zeros_like(self.theta) if config.ema_decay > 0.0 else None
        self.kept: dict[str, Tensor] | None = None
        self.failed: str | None = None

    @property
    def buffers(self) -> dict[str, Tensor]:
        """The module's buffers by name."""
        return dict(self.module.named_buffers())

    def train(self, x: Tensor, step: Tensor, columns: tuple[Tensor, Tensor]) -> Tensor:
        """The outputs ``(B, C)`` for ``x (B, D)`` in optimizer step ``step``, with gradients to come."""
        self.draw.begin(torch.tensor(self.seed, device=x.device), step, *columns)
        return self.checked(self.module(x), len(x))

    def gradient(self, loss: Tensor) -> Tensor:
        """The gradient ``(P,)`` of a loss; 0 for parameters that had no part in it."""
        found = torch.autograd.grad(loss, self.parameters, allow_unused=True)
        pairs = zip(self.parameters, found, strict=True)
        return torch.cat([torch.zeros_like(p).reshape(-1) if g is None else g.reshape(-1) for p, g in pairs])

    def predict(self, x: Tensor) -> Tensor:
        """The outputs ``(v, C)`` of the weights that count, not in training."""
        with torch.no_grad(), self.averaged():
            self.module.eval()
            try:
                return self.checked(self.module(x), len(x))
            finally:
                self.module.train()

    def checked(self, output: object, count: int) -> Tensor:
        """An output of the user's module, refused where it has another shape.

        Raises:
            OwnModelError: it has.
        """
        builder, outputs = self.config.builder, self.outputs
        assert builder is not None
        if isinstance(output, Tensor) and output.shape == (count, outputs):
            return output
        shown = f"of shape {tuple(output.shape)}" if isinstance(output, Tensor) else f"a {type(output).__name__}"
        problem = f"the module's output for {count} rows is {shown}; it must be ({count}, {outputs})"
        what = "the value" if outputs == 1 else f"the logits of {outputs} classes"
        raise OwnModelError(problem, f"Let forward(x) return data.n_outputs numbers for each row: {what}")

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The averaged weights in the place of the trained ones."""
        if self.average is None:
            yield
            return
        trained = self.theta.clone()
        self.theta.copy_(self.average)
        try:
            yield
        finally:
            self.theta.copy_(trained)

    def state_dict(self) -> dict[str, Tensor]:
        """The weights that count and the buffers, under the module's names, on the CPU."""
        with self.averaged():
            return {name: tensor.detach().cpu().clone() for name, tensor in self.module.state_dict().items()}

    def export(self) -> dict[str, Tensor]:
        """Everything that the row needs to go on elsewhere, as CPU tensors by name."""
        state = {name: getattr(self, name) for name in PLANES if getattr(self, name) is not None}
        state |= {BUFFER + name: tensor for name, tensor in self.buffers.items()}
        state |= {KEPT + name: tensor for name, tensor in (self.kept or {}).items()}
        return {name: tensor.detach().cpu().clone() for name, tensor in state.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over what ``export`` gave.

        Raises:
            ValueError: it is of another module.
        """
        mine = {name: getattr(self, name) for name in PLANES if getattr(self, name) is not None}
        mine |= {BUFFER + name: tensor for name, tensor in self.buffers.items()}
        for name, tensor in mine.items():
            if name not in state or state[name].shape != tensor.shape:
                raise ValueError(f"the exported state does not fit this module: {name} is missing or of another shape")
        for name, tensor in mine.items():
            tensor.copy_(state[name])
        kept = {name.removeprefix(KEPT): tensor for name, tensor in state.items() if name.startswith(KEPT)}
        self.kept = kept or None
