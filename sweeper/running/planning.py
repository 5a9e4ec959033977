"""What a sweep would cost, estimated before anything starts."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sweeper.insight.fused import fused_sentence
from sweeper.ledger.protocol import LedgerReader
from sweeper.running.arithmetic import check_compiled
from sweeper.running.duration import KNOWN, Duration, estimate
from sweeper.running.fitting import MEMORY_SHARE, network_of
from sweeper.running.parts import ADAPTIVE, make_study, window_and_batch
from sweeper.running.probing import Waiting
from sweeper.running.reserve import entrants_of
from sweeper.running.windows import choose_window, in_words, settled
from sweeper.scheduling.events import Shape
from sweeper.spec.parse import SweepSpec
from sweeper.training.own_facts import facts_of

if TYPE_CHECKING:
    from sweeper.data.dataset import Dataset
    from sweeper.models import TrialConfig

LOOKED_AT = 64  # trials of a model of the user's own, to see how they train
SAMPLES = 128  # trials drawn from the space to see its shapes


def plan(spec: SweepSpec, open_ledger: Callable[[], LedgerReader], cluster: bool = False) -> dict[str, Any]:
    """Trials, shapes, cohorts, memory and how long it takes: each shape trains for a moment to find that out.

    The ledger is opened only for the earlier sweep that ``search.from`` names. For ``cluster`` see ``choose_window``.

    Raises:
        SpecError: the data cannot be used, or there is no such earlier sweep.
        SweeperError: the compiled code was built from other sources.
    """
    check_compiled()
    if spec.objective.function is not None:
        from sweeper.running.objective_plan import plan_objective

        return plan_objective(spec, cluster)
    waiting = Waiting()
    from sweeper.data.loading import load
    from sweeper.models import rows_that_fit
    from sweeper.search.warm_start import take_over
    from sweeper.training.own_checks import examined
    from sweeper.training.pool import local_device

    dataset = load(spec)
    if spec.search.to_resolve:
        spec = take_over(spec, open_ledger(), dataset.fingerprint)
    spec = examined(spec, dataset)
    chosen = choose_window(spec, "auto", cluster)
    spec = settled(spec, chosen)
    requested = spec.search.trials
    if spec.search.sampler == "grid":
        requested = min(requested, len(spec.space.grid()))
    device, workers = local_device(), os.cpu_count() or 1
    workers = workers if device.kind == "cpu" else 1
    drawn = _drawn(spec, dataset, requested)
    trials = [_shaped(spec, dataset.task, params) for params in drawn]
    shapes = Counter(shape for shape, _ in trials)
    common = shapes.most_common(1)[0][0]
    sizes, layout = network_of(dataset, common.bucket if device.pads else common)
    size = dataset.n_train if common.batch_size == "full" else common.batch_size
    finals = 0 if spec.finals is None else min(entrants_of(spec), requested) * spec.finals.trainings
    duration = estimate(spec, dataset, trials, requested, finals, workers, device, waiting)
    return {
        "name": spec.name,
        "dataset": dataset.describe(),
        "task": f"{dataset.task}: {dataset.task_reason}" if dataset.task_reason else dataset.task,
        **({"warnings": list(dataset.warnings)} if dataset.warnings else {}),
        "trials": requested,
        "epochs": spec.training.epochs,
        "shapes": [f"{_shown(shape)} ({n / len(trials):.0%})" for shape, n in shapes.most_common(8)],
        "sampler": in_words(spec, chosen),
        **_given(spec),
        **_fused(spec, dataset, drawn, requested),
        "device": device.kind,
        "workers": workers,
        "rows_that_fit": rows_that_fit(
            sizes,
            size,
            int(device.free_bytes * MEMORY_SHARE),
            layout=layout,
            normalization=common.normalization,
        ),
        "data_megabytes": round(sum(a.nbytes for a in dataset.arrays().values()) / 1e6, 3),
        **({"finals": f"{finals} more trainings on fresh seeds"} if finals else {}),
        **_in_words(duration),
    }


def _drawn(spec: SweepSpec, dataset: Dataset, requested: int) -> list[dict[str, Any]]:
    """The parameters of the sweep's first trials, as far as no result decides them, and random ones for the rest."""
    from sweeper.search.study import Study

    first = min(requested, SAMPLES)
    if spec.search.sampler in ADAPTIVE:
        first = min(first, window_and_batch(spec, requested)[0], KNOWN)
    else:  # what a pruner and the end of the search wait for does not change what comes next
        unheld = spec.search.model_copy(update={"pruner": "none", "stop": None})
        spec = spec.model_copy(update={"search": unheld})
    drawn = make_study(spec, dataset).ask(range(first))
    more = max(0, min(requested, SAMPLES) - len(drawn))
    if not more or spec.search.sampler not in ADAPTIVE:
        return drawn
    anywhere = spec.search.model_copy(update={"sampler": "random"})
    space = spec.space_on(facts_of(spec, dataset))
    return [*drawn, *Study(space, anywhere, "minimize", SAMPLES, 2 * SAMPLES).ask(range(SAMPLES))]


