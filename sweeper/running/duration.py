"""How long a sweep takes on this machine as it is now, from its prompt to its end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from sweeper.running.fitting import network_of, rows_on
from sweeper.running.parts import ADAPTIVE, window_and_batch
from sweeper.running.probing import Waiting, Wanted, measure
from sweeper.running.rehearsal import Rehearsal, ShapeCost, rehearse
from sweeper.running.run import LEG_SECONDS
from sweeper.scheduling.events import Shape, SweepPlan

if TYPE_CHECKING:
    from sweeper.data.dataset import Dataset
    from sweeper.models import TrialConfig
    from sweeper.spec.parse import SweepSpec
    from sweeper.training.pool import Device

# Seconds on a quiet machine with the processor of ``probing.LOOP_SECONDS``: what does not depend on the sweep.
START = 7.5  # imports, Ray and its workers
END = 5.5  # the report, the winner as a model, the last results in MLflow
TRIAL = 0.015  # suggesting, writing and showing one trial
MEASURED = 24  # shapes; rarer ones are estimated from those that resemble them
KNOWN = 10  # trials that an adaptive sampler draws at random first
LONGEST_WAIT = 60.0  # of the end for the baselines

Trials = Sequence[tuple[Shape, "TrialConfig"]]


@dataclass(frozen=True)
class Duration:
    """Seconds. ``low`` and ``high`` are totals if the search prefers the cheaper or the dearer half of the shapes.

    ``at_most`` says why it may be less, if it may.
    """

    start: float
    training: float
    finals: float
    end: float
    low: float
    high: float
    at_most: str = ""

    @property
    def total(self) -> float:
        """From the prompt to the end."""
        return self.start + self.training + self.finals + self.end


def estimate(
    spec: SweepSpec,
    dataset: Dataset,
    trials: Trials,
    requested: int,
    finals: int,
    workers: int,
    device: Device,
    waiting: Waiting,
) -> Duration:
    """The time of a sweep whose trials resemble ``trials``, and of ``finals`` more trainings.

    ``waiting`` was made before the plan's imports.
    """
    slower = waiting.pace()
    from sweeper.data.loading import features_of
    from sweeper.training.baselines import seconds_of_tree

    window, batch = window_and_batch(spec, requested)
    per_trial = spec.training.replicates * max(1, len(dataset.folds))
    plan = SweepPlan("plan", requested, window, batch, spec.search.deterministic, rows_per_trial=per_trial)
    plan = replace(plan, mixed=spec.is_compiled)

    if device.pads:
        trials = [(shape.bucket, config) for shape, config in trials]

    def played(shapes: Sequence[Shape], costs: Mapping[Shape, ShapeCost]) -> Rehearsal:
        fit = partial(rows_on, device, dataset)
        return rehearse(plan, shapes, costs, workers, fit, LEG_SECONDS, device.mixes)

    shapes = [shape for shape, _ in trials]
    alike = {shape: ShapeCost(0.0, _work(dataset, shape)) for shape in shapes}
    rows = played(shapes, alike).rows
    costs = _costs(spec, dataset, trials, rows, workers, device.kind)
    baselines = seconds_of_tree(dataset, partial(features_of, spec))

    def training(order: Sequence[Shape]) -> float:
        found = played(order, costs)
        shared = (found.busy + min(baselines, found.seconds) + TRIAL * slower * requested) / workers
        return max(found.seconds, shared if device.kind == "cpu" else 0.0)

    trained = training(shapes)
    one = sum(_alone(costs[shape]) * shape.epochs for shape in shapes) / len(shapes)
    again = finals * one / workers
    wait = min(LONGEST_WAIT, max(0.0, baselines - trained - again))
    fixed = START * slower + again + END * slower + wait
    low = high = trained
    if spec.search.sampler in ADAPTIVE and requested > KNOWN:
        low, high = (training(_preferring(shapes, costs, dear)) for dear in (False, True))
    return Duration(START * slower, trained, again, END * slower + wait, low + fixed, high + fixed, _at_most(spec))


def _costs(
    spec: SweepSpec, dataset: Dataset, trials: Trials, rows: Mapping[Shape, float], workers: int, device: str
) -> dict[Shape, ShapeCost]:
    """The cost of every shape: of the commonest as measured, of others in proportion to their work."""
    wanted = [
        Wanted(shape, tuple(config for other, config in trials if other == shape), max(1, round(rows.get(shape, 1.0))))
        for shape, _ in Counter(shape for shape, _ in trials).most_common(MEASURED)
    ]
    found = measure(spec, dataset, wanted, workers, device)
    for shape in {shape for shape, _ in trials} - set(found):
        work = _work(dataset, shape)
        like = min((one.shape for one in wanted), key=lambda known: abs(_work(dataset, known) - work))
        times = work / _work(dataset, like)
        found[shape] = replace(found[like], epoch=found[like].epoch * times, row=found[like].row * times)
    return found


def _work(dataset: Dataset, shape: Shape) -> float:
    """Something in proportion to a row's time in one epoch: multiplications, and updates of all weights."""
    from sweeper.models import n_parameters

    sizes, layout = network_of(dataset, shape)
    batch = dataset.n_train if shape.batch_size == "full" else shape.batch_size
    return n_parameters(sizes, layout=layout) * (dataset.n_train + 4.0 * dataset.n_train / batch) * 1e-9


def _alone(cost: ShapeCost) -> float:
    return cost.epoch + cost.row


def _preferring(shapes: Sequence[Shape], costs: Mapping[Shape, ShapeCost], dear: bool) -> list[Shape]:
    """The first trials as they are, the others from the cheaper or the dearer half."""
    ordered = sorted(shapes, key=lambda shape: _alone(costs[shape]), reverse=dear)
    half = ordered[: max(1, len(ordered) // 2)]
    return [*shapes[:KNOWN], *(half[i % len(half)] for i in range(len(shapes) - KNOWN))]


def _at_most(spec: SweepSpec) -> str:
    reasons = []
    if spec.search.pruner != "none":
        reasons.append(f"{spec.search.pruner} ends trials earlier")
    if spec.training.patience is not None:
        reasons.append("training.patience ends trials earlier")
    if spec.search.timeout is not None:
        reasons.append(f"search.timeout ends it after {spec.search.timeout:g} s")
    return f"at most: {'; '.join(reasons)}" if reasons else ""
