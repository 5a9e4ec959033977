"""Finals: the best trials of a sweep trained again on fresh seeds, and judged on the untouched test split.

They are trials of a sweep of their own in the ledger, a child of the first, so that they are scheduled, resumed and
never lost as all others are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sweeper.data.loading import load_final_folds
from sweeper.insight.finals import SUMMARY, FinalsOutcome, read_finals
from sweeper.insight.judging import outcome_of, outcome_of_folds, test_metric
from sweeper.insight.results import end_of_search
from sweeper.insight.test_rows import Outputs
from sweeper.ledger.protocol import Ledger, LedgerReader
from sweeper.records import SweepChanged, SweepRecord, TrialRecord
from sweeper.running.leaders import Best
from sweeper.running.outputs import OutputsOnTest
from sweeper.running.run import SweepRun
from sweeper.running.selection import chosen_of
from sweeper.scheduling.events import EVERY_TRIAL
from sweeper.spec.parse import SweepSpec
from sweeper.spec.phases import schedule_in
from sweeper.spec.stored import stored_form
from sweeper.states import SweepState, TrialState

if TYPE_CHECKING:
    from sweeper.data.dataset import Dataset

FRESH = 1000  # added to the sweep's seed; replicates use the 1000 seeds from it on
FRESH_IN_FOLDS = 2000  # the same in folds: the seed of the first fold
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
    ``i // K`` of the rows, on a seed that is as fresh, and the last of the K are those members of the ensemble that
    are no finalists. There are as many ``trainings`` of each as the sweep file says (None), or as there is time for;
    interrupted finals keep the number that they began with.
    """
    record, spec = ledger.sweep(run.id), run.spec
    if not finals_are_due(ledger, record, spec):
        return None
    assert spec.finals is not None
    entrants = _entrants(ledger, run)
    own = final_spec(spec, len(entrants) * (trainings or spec.finals.trainings))
    stored = stored_form(own, run.dataset.fingerprint)
    key = f"{KEY} of {record.sweep}: {[trial.number for trial in entrants]}"  # others after trials were run again
    child = ledger.create_sweep(
        own.name,
        stored,
        own.search.trials,
        owner=record.owner,
        priority=record.priority,
        key=key,
        parent=record.sweep,
    )
    spec = _as_trained(spec, child.requested // len(entrants))
    assert spec.finals is not None
    own = final_spec(spec, child.requested)
    start = spec.search.seed + (FRESH if spec.finals.folds is None else FRESH_IN_FOLDS)
    fresh = tuple(range(start, start + spec.finals.trainings))
    study: Any = GivenPoints([dict(trial.params or {}) for _ in fresh for trial in entrants])
    dataset = run.dataset if spec.finals.folds is None else load_final_folds(spec, run.dataset)
    outputs = outputs_of(run, own) if spec.finals.folds is None else _outputs_in_folds(run, own, dataset, len(entrants))
    finals = SweepRun(
        child,
        own,
        dataset,
        study,
        seed_of=lambda number: fresh[number // len(entrants)],
        fold_of=outputs.fold_of,
        schedule_of=lambda number: schedule_in(entrants[number % len(entrants)].attributes),
        examine=outputs.examine,
        keeps_best=False,
    )
    trials = ledger.trials(child.sweep)
    finals.restore(trials, ledger.reports(child.sweep) if any(trial.params for trial in trials) else {})
    return finals


def _entrants(ledger: LedgerReader, run: SweepRun) -> list[TrialRecord]:
    """The finalists, and in folds those members of the sweep's ensemble that are none."""
    chosen = finalists(ledger, ledger.sweep(run.id), run.spec)
    known = {trial.number for trial in chosen}
    others = [number for number in _shares(run) if number not in known]
    return [*chosen, *(ledger.trial(run.id, number) for number in others)]


def _shares(run: SweepRun) -> dict[int, float]:
    """The ensemble that finals in folds judge: its trials with their shares; none where it cannot be made."""
    assert run.spec.finals is not None
    if run.spec.finals.folds is None or run.leaders.members is None or not run.leaders.members.numbers:
        return {}
    try:
        chosen = chosen_of(run)
    except Exception:  # of a function of the user's own, say: the end of the sweep tells of it
        return {}
    return dict(zip(chosen.numbers, chosen.shares, strict=True))


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


def _outputs_in_folds(run: SweepRun, own: SweepSpec, dataset: Dataset, entrants: int) -> OutputsOnTest:
    """The same of finals in folds: what each network says of the rows that its fold leaves out."""
    assert run.checkpoints is not None
    metric, folder = test_metric(run.spec, dataset.task), run.checkpoints.folder.parent / "fold-outputs"
    return OutputsOnTest(folder, own, dataset, metric, lambda number: number // entrants)


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
    entrants, trained = _entrants(ledger, run), ledger.trials(finals.id)
    assert run.spec.finals is not None
    chosen = entrants[: run.spec.finals.top]
    if finals.fold_of is not None:
        spec = _as_trained(run.spec, len(trained) // len(entrants))
        outcome = outcome_of_folds(finals.id, spec, chosen, trained, finals.dataset, len(entrants))
        outcome = replace(outcome, ensemble=_ensemble_in_folds(run, finals, entrants, trained, outcome.metric))
    else:
        outputs = outputs_of(run, finals.spec).of
        outcome = outcome_of(finals.id, run.spec, chosen, trained, run.dataset, outputs)
    summary = {**ledger.sweep(run.id).summary, SUMMARY: outcome.to_json()}
    record = ledger.sweep(run.id)
    reason = end_of_search(ledger, record) or EVERY_TRIAL
    ledger.commit(run.id, [SweepChanged(summary=summary, reason=reason)])
    return outcome


def _ensemble_in_folds(
    run: SweepRun, finals: SweepRun, entrants: Sequence[TrialRecord], trained: Sequence[TrialRecord], metric: str
) -> tuple[float, ...]:
    """What the ensemble's trials say together of the rows that each fold leaves out, by the ``metric`` of the finals.

    Empty: there is no ensemble, a member has diverged, or a function of the user's own has failed.
    """
    shares, values = _shares(run), []
    outputs = _outputs_in_folds(run, finals.spec, finals.dataset, len(entrants))
    for first in range(0, len(trained) if shares else 0, len(entrants)):
        fold = zip(entrants, trained[first : first + len(entrants)], strict=True)
        members = [(trial, shares[entrant.number]) for entrant, trial in fold if entrant.number in shares]
        if any(trial.state is not TrialState.COMPLETE for trial, _ in members):
            return ()
        mixed = np.sum([share * outputs.of(trial) for trial, share in members], axis=0)
        values.append(outputs.scores(first, mixed).get(metric, math.nan))
    return tuple(values) if all(map(math.isfinite, values)) else ()


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
