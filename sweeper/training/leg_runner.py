"""Carries out the legs of one cohort on one device, and keeps its rows between them."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from sweeper.data.folds import joined
from sweeper.data.recent import Recent
from sweeper.data.source import Source
from sweeper.flow import pack_flow
from sweeper.scheduling.events import Shape
from sweeper.spec.inputs import Inputs
from sweeper.states import Cause
from sweeper.training.blocks import Blocks
from sweeper.training.legs import Arrays, LegOrder, LegResult, TrialLeg, TrialStart, epochs_in
from sweeper.training.scoring import problem_of

if TYPE_CHECKING:
    from sweeper.models import Data
    from sweeper.models.cohort import RowReport
    from sweeper.models.gradient_flow import EpochFlow
    from sweeper.models.metrics import Scorer


@dataclass
class _Running:
    """One trial inside the cohort: the keys of its rows, what each has done in this leg, and the rows that ended."""

    start: TrialStart
    rows: list[Any]
    parameters: int
    epoch: int = 0
    seconds: float = 0.0
    metrics: list[dict[str, list[float]]] = field(default_factory=list)
    flow: list[dict[int, EpochFlow]] = field(default_factory=list)
    finished: dict[int, RowReport] = field(default_factory=dict)
    latest: dict[int, RowReport] = field(default_factory=dict)
    diverged: str | None = None
    failed: str | None = None
    how: str = ""

    @property
    def ended(self) -> bool:
        """Whether all rows have trained to their end."""
        return len(self.finished) == len(self.rows) and self.diverged is None and self.failed is None

    @property
    def trained(self) -> int:
        """The epochs of its longest row, in all."""
        return self.epoch + max((len(values) for row in self.metrics for values in row.values()), default=0)

    def kept(self, i: int, units: Mapping[str, float]) -> dict[str, float]:
        """The metrics of the epoch that row i has kept so far, in the user's units."""
        return {name: value * units.get(name, 1.0) for name, value in (self.latest[i].kept or {}).items()}

    def curves(self, units: Mapping[str, float]) -> list[dict[str, list[float]]]:
        """Each row's metrics in this leg; one that ended without diverging goes on with what it kept."""
        longest = max((len(values) for row in self.metrics for values in row.values()), default=0)
        found = []
        for i, row in enumerate(self.metrics):
            kept = self.kept(i, units) if i in self.finished else {}
            rest = {name: [value] * (longest - len(row.get(name, []))) for name, value in kept.items()}
            found.append({name: row.get(name, []) + rest.get(name, []) for name in row | rest})
        return found


