"""Where a report comes from: all it needs is gathered from the ledger and the folder of the sweep, then written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sweeper.errors import SpecError
from sweeper.insight.advice import ranked
from sweeper.insight.headline import winner_of
from sweeper.insight.winner_check import Check, check_winner, from_json, to_json
from sweeper.ledger.protocol import LedgerReader
from sweeper.records import EpochReport, SweepRecord, TrialRecord
from sweeper.spec.parse import SweepSpec
from sweeper.spec.stored import spec_of

if TYPE_CHECKING:
    from sweeper.running.run import SweepRun
    from sweeper.tracking.tracker import Tracker

Emit = Callable[[str, Mapping[str, Any]], None]
MAX_CURVES = 1000  # trials whose epochs are read: more make no curve clearer, and 10,000 would fill the memory
ALWAYS = 50  # this many of the best are among them
FILE = "report.html"  # in the sweep's folder, as the next one
CHECK = "winner.json"


def make_report(
    ledger: LedgerReader, folder: Path, ref: str, out: Path | None = None, *, train: bool = True
) -> tuple[Path, str]:
    """Write the report of a sweep to ``out`` (default: into its ``folder``); return the file and its first sentence.

    How the winner predicts is what ``report_at_end`` kept in the folder. Where that is gone, the winner is trained
    again (if it may be: ``train``), and where its data is gone as well, the report says so.

    Raises:
        SweepNotFound: there is no such sweep.
        SweeperError: the file cannot be written.
    """
    from sweeper.report.gradients import flow_numbers
    from sweeper.report.page import verdict_of, write_report

    record = ledger.sweep(ref)
    spec = spec_of(record)
    trials = ledger.trials(record.sweep)
    check = _find_check(folder, record, spec, trials, train)
    curves = _curves(ledger, record, spec, trials)
    flows = ledger.flow(record.sweep, numbers=flow_numbers(trials))
    file = write_report(record, spec, trials, curves, folder / FILE if out is None else out, check=check, flows=flows)
    return file, verdict_of(record, spec, trials)


def report_at_end(run: SweepRun, ledger: LedgerReader, tracker: Tracker, folder: Path, emit: Emit) -> None:
    """Write the report of a sweep that has just ended, and show it in MLflow.

    It never fails the sweep: ``emit`` is told of ``report.written`` with the file, or of ``report.failed``.
    """
    try:
        _keep_check(run, ledger, folder)
        file, verdict = make_report(ledger, folder, run.id)
        tracker.log_report(file.read_text(encoding="utf-8"))
    except Exception as error:  # drawing and statistics raise whatever they raise, and the results are safe already
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        emit("report.failed", {"sweep": run.id, "kind": type(error).__name__, "reason": reason})
    else:
        emit("report.written", {"sweep": run.id, "file": str(file), "verdict": verdict})


def _keep_check(run: SweepRun, ledger: LedgerReader, folder: Path) -> None:
    """Find how the winner predicts while its data is at hand, and keep it."""
    from sweeper.training.again import train_again

    winner = winner_of(ledger.sweep(run.id), ranked(run.spec, ledger.trials(run.id)))
    if winner is None:
        return
    params = run.params(winner.number)
    if run.best is not None and run.best.number == winner.number and run.best.weights is not None:
        weights = run.best.weights
    else:  # the finals chose another trial than the search did
        history = train_again(run.spec, run.dataset, params, winner.seed)
        weights = {name: tensor.numpy() for name, tensor in history.state_dict.items()}
    check = check_winner(run.spec, run.dataset, winner.number, params, weights)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    (folder / CHECK).write_text(to_json(check), encoding="utf-8")


def _find_check(
    folder: Path, record: SweepRecord, spec: SweepSpec, trials: Sequence[TrialRecord], train: bool
) -> Check | str | None:
    """How the winner predicts, or why that is not known; None: there is no winner."""
    winner = winner_of(record, ranked(spec, trials))
    if winner is None:
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
    from sweeper.data.dataset import load_dataset
    from sweeper.training.again import train_again

    try:
        dataset = load_dataset(spec.dataset, spec.split, spec.normalize)
    except SpecError as error:
        return f"Its predictions cannot be shown, since the data is gone: {error}."
    if record.spec.get("fingerprint") not in (None, dataset.fingerprint):
        return "Its predictions cannot be shown: the data has changed since the sweep."
    params = dict(winner.params or {})
    history = train_again(spec, dataset, params, winner.seed)
    if history.diverged:
        return "Its predictions cannot be shown: it diverged when it was trained again on this machine."
    weights = {name: tensor.numpy() for name, tensor in history.state_dict.items()}
    return check_winner(spec, dataset, winner.number, params, weights)


def _curves(
    ledger: LedgerReader, record: SweepRecord, spec: SweepSpec, trials: Sequence[TrialRecord]
) -> dict[int, list[EpochReport]]:
    """The epochs of the trials, or of a sample of them that holds the best."""
    if len(trials) <= MAX_CURVES:
        return ledger.reports(record.sweep)
    best = [trial.number for trial in ranked(spec, trials)[:ALWAYS]]
    rest = np.setdiff1d([trial.number for trial in trials if trial.epochs], best)
    picked = np.random.default_rng(0).permutation(rest)[: MAX_CURVES - len(best)]
    return ledger.reports(record.sweep, numbers=[*best, *picked.tolist()])
