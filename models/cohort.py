"""A cohort: slots in which trials of one shape train side by side, each with its own epoch counter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sweeper.models.changes import Changes, check_changes, split_at
from sweeper.models.config import SCHEDULES, TrainConfig, TrialConfig
from sweeper.models.data import Data, batch_order
from sweeper.models.embedding import Embedding, layout_of
from sweeper.models.gradient_flow import EpochFlow, Flow, is_measured
from sweeper.models.history import History, best_epoch, metric_names
from sweeper.models.metrics import Scorer
from sweeper.models.mlp import build_mlp, count_outputs
from sweeper.models.paths import choose
from sweeper.models.plateau import Plateau
from sweeper.models.rows import EpochSums, Rows, TrainingPath
from sweeper.models.schedules import STEADY, schedule_of
from sweeper.models.sizes import bucket_of, has_lone_row, n_parameters
from sweeper.models.solo import resolve_batch_size, resolve_clip_norm
from sweeper.models.update import rates

Key = Any  # hashable; a trial's number, say
_PLATEAU = SCHEDULES.index("plateau")

ROW_STATE = ("theta", "m", "v", "t", "lr")
PLATEAU_STATE = ("best", "bad_epochs", "cooldown")


@dataclass(frozen=True)
class RowReport:
    """What one trial did in a leg.

    metrics: name -> one number for each finite epoch of the leg, the first being epoch ``first_epoch``. flow: the
    gradient flow by epoch, of those epochs of the leg that were measured. ``best_epoch``: the best one so far, from 0.
    ``finished``: it has all its epochs, or its patience has run out. ``diverged``: what broke, when it did. In both
    cases it has left its slot and ``state_dict`` holds the weights of ``History.state_dict``; otherwise that is None.
    ``kept`` are the metrics of the epoch whose weights count: of a finished trial those in ``state_dict``, of another
    one what ``kept_weights`` gives (None: it has no epoch yet, or has diverged). Where patience may end one trial
    before another, ``state`` is what ``export`` gave then: admitted again, the trial ends at once with the same.
    Of the user's own model, ``failed`` is what went wrong in its code, ``how`` says why it trains by itself,
    and ``parameters`` how large it is.
    """

    key: Key
    first_epoch: int
    metrics: dict[str, list[float]]
    finished: bool
    diverged: str | None
    state_dict: dict[str, Tensor] | None
    flow: dict[int, EpochFlow] = field(default_factory=dict)
    best_epoch: int | None = None
    kept: dict[str, float] | None = None
    state: dict[str, Tensor] | None = None
    failed: str | None = None
    how: str = ""
    parameters: int | None = None


@dataclass
class Occupant:
    """The trial in a slot."""

    key: Key
    seed: int
    path: type[TrainingPath]
    fold: int = 0
    config: TrialConfig = field(default_factory=TrialConfig)
    changes: Changes = ()  # those still to come
    history: History = field(default_factory=History)
    state: dict[str, Tensor] | None = None
    failed: str | None = None
    how: str = ""
    parameters: int | None = None


class Cohort:
    """Up to ``width`` trials of one shape. A trial's numbers do not depend on what else is in the cohort.

    A ``padded`` cohort has a bucket (``bucket_of``) for its ``hidden_layers``: it takes all trials of that bucket and
    trains them on the eager path.

    ``train`` holds for all rows, except that a trial's ``clip_norm`` overrides the cohort's; a trial's
    ``hidden_layers``, ``batch_size``, ``normalization`` and ``embedding`` have to agree with it. Everything is on the
    device of ``data``.

    ``data`` may be several folds of one table: each row trains on the rows of its own fold, and is validated there.
    They have the same columns and dtype; the number of classes is that of all of them. ``scorers`` judge the outputs
    on the validation rows after every epoch; their numbers stand beside the other metrics under their names.

    Raises:
        ValueError: a trial of another shape, a key that is taken or unknown, no free slot, a state that does not fit,
            folds of different widths.
    """

    def __init__(
        self,
        train: TrainConfig,
        hidden_layers: Sequence[int],
        data: Data | Sequence[Data],
        width: int,
        path: str = "auto",
        scorers: Mapping[str, Scorer] | None = None,
        *,
        normalization: str = "none",
        embedding: Embedding | None = None,
        padded: bool = False,
    ) -> None:
        self.folds = (data,) if isinstance(data, Data) else tuple(data)
        self.train, self.width, self.hidden_layers = train, width, tuple(hidden_layers)
        self.scorers, self.path, self.padded = dict(scorers or {}), "eager" if padded else path, padded
        first = self.folds[0].x_train
        if any(fold.x_train.shape[1] != first.shape[1] or fold.x_train.dtype != first.dtype for fold in self.folds):
            raise ValueError("the folds must have the same number of columns and the same dtype")
        self.normalization, self.embedding = normalization if self.hidden_layers else "none", embedding
        layout = layout_of(embedding, self.folds[0].columns, first.shape[1])
        n_outputs = max(count_outputs(fold, train.task) for fold in self.folds)
        sizes = (layout.width if layout else first.shape[1], *self.hidden_layers, n_outputs)
        self.rows = Rows.empty(sizes, width, first.dtype, first.device, self.normalization, layout)
        self.batch_sizes = [resolve_batch_size(TrialConfig(), train, len(fold.x_train)) for fold in self.folds]
        choose(path, self.folds[0])
        self._paths: dict[tuple[int, type[TrainingPath]], TrainingPath] = {}  # made when a trial needs them
        train.check_monitor(self.metric_names)
        self.plateau = Plateau.empty(train.plateau, width) if train.plateau else None
        self.kept = torch.zeros_like(self.rows.theta) if train.keep == "best" else None  # (K, P) at the best epoch
        self.occupants: dict[int, Occupant] = {}

    def parameters(self, key: Key) -> int:
        """Weights and biases of a trial's network."""
        return n_parameters(self.rows.sizes_of(self._slot(key)), self.normalization, self.rows.layout)

    @property
    def free(self) -> int:
        """How many more trials can be admitted."""
        return self.width - len(self.occupants)

    def admit(
        self,
        key: Key,
        config: TrialConfig,
        seed: int,
        state: Mapping[str, Tensor] | None = None,
        fold: int = 0,
        changes: Changes = (),
    ) -> None:
        """Put a trial into a free slot, from its initial weights or from what ``export`` gave elsewhere.

        It trains on the fold of this index, with ``config`` until the first of the ``changes``.
        """
        slot = self._free_slot(key, config, fold)
        check_changes(config, changes)
        config, changes = split_at(config, changes, 0 if state is None else len(state["history.val_loss"]))
        config, data = config.within(self.train), self.folds[fold]
        path = choose(self.path, data, config)
        sizes, occupant = self.rows.sizes, Occupant(key, seed, path, fold, config, changes)
        model = build_mlp(config, self.rows.n_inputs, sizes[-1], seed, data.columns)
        schedule = schedule_of(config, self.train, len(data.x_train), self.batch_sizes[fold])
        self.rows.admit(slot, config, model, resolve_clip_norm(config, self.train), seed, schedule)
        if self.plateau is not None:
            self.plateau.clear(slot)
        if state is not None:
            self._restore(slot, occupant.history, state)
        self.occupants[slot] = occupant

    def _free_slot(self, key: Key, config: TrialConfig, fold: int) -> int:
        """The first free slot, for a trial that may be admitted.

        Raises:
            ValueError: it is here already, no slot is free, or its shape is another.
        """
        if any(occupant.key == key for occupant in self.occupants.values()):
            raise ValueError(f"trial {key!r} is already in this cohort")
        if self.free == 0:
            raise ValueError(f"all {self.width} slots are taken: run a leg or drop a trial first")
        self._check_shape(config, fold)
        return next(slot for slot in range(self.width) if slot not in self.occupants)

    def leg(self, epochs: int) -> list[RowReport]:
        """Advance every trial by up to ``epochs`` epochs; one report per trial, by slot."""
        started = {slot: (occupant, occupant.history.epochs) for slot, occupant in sorted(self.occupants.items())}
        for slot, (occupant, _) in started.items():
            if occupant.history.has_finished(self.train):
                self._finish(slot)
        for _ in range(epochs):
            if self.occupants:
                self._epoch()
        return [self._report(occupant, first) for occupant, first in started.values()]

    def drop(self, key: Key) -> None:
        """Take a trial out of its slot."""
        self._release(self._slot(key))

    def state_dict(self, key: Key) -> dict[str, Tensor]:
        """The trial's weights now, under the names of ``build_mlp``'s module, on the CPU."""
        return self.rows.state_dict(self._slot(key))

    def kept_weights(self, key: Key) -> dict[str, Tensor]:
        """The weights that would count if the trial ended now, as in ``state_dict``: those of its best epoch so far."""
        return self.rows.state_dict(self._slot(key), self.kept)

    def export(self, key: Key) -> dict[str, Tensor]:
        """Everything the trial needs to go on elsewhere exactly as here, as CPU tensors by name.

        theta, m, v ``(P,)``, with ``ema_decay`` average, with ``keep="best"`` kept; t, lr, best, bad_epochs,
        cooldown ``()``; history.NAME ``(epochs,)`` float64.
        """
        return self._export(self._slot(key))

    def _export(self, slot: int) -> dict[str, Tensor]:
        state = {name: self.rows.cut(slot, tensor) for name, tensor in self._row_state(slot).items()}
        if self.plateau is not None:
            state |= {name: getattr(self.plateau, name)[slot].clone() for name in PLATEAU_STATE}
        if self.kept is not None:
            state["kept"] = self.rows.cut(slot, self.kept)
        history = self.occupants[slot].history
        for name in self.metric_names:
            state[f"history.{name}"] = torch.tensor(history.series(name), dtype=torch.float64)
        return state

    def _row_state(self, slot: int) -> dict[str, Tensor]:
        """The planes and columns ``(K, ..)`` that make up the row in ``slot``."""
        state = {name: getattr(self.rows, name) for name in ROW_STATE}
        return state | ({"average": self.rows.average} if self.rows.averages(slot) else {})

    def _restore(self, slot: int, history: History, state: Mapping[str, Tensor]) -> None:
        """Overwrite ``slot`` and ``history`` with what ``export`` gave."""
        tensors = self._row_state(slot)
        if self.plateau is not None:
            tensors |= {name: getattr(self.plateau, name) for name in PLATEAU_STATE}
        if self.kept is not None:
            tensors["kept"] = self.kept
        for name, tensor in tensors.items():
            if name not in state or state[name].shape != self.rows.cut(slot, tensor).shape:
                raise ValueError(f"the exported state does not fit this cohort: {name} is missing or of another shape")
        for name, tensor in tensors.items():
            self.rows.paste(slot, tensor, state[name])
        metrics = {name: state[f"history.{name}"].tolist() for name in self.metric_names}
        history.extend(metrics, self.scorers)
        history.best_epoch = best_epoch(history.series(self.train.monitor), self.train.minimize)

    def _epoch(self) -> None:
        """Advance every trial by one epoch; those that end leave their slot.

        Rows of one fold and path run side by side.
        """
        groups: dict[tuple[int, type[TrainingPath]], list[int]] = {}
        for slot, occupant in sorted(self.occupants.items()):
            if occupant.changes and occupant.changes[0][0] == occupant.history.epochs:
                self._change(slot, occupant)
            groups.setdefault((occupant.fold, occupant.path), []).append(slot)
        for (fold, path), slots in groups.items():
            self._epoch_of(fold, self._made(fold, path), slots)

    def _change(self, slot: int, occupant: Occupant) -> None:
        """Go on with the hyperparameters of the next change."""
        (_, after), *occupant.changes = occupant.changes
        after = after.within(self.train)
        self.rows.change(slot, occupant.config, after, resolve_clip_norm(after, self.train))
        occupant.config, occupant.path = after, choose(self.path, self.folds[occupant.fold], after)

    def _made(self, fold: int, path: type[TrainingPath]) -> TrainingPath:
        if (fold, path) not in self._paths:
            made = path(self.train.task, self.batch_sizes[fold], self.folds[fold], self.rows.sizes, self.width)
            self._paths[fold, path] = made
        return self._paths[fold, path]

    def _epoch_of(self, fold: int, path: TrainingPath, slots: list[int]) -> None:
        data = self.folds[fold]
        occupants = [self.occupants[slot] for slot in slots]
        epochs = [(occupant.seed, occupant.history.epochs) for occupant in occupants]
        orders = {pair: batch_order(len(data.x_train), *pair) for pair in set(epochs)}
        active = torch.tensor(slots)
        wanted = [is_measured(epoch, self.train.gradient_flow) for _, epoch in epochs]
        flow = Flow.empty(wanted, len(self.rows.layers)) if any(wanted) else None
        outputs = None
        if self.scorers:
            outputs = data.x_val.new_empty(len(slots), len(data.x_val), self.rows.sizes[-1])
        sums = path.epoch(self.rows, active, torch.stack([orders[pair] for pair in epochs]), flow, outputs)
        scores = self._scores(data, outputs, len(slots))
        numbers = torch.stack(sums).cpu()  # (4, A)
        after = self._rates_after(active, numbers[EpochSums._fields.index("val_loss")])

        flows = [None] * len(slots) if flow is None else flow.rows()
        improved, ended = list[int](), list[int]()
        per_row = zip(slots, occupants, numbers.T.tolist(), after.tolist(), flows, scores, strict=True)
        for slot, occupant, row, rate, measured, scored in per_row:
            history, named = occupant.history, dict(zip(EpochSums._fields, row, strict=True))
            going_on = history.record(self.train, **named, learning_rate=rate, flow=measured, scores=scored)
            if going_on and history.improved:
                improved.append(slot)
            if not going_on or history.has_finished(self.train):
                ended.append(slot)
        if self.kept is not None and improved:
            self.rows.keep(self.kept, improved)
        for slot in ended:
            self._finish(slot)

    def _finish(self, slot: int) -> None:
        """Take a trial that has ended out of its slot, with its weights."""
        occupant = self.occupants[slot]
        diverged = occupant.history.diverged
        occupant.history.state_dict = self.rows.state_dict(slot, None if diverged else self.kept)
        if self.train.patience is not None and not diverged:
            occupant.state = self._export(slot)
        self._release(slot)

    def _scores(self, data: Data, outputs: Tensor | None, count: int) -> list[dict[str, float]]:
        """What the scorers say of each row's outputs ``(A, v, C)``."""
        if outputs is None:
            return [{}] * count
        columns = [scorer(outputs, data.y_val, data.w_val).tolist() for scorer in self.scorers.values()]
        return [dict(zip(self.scorers, row, strict=True)) for row in zip(*columns, strict=True)]

    def _report(self, occupant: Occupant, first: int) -> RowReport:
        history = occupant.history
        finished, kept = not history.diverged and history.has_finished(self.train), None
        if not history.diverged and history.epochs:
            epoch = history.kept_epoch(self.train)
            kept = {name: history.series(name)[epoch] for name in self.metric_names}
        return RowReport(
            key=occupant.key,
            first_epoch=first,
            metrics={name: history.series(name)[first:] for name in self.metric_names},
            finished=finished,
            diverged=history.divergence,
            state_dict=history.state_dict or None,
            flow={epoch: history.flow[epoch] for epoch in range(first, history.epochs) if epoch in history.flow},
            best_epoch=history.best_epoch,
            kept=kept,
            state=occupant.state,
            failed=occupant.failed,
            how=occupant.how,
            parameters=occupant.parameters,
        )

    def _rates_after(self, active: Tensor, val_loss: Tensor) -> Tensor:
        """The learning rates ``(A,)`` of the next steps, on the CPU, after the plateau step of rows that have one."""
        rows = self.rows
        kinds, t, warmup = (getattr(rows, name)[active].tolist() for name in ("schedule", "t", "warmup"))
        settled = [step >= first for step, first in zip(t, warmup, strict=True)]
        mine = [i for i, kind in enumerate(kinds) if kind == _PLATEAU and settled[i]]
        if self.plateau is not None and mine:
            slots, losses = (active, val_loss) if len(mine) == len(kinds) else (active[mine], val_loss[mine])
            rows.lr[slots] = self.plateau.step(slots, losses, rows.lr[slots]).to(rows.lr)
        if all(settled) and STEADY.issuperset(kinds):
            return rows.lr[active]
        return rates(rows, active, steps=1)[0]

    @property
    def metric_names(self) -> list[str]:
        """The lists of a history that are filled for this task, and those of the scorers."""
        return metric_names(self.train.task, self.scorers)

    def _check_shape(self, config: TrialConfig, fold: int) -> None:
        hidden = bucket_of(config.hidden_layers) if self.padded else config.hidden_layers
        if hidden != self.hidden_layers:
            raise ValueError(f"hidden_layers {config.hidden_layers} is not this cohort's {self.hidden_layers}")
        if config.normalized != self.normalization:
            raise ValueError(f"normalization {config.normalized} is not this cohort's {self.normalization}")
        if config.embedding != self.embedding:
            raise ValueError(f"embedding {config.embedding} is not this cohort's {self.embedding}")
        batch_size = resolve_batch_size(config, self.train, len(self.folds[fold].x_train))
        if batch_size != self.batch_sizes[fold]:
            raise ValueError(f"batch_size {batch_size} is not this cohort's {self.batch_sizes[fold]}")
        if self.normalization == "batch" and has_lone_row(len(self.folds[fold].x_train), batch_size):
            raise ValueError(f"batch normalization has no use for a minibatch of one row: batch_size is {batch_size}")

    def _slot(self, key: Key) -> int:
        for slot, occupant in self.occupants.items():
            if occupant.key == key:
                return slot
        raise ValueError(f"no trial {key!r} in this cohort")

    def _release(self, slot: int) -> None:
        del self.occupants[slot]
        self.rows.clear(slot)
