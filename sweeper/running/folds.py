"""Finals in folds: each finalist trained again without every part of the rows in turn, and judged on that part."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sweeper.insight.finals import FinalsOutcome, outcome_of_folds, test_metric
from sweeper.records import TrialRecord
from sweeper.running.run import SweepRun

if TYPE_CHECKING:
    from sweeper.data.dataset import Dataset

FRESH = 2000  # added to the sweep's seed: the seed of the first fold


def judge_in_folds(run: SweepRun, chosen: Sequence[TrialRecord]) -> FinalsOutcome:
    """Train the finalists in all folds, one after another in this process, and judge them.

    What has been trained is kept in files beside the sweep's checkpoints: an interrupted judgement goes on there.
    """
    from sweeper.data.dataset import repeated_folds

    spec, finals = run.spec, run.spec.finals
    assert finals is not None
    assert finals.folds is not None
    assert run.checkpoints is not None
    folder = run.checkpoints.folder.parent / "folds"
    datasets = repeated_folds(spec.dataset, spec.split, spec.normalize, finals.folds, finals.repeats)
    scores: dict[int, list[Mapping[str, float]]] = {trial.number: [] for trial in chosen}
    seeds = []
    for fold, dataset in enumerate(datasets):
        seed = spec.search.seed + FRESH + fold
        seeds.append(seed)
        for trial in chosen:
            file = folder / f"trial-{trial.number:06d}-fold-{fold:04d}.json"
            found = _read(file)
            if found is None:
                found = _trained(run, dataset, trial, seed)
                _write(file, found)
            scores[trial.number].append(found)
    return outcome_of_folds(spec, chosen, scores, seeds, run.dataset)


def _trained(run: SweepRun, dataset: Dataset, trial: TrialRecord, seed: int) -> dict[str, float]:
    """The metrics of one training: those of the rows left out, and the objective; empty: it diverged."""
    from sweeper.training.again import network_of, scores_on_test, train_again, weights_of

    params = trial.params or {}
    [history] = train_again(run.spec, dataset, params, seed)
    weights = weights_of([history])
    if history.diverged:
        return {}
    found = scores_on_test(
        dataset, network_of(run.spec, dataset, params, weights), [test_metric(run.spec, dataset.task)]
    )
    metric = run.spec.objective.metric
    if curve := getattr(history, metric, None):
        found[metric] = run.units.get(metric, 1.0) * float(curve[-1])
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _read(file: Path) -> dict[str, float] | None:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _write(file: Path, found: Mapping[str, float]) -> None:
    """Replace the file; a full disk costs no more than the file."""
    part = file.with_suffix(".new")
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        part.write_text(json.dumps(found), encoding="utf-8")
        part.replace(file)
    except OSError:
        part.unlink(missing_ok=True)
