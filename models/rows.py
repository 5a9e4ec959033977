"""K slots of one network shape: parameters, optimizer state, hyperparameter columns.

Dimensions: K rows (slots), A active rows, P parameters per row (padded), n training rows, D features, C outputs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from math import prod
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from sweeper.models.config import ACTIVATIONS, OPTIMIZERS, SCHEDULES, Task, TrialConfig
from sweeper.models.data import Data
from sweeper.models.embedding import EmbeddingLayout
from sweeper.models.gradient_flow import Flow
from sweeper.models.schedules import CONSTANT, Schedule
from sweeper.models.sizes import n_parameters, n_statistics, row_length

COLUMNS = (
    *("lr", "wd_coupled", "wd_decoupled", "b1", "cg", "b2", "s", "eps", "nesterov", "clip", "corrected"),
    *("dropout", "smoothing", "total", "warmup", "ema", "residual", "ntk"),
)
COUNTERS = ("t", "activation", "seed", "optimizer", "schedule")


class LinearSlice(NamedTuple):
    """Where a Linear lies in a row: weight ``(n_out, n_in)`` row-major at ``weight``, bias ``(n_out,)`` at ``bias``.

    A normalisation behind it has scale and then shift at ``norm``, ``(n_out,)`` each; one of the batch has its running
    means and then variances at ``running``, behind all parameters of the row.
    """

    weight: int
    bias: int
    n_out: int
    n_in: int
    norm: int | None = None
    running: int | None = None

    @property
    def end(self) -> int:
        """Where the next Linear begins."""
        return self.bias + self.n_out if self.norm is None else self.norm + 2 * self.n_out


class EpochSums(NamedTuple):
    """What one epoch of A active rows gave: four ``(A,)`` float64 tensors, NaN or inf where a row broke.

    train_loss: mean over the epoch's examples of the loss before each step. grad_norm: mean over the epoch's steps of
    the global gradient norm before clipping. val_loss, val_metric (accuracy or rmse): on the validation split, after
    the epoch's last step.
    """

    train_loss: Tensor
    grad_norm: Tensor
    val_loss: Tensor
    val_metric: Tensor


class TrainingPath(Protocol):
    """One way to train an epoch of a cohort. Every path gives the arithmetic of ``sweeper.models.solo``.

    A row's numbers are bit for bit the same whatever width, slot, neighbours or order of ``active`` it ran with.
    """

    name: str

    @classmethod
    def available(cls, device: torch.device) -> bool:
        """Whether this installation can train on ``device`` this way."""
        ...

    @classmethod
    def trains(cls, config: TrialConfig) -> bool:
        """Whether it has everything that a trial of this configuration needs."""
        ...

    def __init__(self, task: Task, batch_size: int, data: Data, sizes: tuple[int, ...], width: int) -> None:
        """Prepare buffers for up to ``width`` rows. ``batch_size`` is resolved: 1 <= batch_size <= n."""

    def epoch(
        self, rows: Rows, active: Tensor, orders: Tensor, flow: Flow | None = None, outputs: Tensor | None = None
    ) -> EpochSums:
        """Train one epoch in place on the slots ``active`` and evaluate them on the validation split.

        active ``(A,)`` int64 on the CPU: distinct slots. orders ``(A, n)`` int64 on the CPU: the order in which each
        active row visits the training rows; minibatches are consecutive slices, the last one may be short. Updates
        ``theta, m, v`` and ``t`` of the active slots only. A row that becomes NaN runs on and touches no other row.
        ``flow`` is filled in where it is wanted, and so is ``outputs`` ``(A, v, C)``, contiguous, in the data's dtype:
        the networks' outputs (logits) on the v validation rows. No other number changes by that.
        """
        ...


@dataclass
class Rows:
    """K slots. theta, m, v ``(K, P)`` in the data's dtype, contiguous, zero beyond the parameters; there theta has the
    running statistics of batch normalisations, which the optimizer does not touch.

    The columns are ``(K,)`` float64: ``lr`` (changed by the plateau between epochs), coupled and decoupled weight
    decay, the update rule's ``b1, cg, b2, s, eps`` (``models/update.py``), ``nesterov`` 0 or 1 (with lion a share of
    1), ``clip`` the bound of the global gradient norm (inf: none), ``corrected`` 1 where the moments are bias-corrected
    (adam, adamw), and the ``dropout`` rate, the label ``smoothing``, the ``total`` and ``warmup`` steps of the
    schedule, the decay ``ema`` of averaged weights, and ``residual`` and ``ntk`` 0 or 1. ``(K,)`` int64 are ``t``,
    which counts optimizer steps, ``seed``, the trial's, and ``activation``, ``optimizer`` and ``schedule``, indices
    into the tuples of ``sweeper.models.config``.
    ``average`` ``(K, P)`` are the averaged weights, None until a row has some. Planes are on one device, and what is
    ``(K,)`` is on the CPU: on a card each number that is set would be a launch.
    A free slot holds zeros. With the ``layout`` of an embedding, its outputs are what the first Linear is given.
    A row of narrower ``hidden`` layers than those of ``sizes`` is padded: every plane has zeros in the places of the
    units that it lacks.
    """

    sizes: tuple[int, ...]
    columns: Tensor  # all of them as (columns, K), of which each is a view; and so the counters
    counters: Tensor
    theta: Tensor
    m: Tensor
    v: Tensor
    lr: Tensor
    wd_coupled: Tensor
    wd_decoupled: Tensor
    b1: Tensor
    cg: Tensor
    b2: Tensor
    s: Tensor
    eps: Tensor
    nesterov: Tensor
    clip: Tensor
    corrected: Tensor
    dropout: Tensor
    smoothing: Tensor
    total: Tensor
    warmup: Tensor
    ema: Tensor
    residual: Tensor
    ntk: Tensor
    t: Tensor
    activation: Tensor
    seed: Tensor
    optimizer: Tensor
    schedule: Tensor
    average: Tensor | None = None
    normalization: str = "none"
    layout: EmbeddingLayout | None = None
    layers: tuple[LinearSlice, ...] = field(init=False)
    hidden: list[tuple[int, ...]] = field(init=False)  # widths by slot

    def __post_init__(self) -> None:
        self.layers = linear_slices(self.sizes, self.normalization, self.layout)
        self.hidden = [self.sizes[1:-1]] * self.width

    @classmethod
    def empty(
        cls,
        sizes: tuple[int, ...],
        width: int,
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
        normalization: str = "none",
        layout: EmbeddingLayout | None = None,
    ) -> Rows:
        """``width`` free slots for networks of ``sizes = (D, H1, .., C)``, D being the width of ``layout`` if any."""
        length = row_length(sizes, normalization, layout)
        planes = [torch.zeros(width, length, dtype=dtype, device=device) for _ in range(3)]
        columns = torch.zeros(len(COLUMNS), width, dtype=torch.float64)
        counters = torch.zeros(len(COUNTERS), width, dtype=torch.int64)
        names = ("theta", "m", "v", *COLUMNS, *COUNTERS)
        tensors = dict(zip(names, (*planes, *columns.unbind(), *counters.unbind()), strict=True))
        return cls(sizes, columns, counters, **tensors, normalization=normalization, layout=layout)

    @property
    def width(self) -> int:
        """K, the number of slots."""
        return self.theta.shape[0]

    @property
    def n_inputs(self) -> int:
        """What a network is given: D, or the inputs that are embedded."""
        return self.sizes[0] if self.layout is None else self.layout.n_inputs

    def admit(
        self,
        slot: int,
        config: TrialConfig,
        model: nn.Module,
        clip_norm: float | None,
        seed: int = 0,
        schedule: Schedule = CONSTANT,
    ) -> None:
        """Put a fresh trial into ``slot``: ``model``'s weights, zero optimizer state, ``config``'s columns."""
        self.set_columns(slot, config, clip_norm, seed, schedule)
        self.hidden[slot] = config.hidden_layers
        running = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
        flat = torch.cat([p.detach().reshape(-1) for p in (*model.parameters(), *running)])
        self.paste(slot, self.theta, flat)
        if config.ema_decay > 0.0 and self.average is None:
            self.average = torch.zeros_like(self.theta)

    def set_columns(
        self, slot: int, config: TrialConfig, clip_norm: float | None, seed: int = 0, schedule: Schedule = CONSTANT
    ) -> None:
        """Give ``slot`` the columns and counters of ``config``, and zeros everywhere else."""
        self.clear(slot)
        columns = columns_of(config, clip_norm) | {"total": schedule.total, "warmup": schedule.warmup}
        codes = ACTIVATIONS.index(config.activation), OPTIMIZERS.index(config.optimizer), SCHEDULES.index(schedule.kind)
        counters = dict(zip(("activation", "optimizer", "schedule"), codes, strict=True)) | {"t": 0, "seed": seed}
        self.columns[:, slot] = torch.tensor([columns[name] for name in COLUMNS], dtype=torch.float64)
        self.counters[:, slot] = torch.tensor([counters[name] for name in COUNTERS])

    def change(self, slot: int, before: TrialConfig, after: TrialConfig, clip_norm: float | None) -> None:
        """Let the trial in ``slot`` go on with other hyperparameters: its rate as it is now, times after / before."""
        rate = self.lr[slot].item() * (after.learning_rate / before.learning_rate)
        for name, value in (columns_of(after, clip_norm) | {"lr": rate}).items():
            getattr(self, name)[slot] = value

    def clear(self, slot: int) -> None:
        """Free ``slot``: zeros everywhere."""
        for plane in (self.theta, self.m, self.v, *([] if self.average is None else [self.average])):
            plane[slot] = 0
        self.columns[:, slot] = 0
        self.counters[:, slot] = 0
        self.hidden[slot] = self.sizes[1:-1]

    def sizes_of(self, slot: int) -> tuple[int, ...]:
        """The sizes of the row's own network."""
        return (self.sizes[0], *self.hidden[slot], self.sizes[-1])

    def cut(self, slot: int, tensor: Tensor) -> Tensor:
        """A copy of what a plane ``(K, P)`` or column ``(K,)`` has of the row, on the CPU, without padded units.

        Of a plane it is what a cohort of the row's own sizes would have.
        """
        mine = tensor[slot].cpu()
        if tensor.ndim == 1 or (places := self._places(slot)) is None:
            return mine.clone()
        found = mine.new_zeros(row_length(self.sizes_of(slot), self.normalization, self.layout))
        found[: len(places)] = mine[places]
        return found

    def paste(self, slot: int, tensor: Tensor, values: Tensor) -> None:
        """Write to ``tensor`` what ``cut`` gives; of a plane at least the row's parameters."""
        values = values.to(tensor)
        if tensor.ndim == 1:
            tensor[slot] = values
        elif (places := self._places(slot)) is None:
            tensor[slot, : len(values)] = values
        else:
            tensor[slot, places.to(tensor.device)] = values[: len(places)]

    def _places(self, slot: int) -> Tensor | None:
        """See ``places``; None: the row is not padded."""
        sizes = self.sizes_of(slot)
        return None if sizes == self.sizes else places(sizes, self.sizes, self.normalization, self.layout)

    def averages(self, slot: int) -> bool:
        """Whether the row's averaged weights are the ones that count."""
        return bool(self.ema[slot] > 0)

    def weights(self, slots: list[int]) -> Tensor:
        """The rows' weights that count ``(A, P)``: theta, or their average."""
        if self.average is None:
            return self.theta[slots]
        averaged = (self.ema[slots] > 0)[:, None].to(self.theta.device)
        return torch.where(averaged, self.average[slots], self.theta[slots])

    def keep(self, plane: Tensor, slots: list[int]) -> None:
        """Put these rows' weights that count into ``plane (K, P)``; on a CPU row by row, which copies once."""
        if plane.device.type != "cpu":
            plane[slots] = self.weights(slots)
            return
        for slot in slots:
            plane[slot] = self._counting(slot)[slot]

    def _counting(self, slot: int) -> Tensor:
        return self.average if self.average is not None and self.averages(slot) else self.theta

    def state_dict(self, slot: int, plane: Tensor | None = None) -> dict[str, Tensor]:
        """The row's weights in ``plane (K, P)`` (None: those that count) under ``build_mlp``'s names, on the CPU."""
        row, state = self.cut(slot, self._counting(slot) if plane is None else plane), {}
        layers = linear_slices(self.sizes_of(slot), self.normalization, self.layout)
        for name, (start, shape) in embedding_slices(self.layout).items():
            state[f"embedding.{name}"] = row[start : start + prod(shape)].reshape(shape).clone()
        for number, part in enumerate(layers):
            # build_mlp is Sequential(Linear, [normalisation,] activation, Linear, ..)
            place = number * (2 if self.normalization == "none" else 3)
            state[f"{place}.weight"] = row[part.weight : part.bias].reshape(part.n_out, part.n_in).clone()
            state[f"{place}.bias"] = row[part.bias : part.bias + part.n_out].clone()
            if part.norm is not None:
                scale, shift = row[part.norm : part.end].view(2, part.n_out)
                state |= {f"{place + 1}.weight": scale.clone(), f"{place + 1}.bias": shift.clone()}
            if part.running is not None:
                mean, variance = row[part.running : part.running + 2 * part.n_out].view(2, part.n_out)
                state |= {f"{place + 1}.running_mean": mean.clone(), f"{place + 1}.running_var": variance.clone()}
        return state


