"""Finals: the best trials of a sweep trained again on fresh seeds, and judged on the untouched test split.

They are trials of a sweep of their own in the ledger, a child of the first, so that they are scheduled, resumed and
never lost as all others are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sweeper.data.loading import load_final_folds
from sweeper.insight.finals import SUMMARY, FinalsOutcome, read_finals
from sweeper.insight.judging import outcome_of, outcome_of_folds, test_metric
from sweeper.insight.results import end_of_search
from sweeper.insight.test_rows import Outputs
from sweeper.ledger.protocol import Ledger, LedgerReader
from sweeper.records import SweepChanged, SweepRecord, TrialRecord
from sweeper.running import folds
from sweeper.running.folds import ScoresInFolds
from sweeper.running.leaders import Best
from sweeper.running.outputs import OutputsOnTest
from sweeper.running.run import SweepRun
from sweeper.scheduling.events import EVERY_TRIAL
from sweeper.spec.parse import SweepSpec
from sweeper.spec.phases import schedule_in
from sweeper.spec.stored import stored_form
from sweeper.states import SweepState, TrialState

FRESH = 1000  # added to the sweep's seed; replicates use the 1000 seeds from it on
KEY = "finals"  # their section in a sweep file
PAGE = 5_000  # trials read at once: a hundred thousand take 135 MB


class GivenPoints:
    """A study without a search: every trial's parameters are known from the beginning."""

    def __init__(self, points: Sequence[Mapping[str, Any]]) -> None:
        self._points, self.size = points, len(points)

    def ask(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        """The parameters of these trials."""
        return [dict(self._points[number]) for number in numbers]

    def tell(self, number: int, outcome: Any) -> None:
        """There is nothing to learn."""

    def restore(self, trials: Any) -> None:
        """There is nothing to learn."""


class NoSink:
    """Finals are shown with the trials that they are about, not as trials of their own."""

    def trial_ended(self, number: int) -> None:
        """Nothing to show."""


def finalists(ledger: LedgerReader, record: SweepRecord, spec: SweepSpec) -> list[TrialRecord]:
    """The trials that reach the finals: the best ones of the search, feasible ones first."""
    from sweeper.insight.pareto import best_first

    assert spec.finals is not None
    best: list[TrialRecord] = []
    offset = 0
    while page := ledger.trials(record.sweep, TrialState.COMPLETE, limit=PAGE, offset=offset):
        best, offset = best_first([*best, *page], spec)[: spec.finals.top], offset + len(page)
    return best


def finals_are_due(ledger: LedgerReader, record: SweepRecord, spec: SweepSpec) -> bool:
    """Whether a sweep has ended and its finals have not, or were about other trials."""
    if spec.finals is None or record.state is not SweepState.COMPLETE:
        return False
    found = read_finals(record)
    wanted = {trial.number for trial in finalists(ledger, record, spec)}
    return found is None or {row.trial for row in found.standings} != wanted


def finals_are_missing(record: SweepRecord) -> bool:
    """Whether a sweep wants finals and has no outcome of any."""
    return record.spec.get(KEY) is not None and SUMMARY not in record.summary


def finals_of(ledger: Ledger, record: SweepRecord) -> SweepRecord | None:
    """The finals of a complete sweep, as a sweep of their own, until they are concluded (None: there are none)."""
    if record.state is not SweepState.COMPLETE or not finals_are_missing(record):
        return None
    return next(iter(ledger.finals(parent=record.sweep)), None)


def are_halted(finals: SweepRecord | None) -> bool:
    """Whether a user has stopped or paused these finals: they go on when the user resumes the sweep."""
    return finals is not None and finals.state in (SweepState.STOPPED, SweepState.PAUSED)


def open_finals(ledger: Ledger, run: SweepRun, trainings: int | None = None) -> SweepRun | None:
    """The finals of a sweep that has ended, new or interrupted, ready for the controller (None: none are due).

    Trial i trains finalist ``i % K`` on fresh seed ``i // K``, for K finalists; of finals in folds without part
    ``i // K`` of the rows, on a seed that is as fresh. There are as many ``trainings`` of each as the sweep file says
    (None), or as there is time for; interrupted finals keep the number that they began with.
    """
    record, spec = ledger.sweep(run.id), run.spec
    if not finals_are_due(ledger, record, spec):
        return None
    assert spec.finals is not None
    chosen = finalists(ledger, record, spec)
    own = final_spec(spec, len(chosen) * (trainings or spec.finals.trainings))
    stored = stored_form(own, run.dataset.fingerprint)
    key = f"{KEY} of {record.sweep}: {[trial.number for trial in chosen]}"  # others after trials were run again
    child = ledger.create_sweep(
        own.name,
        stored,
        own.search.trials,
        owner=record.owner,
        priority=record.priority,
        key=key,
        parent=record.sweep,
    )
    spec = _as_trained(spec, child.requested // len(chosen))
    assert spec.finals is not None
    own = final_spec(spec, child.requested)
    start = spec.search.seed + (FRESH if spec.finals.folds is None else folds.FRESH)
    fresh = tuple(range(start, start + spec.finals.trainings))
    study: Any = GivenPoints([dict(trial.params or {}) for _ in fresh for trial in chosen])
    in_folds = None
    if spec.finals.folds is not None:
        in_folds = ScoresInFolds(own, load_final_folds(spec, run.dataset), len(chosen))
    finals = SweepRun(
        child,
        own,
        run.dataset if in_folds is None else in_folds.dataset,
        study,
        seed_of=lambda number: fresh[number // len(chosen)],
        fold_of=None if in_folds is None else in_folds.fold_of,
        schedule_of=lambda number: schedule_in(chosen[number % len(chosen)].attributes),
        examine=(in_folds or outputs_of(run, own)).examine,
        keeps_best=False,
    )
    trials = ledger.trials(child.sweep)
    finals.restore(trials, ledger.reports(child.sweep) if any(trial.params for trial in trials) else {})
    return finals


def _as_trained(spec: SweepSpec, trainings: int) -> SweepSpec:
    """The sweep file with so many trainings of each finalist."""
    assert spec.finals is not None
    folds = spec.finals.folds
    fewer = {"seeds": trainings} if folds is None else {"repeats": trainings // folds}
    return spec.model_copy(update={"finals": spec.finals.model_copy(update=fewer)})


def outputs_of(run: SweepRun, own: SweepSpec) -> OutputsOnTest:
    """Where the finals of a sweep keep what their networks say of the test rows; ``own`` is what trains them."""
    assert run.checkpoints is not None
    metric = test_metric(run.spec, run.dataset.task)
    return OutputsOnTest(run.checkpoints.folder.parent / "test-outputs", own, run.dataset, metric)


def final_spec(spec: SweepSpec, trials: int) -> SweepSpec:
    """What the finals' trials are trained by: everything as in the sweep, without a search."""
    training = spec.training.model_copy(update={"replicates": 1})
    none = {"timeout": None, "enqueue": (), "from_": None, "warm": None, "stop": None}
    none |= {"population": None, "ready": None}
    search = spec.search.model_copy(update={"sampler": "random", "pruner": "none", "trials": trials, **none})
    name = f"{spec.name[:90]} {KEY}"
    return spec.model_copy(update={"name": name, "training": training, "search": search, "finals": None})


def conclude(ledger: Ledger, run: SweepRun, finals: SweepRun) -> FinalsOutcome:
    """Judge finals that have ended and write the outcome into the sweep's summary; it is returned.

    The sweep's reason may still say that a user had stopped them.
    """
    chosen = finalists(ledger, ledger.sweep(run.id), run.spec)
    trained = ledger.trials(finals.id)
    if finals.fold_of is not None:
        spec = _as_trained(run.spec, len(trained) // len(chosen))
        outcome = outcome_of_folds(finals.id, spec, chosen, trained, finals.dataset)
    else:
        outputs = outputs_of(run, finals.spec).of
        outcome = outcome_of(finals.id, run.spec, chosen, trained, run.dataset, outputs)
    summary = {**ledger.sweep(run.id).summary, SUMMARY: outcome.to_json()}
    record = ledger.sweep(run.id)
    reason = end_of_search(ledger, record) or EVERY_TRIAL
    ledger.commit(run.id, [SweepChanged(summary=summary, reason=reason)])
    return outcome


def finalists_outputs(ledger: Ledger, run: SweepRun) -> dict[int, list[Outputs]]:
    """What the networks of each finalist say of the test rows, one for every seed, the leading finalist first.

    Empty: there were no finals, or they were in folds. A finalist that diverged on some seed is left out.
    """
    outcome = read_finals(ledger.sweep(run.id))
    if outcome is None or outcome.folds is not None:
        return {}
    trained, chosen = ledger.trials(outcome.sweep), finalists(ledger, ledger.sweep(run.id), run.spec)
    numbers = [trial.number for trial in chosen]
    outputs_from = outputs_of(run, final_spec(run.spec, len(trained))).of
    return {
        row.trial: [outputs_from(one) for one in trained if one.number % len(numbers) == numbers.index(row.trial)]
        for row in outcome.standings
        if math.isfinite(row.mean) and not row.diverged and row.trial in numbers
    }


def choose_finals_winner(record: SweepRecord, run: SweepRun) -> None:
    """Where a sweep had finals, its best trial is the one that leads there."""
    finals = read_finals(record)
    winner = None if finals is None else finals.winner
    if winner is not None and (run.best is None or run.best.number != winner.trial):
        run.leaders.best = Best(winner.trial, winner.search_value)