class LegRunner:
    """Trains one cohort at a time on one device. Rows live here between legs; nothing here knows of Ray or SQL."""

    def __init__(self, device: str = "cpu", threads: int | None = None) -> None:
        import torch

        if threads is not None:
            torch.set_num_threads(threads)
        self._device = device
        self._sources: dict[str, Source] = {}
        self._data: Recent[tuple[Data, ...]] = Recent(_bytes)
        self._cohort: Blocks | None = None
        self._cohort_id: tuple[str, int] | None = None
        self._running: dict[int, _Running] = {}
        self._scorers: Mapping[str, Scorer] = {}

    def load(self, sweep: str, source: Source) -> None:
        """Keep a sweep's data; that of other sweeps without rows here is let go."""
        keep = self._cohort_id[0] if self._cohort_id else None
        self._sources = {name: data for name, data in self._sources.items() if name == keep}
        self._sources[sweep] = source
        self._data.forget(lambda key: key[0] == sweep or key[0] not in self._sources)

    def _prepared(self, sweep: str, inputs: Inputs) -> tuple[Data, ...]:
        """A sweep's data on the device, fold by fold, with the inputs of a cohort; the last few are kept."""
        from sweeper.models import Data

        def make() -> tuple[Data, ...]:
            return tuple(Data.of_arrays(fold).to(self._device) for fold in self._sources[sweep].arrays(inputs))

        return self._data.get((sweep, inputs), make)

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

    def _blocks(self, order: LegOrder) -> Blocks:
        """An empty cohort."""
        import torch

        threads = torch.get_num_threads() if self._device == "cpu" else 1
        return Blocks(order.train, partial(self._prepared, order.sweep), self._scorers, threads)

    def _prepare(self, order: LegOrder) -> None:
        if self._cohort_id != (order.sweep, order.cohort) or self._cohort is None:
            self._scorers = {} if order.scoring is None else order.scoring.scorers()
            self._cohort = self._blocks(order)
            self._cohort_id, self._running = (order.sweep, order.cohort), {}
        for number in order.drop:
            if (dropped := self._running.pop(number, None)) is not None:
                for i, key in enumerate(dropped.rows):
                    if i not in dropped.finished:
                        self._cohort.drop(key)
        admit = self._with_replays(order)
        self._cohort.make_room(rows_of(admit), order.width * max((len(s.rows) for s in admit), default=1))
        for start in admit:
            keys = [(start.number, i) for i in range(len(start.rows))]
            for i, row in enumerate(start.rows):
                state = start.states[i] if start.states is not None else None
                self._cohort.admit(start.shape, keys[i], start.config, row.seed, state, row.fold, start.changes)
            epoch = epochs_in(start.states) if start.states is not None else 0
            self._running[start.number] = _Running(start, keys, self._cohort.of(keys[0]).parameters(keys[0]), epoch)

    def _with_replays(self, order: LegOrder) -> list[TrialStart]:
        """The trials to admit, those that have epochs without a state with the state that these lead to."""
        lost = [start for start in order.admit if start.replay and start.states is None]
        if not lost:
            return list(order.admit)
        blocks, found = self._blocks(order), {}
        blocks.make_room(rows_of(lost), order.width)
        until = {}
        for start in lost:
            for i, row in enumerate(start.rows):
                key = (start.number, i)
                blocks.admit(start.shape, key, start.config, row.seed, None, row.fold, start.changes)
                until[key] = start.replay
        for epoch in range(1, max(until.values()) + 1):
            for report, _ in blocks.epoch():
                if report.diverged is not None:
                    raise RuntimeError(f"trial {report.key[0]} diverged when it was trained again: {report.diverged}")
            for key in [key for key, last in until.items() if last == epoch]:
                found[key] = blocks.of(key).export(key)
                blocks.drop(key)
        states = {start.number: tuple(found[start.number, i] for i in range(len(start.rows))) for start in lost}
        return [replace(start, states=states.get(start.number, start.states)) for start in order.admit]

    def _train(self, order: LegOrder, began: float) -> None:
        assert self._cohort is not None
        for running in self._running.values():
            running.metrics = [{} for _ in running.rows]
            running.flow = [{} for _ in running.rows]
            running.seconds = 0.0
        for _ in range(order.epochs):
            for report, seconds in self._cohort.epoch():
                number, i = report.key
                running = self._running[number]
                running.seconds += seconds
                for name, values in report.metrics.items():
                    factor = order.units.get(name, 1.0)
                    running.metrics[i].setdefault(name, []).extend(value * factor for value in values)
                running.flow[i] |= report.flow
                running.latest[i] = report
                running.failed, running.how = running.failed or report.failed, report.how
                if report.diverged is not None or report.finished or report.failed is not None:
                    running.diverged = running.diverged or report.diverged
                    running.finished[i] = report
            done = all(len(r.finished) == len(r.rows) for r in self._running.values())
            done = done or any(r.trained in order.pauses for r in self._running.values())
            if done or time.perf_counter() - began >= order.seconds:
                break

    def _states(self, running: _Running) -> tuple[dict[str, Any], ...]:
        """What every row goes on from; one that has ended, ends there again at once."""
        assert self._cohort is not None
        ended = {i: report.state for i, report in running.finished.items() if report.state is not None}
        return tuple(ended[i] if i in ended else self._cohort.of(key).export(key) for i, key in enumerate(running.rows))

    def _collect(self, order: LegOrder, seconds: float) -> tuple[TrialLeg, ...]:
        assert self._cohort is not None
        trials, trained = [], sum(running.seconds for running in self._running.values())
        for number, running in list(self._running.items()):
            finished, curves = running.ended, running.curves(order.units)
            kept = best = states = None
            paused = False
            rows = [{name: values[-1] for name, values in curve.items() if values} for curve in curves]
            standing = [running.kept(i, order.units) for i in range(len(running.rows))]
            if running.diverged is None and running.failed is None and all(standing):
                kept = {name: float(np.mean([row[name] for row in standing])) for name in standing[0]}
                best = float(np.mean([(report.best_epoch or 0) + 1 for report in running.latest.values()]))
            if finished:
                rows = standing
            elif running.diverged is None and running.failed is None:
                paused = running.trained in order.pauses
                states = self._states(running) if order.export or paused else None
            leg = TrialLeg(
                number=number,
                attempt=running.start.attempt,
                first_epoch=running.epoch,
                metrics=_mean(curves),
                finished=finished,
                diverged=running.diverged,
                seconds=seconds * running.seconds / trained if trained else 0.0,
                weights=self._joined(running) if finished and _wanted(order, kept or {}) else None,
                states=states,
                flow=_packed(running.flow),
                folds=_of_folds(running, rows, order.metric),
                kept=kept,
                best_epoch=best,
                failed=running.failed or problem_of(self._scorers, running.metrics),
                cause=Cause.METRIC if running.failed is None else Cause.CODE,
                how=running.how,
                parameters=next((r.parameters for r in running.latest.values() if r.parameters), running.parameters),
            )
            trials.append(leg)
            running.epoch = leg.epochs
            if finished or paused or running.diverged is not None or running.failed is not None:
                del self._running[number]
                for i, row in enumerate(running.rows):
                    if i not in running.finished:
                        self._cohort.drop(row)  # a replicate of a diverged one
        return tuple(self._with_best(trials, order) if order.best_under_way else trials)

    def _with_best(self, trials: Sequence[TrialLeg], order: LegOrder) -> list[TrialLeg]:
        """With its weights so far for the best of the trials that go on."""
        sign = 1.0 if order.minimize else -1.0
        values = {t.number: sign * t.kept[order.metric] for t in trials if t.number in self._running and t.kept}
        best = min(
            (n for n, value in values.items() if math.isfinite(value)), key=lambda n: (values[n], n), default=None
        )
        return [replace(t, weights=self._joined(self._running[t.number])) if t.number == best else t for t in trials]

    def _joined(self, running: _Running) -> Arrays:
        """The weights that the rows of the first seed kept, or have kept so far, by fold."""
        assert self._cohort is not None
        starts, first = running.start.rows, running.start.rows[0].seed
        of_first = sorted((i for i, row in enumerate(starts) if row.seed == first), key=lambda i: starts[i].fold)
        found = []
        for i in of_first:
            ended = running.finished.get(i)
            key = running.rows[i]
            found.append(self._cohort.of(key).kept_weights(key) if ended is None else ended.state_dict or {})
        return joined([{name: tensor.numpy() for name, tensor in weights.items()} for weights in found])


