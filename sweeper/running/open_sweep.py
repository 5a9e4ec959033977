"""One sweep from its record to its end: what a controller needs to run it, and what shows it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

from sweeper.data.loading import load_same
from sweeper.errors import SpecError, SweeperError
from sweeper.insight.data_notes import SUMMARY as DATA
from sweeper.insight.data_notes import notes_of
from sweeper.insight.fused import how_trained
from sweeper.insight.judging import test_metric
from sweeper.insight.noise import SUMMARY as NOISE
from sweeper.insight.noise import noise_of, noise_on
from sweeper.insight.winner_again import SUMMARY as AGAIN
from sweeper.insight.winner_again import WinnerAgain
from sweeper.ledger.protocol import Ledger, LedgerReader
from sweeper.logs import Emit, EventLog
from sweeper.records import SweepChanged, SweepRecord, TrialRecord
from sweeper.running.baselines import begin_baselines, conclude_baselines
from sweeper.running.beside import Beside, NotDrawn
from sweeper.running.checkpoints import Checkpoints
from sweeper.running.finals import are_halted, choose_finals_winner, conclude, finals_are_due, finals_of, open_finals
from sweeper.running.kept import Kept, final_weights, kept_model, winner_weights
from sweeper.running.leases import Hold
from sweeper.running.members import MemberPool
from sweeper.running.notices import Notices
from sweeper.running.objective_run import ObjectiveRun
from sweeper.running.outputs import measure_winner
from sweeper.running.parts import make_study
from sweeper.running.population import PopulationRun
from sweeper.running.run import SweepRun
from sweeper.settings import Settings
from sweeper.spec.phases import schedule_in
from sweeper.spec.population import PBT
from sweeper.spec.stored import spec_of
from sweeper.states import SweepState
from sweeper.tracking.trial_files import TrialFiles

if TYPE_CHECKING:
    from sweeper.data.dataset import Dataset
    from sweeper.search.objective_study import ObjectiveStudy
    from sweeper.search.study import Study
    from sweeper.spec.parse import SweepSpec
    from sweeper.tracking.tracker import Tracker

SETTLE_SECONDS = 600.0  # how long a finished sweep waits for an MLflow that answers to take the last trials


@dataclass
class OpenSweep:
    """A sweep that is held and ready for a controller, and what shows it. ``emit`` may be called from any thread.

    ``trials`` are the ledger's when it was opened. The tracker is not started yet.

    Raises (all methods that write to the ledger):
        TakenOver: another controller has the sweep now.
    """

    hold: Hold
    run: SweepRun
    tracker: Tracker
    log: EventLog
    trials: list[TrialRecord]
    emit: Emit
    notices: Notices | None = None
    beside: Beside | None = None
    began: float = field(default_factory=time.monotonic)

    @property
    def id(self) -> str:
        """The sweep's id."""
        return self.run.id

    @property
    def ledger(self) -> Ledger:
        """The ledger, for the holder of this sweep."""
        return self.hold.ledger

    def begin(self) -> None:
        """The controller takes the sweep up: what happened while its data was loaded counts."""
        self.began = time.monotonic()
        fresh = self.ledger.sweep(self.id)
        if fresh.state not in (SweepState.QUEUED, SweepState.RUNNING):
            raise SweeperError(f"sweep {self.id} is already {fresh.state}")

    def finals(self) -> SweepRun | None:
        """The finals of the sweep, which has ended, ready for the controller (None: none are due)."""
        finals = open_finals(self.ledger, self.run, self._trainings_in_time())
        if finals is not None:
            finals.checkpoints = Checkpoints(self.log.folder / "finals")
        return finals

    def _trainings_in_time(self) -> int | None:
        """How many trainings of each finalist the timeout leaves time for (None: all)."""
        run, elapsed = self.run, time.monotonic() - self.began
        if run.leaders.reserve is None or run.spec.search.timeout is None:
            return None
        left = run.spec.search.timeout - run.record.seconds - elapsed
        return run.leaders.reserve.trainings(max(0.0, left), run.pace.speed(elapsed))

    def conclude(self, finals: SweepRun) -> None:
        """Judge the finals, which are complete, and write the outcome into the sweep's summary."""
        if finals.checkpoints is not None:
            finals.checkpoints.clear()
        conclude(self.ledger, self.run, finals)

    def take_seconds(self) -> None:
        """Write how long the sweep has run."""
        seconds = self.run.record.seconds + time.monotonic() - self.began
        with contextlib.suppress(SweeperError):
            self.ledger.commit(self.id, [SweepChanged(seconds=seconds)])

    def finish(self, patience: float = SETTLE_SECONDS) -> None:
        """Show the end in MLflow: the tables, the report, the winner as a model, the summary.

        The report is kept in the sweep's folder. ``patience`` is how many seconds to wait for MLflow.
        """
        run, tracker, ledger = self.run, self.tracker, self.ledger
        self.hold.confirm()
        if run.checkpoints is not None:
            run.checkpoints.clear()
        choose_finals_winner(ledger.sweep(self.id), run)
        run.forget_search()
        tracker.trials_ended()
        if run.spec.model is not None:
            self.emit("model.fused", {"sweep": self.id, "text": how_trained(ledger.trials(self.id))})
        own = isinstance(run, ObjectiveRun)
        self._refit()
        if not own:
            _keep_notes(run, ledger)
        kept = None if run.best is None or own else self._kept()
        if kept is not None:
            _keep_noise(run, kept, ledger)
            conclude_baselines(run, kept, ledger, self.log.folder, self.emit)
            measure_winner(run, kept.model, ledger, test_metric(run.spec, run.dataset.task))
        self._compare_again()
        report = Thread(
            target=report_at_end, args=(run, kept, ledger, tracker, self.log.folder, self.emit, self.beside)
        )
        report.start()
        if self.beside is None:
            report.join()  # before the model: beside each other in one process both take twice as long
        if run.best is not None and kept is not None:
            tracker.log_winner(ledger.trial(self.id, run.best.number), kept.model)
        report.join()
        tracker.sweep_ended()
        tracker.flush(patience)
        if run.leaders.members is not None:
            run.leaders.members.clear()
        self.emit("sweep.finished", {"sweep": self.id})

    def _kept(self) -> Kept:
        """The model that is kept; where no ensemble can be made, that of the best trial."""
        try:
            return kept_model(self.run, self.ledger)
        except Exception as error:  # of statistics, or of a function of the user's own: the trials are safe
            if self.run.leaders.members is None or isinstance(error, SweeperError):
                raise
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            self.emit("winner.ensemble_failed", {"sweep": self.id, "reason": reason})
            self.run.leaders.members = None
            return kept_model(self.run, self.ledger)

    def _compare_again(self) -> None:
        """Where the winner was trained again and came to another value than it had, say so and write it down."""
        best = self.run.best
        if best is None or best.again is None:
            return
        recorded, summary = self.ledger.trial(self.id, best.number).value, self.ledger.sweep(self.id).summary
        if recorded is None or recorded == best.again:
            return
        from sweeper.models.arithmetic import arithmetic_of

        found = WinnerAgain(best.number, recorded, best.again, arithmetic_of("cpu")).to_json()
        self.ledger.commit(self.id, [SweepChanged(summary={**summary, AGAIN: found})])
        self.emit("winner.differs", {"sweep": self.id, **found})

    def _refit(self) -> None:
        """With ``winner: refit``, train the model that is kept; where it diverges, the mean of the folds stays."""
        run = self.run
        if run.best is None or run.spec.winner != "refit":
            return
        try:
            final_weights(run, self.ledger.trial(self.id, run.best.number))
        except SweeperError as error:
            run.best.refitted = winner_weights(run)
            self.emit("winner.refit_failed", {"sweep": self.id, "reason": str(error)})

    def rest(self, patience: float) -> None:
        """Show in MLflow that the sweep or its finals wait for a resume, unless the next service goes on with it."""
        record = self.ledger.sweep(self.id)
        if record.state is not SweepState.RUNNING:
            self.tracker.sweep_paused(record)
        self.tracker.flush(patience)

    def close(self) -> None:
        """Let go of everything."""
        self.tracker.close()
        if self.beside is not None:
            self.beside.close()
        if self.notices is not None:
            self.notices.close()
        self.log.close()


