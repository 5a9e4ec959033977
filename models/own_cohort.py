"""A cohort of trials of the user's own model: rows of one structure side by side, the others one by one.

Dimensions: A rows of a group, W of the padded one, P parameters, B examples, C outputs, v validation rows.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from sweeper.models.changes import Changes
from sweeper.models.cohort import PLATEAU_STATE, Cohort, Key, Occupant
from sweeper.models.config import Task, TrainConfig, TrialConfig
from sweeper.models.data import Data, batch_order
from sweeper.models.eager import EagerPath, one_thread
from sweeper.models.history import History, best_epoch
from sweeper.models.metrics import Scorer
from sweeper.models.own_config import OwnConfig
from sweeper.models.own_fused import WIDTHS, Program, Verdict, examine, flat, losses_of
from sweeper.models.own_row import OwnModelError, OwnRow, seeded
from sweeper.models.own_structure import Unlike, structure
from sweeper.models.schedules import schedule_of
from sweeper.models.solo import loss_of, resolve_clip_norm
from sweeper.models.update import coefficients, update_

NOT_FASTER = "side by side is not faster on this machine"
EXAMINED = 256  # structures whose verdicts a process remembers
_verdicts: OrderedDict[tuple[object, ...], Verdict] = OrderedDict()


@dataclass
class Numbers:
    """What one epoch gave one row: means over the epoch, and the outputs ``(v, C)`` on the validation rows."""

    train_loss: float
    grad_norm: float
    outputs: Tensor


@dataclass
class _Group:
    """Rows of one structure, and how they train."""

    verdict: Verdict
    program: Program | None
    slots: list[int] = field(default_factory=list)


class OwnCohort(Cohort):
    """Up to ``width`` trials of the user's own model, of any structures. For the rest see ``Cohort``."""

    def __init__(
        self,
        train: TrainConfig,
        data: Data | Sequence[Data],
        width: int,
        scorers: Mapping[str, Scorer] | None = None,
    ) -> None:
        super().__init__(replace(train, gradient_flow=None), (), data, width, "eager", scorers)
        self.kept = None
        self.own: dict[int, OwnRow] = {}
        self.structures: dict[int, tuple[str, str]] = {}  # of each slot, or why it has none to be compared by
        self.programs: dict[str, Program] = {}

    def admit(
        self,
        key: Key,
        config: TrialConfig,
        seed: int,
        state: Mapping[str, Tensor] | None = None,
        fold: int = 0,
        changes: Changes = (),
    ) -> None:
        """As ``Cohort.admit``; a module that cannot be built fails in its first epoch, alone. Nothing changes yet."""
        assert isinstance(config, OwnConfig)
        assert not changes
        slot = self._free_slot(key, config, fold)
        data, occupant = self.folds[fold], Occupant(key, seed, EagerPath, fold)
        settled = config.within(self.train)
        schedule = schedule_of(settled, self.train, len(data.x_train), self.batch_sizes[fold])
        self.rows.set_columns(slot, settled, resolve_clip_norm(config, self.train), seed, schedule)
        if self.plateau is not None:
            self.plateau.clear(slot)
        self.occupants[slot] = occupant
        try:
            self.own[slot] = OwnRow(config, data.x_train.shape[1], self.rows.sizes[-1], seed, data.x_train)
        except OwnModelError as error:
            occupant.failed = error.problem
            return
        occupant.parameters = sum(p.numel() for p in self.own[slot].module.parameters())
        try:
            self.structures[slot] = (structure(self.own[slot].module), "")
        except Unlike as error:
            self.structures[slot] = ("", str(error))
        if state is not None:
            self._restore(slot, occupant.history, state)

    def state_dict(self, key: Key) -> dict[str, Tensor]:
        """The trial's weights now, under the names of its module, on the CPU."""
        return self.own[self._slot(key)].state_dict()

    def kept_weights(self, key: Key) -> dict[str, Tensor]:
        """The weights that would count if the trial ended now: those of its best epoch so far."""
        row = self.own[self._slot(key)]
        return row.state_dict() if row.kept is None else row.kept

    def _export(self, slot: int) -> dict[str, Tensor]:
        state = self.own[slot].export() | {name: getattr(self.rows, name)[slot].cpu().clone() for name in ("t", "lr")}
        if self.plateau is not None:
            state |= {name: getattr(self.plateau, name)[slot].clone() for name in PLATEAU_STATE}
        history = self.occupants[slot].history
        for name in self.metric_names:
            state[f"history.{name}"] = torch.tensor(history.series(name), dtype=torch.float64)
        return state

    def _restore(self, slot: int, history: History, state: Mapping[str, Tensor]) -> None:
        self.own[slot].restore(state)
        columns = {name: getattr(self.rows, name) for name in ("t", "lr")}
        if self.plateau is not None:
            columns |= {name: getattr(self.plateau, name) for name in PLATEAU_STATE}
        for name, column in columns.items():
            column[slot] = state[name].to(column)
        history.extend({name: state[f"history.{name}"].tolist() for name in self.metric_names}, self.scorers)
        history.best_epoch = best_epoch(history.series(self.train.monitor), self.train.minimize)

    def _epoch(self) -> None:
        """Advance every trial by one epoch; those that end leave their slot."""
        for slot in [slot for slot, occupant in self.occupants.items() if occupant.failed is not None]:
            self._release(slot)
        for fold in sorted({occupant.fold for occupant in self.occupants.values()}):
            with one_thread():
                for group in self._groups(fold):
                    for start in range(0, len(group.slots), WIDTHS[-1]):
                        self._train(fold, group, group.slots[start : start + WIDTHS[-1]])

    def _groups(self, fold: int) -> list[_Group]:
        """The rows of a fold by structure; each that trains by itself is a group of its own."""
        fused: dict[str, _Group] = {}
        alone: list[_Group] = []
        for slot, occupant in sorted(self.occupants.items()):
            if occupant.fold != fold:
                continue
            key, problem = self.structures[slot]
            verdict = Verdict(False, problem) if problem else self._verdict(fold, slot, key)
            occupant.how = "" if verdict.fuse else verdict.reason
            if not verdict.fuse:
                alone.append(_Group(verdict, None, [slot]))
                continue
            if key not in self.programs:
                self.programs[key] = Program(self.own[slot])
            fused.setdefault(key, _Group(verdict, self.programs[key])).slots.append(slot)
        return [*fused.values(), *alone]

    def _verdict(self, fold: int, slot: int, key: str) -> Verdict:
        row = self.own[slot]
        if not row.config.fuse:
            return Verdict(False, NOT_FASTER)
        return verdict_of(key, row, self.folds[fold], self.train.task, self.batch_sizes[fold])

    def _train(self, fold: int, group: _Group, slots: Sequence[int]) -> None:
        """One epoch of rows of a group, and what it means for them."""
        data, numbers = self.folds[fold], dict[int, Numbers]()
        if group.program is not None:
            numbers = dict(zip(slots, self._fused(data, group, slots), strict=True))
        else:
            [slot] = slots
            try:
                numbers = {slot: self._alone(data, slot)}
            except (Exception, SystemExit) as error:
                if isinstance(error, torch.OutOfMemoryError):
                    raise
                self._fail(slot, error)
        for slot, found in numbers.items():
            self._conclude(data, slot, found)

    def _fail(self, slot: int, error: BaseException) -> None:
        builder, occupant = self.own[slot].config.builder, self.occupants[slot]
        assert builder is not None
        occupant.failed = error.problem if isinstance(error, OwnModelError) else builder.happened(error)
        self._release(slot)

    def _alone(self, data: Data, slot: int) -> Numbers:
        """One epoch of a row by itself."""
        row, occupant = self.own[slot], self.occupants[slot]
        n, size, epoch = len(data.x_train), self.batch_sizes[occupant.fold], occupant.history.epochs
        order = batch_order(n, occupant.seed, epoch).to(data.x_train.device)
        steps = -(-n // size)
        active = torch.tensor([slot])
        c = coefficients(self.rows, active, steps)
        theta, m, v = (plane[None] for plane in (row.theta, row.m, row.v))
        scratch, drawn = torch.empty_like(theta), row.draw.columns(data.x_train)
        smoothing = row.config.label_smoothing
        loss_sum, norm_sum = 0.0, 0.0
        with seeded(occupant.seed, epoch):
            row.module.train()
            for step, batch in enumerate(order.split(size)):
                w = None if data.w_train is None else data.w_train[batch]
                output = row.train(data.x_train[batch], c.number[step, 0], drawn)
                loss = loss_of(output, data.y_train[batch], self.train.task, w, smoothing)
                gradient = row.gradient(loss)[None]
                norm = torch.linalg.vector_norm(gradient, dim=1, keepdim=True)
                gradient.mul_((c.clip / (norm + 1e-6)).clamp(max=1.0))
                with torch.no_grad():
                    update_(theta, gradient, m, v, scratch=scratch, c=c, step=step)
                    if row.average is not None:
                        row.average[None].lerp_(theta, c.fresh[step])
                loss_sum += loss.item() * (len(batch) if w is None else w.sum().item())
                norm_sum += norm.item()
            self.rows.t[slot] += steps
            outputs = row.predict(data.x_val)
        total = n if data.w_train is None else data.w_train.sum().item()
        return Numbers(loss_sum / total, norm_sum / steps, outputs)

    def _fused(self, data: Data, group: _Group, slots: Sequence[int]) -> list[Numbers]:
        """One epoch of rows of one structure side by side."""
        program, fold = group.program, self.occupants[slots[0]].fold
        assert program is not None
        padded = [*slots, *[slots[-1]] * (group.verdict.width(len(slots)) - len(slots))]
        rows, device = [self.own[slot] for slot in padded], data.x_train.device
        n, size = len(data.x_train), self.batch_sizes[fold]
        epochs = [(self.occupants[slot].seed, self.occupants[slot].history.epochs) for slot in padded]
        orders = torch.stack([batch_order(n, *pair) for pair in epochs]).to(device)  # (W, n)
        steps = -(-n // size)
        c = coefficients(self.rows, torch.tensor(padded), steps)
        theta, m, v = (torch.stack([getattr(row, plane) for row in rows]) for plane in ("theta", "m", "v"))
        averages = [row.theta if row.average is None else row.average for row in rows]
        average = torch.stack(averages) if c.averages else None
        buffers, scratch = program.stacked(rows), torch.empty_like(theta)
        columns = [torch.stack(column) for column in zip(*(row.draw.columns(theta) for row in rows), strict=True)]
        sums = torch.zeros(2, len(rows), dtype=torch.float64, device=device)
        whole = n if data.w_train is None else data.w_train.sum()
        for step, batch in enumerate(orders.split(size, dim=1)):  # (W, B)
            leaves = {name: view.detach().requires_grad_() for name, view in program.leaves(theta).items()}
            w = None if data.w_train is None else data.w_train[batch]
            drawn = (c.seeds, c.number[step], *columns)
            outputs, buffers = program.train(leaves, buffers, data.x_train[batch], drawn)
            smoothing = c.smoothing if c.smooths else None
            losses = losses_of(outputs, data.y_train[batch], self.train.task, w, smoothing)
            found = torch.autograd.grad(losses.sum(), list(leaves.values()), allow_unused=True)
            gradient = flat(found, leaves)
            norm = torch.linalg.vector_norm(gradient, dim=1, keepdim=True)
            gradient.mul_((c.clip / (norm + 1e-6)).clamp(max=1.0))
            update_(theta, gradient, m, v, scratch=scratch, c=c, step=step)
            if average is not None:
                average.lerp_(theta, c.fresh[step])
            buffers = {name: tensor.detach() for name, tensor in buffers.items()}
            counted = batch.shape[1] if w is None else w.sum(dim=1)
            sums[0] += losses.detach() * counted / whole
            sums[1] += norm[:, 0] / steps
        self.rows.t[list(slots)] += steps
        counts = theta
        if average is not None:
            averaged = torch.tensor([row.average is not None for row in rows], device=device)[:, None]
            counts = torch.where(averaged, average, theta)
        predicted = program.predict(program.leaves(counts), buffers, data.x_val)
        for place, slot in enumerate(slots):
            _store(self.own[slot], place, theta, m, v, average, buffers)
        pairs = zip(slots, sums.T.tolist(), predicted, strict=False)
        return [Numbers(loss, norm, outputs) for _, (loss, norm), outputs in pairs]

    def _conclude(self, data: Data, slot: int, found: Numbers) -> None:
        """Judge a row's epoch: the metrics, the plateau, the best epoch, and whether the trial has ended."""
        occupant, task = self.occupants[slot], self.train.task
        val_loss = loss_of(found.outputs, data.y_val, task, data.w_val).item()
        if task == "regression":
            metric = math.sqrt(val_loss) if val_loss >= 0 else val_loss
        else:
            right = (found.outputs.argmax(dim=1) == data.y_val).double()
            metric = (right.mean() if data.w_val is None else (right * data.w_val).sum() / data.w_val.sum()).item()
        rate = self._rates_after(torch.tensor([slot]), torch.tensor([val_loss], dtype=torch.float64)).tolist()[0]
        [scores] = self._scores(data, found.outputs[None] if self.scorers else None, 1)
        going_on = occupant.history.record(
            self.train,
            train_loss=found.train_loss,
            grad_norm=found.grad_norm,
            val_loss=val_loss,
            val_metric=metric,
            learning_rate=rate,
            scores=scores,
        )
        if self.train.keep == "best" and going_on and occupant.history.improved:
            self.own[slot].kept = self.own[slot].state_dict()
        if not going_on or occupant.history.has_finished(self.train):
            self._finish(slot)

    def _finish(self, slot: int) -> None:
        occupant, row = self.occupants[slot], self.own[slot]
        diverged = occupant.history.diverged
        occupant.history.state_dict = row.state_dict() if diverged or row.kept is None else row.kept
        if self.train.patience is not None and not diverged:
            occupant.state = self._export(slot)
        self._release(slot)

    def _check_shape(self, config: TrialConfig, fold: int) -> None:
        super()._check_shape(replace(config, normalization="none", hidden_layers=()), fold)

    def _release(self, slot: int) -> None:
        super()._release(slot)
        self.own.pop(slot, None)
        self.structures.pop(slot, None)


def verdict_of(key: str, row: OwnRow, data: Data, task: Task, batch_size: int) -> Verdict:
    """Whether rows of the structure ``key``, of which ``row`` is one, are fused; it is examined once."""
    about = (key, batch_size, data.x_train.shape, data.x_val.shape, data.x_train.dtype)
    known = (*about, str(data.x_train.device), task)
    if known not in _verdicts:
        sizes = data.x_train.shape[1], row.outputs
        pair = [OwnRow(row.config, *sizes, seed, data.x_train) for seed in (0, 1)]
        with one_thread():
            _verdicts[known] = examine(pair, data, task, batch_size)
        if len(_verdicts) > EXAMINED:
            _verdicts.popitem(last=False)
    return _verdicts[known]


def how(row: OwnRow, data: Data, task: Task, batch_size: int) -> str:
    """Why a trial trains by itself; empty: it is fused with others of its structure."""
    try:
        verdict = verdict_of(structure(row.module), row, data, task, batch_size)
    except Unlike as error:
        return str(error)
    return "" if verdict.fuse else verdict.reason


def _store(
    row: OwnRow, place: int, theta: Tensor, m: Tensor, v: Tensor, average: Tensor | None, buffers: dict[str, Tensor]
) -> None:
    """Write what a group came to back into a row."""
    row.theta.copy_(theta[place])
    row.m.copy_(m[place])
    row.v.copy_(v[place])
    if row.average is not None and average is not None:
        row.average.copy_(average[place])
    for name, tensor in row.buffers.items():
        tensor.copy_(buffers[name][place])