def _shaped(spec: SweepSpec, task: Any, params: dict[str, Any]) -> tuple[Shape, TrialConfig]:
    config, train = spec.trial_config(params), spec.train_config(task, params)
    batch_size = config.batch_size or train.batch_size
    inputs = spec.inputs_of(params)
    how = config.normalized, config.embedding, spec.model is not None
    return Shape(config.hidden_layers, batch_size, train.epochs, inputs, *how), config


def _fused(spec: SweepSpec, dataset: Dataset, drawn: list[dict[str, Any]], requested: int) -> dict[str, Any]:
    """How many trials of a model of the user's own train side by side."""
    if spec.model is None:
        return {}
    from sweeper.training.own_checks import reasons_of

    seen = drawn[: min(requested, LOOKED_AT)]
    return {"model": fused_sentence(len(seen), reasons_of(spec, dataset, seen))}


def _in_words(duration: Duration) -> dict[str, Any]:
    """The estimate; where it depends on what the search chooses, also that for the cheaper and the dearer shapes."""
    parts = {"start": duration.start, "training": duration.training, "finals": duration.finals, "end": duration.end}
    told: dict[str, Any] = {"training_seconds_estimate": round(duration.training + duration.finals, 1)}
    told["seconds_estimate"] = round(duration.total, 1)
    if duration.high > 1.05 * duration.low:
        told["seconds_range"] = f"{duration.low:.0f} to {duration.high:.0f}, by the shapes that the search prefers"
    told["seconds_of"] = {name: round(seconds, 1) for name, seconds in parts.items() if seconds}
    if duration.at_most:
        told["seconds_of"]["note"] = duration.at_most
    return told


def _shown(shape: Shape) -> str:
    """A shape key in words."""
    inputs = shape.inputs
    other = "" if inputs == inputs.plain else f", {inputs.in_words}"
    other += f", {shape.embedding.in_words}" if shape.embedding else ""
    return f"{list(shape.hidden_layers)} batch {shape.batch_size}{other}"


def _given(spec: SweepSpec) -> dict[str, Any]:
    """What the search is given before its first trial, and what is asked of its trials besides the objective."""
    given: dict[str, Any] = {}
    if len(spec.objectives) > 1:
        given["objectives"] = [f"{objective.direction} {objective.metric}" for objective in spec.objectives]
    if spec.constraints:
        given["constraints"] = [str(constraint) for constraint in spec.constraints]
    if spec.enqueue:
        given["tried_first"] = [dict(point) for point in spec.enqueue]
    if spec.search.stop is not None:
        given["may_end_before"] = spec.search.stop.in_words
    if spec.search.warm is not None:
        given["warm_start"] = spec.search.warm.sentence
    return given
