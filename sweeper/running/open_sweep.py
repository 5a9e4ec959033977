"""One sweep of the service, from the ledger's record to its end in MLflow: data, study, tracker and event log."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeper.data.dataset import load_same
from sweeper.errors import SpecError, SweeperError
from sweeper.insight.finals import test_metric
from sweeper.ledger.protocol import Ledger, LedgerReader
from sweeper.logs import Emit, EventLog
from sweeper.records import SweepChanged, SweepRecord, TrialRecord
from sweeper.running.baselines import begin_baselines, conclude_baselines
from sweeper.running.checkpoints import Checkpoints
from sweeper.running.finals import are_halted, choose_finals_winner, finals_are_due, finals_of
from sweeper.running.outputs import measure_winner
from sweeper.running.parts import make_study
from sweeper.running.run import SweepRun, winner_weights
from sweeper.settings import Settings
from sweeper.spec.dataset import data_files
from sweeper.spec.stored import spec_of
from sweeper.states import SweepState

if TYPE_CHECKING:
    from sweeper.tracking.tracker import Tracker

SETTLE_SECONDS = 600.0  # how long a finished sweep waits for an MLflow that answers to take the last trials


@dataclass
class OpenSweep:
    """Everything that is open for one sweep. ``emit`` may be called from any thread."""

    run: SweepRun
    tracker: Tracker
    log: EventLog
    trials: list[TrialRecord]
    began: float = field(default_factory=time.monotonic)

    @property
    def id(self) -> str:
        """The sweep's id."""
        return self.run.id

    def emit(self, action: str, fields: Mapping[str, Any]) -> None:
        """Write one event to the sweep's log."""
        self.log(action, fields)

    def checkpoints_of_finals(self) -> Checkpoints:
        """Where the finals of this sweep keep their checkpoints."""
        return Checkpoints(self.log.folder / "finals")

    def begin(self, ledger: Ledger) -> None:
        """The controller takes the sweep up: what happened while its data was loaded counts."""
        self.began = time.monotonic()
        fresh = ledger.sweep(self.id)
        if fresh.state not in (SweepState.QUEUED, SweepState.RUNNING):
            raise SweeperError(f"sweep {self.id} is already {fresh.state}")

    def take_seconds(self, ledger: Ledger) -> None:
        """Write how long the sweep has run."""
        seconds = self.run.record.seconds + time.monotonic() - self.began
        with contextlib.suppress(SweeperError):
            ledger.commit(self.id, [SweepChanged(seconds=seconds)])

    def finish(self, ledger: Ledger, patience: float | None) -> None:
        """The winner's model and the sweep's end go to MLflow; ``patience`` in seconds (None: as long as it takes)."""
        if self.run.checkpoints is not None:
            self.run.checkpoints.clear()
        finish(self.run, ledger, self.tracker, self.log.folder, self.emit)
        self.tracker.flush(SETTLE_SECONDS if patience is None else patience)
        self.emit("sweep.finished", {"sweep": self.id})

    def rest(self, ledger: Ledger, patience: float) -> None:
        """A paused sweep is shown as paused."""
        record = ledger.sweep(self.id)
        if record.state is SweepState.PAUSED:
            self.tracker.sweep_paused(record)
        self.tracker.flush(patience)

    def close(self) -> None:
        """Let go of everything."""
        self.tracker.close()
        self.log.close()


def is_unfinished(ledger: Ledger, record: SweepRecord) -> bool:
    """Whether a sweep that has ended still lacks something: its finals, or some of its trials in MLflow."""
    if ledger.untracked(record.sweep):
        return True
    try:
        return finals_are_due(ledger, record, spec_of(record)) and not are_halted(finals_of(ledger, record))
    except SpecError:
        return False


def without_folder(record: SweepRecord, text: str) -> str:
    """A text without the folder in which this server keeps the sweep's data files."""
    for path in data_files(record.spec.get("dataset") or {}).values():
        text = text.replace(path, os.path.basename(path))
    return text


def prepare(settings: Settings, ledger: Ledger, record: SweepRecord) -> OpenSweep:
    """Load what a sweep needs to run. Takes as long as its data does.

    Raises:
        SpecError: the data is gone or cannot be used.
    """
    from sweeper.tracking.tracker import Tracker

    spec = spec_of(record)
    dataset = load_same(record, spec)
    run = SweepRun(record, spec, dataset, make_study(spec))
    run.checkpoints = Checkpoints(settings.home / "sweeps" / record.sweep / "checkpoints")
    log = EventLog(settings.home, record.sweep)
    for warning in dataset.warnings:
        log("data.warning", {"sweep": record.sweep, "text": warning})
    if (warm := spec.search.warm) is not None and record.state is SweepState.QUEUED:
        about = {"sweep": record.sweep, "text": warm.sentence, "used": len(warm.points), "of": warm.trials}
        log("search.warm_start", about)
    tracker = Tracker(settings, record, spec, dataset, ledger, log)
    try:
        trials = ledger.trials(record.sweep)
        run.restore(trials, ledger.reports(record.sweep) if any(t.params for t in trials) else {})
        import torch  # noqa: F401 - takes a second or two, which must not pass in the controller's thread

        tracker.start()
        begin_baselines(run, log.folder)
    except BaseException:
        log.close()
        raise
    return OpenSweep(run, tracker, log, trials)


def finish(run: SweepRun, ledger: Ledger, tracker: Tracker, folder: Path, emit: Emit) -> None:
    """Log the tables, the winner as a model, the report, which is kept in ``folder``, and the sweep's summary."""
    choose_finals_winner(ledger.sweep(run.id), run)
    run.forget_search()
    tracker.trials_ended()
    conclude_baselines(run, ledger, folder, emit)
    measure_winner(run, ledger, test_metric(run.spec, run.dataset.task))
    report_at_end(run, ledger, tracker, folder, emit)  # before the model: beside each other both take twice as long
    if run.best is not None:
        trial = ledger.trial(run.id, run.best.number)
        tracker.log_winner(trial, run.spec.trial_config(run.params(trial.number)), winner_weights(run))
    tracker.sweep_ended()


def report_at_end(run: SweepRun, ledger: LedgerReader, tracker: Tracker, folder: Path, emit: Emit) -> None:
    """Write the report of a sweep that has just ended, and show it in MLflow.

    It never fails the sweep: ``emit`` is told of ``report.written`` with the file, or of ``report.failed``.
    """
    try:
        from sweeper.report.gather import make_report

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
    from sweeper.insight.advice import ranked
    from sweeper.insight.headline import winner_of
    from sweeper.insight.winner_check import check_winner, to_json
    from sweeper.report.gather import CHECK
    from sweeper.training.again import train_again

    winner = winner_of(ledger.sweep(run.id), ranked(run.spec, ledger.trials(run.id)))
    if winner is None:
        return
    params = run.params(winner.number)
    if run.best is not None and run.best.number == winner.number:
        weights = winner_weights(run)
    else:
        history = train_again(run.spec, run.dataset, params, winner.seed)
        weights = {name: tensor.numpy() for name, tensor in history.state_dict.items()}
    check = check_winner(run.spec, run.dataset, winner.number, params, weights)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    (folder / CHECK).write_text(to_json(check), encoding="utf-8")
