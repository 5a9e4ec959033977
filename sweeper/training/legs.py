"""One leg of a cohort on one device: what a worker is ordered to do, what it answers, and the code that does it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sweeper.data.folds import joined
from sweeper.flow import pack_flow
from sweeper.scheduling.events import Shape

if TYPE_CHECKING:
    from sweeper.models import Cohort, Data, TrainConfig, TrialConfig
    from sweeper.models.gradient_flow import EpochFlow

Arrays = dict[str, np.ndarray]

LOSSES = ("train_loss", "val_loss")
LIMIT = 1e6
"""A regression's target is standardised, so that predicting its mean costs 1; guessing one of C classes costs ln C. A
loss of a million is a thousand standard deviations off, or a probability of exp(-1e6) for what was true."""


class RowStart(NamedTuple):
    """One row of a trial: the seed of its weights and batches, and the index of the fold whose data it trains on."""

    seed: int
    fold: int = 0


@dataclass(frozen=True)
class TrialStart:
    """A trial that takes its rows, one per seed and fold. ``states``: exported rows to go on from (None: epoch 0)."""

    number: int
    attempt: int
    config: TrialConfig
    rows: tuple[RowStart, ...]
    states: tuple[dict[str, Any], ...] | None = None


@dataclass(frozen=True)
class LegOrder:
    """Everything one leg needs. Training stops at ``epochs`` more epochs per row or after ``seconds``, whichever first.

    ``units`` are factors that turn a metric of the normalised target into the user's units. Weights come back with a
    finished trial only when its ``metric`` beats ``keep_better_than`` (None: any does); ``export`` asks for the state
    of the rows that go on, for a checkpoint.
    """

    leg: int
    sweep: str
    cohort: int
    shape: Shape
    train: TrainConfig
    admit: tuple[TrialStart, ...]
    drop: tuple[int, ...]
    epochs: int
    width: int
    seconds: float
    metric: str
    minimize: bool
    units: Mapping[str, float] = field(default_factory=dict)
    keep_better_than: float | None = None
    export: bool = False


@dataclass(frozen=True)
class TrialLeg:
    """One trial's part of a leg: metrics per epoch from ``first_epoch`` on, the mean over its rows.

    ``flow`` holds the gradient flow of the measured epochs, packed by ``sweeper.flow``. ``weights`` are those of the
    first seed, of several folds as ``sweeper.data.folds.joined`` puts them together. ``folds`` are the objective's
    values on each fold after the last epoch, none where the data has no folds.
    """

    number: int
    attempt: int
    first_epoch: int
    metrics: Mapping[str, list[float]]
    finished: bool
    diverged: str | None
    seconds: float
    weights: Arrays | None = None
    states: tuple[dict[str, Any], ...] | None = None
    flow: Mapping[int, bytes] = field(default_factory=dict)
    folds: tuple[float, ...] = ()

    @property
    def epochs(self) -> int:
        """Finished epochs in all."""
        return self.first_epoch + len(next(iter(self.metrics.values()), []))


@dataclass(frozen=True)
class LegResult:
    """What one leg did; ``seconds`` is its wall time on the worker."""

    leg: int
    trials: tuple[TrialLeg, ...]
    seconds: float


@dataclass
class _Running:
    """One trial inside the cohort: the keys of its rows, and what each row has done in this leg."""

    start: TrialStart
    rows: list[Any]
    epoch: int = 0
    metrics: list[dict[str, list[float]]] = field(default_factory=list)
    flow: list[dict[int, EpochFlow]] = field(default_factory=list)
    finished: set[int] = field(default_factory=set)
    diverged: str | None = None
    weights: dict[int, Arrays] = field(default_factory=dict)  # of the finished rows of the first seed, by fold


class LegRunner:
    """Trains one cohort at a time on one device. Rows live here between legs; nothing here knows of Ray or SQL."""

    def __init__(self, device: str = "cpu", threads: int | None = None) -> None:
        import torch

        if threads is not None:
            torch.set_num_threads(threads)
        self._device = device
        self._data: dict[str, tuple[Data, ...]] = {}
        self._cohort: Cohort | None = None
        self._cohort_id: tuple[str, int] | None = None
        self._running: dict[int, _Running] = {}

    def load(self, sweep: str, folds: Sequence[Arrays]) -> None:
        """Keep a sweep's data on the device, fold by fold; that of other sweeps without rows here is let go."""
        from sweeper.models import Data

        keep = self._cohort_id[0] if self._cohort_id else None
        self._data = {name: data for name, data in self._data.items() if name == keep}
        self._data[sweep] = tuple(Data.of_arrays(arrays).to(self._device) for arrays in folds)

    def run(self, order: LegOrder) -> LegResult:
        """Carry out one order. Raises what torch raises; after an error the worker holds no rows."""
        began = time.perf_counter()
        try:
            self._prepare(order)
            self._train(order, began)
            seconds = time.perf_counter() - began
            trials = self._collect(order, seconds)
        except BaseException:
            self._cohort, self._cohort_id, self._running = None, None, {}
            raise
        return LegResult(order.leg, trials, seconds)

    def _prepare(self, order: LegOrder) -> None:
        from sweeper.models import Cohort

        if self._cohort_id != (order.sweep, order.cohort) or self._cohort is None:
            data, rows = self._data[order.sweep], order.width * max((len(s.rows) for s in order.admit), default=1)
            self._cohort = Cohort(order.train, order.shape.hidden_layers, data, rows)
            self._cohort_id, self._running = (order.sweep, order.cohort), {}
        for number in order.drop:
            if (dropped := self._running.pop(number, None)) is not None:
                for i, key in enumerate(dropped.rows):
                    if i not in dropped.finished:
                        self._cohort.drop(key)
        for start in order.admit:
            keys = [(start.number, i) for i in range(len(start.rows))]
            for i, row in enumerate(start.rows):
                state = start.states[i] if start.states is not None else None
                self._cohort.admit(keys[i], start.config, row.seed, state=state, fold=row.fold)
            epoch = len(start.states[0]["history.val_loss"]) if start.states is not None else 0
            self._running[start.number] = _Running(start, keys, epoch)

    def _train(self, order: LegOrder, began: float) -> None:
        assert self._cohort is not None
        for running in self._running.values():
            running.metrics = [{} for _ in running.rows]
            running.flow = [{} for _ in running.rows]
        for _ in range(order.epochs):
            for report in self._cohort.leg(1):
                number, i = report.key
                running = self._running[number]
                for name, values in report.metrics.items():
                    factor = order.units.get(name, 1.0)
                    running.metrics[i].setdefault(name, []).extend(value * factor for value in values)
                running.flow[i] |= report.flow
                if report.diverged is not None:
                    running.diverged = running.diverged or report.diverged
                    running.finished.add(i)
                elif report.finished:
                    running.finished.add(i)
                    seed, fold = running.start.rows[i]
                    if seed == running.start.rows[0].seed and report.state_dict is not None:
                        running.weights[fold] = {k: v.numpy() for k, v in report.state_dict.items()}
            done = all(len(r.finished) == len(r.rows) for r in self._running.values())
            if done or time.perf_counter() - began >= order.seconds:
                break

    def _collect(self, order: LegOrder, seconds: float) -> tuple[TrialLeg, ...]:
        assert self._cohort is not None
        trials, share = [], seconds / max(1, len(self._running))
        for number, running in list(self._running.items()):
            finished = len(running.finished) == len(running.rows) and running.diverged is None
            metrics = _mean(running.metrics)
            states = None
            if order.export and not finished and running.diverged is None:
                states = tuple(self._cohort.export(row) for row in running.rows)
            leg = TrialLeg(
                number=number,
                attempt=running.start.attempt,
                first_epoch=running.epoch,
                metrics=metrics,
                finished=finished,
                diverged=running.diverged,
                seconds=share,
                weights=_joined(running) if finished and _wanted(order, metrics) else None,
                states=states,
                flow=_packed(running.flow),
                folds=_of_folds(running, order.metric),
            )
            trials.append(leg)
            running.epoch = leg.epochs
            if finished or running.diverged is not None:
                del self._running[number]
                for i, row in enumerate(running.rows):
                    if i not in running.finished:
                        self._cohort.drop(row)  # a replicate of a diverged one
        return tuple(trials)