def open_sweep(settings: Settings, hold: Hold, run: SweepRun, show: Emit | None = None) -> OpenSweep:
    """Put together what a held sweep needs besides its data and its study; ``show`` is told of its events, too."""
    from sweeper.tracking.tracker import Tracker

    sweep, ledger = run.id, hold.ledger
    log = EventLog(settings.home, sweep)
    notices = None
    if run.spec.notify:  # a sweep with an owner runs on a shared server
        notices = Notices(settings, run.spec, sweep, ledger, log, public_only=bool(run.record.owner))

    def emit(action: str, fields: Mapping[str, Any]) -> None:
        action = action if fields.get("sweep", sweep) == sweep else f"finals.{action}"
        log(action, fields)
        if notices is not None:
            notices.take(action, fields)
        if show is not None:
            show(action, fields)

    try:
        _tell_of_beginning(run, emit)
        run.checkpoints = Checkpoints(log.folder / "checkpoints")
        if isinstance(run, ObjectiveRun):
            run.files = TrialFiles(log.folder / "trials")
        if run.spec.winner == "ensemble":
            run.leaders.members = MemberPool(log.folder / "members")
        tracker = Tracker(settings, run.record, run.spec, run.dataset, ledger, emit, hold.confirm)
        trials = ledger.trials(sweep)
        run.restore(trials, ledger.reports(sweep) if any(t.params for t in trials) else {})
    except BaseException:
        log.close()
        raise
    return OpenSweep(hold, run, tracker, log, trials, emit, notices)


def run_of(record: SweepRecord, spec: SweepSpec, dataset: Dataset, study: Study | ObjectiveStudy) -> SweepRun:
    """What the controller holds of a sweep of this kind."""
    kind = SweepRun if spec.objective.function is None else ObjectiveRun
    kind = PopulationRun if spec.search.sampler == PBT else kind
    return kind(record, spec, dataset, study)


