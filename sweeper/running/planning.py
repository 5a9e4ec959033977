"""What a sweep would cost, estimated before anything starts."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sweeper.ledger.protocol import LedgerReader
from sweeper.running.parts import window_and_batch
from sweeper.spec.inputs import Inputs
from sweeper.spec.parse import SweepSpec

if TYPE_CHECKING:
    from sweeper.data.dataset import Dataset

SAMPLES = 32  # trials drawn from the space to see its shapes
PROBE_ROWS = 4


def plan(spec: SweepSpec, open_ledger: Callable[[], LedgerReader]) -> dict[str, Any]:
    """Trials, shapes, cohorts, memory and an estimate of the training time, which one epoch of a few rows is timed for.

    The ledger is opened only for the earlier sweep that ``search.from`` names.

    Raises:
        SpecError: the data cannot be used, or there is no such earlier sweep.
    """
    from sweeper.data.loading import load
    from sweeper.models import rows_that_fit
    from sweeper.search.study import Study
    from sweeper.search.warm_start import take_over
    from sweeper.training.pool import local_device

    dataset = load(spec)
    if spec.search.to_resolve:
        spec = take_over(spec, open_ledger(), dataset.fingerprint)
    window, batch = window_and_batch(spec, spec.search.trials)
    study = Study(spec.space, spec.search.model_copy(update={"sampler": "random"}), "minimize", SAMPLES, 2 * SAMPLES)
    samples = study.ask(range(SAMPLES))
    requested = spec.search.trials
    if spec.search.sampler == "grid":
        requested = min(requested, len(spec.space.grid()))
    device, workers = local_device(), os.cpu_count() or 1
    shapes: Counter[tuple[tuple[int, ...], Any, Inputs]] = Counter()
    for params in samples:
        config = spec.trial_config(params)
        shapes[config.hidden_layers, config.batch_size or spec.training.batch_size, spec.inputs_of(params)] += 1
    layers, size, inputs = shapes.most_common(1)[0][0]
    sizes = (dataset.most_inputs(inputs), *layers, dataset.n_outputs)
    fit = rows_that_fit(sizes, dataset.n_train if size == "full" else size, device.free_bytes // 4)
    per_training = _seconds_per_epoch(spec, dataset, samples) * spec.training.epochs * max(1, len(dataset.folds))
    finals = 0 if spec.finals is None else min(spec.finals.top, requested) * spec.finals.trainings
    seconds = per_training * (requested * spec.training.replicates + finals)
    return {
        "name": spec.name,
        "dataset": dataset.describe(),
        "task": f"{dataset.task}: {dataset.task_reason}" if dataset.task_reason else dataset.task,
        **({"warnings": list(dataset.warnings)} if dataset.warnings else {}),
        "trials": requested,
        "epochs": spec.training.epochs,
        "shapes": [f"{_shown(*shape)} ({n / SAMPLES:.0%})" for shape, n in shapes.most_common(8)],
        "sampler": f"{spec.search.sampler}, window {window}, asked in batches of {batch}",
        **_given(spec),
        "device": device.kind,
        "workers": workers if device.kind == "cpu" else 1,
        "rows_that_fit": fit,
        "data_megabytes": round(sum(a.nbytes for a in dataset.arrays().values()) / 1e6, 3),
        **({"finals": f"{finals} more trainings on fresh seeds"} if finals else {}),
        "training_seconds_estimate": round(seconds / (workers if device.kind == "cpu" else 1), 1),
    }


def _shown(layers: tuple[int, ...], batch_size: int | str, inputs: Inputs) -> str:
    """A shape key in words."""
    return f"{list(layers)} batch {batch_size}{'' if inputs == inputs.plain else f', {inputs.in_words}'}"


def _given(spec: SweepSpec) -> dict[str, Any]:
    """What the search is given before its first trial, and what is asked of its trials besides the objective."""
    given: dict[str, Any] = {}
    if len(spec.objectives) > 1:
        given["objectives"] = [f"{objective.direction} {objective.metric}" for objective in spec.objectives]
    if spec.constraints:
        given["constraints"] = [str(constraint) for constraint in spec.constraints]
    if spec.enqueue:
        given["tried_first"] = [dict(point) for point in spec.enqueue]
    if spec.search.warm is not None:
        given["warm_start"] = spec.search.warm.sentence
    return given


def _seconds_per_epoch(spec: SweepSpec, dataset: Dataset, samples: list[dict[str, Any]]) -> float:
    """Seconds of one core that one trial's epoch takes, measured."""
    from sweeper.models import train_cohort
    from sweeper.training.scoring import scoring_of

    dataset = dataset.prepared(spec.inputs_of(samples[0]))
    configs = [spec.trial_config(params) for params in samples[:PROBE_ROWS]]
    train = spec.model_copy(update={"training": spec.training.model_copy(update={"epochs": 1})}).train_config(
        dataset.task
    )
    data = (dataset.folds or (dataset,))[0].tensors()
    scoring = scoring_of(spec, dataset)
    scorers = {} if scoring is None else scoring.scorers()
    train_cohort(configs[:1], train, data, [0], scorers=scorers)
    began = time.perf_counter()
    train_cohort(configs, train, data, [0] * len(configs), scorers=scorers)
    return (time.perf_counter() - began) / len(configs)
