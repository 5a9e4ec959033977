"""Seconds that training takes on this machine now, measured on the sweep's own data for each shape."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from sweeper.running.rehearsal import ShapeCost
from sweeper.scheduling.events import Shape
from sweeper.training.blocks import cohort_of

if TYPE_CHECKING:
    from sweeper.data.dataset import Dataset
    from sweeper.models import Cohort, Data, TrainConfig, TrialConfig
    from sweeper.models.metrics import Scorer
    from sweeper.spec.parse import SweepSpec

SECONDS = 5.0  # all measurements together, about
SHORTEST, LONGEST = 0.02, 0.4  # seconds of one measurement
STEPS = 4  # of the first, which says how many the others may have
RATE = 1e-4  # rows that diverge would train for nothing
LOOP, LOOP_SECONDS = 400_000, 0.02  # turns of an empty loop, and what they took where the fixed times were measured


@dataclass(frozen=True)
class Wanted:
    """A shape to measure: trials of it, and how many rows train side by side."""

    shape: Shape
    configs: tuple[TrialConfig, ...]
    rows: int


class Waiting:
    """How many times longer than its own work this process takes, since this was made: other programs, and the disk.

    Times that were measured on a quiet machine take so many times longer here; ``pace`` counts the processor, too.
    """

    def __init__(self) -> None:
        self._began = time.perf_counter(), time.process_time()

    def pace(self) -> float:
        """Of what a sweep does before and after its training: like a plan until now, it imports and reads."""
        wall, own = time.perf_counter() - self._began[0], time.process_time() - self._began[1]
        began, total = time.thread_time(), 0
        for i in range(LOOP):
            total += i * i % 7
        return max(1.0, wall / max(own, 1e-3)) * (time.thread_time() - began) / LOOP_SECONDS


def measure(
    spec: SweepSpec, dataset: Dataset, wanted: Sequence[Wanted], workers: int, device: str
) -> dict[Shape, ShapeCost]:
    """Train each shape for a moment, as many at once as there are workers, each with one thread, as in a sweep."""
    import torch

    from sweeper.training.scoring import scoring_of

    data = {}
    for inputs in {one.shape.inputs for one in wanted}:
        prepared = dataset.prepared(inputs)
        data[inputs] = (prepared.folds or (prepared,))[0].tensors().to(device)
    scoring = scoring_of(spec, dataset)
    copies = max(1, workers // len(wanted))
    seconds = min(LONGEST, max(SHORTEST, SECONDS * workers / (3 * copies * len(wanted))))

    clock: list[tuple[float, float]] = []

    def look(one: Wanted) -> ShapeCost:
        scorers = {} if scoring is None else scoring.scorers()
        train = spec.train_config(dataset.task, {"batch_size": one.shape.batch_size})
        return _Probe(one, train, data[one.shape.inputs], scorers, clock).cost(seconds)

    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(workers, initializer=lambda: torch.set_num_threads(1)) as pool:
            found = list(pool.map(look, [one for one in wanted for _ in range(copies)]))
    finally:
        torch.set_num_threads(threads)
    slower = 1.0 if device != "cpu" else max(1.0, sum(wall for wall, _ in clock) / sum(own for _, own in clock))
    return {one.shape: _mean(found[i * copies : (i + 1) * copies], slower) for i, one in enumerate(wanted)}


def _mean(costs: Sequence[ShapeCost], slower: float) -> ShapeCost:
    return ShapeCost(*(slower * sum(getattr(cost, f.name) for cost in costs) / len(costs) for f in fields(ShapeCost)))


@dataclass(frozen=True)
class _Probe:
    """Epochs of one shape on some of the rows, with as large a share of the validation rows.

    On a CPU its time is the thread's own: on a machine with other work a measurement this short may be interrupted for
    long. How long that is on the whole is what ``clock`` is for: seconds by the wall and by the thread, of each epoch.
    """

    wanted: Wanted
    train: TrainConfig
    data: Data
    scorers: Mapping[str, Scorer]
    clock: list[tuple[float, float]] = field(default_factory=list)

    def cost(self, seconds: float) -> ShapeCost:
        """Seconds of the thread; measured for about three times ``seconds`` by the wall: a few steps, then many."""
        batch = len(self.data.x_train) if self.wanted.shape.batch_size == "full" else self.wanted.shape.batch_size
        every = -(-len(self.data.x_train) // batch)
        cohort, admission = self._cohort(min(STEPS, every) * batch, self.wanted.rows)
        began = time.perf_counter()
        self._epoch(cohort)
        first = max(time.perf_counter() - began, 1e-6)
        steps = min(every, max(STEPS, int(STEPS * seconds / first)))
        if steps > STEPS:
            cohort, admission = self._cohort(steps * batch, self.wanted.rows)
            cohort.leg(1)
        whole = self._epoch(cohort) * every / steps
        if self.wanted.rows == 1:
            return ShapeCost(0.0, whole, admission)
        single, _ = self._cohort(steps * batch, 1)
        single.leg(1)
        alone = self._epoch(single) * every / steps
        row = max(0.0, min(whole / self.wanted.rows, (whole - alone) / (self.wanted.rows - 1)))
        return ShapeCost(max(0.0, whole - row * self.wanted.rows), row, admission)

    def _cohort(self, rows: int, width: int) -> tuple[Cohort, float]:
        """A cohort of so many trials on the first ``rows`` training rows, and the seconds that admitting one took."""
        share = min(1.0, rows / len(self.data.x_train))
        held = max(1, round(share * len(self.data.x_val)))
        parts = {f.name: getattr(self.data, f.name) for f in fields(self.data)}
        limits = {name: rows if name.endswith("train") else held for name in parts}
        cut: dict[str, Any] = {n: None if t is None else t[: limits[n]] for n, t in parts.items() if n != "columns"}
        cut["columns"] = self.data.columns
        part = type(self.data)(**cut)
        train = replace(self.train, epochs=1_000_000, patience=None)
        shape = self.wanted.shape
        cohort = cohort_of(shape, train, part, width, self.scorers)
        began = time.thread_time()
        for number in range(width):
            config = self.wanted.configs[number % len(self.wanted.configs)]
            cohort.admit(number, replace(config, learning_rate=RATE), seed=number)
        return cohort, (time.thread_time() - began) / width

    def _epoch(self, cohort: Cohort) -> float:
        began, used = time.perf_counter(), time.thread_time()
        cohort.leg(1)
        wall, own = time.perf_counter() - began, time.thread_time() - used
        self.clock.append((wall, own))
        return wall if self.on_gpu else own

    @property
    def on_gpu(self) -> bool:
        """The thread waits for another device, and its own time says nothing."""
        return self.data.x_train.device.type != "cpu"