def prepare(settings: Settings, hold: Hold, record: SweepRecord) -> OpenSweep:
    """Load all that a held sweep needs, MLflow as well, beside other sweeps that run. Takes as long as its data does.

    Raises:
        SpecError: the data is gone or cannot be used.
    """
    spec = spec_of(record)
    dataset = load_same(record, spec)
    opened = open_sweep(settings, hold, run_of(record, spec, dataset, make_study(spec, dataset)))
    try:
        import torch  # noqa: F401 - takes a second or two, which must not pass in the controller's thread

        begin_baselines(opened.run, opened.log.folder)
        opened.tracker.start()
    except BaseException:
        opened.close()
        raise
    return opened


def lacks_its_end(ledger: Ledger, record: SweepRecord) -> bool:
    """Whether a sweep that has ended still lacks something: its finals, or some of its trials in MLflow."""
    if ledger.untracked(record.sweep):
        return True
    try:
        return finals_are_due(ledger, record, spec_of(record)) and not are_halted(finals_of(ledger, record))
    except SpecError:
        return False


def _tell_of_beginning(run: SweepRun, emit: Emit) -> None:
    """What a user should know of the data and, once, of an earlier sweep that this one learns from."""
    task, reason = run.dataset.task, run.dataset.task_reason
    if run.spec.dataset.path is not None and run.spec.dataset.task is None:
        emit("data.task", {"sweep": run.id, "text": f"the task is {task}: {reason}"})
    for warning in run.dataset.warnings:
        emit("data.warning", {"sweep": run.id, "text": warning})
    if (warm := run.spec.search.warm) is not None and run.record.state is SweepState.QUEUED:
        emit("search.warm_start", {"sweep": run.id, "text": warm.sentence, "used": len(warm.points), "of": warm.trials})


def report_at_end(
    run: SweepRun,
    kept: Kept | None,
    ledger: LedgerReader,
    tracker: Tracker,
    folder: Path,
    emit: Emit,
    process: Beside | None = None,
) -> None:
    """Write the report of a sweep that has just ended, in ``process`` if there is one, and show it in MLflow.

    It never fails the sweep: ``emit`` is told of ``report.written`` with the file, or of ``report.failed``.
    """
    try:
        from sweeper.report.gather import make_report

        if kept is not None:
            _keep_check(run, kept, ledger, folder)
        made = None if process is None else process.report(folder, run.id)
        if isinstance(made, NotDrawn):
            emit("report.failed", {"sweep": run.id, "kind": made.kind, "reason": made.reason})
            return
        file, verdict = made or make_report(ledger, folder, run.id)
        tracker.log_report(file.read_text(encoding="utf-8"))
    except Exception as error:  # drawing and statistics raise whatever they raise, and the results are safe already
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        emit("report.failed", {"sweep": run.id, "kind": type(error).__name__, "reason": reason})
    else:
        emit("report.written", {"sweep": run.id, "file": str(file), "verdict": verdict})


def _keep_notes(run: SweepRun, ledger: Ledger) -> None:
    """Write what there is to say of the data into the sweep's summary."""
    summary, notes = ledger.sweep(run.id).summary, notes_of(run.dataset).to_json()
    if summary.get(DATA) != notes:
        ledger.commit(run.id, [SweepChanged(summary={**summary, DATA: notes})])


def _keep_noise(run: SweepRun, kept: Kept, ledger: Ledger) -> None:
    """Write how far chance may move the best value into the sweep's summary."""
    assert run.best is not None
    measured = noise_of(ledger.trial(run.id, run.best.number).metrics)
    noise = measured or noise_on(run.spec, run.dataset, kept.validation)
    summary = ledger.sweep(run.id).summary
    if noise > 0:
        ledger.commit(run.id, [SweepChanged(summary={**summary, NOISE: noise})])


def _keep_check(run: SweepRun, kept: Kept, ledger: LedgerReader, folder: Path) -> None:
    """Find how the winner predicts while its data is at hand, and keep it."""
    from sweeper.insight.advice import ranked
    from sweeper.insight.headline import winner_of
    from sweeper.insight.winner_check import check_winner, to_json
    from sweeper.report.gather import CHECK, trials_of
    from sweeper.training.again import stopped_after, train_again, weights_of
    from sweeper.training.averaging import validation_outputs

    record = ledger.sweep(run.id)
    winner = winner_of(record, ranked(run.spec, trials_of(ledger, record, run.spec)))
    if winner is None:
        return
    params = dict(winner.params or {})
    outputs = kept.validation
    if run.best is None or run.best.number != winner.number:
        how = (stopped_after(winner), schedule_in(winner.attributes))
        weights = weights_of(train_again(run.spec, run.dataset, params, winner.seed, *how))
        dataset = run.dataset.prepared(run.spec.inputs_of(params))
        outputs = validation_outputs(dataset, run.spec.trial_config(params), weights)
    check = check_winner(run.dataset, winner.number, outputs)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    (folder / CHECK).write_text(to_json(check), encoding="utf-8")