def rows_of(starts: Sequence[TrialStart]) -> Counter[Shape]:
    """How many rows of each shape trials have."""
    wanted: Counter[Shape] = Counter()
    for start in starts:
        wanted[start.shape] += len(start.rows)
    return wanted


def _bytes(data: tuple[Data, ...]) -> int:
    return sum(t.nbytes for fold in data for t in vars(fold).values() if t is not None)


def _wanted(order: LegOrder, kept: Mapping[str, float]) -> bool:
    """Whether a finished trial is better than the best so far."""
    if order.keep_better_than is None:
        return True
    value = kept[order.metric]
    return value < order.keep_better_than if order.minimize else value > order.keep_better_than


def _of_folds(running: _Running, rows: Sequence[Mapping[str, float]], metric: str) -> tuple[float, ...]:
    """The metric of ``rows`` on each of several folds, the mean over seeds; none where a row has not measured it."""
    starts = running.start.rows
    folds = sorted({start.fold for start in starts})
    if len(folds) == 1 or any(metric not in row for row in rows):
        return ()
    pairs = [(start.fold, row[metric]) for start, row in zip(starts, rows, strict=True)]
    return tuple(float(np.mean([value for fold, value in pairs if fold == wanted])) for wanted in folds)


def _mean(rows: list[dict[str, list[float]]]) -> dict[str, list[float]]:
    """The mean over replicates, epoch by epoch, of the epochs that every replicate has finished."""
    if len(rows) == 1:
        return rows[0]
    names = set.intersection(*(set(r) for r in rows))
    return {n: [float(np.mean(v)) for v in zip(*(r[n] for r in rows), strict=False)] for n in rows[0] if n in names}


def _packed(rows: list[dict[int, EpochFlow]]) -> dict[int, bytes]:
    """The mean over the replicates that measured an epoch, which are those that were still training."""
    if len(rows) == 1:
        return {epoch: pack_flow(flow.layers.tolist(), flow.clip_rate) for epoch, flow in rows[0].items()}
    found = {}
    for epoch in sorted(set.union(*(set(row) for row in rows))):
        flows = [row[epoch] for row in rows if epoch in row]
        layers = np.mean([flow.layers.numpy() for flow in flows], axis=0)
        found[epoch] = pack_flow(layers.tolist(), float(np.mean([flow.clip_rate for flow in flows])))
    return found