def columns_of(config: TrialConfig, clip_norm: float | None) -> dict[str, float]:
    """The row's constants of the update rule (``models/update.py``), by column name."""
    decoupled = config.optimizer in ("adamw", "lion")
    column = {
        "lr": config.learning_rate,
        "wd_coupled": 0.0 if decoupled else config.weight_decay,
        "wd_decoupled": config.weight_decay if decoupled else 0.0,
        # b2 = 1 keeps v at zero where it is not used
        "b1": 0.0, "cg": 1.0, "b2": 1.0, "s": 0.0, "eps": 0.0, "nesterov": 0.0, "corrected": 0.0,
        "clip": float("inf") if clip_norm is None else clip_norm,
        "dropout": config.dropout if config.hidden_layers else 0.0,
        "smoothing": config.label_smoothing, "ema": config.ema_decay,
        "residual": float(config.residual), "ntk": float(config.parametrization == "ntk"),
    }  # fmt: skip
    if config.optimizer == "momentum":
        column |= {"b1": config.momentum, "nesterov": float(config.nesterov)}
    elif config.optimizer == "rmsprop":
        column |= {"b2": 0.99, "s": 1.0, "eps": 1e-8}
    elif config.optimizer == "lion":
        column |= {"b1": config.beta2, "cg": 1.0 - config.beta2, "nesterov": 1.0 - config.beta1 / config.beta2}
    elif config.optimizer == "adagrad":
        column |= {"s": 1.0, "eps": 1e-10}
    elif config.optimizer in ("adam", "adamw", "nadam"):
        column |= {"b1": config.beta1, "cg": 1.0 - config.beta1, "b2": config.beta2}
        column |= {"s": 1.0, "eps": 1e-8, "corrected": 1.0}
    return column