def _wanted(order: LegOrder, metrics: Mapping[str, list[float]]) -> bool:
    """Whether a finished trial is better than the best so far."""
    if order.keep_better_than is None:
        return True
    value = metrics[order.metric][-1]
    return value < order.keep_better_than if order.minimize else value > order.keep_better_than


def _joined(running: _Running) -> Arrays:
    return joined([running.weights[fold] for fold in sorted(running.weights)])


def _of_folds(running: _Running, metric: str) -> tuple[float, ...]:
    """The metric's last value on each fold, the mean over seeds; none where a row has not measured it."""
    folds = 1 + max(row.fold for row in running.start.rows)
    if folds == 1 or any(not row.get(metric) for row in running.metrics):
        return ()
    last = [(row.fold, found[metric][-1]) for row, found in zip(running.start.rows, running.metrics, strict=True)]
    return tuple(float(np.mean([value for fold, value in last if fold == wanted])) for wanted in range(folds))


def _mean(rows: list[dict[str, list[float]]]) -> dict[str, list[float]]:
    """The mean over replicates, epoch by epoch, of the epochs that every replicate has finished."""
    if len(rows) == 1:
        return rows[0]
    names = set.intersection(*(set(r) for r in rows))
    return {n: [float(np.mean(v)) for v in zip(*(r[n] for r in rows), strict=False)] for n in rows[0] if n in names}


def _packed(rows: list[dict[int, EpochFlow]]) -> dict[int, bytes]:
    """The mean over replicates of each epoch that all of them have measured."""
    if len(rows) == 1:
        return {epoch: pack_flow(flow.layers.tolist(), flow.clip_rate) for epoch, flow in rows[0].items()}
    found = {}
    for epoch in sorted(set.intersection(*(set(row) for row in rows))):
        flows = [row[epoch] for row in rows]
        layers = np.mean([flow.layers.numpy() for flow in flows], axis=0)
        found[epoch] = pack_flow(layers.tolist(), float(np.mean([flow.clip_rate for flow in flows])))
    return found


def cut_at_explosion(trial: TrialLeg) -> TrialLeg:
    """The leg up to the epoch before a loss exceeds ``LIMIT``, with that as its ``diverged``; else the leg as it is."""
    for at in range(trial.epochs - trial.first_epoch):
        for name in LOSSES:
            if trial.metrics[name][at] > LIMIT:
                cause = f"{name} exploded to {trial.metrics[name][at]:.3g} in epoch {trial.first_epoch + at}"
                kept = {metric: values[:at] for metric, values in trial.metrics.items()}
                return replace(trial, metrics=kept, finished=False, diverged=cause, weights=None, states=None)
    return trial
