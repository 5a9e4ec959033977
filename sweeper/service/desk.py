"""What the routes do with sweeps: find them for a user, change them, show them. No HTTP in here."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sweeper.errors import SpecError, SweepBusy, SweepNotFound
from sweeper.insight.results import best_trials
from sweeper.ledger.protocol import Ledger
from sweeper.records import SweepChanged, SweepRecord, TrialRecord
from sweeper.running.custody import end_unheld, holder, reopen_unheld
from sweeper.running.finals import KEY as FINALS
from sweeper.running.finals import are_halted, finals_of
from sweeper.search.warm_start import take_over, without_points
from sweeper.service.answers import sweep_object
from sweeper.service.auth import Forbidden, Identity
from sweeper.service.demands import check_can_run
from sweeper.service.link import ServiceView
from sweeper.service.problems import UploadNotFound
from sweeper.service.submission import UPLOAD_NAME, check_upload, read_submission
from sweeper.service.uploads import folder_of
from sweeper.settings import Settings
from sweeper.spec.dataset import data_files, upload_key
from sweeper.states import SweepState

WAIT_SECONDS = 5.0  # how long a stop or pause waits for the controller, so that the answer shows it done
REMEMBERED = 5000  # sweeps whose best trial is kept in memory
ACTIVE = (SweepState.QUEUED, SweepState.RUNNING)


class Desk:
    """The sweeps as one identity may see and change them. Every method blocks on the ledger."""

    def __init__(self, settings: Settings, ledger: Ledger, service: ServiceView, mlflow_url: str | None) -> None:
        self.settings, self.ledger, self.service, self.mlflow_url = settings, ledger, service, mlflow_url
        self._uploads = threading.Lock()  # no file is deleted between a look for it and the sweep that uses it
        self._bests: dict[str, tuple[int, TrialRecord | None]] = {}  # by sweep: of how many complete trials, which

    def find(self, who: Identity, ref: str) -> SweepRecord:
        """A sweep that this identity sees.

        Raises:
            SweepNotFound: there is none; another user's sweep looks the same.
        """
        return self.ledger.sweep(ref, owner=who.sees)

    def own(self, who: Identity, ref: str) -> SweepRecord:
        """A sweep that this identity may change.

        Raises:
            SweepNotFound: there is none.
            Forbidden: it may only be looked at.
        """
        record = self.find(who, ref)
        who.require_writing()
        if record.parent is not None:
            raise Forbidden(f"sweep {record.sweep} belongs to sweep {record.parent}: change that one")
        return record

    def show(self, record: SweepRecord) -> dict[str, Any]:
        """The sweep object."""
        return sweep_object(
            record,
            best=self._best(record),
            waiting=self._waiting(record),
            controller=self._controller(record),
            view=self._view(record),
            finals=finals_of(self.ledger, record),
        )

    def _best(self, record: SweepRecord) -> TrialRecord | None:
        """The best complete trial. What is complete stays so: while none is added, the best remains the best."""
        count = record.counts.get("complete", 0)
        known, best = self._bests.get(record.sweep, (0, None))
        if known != count:
            best = next(iter(best_trials(self.ledger, record, 1)), None)
            if len(self._bests) >= REMEMBERED:
                self._bests.clear()
            self._bests[record.sweep] = (count, best)
        return best

    def _controller(self, record: SweepRecord) -> str | None:
        return None if record.state.terminal else holder(self.ledger, record.sweep)

    def _waiting(self, record: SweepRecord) -> str:
        if record.state is SweepState.QUEUED:
            return "waiting: the service will start it shortly"
        return record.reason if record.state is SweepState.RUNNING else ""

    def _view(self, record: SweepRecord) -> str | None:
        from sweeper.tracking.ui import sweep_link

        if self.mlflow_url is None or record.mlflow_experiment_id is None:
            return None
        return sweep_link(self.mlflow_url, record)

    def submit(self, who: Identity, data: Any, key: str | None, priority: int = 0) -> tuple[SweepRecord, bool]:
        """Queue a sweep; whether it is new (a repeated idempotency key is answered with the first call's sweep).

        Raises:
            SpecError: the sweep file cannot be used, or the key was used for another one.
            Forbidden: a viewer asked.
        """
        who.require_writing()
        spec = take_over(read_submission(data, folder_of(self.settings.home, who.user)), self.ledger, owner=who.sees)
        if (room := self.service.largest_device) is not None:
            check_can_run(spec, room)
        began, wanted = time.time(), spec.to_json()
        with self._uploads:
            for name, file in spec.dataset.files().items():
                check_upload(Path(file), upload_key(name))
            record = self.ledger.create_sweep(
                spec.name, wanted, spec.search.trials, owner=who.user, priority=priority, key=key
            )
        if record.created_at >= began:
            self.service.wake()
            return record, True
        if without_points(record.spec) != without_points(wanted):  # the earlier sweep may have gone on since
            problem = f"the key was used for sweep {record.sweep}, which has another sweep file"
            raise SpecError(problem, key="Idempotency-Key", remedy="Use a new key for every sweep")
        return record, False

    def edit(self, record: SweepRecord, requested: int | None, priority: int | None) -> SweepRecord:
        """Change the number of trials or the priority.

        Raises:
            SweepBusy: the sweep has ended.
            SpecError: trials that would go have started.
        """
        if record.state.terminal:
            raise SweepBusy(f"sweep {record.sweep} is {record.state}: a sweep that has ended cannot be changed")
        if priority is not None:
            self.ledger.commit(record.sweep, [SweepChanged(priority=priority)])
        if record.state is SweepState.RUNNING and self.service.runs(record.sweep):
            self.ledger.request(record.sweep, "budget", {"requested": requested, "priority": priority})
            return self._after(record.sweep, lambda now: now.requested == requested or requested is None)
        if requested is not None:
            self.ledger.extend(record.sweep, requested)
        return self.ledger.sweep(record.sweep)

    def end(self, record: SweepRecord, wanted: SweepState, who: Identity) -> SweepRecord:
        """Stop or pause. What has ended, or is paused already, stays as it is; of a complete sweep its finals end."""
        if record.state is SweepState.COMPLETE:
            return self._end_finals(record, wanted, who)
        if record.state.terminal or record.state is wanted:
            return record
        reason = f"{wanted} by {who.user}"
        if not self._hand_over(record, "stop" if wanted is SweepState.STOPPED else "pause", {"reason": reason}):
            end_unheld(self.ledger, self.ledger.sweep(record.sweep), wanted, reason)
            return self.ledger.sweep(record.sweep)
        return self._after(record.sweep, lambda now: now.state is wanted or now.state.terminal)

    def _end_finals(self, record: SweepRecord, wanted: SweepState, who: Identity) -> SweepRecord:
        """Stop or pause the finals of a complete sweep, if they have not ended."""
        deadline = time.monotonic() + WAIT_SECONDS
        while (finals := finals_of(self.ledger, record)) is None and self._wants_finals(record):
            if not self._held(record.sweep) or time.monotonic() >= deadline:
                break
            time.sleep(0.1)  # the search has ended a moment ago
            record = self.ledger.sweep(record.sweep)
        if finals is None or finals.state.terminal or finals.state is wanted:
            return record
        self.end(finals, wanted, who)
        return self._tell_of_finals(record, f"finals {wanted} by {who.user}")

    def _wants_finals(self, record: SweepRecord) -> bool:
        return record.spec.get(FINALS) is not None and FINALS not in record.summary

    def _tell_of_finals(self, record: SweepRecord, text: str) -> SweepRecord:
        """The reason of a complete sweep says what has become of its finals."""
        self.ledger.commit(record.sweep, [SweepChanged(reason=f"every trial has ended; {text}")])
        return self.ledger.sweep(record.sweep)

    def resume(self, record: SweepRecord, who: Identity) -> SweepRecord:
        """Let a paused, stopped or failed sweep go on, and the finals of a complete one; others stay as they are."""
        if record.state is SweepState.COMPLETE:
            finals = finals_of(self.ledger, record)
            if finals is None or not are_halted(finals):
                return record
            self._until_released(record)
            self._reopen(finals, f"resumed by {who.user}")
            return self._tell_of_finals(record, f"finals resumed by {who.user}")
        if record.state is SweepState.QUEUED:
            return record
        if record.state is SweepState.RUNNING:
            if self.service.runs(record.sweep):
                self.ledger.request(record.sweep, "resume")
            return record
        self._until_released(record)
        self._reopen(record, f"resumed by {who.user}")
        return self.ledger.sweep(record.sweep)

    def _reopen(self, record: SweepRecord, reason: str, failed: bool = False) -> None:
        """Let a sweep that nobody runs run again; requests made to an earlier controller are dropped."""
        self.ledger.take_requests(record.sweep)
        reopen_unheld(self.ledger, record, reason, failed=failed)
        self.service.wake()

    def retry(self, record: SweepRecord, who: Identity) -> SweepRecord:
        """Run the failed trials again."""
        if record.state is SweepState.QUEUED:
            return record
        reason = f"retried by {who.user}"
        handed = self._hand_over(record, "retry", {"reason": reason})
        if not handed and record.counts.get("failed", 0):
            self._reopen(record, reason, failed=True)
        return self.ledger.sweep(record.sweep)

    def delete(self, record: SweepRecord) -> None:
        """Remove the sweep from the ledger, its files, and its runs from MLflow.

        Raises:
            SweepBusy: it runs.
        """
        from sweeper.tracking.tracker import delete_runs

        if record.state in ACTIVE and self._held(record.sweep):
            raise SweepBusy(f"sweep {record.sweep} is running. Stop it first: sweeper stop {record.sweep}")
        finals = finals_of(self.ledger, record)
        if finals is not None and finals.state in ACTIVE and self._held(finals.sweep):
            raise SweepBusy(f"the finals of sweep {record.sweep} run. Stop them first: sweeper stop {record.sweep}")
        self._until_released(record)
        delete_runs(self.settings, record)
        self.ledger.delete_sweep(record.sweep)
        shutil.rmtree(self.events_file(record).parent, ignore_errors=True)

    def delete_upload(self, who: Identity, upload: str) -> None:
        """Delete one of the caller's own files.

        Raises:
            Forbidden: a viewer asked.
            UploadNotFound: there is none of that name.
            SweepBusy: a sweep that has not ended uses it.
        """
        who.require_writing()
        file = folder_of(self.settings.home, who.user) / upload
        if not UPLOAD_NAME.fullmatch(upload) or not file.is_file():
            remedy = "GET /api/v1/datasets lists your files"
            raise UploadNotFound(f"you have no file {upload[:80]!r}", key="upload", remedy=remedy)
        with self._uploads:
            self._check_unused(file)
            file.unlink(missing_ok=True)

    def _check_unused(self, file: Path) -> None:
        open_states = [state for state in SweepState if not state.terminal]
        sweeps = [r for state in open_states for r in self.ledger.sweeps(state=state)]
        finals = [r for state in open_states for r in self.ledger.finals(state=state)]
        for record in (*sweeps, *finals):
            if str(file) in data_files(record.spec.get("dataset") or {}).values():
                sweep = record.parent or record.sweep
                raise SweepBusy(f"sweep {sweep} is not over and uses this file. Stop it first: sweeper stop {sweep}")

    def over(self, sweep: str) -> bool:
        """Whether no event of the sweep is to come: it has ended and MLflow was told, or it is paused."""
        if self.service.stopping:
            return True
        if self.service.holds(sweep):
            return False
        try:
            record = self.ledger.sweep(sweep)
            finals = finals_of(self.ledger, record)
        except SweepNotFound:
            return True
        return record.state not in ACTIVE and (finals is None or finals.state not in ACTIVE)

    def events_file(self, record: SweepRecord) -> Path:
        """The sweep's event log."""
        return self.settings.home / "sweeps" / record.sweep / "events.jsonl"

    def _held(self, sweep: str) -> bool:
        """Whether the service, or a controller elsewhere, has the sweep."""
        return self.service.holds(sweep) or holder(self.ledger, sweep) is not None

    def _hand_over(self, record: SweepRecord, kind: str, args: Mapping[str, Any]) -> bool:
        """Leave a request for the controller that runs the sweep; false when none does.

        Raises:
            SweepBusy: the sweep has ended, and it takes longer than a moment to finish it.
        """
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            active = self.ledger.sweep(record.sweep).state in ACTIVE
            if active and self.service.runs(record.sweep):
                break
            if not self._held(record.sweep):
                return False
            if time.monotonic() >= deadline:
                if not active:
                    raise SweepBusy(f"sweep {record.sweep} is being finished. Try again in a moment")
                break  # its data takes long to load: the request is read when it is open
            time.sleep(0.1)
        self.ledger.request(record.sweep, kind, args)
        return True

    def _until_released(self, record: SweepRecord) -> None:
        """Wait for what is still done with a sweep that has ended.

        Raises:
            SweepBusy: it takes longer than a moment.
        """
        deadline = time.monotonic() + WAIT_SECONDS
        while self._held(record.sweep):
            if time.monotonic() >= deadline:
                raise SweepBusy(f"sweep {record.sweep} is being finished. Try again in a moment")
            time.sleep(0.1)

    def _after(self, sweep: str, done: Any) -> SweepRecord:
        """The sweep once the controller has acted on a request, or as it is after a while."""
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            record = self.ledger.sweep(sweep)
            if done(record) or time.monotonic() >= deadline:
                return record
            time.sleep(0.1)
