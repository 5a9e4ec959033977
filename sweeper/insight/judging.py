"""Judges a sweep's finals: what the rows that judge say of each finalist, and the verdict as a record."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean, stdev
from typing import TYPE_CHECKING

import numpy as np

from sweeper.insight.certainty import Comparison, Direction, Finalist, Judgement, Standing, judge
from sweeper.insight.evidence import Evidence
from sweeper.insight.finals import FinalistPair, FinalistRow, FinalsOutcome, Spread, as_number
from sweeper.insight.test_rows import Outputs, evidence_in_folds, evidence_on_test
from sweeper.models.metric_names import OF_TASK, plain
from sweeper.records import TrialRecord
from sweeper.spec.goals import PARAMETERS, network_size
from sweeper.states import TrialState
from sweeper.training.scoring import scoring_of

if TYPE_CHECKING:
    from sweeper.data.dataset import Dataset
    from sweeper.models.config import Task
    from sweeper.spec.parse import SweepSpec

Runs = Mapping[int, Sequence[TrialRecord]]  # the finals' trials of each finalist, by seed or fold


def outcome_of(
    finals: str,
    spec: SweepSpec,
    chosen: Sequence[TrialRecord],
    trained: Sequence[TrialRecord],
    dataset: Dataset,
    outputs_of: Callable[[TrialRecord], Outputs],
) -> FinalsOutcome:
    """Judge the finals with the id ``finals``; ``trained`` are their trials by number, K of them for every seed.

    A value is the test split's twin of the objective: ``test_loss`` for ``val_loss``. ``outputs_of`` says what a
    trial's network makes of the test rows.
    """
    metric, runs_of = _judging(spec, dataset, trained), _runs_of(chosen, trained, len(chosen))
    entrants = _entrants(spec, chosen, runs_of, dataset, metric)
    scoring = scoring_of(spec, dataset)
    stable = [[outputs_of(run) for run in runs_of[e.trial]] for e in entrants if e.stable]
    evidence = evidence_on_test(metric, dataset, stable, spec.search.seed, scoring) if stable else None
    return _judged(finals, spec, chosen, runs_of, entrants, evidence, metric, len(dataset.y_test))


def outcome_of_folds(
    finals: str,
    spec: SweepSpec,
    chosen: Sequence[TrialRecord],
    trained: Sequence[TrialRecord],
    dataset: Dataset,
    entrants_of_fold: int,
) -> FinalsOutcome:
    """As ``outcome_of``, of finals in folds: ``trained`` are so many trials for every fold of the ``dataset``.

    The first K of a fold are the finalists', the others those of the ensemble's other members.
    """
    assert spec.finals is not None
    assert spec.finals.folds is not None
    folds, metric = spec.finals.folds, _judging(spec, dataset, trained)
    runs_of = _runs_of(chosen, trained, entrants_of_fold)
    entrants = _entrants(spec, chosen, runs_of, dataset, metric)
    stable = np.array([e.values for e in entrants if e.stable])
    evidence = evidence_in_folds(stable, metric, dataset.task, folds) if len(stable) else None
    rows = sum(len(fold.y_test) for fold in dataset.folds[:folds])
    outcome = _judged(finals, spec, chosen, runs_of, entrants, evidence, metric, rows)
    return replace(outcome, folds=folds, repeats=spec.finals.repeats)


def _judging(spec: SweepSpec, dataset: Dataset, trained: Sequence[TrialRecord]) -> str:
    """The metric that judges: the loss where the user's own function could not be computed on the rows that judge."""
    metric = test_metric(spec, dataset.task)
    ended = [run for run in trained if run.state is TrialState.COMPLETE]
    return metric if all(f"test_{metric}" in run.metrics for run in ended) else "loss"


def _runs_of(chosen: Sequence[TrialRecord], trained: Sequence[TrialRecord], count: int) -> Runs:
    return {trial.number: [run for run in trained if run.number % count == i] for i, trial in enumerate(chosen)}


def _entrants(
    spec: SweepSpec, chosen: Sequence[TrialRecord], runs_of: Runs, dataset: Dataset, metric: str
) -> list[Finalist]:
    """The finalists with their values on the rows that judge them, and their sizes as costs."""
    entrants = []
    for trial in chosen:
        values = tuple(as_number(run.metrics.get(f"test_{metric}")) for run in runs_of[trial.number])
        entrants.append(Finalist(trial.number, values, _cost(spec, trial, dataset)))
    return entrants


