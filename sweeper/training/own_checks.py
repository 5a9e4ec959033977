"""Tries a model of the user's own before a sweep starts: what can be known to be wrong is refused then.

It also decides whether the sweep's trials are fused, which has to be faster than one by one.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from sweeper.errors import SpecError
from sweeper.search_spaces import SpaceError
from sweeper.training.own_facts import facts_of

if TYPE_CHECKING:
    from sweeper.data.dataset import Dataset
    from sweeper.models.config import Task
    from sweeper.models.data import Data
    from sweeper.models.own_config import OwnConfig
    from sweeper.models.own_row import OwnRow
    from sweeper.spec.parse import SweepSpec

SAMPLES = 32  # trials drawn at random
TRIED = 4  # of them, which are trained for a step
MEASURED = 3  # structures whose speed is measured
STEPS = 5
WIDTH = 16


@dataclass(frozen=True)
class Sample:
    """A trial that might be: its configuration, and the data of its inputs, of the first fold where there are some."""

    config: OwnConfig
    data: Data
    task: Task
    n_outputs: int
    batch: int

    @classmethod
    def of(cls, spec: SweepSpec, dataset: Dataset, params: Mapping[str, Any]) -> Sample:
        """The trial of some parameters."""
        config: Any = spec.trial_config(params)
        prepared = dataset.prepared(spec.inputs_of(params))
        data = (prepared.folds or (prepared,))[0].tensors()
        batch, n = spec.train_config(dataset.task, params).batch_size, len(data.x_train)
        return cls(config, data, dataset.task, dataset.n_outputs, n if batch == "full" else min(batch, n))

    def row(self) -> OwnRow:
        """Its module, ready to train."""
        from sweeper.models.own_row import OwnRow

        return OwnRow(self.config, self.data.x_train.shape[1], self.n_outputs, 0, self.data.x_train)


def examined(spec: SweepSpec, dataset: Dataset) -> SweepSpec:
    """The spec of a sweep that is about to start, with the decision whether its trials are fused.

    Raises:
        SpecError: the model cannot be used: file, line and remedy.
    """
    if spec.model is None:
        return spec
    tried = [Sample.of(spec, dataset, params) for params in samples(spec, dataset, SAMPLES)]
    for one in tried[:TRIED]:
        _try_out(spec, one)
    fuse = spec.model.fuse and is_faster(spec, tried)
    return spec.model_copy(update={"model": replace(spec.model, fuse=fuse)})


def samples(spec: SweepSpec, dataset: Dataset, n: int) -> list[dict[str, Any]]:
    """The parameters of random trials, the same ones every time.

    Raises:
        SpecError: the model's function raised, or asks for what a sweep cannot give.
    """
    assert spec.model is not None
    spec.model.function.check_arguments("trial", "data")
    try:
        return spec.space_on(facts_of(spec, dataset)).samples(n)
    except SpaceError as error:
        raise SpecError(error.problem, file=error.file, key=error.key, remedy=error.remedy) from error


def _try_out(spec: SweepSpec, one: Sample) -> None:
    """One step on the first rows: output, loss and gradients have to be what training needs."""
    from sweeper.models.own_row import OwnModelError

    assert spec.model is not None
    function = spec.model.function
    try:
        _step(one.row(), one)
    except OwnModelError as error:
        raise SpecError(error.problem, file=function.file, key=function.function, remedy=error.remedy) from error
    except (Exception, SystemExit) as error:
        raise SpecError(function.happened(error), file=function.file, key=function.function) from error


def _step(row: OwnRow, one: Sample) -> None:
    import torch

    from sweeper.models.own_row import OwnModelError, seeded
    from sweeper.models.solo import loss_of

    x = one.data.x_train
    for size in dict.fromkeys([one.batch, len(x) % one.batch or one.batch]):
        with seeded(0):
            output = row.train(x[:size], torch.tensor(0), row.draw.columns(x))
            loss = loss_of(output, one.data.y_train[:size], one.task)
        if not torch.isfinite(loss):
            raise OwnModelError(f"the loss of a fresh module is {loss.item()}", "Let forward return finite numbers")
        if not loss.requires_grad:
            raise OwnModelError("the output does not depend on any parameter", "Use no detach() and no no_grad()")
        found = torch.autograd.grad(loss, row.parameters, allow_unused=True)
        named = [name for name, p in row.module.named_parameters() if p.requires_grad]
        unused = [name for name, gradient in zip(named, found, strict=True) if gradient is None]
        if unused:
            problem = f"{', '.join(unused[:5])} never gets a gradient: forward does not use it"
            raise OwnModelError(problem, "Remove it from the module, or set requires_grad=False")
        row.predict(one.data.x_val[:size])


def reasons_of(spec: SweepSpec, dataset: Dataset, drawn: Sequence[Mapping[str, Any]]) -> Counter[str]:
    """Why trials of these parameters train one by one, by how many do; the others are fused."""
    from sweeper.models.own_cohort import NOT_FASTER, how

    assert spec.model is not None
    if not spec.model.fuse:
        return Counter({NOT_FASTER: len(drawn)})
    found: Counter[str] = Counter()
    for params in drawn:
        one = Sample.of(spec, dataset, params)
        found.update([reason] if (reason := how(one.row(), one.data, one.task, one.batch)) else [])
    return found


def is_faster(spec: SweepSpec, tried: Sequence[Sample]) -> bool:
    """Whether trials like these train faster side by side, by a few steps of the commonest structures.

    Where none of them can be it is, for what it matters.
    """
    beside = alone = 0.0
    for like in _alike(tried):
        share = len(like) / len(like[:WIDTH])
        found = [_seconds(spec, like[:WIDTH], fuse) for fuse in (True, False)]
        if found[0] is not None and found[1] is not None:
            beside, alone = beside + found[0] * share, alone + found[1] * share
    return beside <= alone


def _alike(tried: Sequence[Sample]) -> Iterator[list[Sample]]:
    """The commonest structures of which there are several."""
    from sweeper.models.own_structure import Unlike, structure

    groups: dict[str, list[Sample]] = {}
    for one in tried:
        try:
            groups.setdefault(f"{structure(one.row().module)} {one.batch}", []).append(one)
        except (Unlike, ValueError):  # it trains one by one, or will fail
            continue
    common = sorted(groups.values(), key=len, reverse=True)[:MEASURED]
    yield from (group for group in common if len(group) > 1)


def _seconds(spec: SweepSpec, like: Sequence[Sample], fuse: bool) -> float | None:
    """Of the thread, for a short epoch of trials of one structure; None: they cannot be fused."""
    from sweeper.models.own_cohort import OwnCohort

    first = like[0]
    rows = {f.name: getattr(first.data, f.name) for f in fields(first.data)}
    cut: dict[str, Any] = {name: None if t is None else t[: STEPS * first.batch] for name, t in rows.items()}
    few = type(first.data)(**cut)
    train = replace(spec.train_config(first.task, {"batch_size": first.batch}), epochs=3, patience=None)
    train = replace(train, monitor="val_loss", minimize=True, warmup_epochs=0.0)
    cohort = OwnCohort(train, few, len(like))
    for number, one in enumerate(like):
        config = replace(one.config, fuse=fuse, batch_size=None, warmup_epochs=None)
        cohort.admit(number, config, seed=0)
    if any(report.how for report in cohort.leg(1)) and fuse:
        return None
    began = time.thread_time()
    cohort.leg(1)
    return time.thread_time() - began
