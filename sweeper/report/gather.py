"""Where a report comes from: all it needs is gathered from the ledger and the folder of the sweep, then written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from sweeper.errors import SpecError
from sweeper.insight.advice import ranked
from sweeper.insight.basis import MAX_CURVES, sample
from sweeper.insight.headline import winner_of
from sweeper.insight.winner_check import Check, check_winner, from_json
from sweeper.ledger.protocol import LedgerReader
from sweeper.records import EpochReport, SweepRecord, TrialRecord
from sweeper.spec.parse import SweepSpec
from sweeper.spec.phases import schedule_in
from sweeper.spec.stored import spec_of
from sweeper.states import TrialState

ALWAYS = 50  # this many of the best are drawn in any case
FILE = "report.html"  # in the sweep's folder, as the next one
CHECK = "winner.json"
LARGE = 10_000  # trials, of which most are read without the metrics that nobody asks all of them for
PAGE = 5_000
_NO_METRICS: Mapping[str, float] = {}


def make_report(
    ledger: LedgerReader, folder: Path, ref: str, out: Path | None = None, *, train: bool = True
) -> tuple[Path, str]:
    """Write the report of a sweep to ``out`` (default: into its ``folder``); return the file and its first sentence.

    How the winner predicts is what the end of the sweep kept in the folder. Where that is gone, the winner is trained
    again (if it may be: ``train``), and where its data is gone as well, the report says so.

    Raises:
        SweepNotFound: there is no such sweep.
        SweeperError: the file cannot be written.
    """
    from threadpoolctl import threadpool_limits

    from sweeper.report.gradients import flow_numbers
    from sweeper.report.page import verdict_of, write_report

    record = ledger.sweep(ref)
    spec = spec_of(record)
    trials = trials_of(ledger, record, spec)
    check = _find_check(folder, record, spec, trials, train)
    curves = drawn_reports(ledger, record, spec, trials)
    flows = ledger.flow(record.sweep, numbers=flow_numbers(trials))
    out = folder / FILE if out is None else out
    with threadpool_limits(limits=1, user_api="blas"):  # the matrices are small, and threads wait for busy cores
        file = write_report(record, spec, trials, curves, out, check=check, flows=flows)
        return file, verdict_of(record, spec, trials)


def trials_of(ledger: LedgerReader, record: SweepRecord, spec: SweepSpec) -> list[TrialRecord]:
    """All trials by number. Those of a large sweep have no metrics that only the winner's are shown of.

    A hundred thousand of them take 65 MB so, and 135 MB otherwise.
    """
    if record.requested <= LARGE:
        return ledger.trials(record.sweep)
    judged = {goal.metric for goal in spec.objectives} | {limit.metric for limit in spec.constraints}
    alone = len(judged) == 1  # then a complete trial's value says it all

    def lean(trial: TrialRecord) -> TrialRecord:
        if alone and trial.state is TrialState.COMPLETE and trial.value is not None:
            return replace(trial, metrics=_NO_METRICS)
        return replace(trial, metrics={name: trial.metrics[name] for name in judged if name in trial.metrics})

    found: list[TrialRecord] = []
    while page := ledger.trials(record.sweep, limit=PAGE, offset=len(found)):
        found += map(lean, page)
    winner = winner_of(record, ranked(spec, found))
    if winner is not None:
        found[winner.number] = ledger.trial(record.sweep, winner.number)
    return found


def _find_check(
    folder: Path, record: SweepRecord, spec: SweepSpec, trials: Sequence[TrialRecord], train: bool
) -> Check | str | None:
    """How the winner predicts, or why that is not known; None: there is no winner."""
    winner = winner_of(record, ranked(spec, trials))
    if winner is None or spec.objective.function is not None:
        return None
    try:
        kept = from_json((folder / CHECK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        kept = None
    if kept is not None and kept.trial == winner.number:
        return kept
    if not record.state.terminal:
        return "Its predictions are shown once the sweep has ended."
    return _check_again(record, spec, winner) if train else "Its predictions were not stored."


def _check_again(record: SweepRecord, spec: SweepSpec, winner: TrialRecord) -> Check | str:
    """Train the winner again, on the data of the sweep and no other."""
    from sweeper.data.loading import load_same
    from sweeper.training.again import stopped_after, train_again, weights_of
    from sweeper.training.averaging import validation_outputs

    try:
        dataset = load_same(record, spec)
    except SpecError as error:
        return f"Its predictions cannot be shown: {error}."
    params = dict(winner.params or {})
    histories = train_again(spec, dataset, params, winner.seed, stopped_after(winner), schedule_in(winner.attributes))
    if any(history.diverged for history in histories):
        return "Its predictions cannot be shown: it diverged when it was trained again on this machine."
    outputs = validation_outputs(
        dataset.prepared(spec.inputs_of(params)), spec.trial_config(params), weights_of(histories)
    )
    return check_winner(dataset, winner.number, outputs)


def drawn_reports(
    ledger: LedgerReader, record: SweepRecord, spec: SweepSpec, trials: Sequence[TrialRecord]
) -> dict[int, list[EpochReport]]:
    """The epochs of the trials, or of a sample of them and of the best, which are drawn but not compared with it."""
    picked = [trial.number for trial in sample(trials)]
    if len(picked) < MAX_CURVES:
        return ledger.reports(record.sweep)
    best = [trial.number for trial in ranked(spec, trials)[:ALWAYS]]
    return ledger.reports(record.sweep, numbers=sorted({*picked, *best}))