def _judged(
    finals: str,
    spec: SweepSpec,
    chosen: Sequence[TrialRecord],
    runs_of: Runs,
    entrants: Sequence[Finalist],
    evidence: Evidence | None,
    metric: str,
    judged_rows: int,
) -> FinalsOutcome:
    goal = spec.objective
    direction: Direction = goal.direction if metric == plain(goal.metric) else "minimize"
    judgement = judge(entrants, evidence, direction, spec.search.seed)
    searched = {trial.number: as_number(trial.value) for trial in chosen}
    values_of = {entrant.trial: entrant.values for entrant in entrants}
    rows = [
        standing_row(s, values_of[s.trial], searched[s.trial], runs_of[s.trial], f"test_{metric}")
        for s in judgement.standings
    ]
    seeds = sorted({run.seed for runs in runs_of.values() for run in runs})
    return outcome_from(judgement, rows, finals, metric, direction, seeds, judged_rows)


def _cost(spec: SweepSpec, trial: TrialRecord, dataset: Dataset) -> float:
    """The size of a trial's network."""
    config = spec.trial_config(trial.params or {})
    size = network_size(dataset.n_inputs, config.hidden_layers, dataset.n_outputs, config.normalized)
    return trial.metrics.get(PARAMETERS) or float(size)


def outcome_from(
    judgement: Judgement,
    rows: Sequence[FinalistRow],
    finals: str,
    metric: str,
    direction: Direction,
    seeds: Sequence[int],
    test_rows: int,
) -> FinalsOutcome:
    """The record of a verdict; ``metric`` is the plain name."""
    return FinalsOutcome(
        sweep=finals,
        metric=f"test_{metric}",
        direction=direction,
        seeds=tuple(seeds),
        rows=test_rows,
        interval=next((s.interval.method for s in judgement.standings if s.interval is not None), ""),
        sentence=judgement.sentence,
        leaders=judgement.leaders,
        cheapest=judgement.cheapest,
        rows_to_settle=judgement.rows_to_settle,
        seeds_to_settle=judgement.seeds_to_settle,
        folds=None,
        repeats=1,
        standings=tuple(rows),
        comparisons=tuple(map(pair_row, judgement.comparisons)),
    )


def test_metric(spec: SweepSpec, task: Task) -> str:
    """The objective on the test rows, by plain name; of one that is not measured there, the loss."""
    name = plain(spec.objective.metric)
    return name if name in OF_TASK[task] or name in map(plain, spec.own_names) else "loss"


def standing_row(
    standing: Standing, values: Sequence[float], searched: float, runs: Sequence[TrialRecord], metric: str
) -> FinalistRow:
    """A finalist's row from its place, its values by seed, what the search saw and the trials that trained it."""
    interval = standing.interval
    ended = [run for run in runs if run.state is TrialState.COMPLETE]
    names = sorted({name for run in ended for name in run.metrics if name.startswith("test_") and name != metric})
    columns = {name: [float(run.metrics[name]) for run in ended] for name in names}
    return FinalistRow(
        trial=standing.trial,
        values=tuple(values),
        mean=standing.mean,
        deviation=standing.deviation,
        low=math.nan if interval is None else interval.low,
        high=math.nan if interval is None else interval.high,
        probability_best=standing.probability_best,
        cost=standing.cost,
        diverged=standing.diverged,
        search_value=searched,
        validation_mean=_mean([run.value for run in ended if run.value is not None]),
        metrics={name: Spread(_mean(column), _deviation(column)) for name, column in columns.items()},
    )


def pair_row(c: Comparison) -> FinalistPair:
    """A comparison as the record keeps it."""
    low, high = c.interval.low, c.interval.high
    return FinalistPair(c.first, c.second, c.difference, low, high, c.p, c.adjusted, c.different)


def _mean(values: Sequence[float]) -> float:
    return fmean(values) if values else math.nan


def _deviation(values: Sequence[float]) -> float:
    return stdev(values) if len(values) > 1 else math.nan