def linear_slices(
    sizes: tuple[int, ...], normalization: str = "none", layout: EmbeddingLayout | None = None
) -> tuple[LinearSlice, ...]:
    """The layout of a row: for each Linear in order, its weight, then its bias, then scale and shift behind it.

    The parameters of an embedding come before all of them, the running statistics of batch normalisations after them.
    """
    slices, start = list[LinearSlice](), layout.parameters if layout else 0
    running = n_parameters(sizes, normalization, layout)
    for n_in, n_out in pairwise(sizes):
        bias = start + n_out * n_in
        normed = normalization != "none" and len(slices) < len(sizes) - 2
        counted = running if normed and normalization == "batch" else None
        slices.append(LinearSlice(start, bias, n_out, n_in, bias + n_out if normed else None, counted))
        running += 2 * n_out
        start = slices[-1].end
    return tuple(slices)


def embedding_slices(layout: EmbeddingLayout | None) -> dict[str, tuple[int, tuple[int, ...]]]:
    """Where each parameter of an embedding begins in a row, and its shape, by name; none without one."""
    found, start = dict[str, tuple[int, tuple[int, ...]]](), 0
    for name, shape in (layout.shapes if layout else {}).items():
        found[name] = start, shape
        start += prod(shape)
    return found


@lru_cache(maxsize=4096)
def places(
    sizes: tuple[int, ...], padded: tuple[int, ...], normalization: str, layout: EmbeddingLayout | None
) -> Tensor:
    """Where each number of a network of ``sizes`` lies in a row of ``padded`` sizes: parameters, running statistics.

    A layer's first units are the network's, those behind them padding.
    """
    found = torch.arange(n_parameters(sizes, normalization, layout) + n_statistics(sizes, normalization))
    layers = [linear_slices(each, normalization, layout) for each in (sizes, padded)]
    for own, wide in zip(*layers, strict=True):
        units = torch.arange(own.n_out)
        found[own.weight : own.bias] = (wide.weight + units[:, None] * wide.n_in + torch.arange(own.n_in)).flatten()
        found[own.bias : own.bias + own.n_out] = wide.bias + units
        pairs = [(own.norm, wide.norm), (own.running, wide.running)]
        for start, there in ((start, there) for start, there in pairs if start is not None and there is not None):
            found[start : start + own.n_out] = there + units
            found[start + own.n_out : start + 2 * own.n_out] = there + wide.n_out + units
    return found
