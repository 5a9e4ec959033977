"""What the routes do with sweeps: find them for a user, change them, show them. No HTTP in here."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

from sweeper.errors import SpecError, SweepBusy, SweepNotFound
from sweeper.insight.results import best_trials
from sweeper.ledger.protocol import Ledger
from sweeper.records import SweepRecord, TrialRecord
from sweeper.running.custody import ACTIVE, Steering, remove
from sweeper.running.finals import finals_of
from sweeper.running.leases import Watch
from sweeper.running.notices import check_public
from sweeper.search.warm_start import take_over, without_points
from sweeper.service.answers import sweep_object
from sweeper.service.auth import Forbidden, Identity, Role
from sweeper.service.demands import check_can_run
from sweeper.service.link import ServiceView
from sweeper.service.live import Live
from sweeper.service.own_process import MAX_OF_ONE, MAX_PROCESSES
from sweeper.service.problems import UploadNotFound
from sweeper.service.submission import UPLOAD_NAME, check_upload, read_submission
from sweeper.service.uploads import folder_of
from sweeper.settings import Settings
from sweeper.spec.dataset import data_files, upload_key
from sweeper.spec.own_code import code_of
from sweeper.states import SweepState
from sweeper.tracking.trial_files import TrialFiles

WAIT_SECONDS = 5.0  # how long a stop or pause waits for the controller, so that the answer shows it done
REMEMBERED = 5000  # sweeps whose best trial is kept in memory


class Desk:
    """The sweeps as one identity may see and change them. Every method blocks on the ledger."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        service: ServiceView,
        mlflow_url: str | None,
        allow_code: Role | None = None,
    ) -> None:
        self.settings, self.ledger, self.service, self.mlflow_url = settings, ledger, service, mlflow_url
        self._allow_code = allow_code
        self.live = Live(ledger)
        self._watch = Watch(ledger)
        self._uploads = threading.Lock()  # no file is deleted between a look for it and the sweep that uses it
        self._bests: dict[str, tuple[tuple[int, int], TrialRecord | None]] = {}  # by sweep: of how many trials, which

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

    def show(self, record: SweepRecord, spec: bool = True) -> dict[str, Any]:
        """The sweep object, with its sweep file or without."""
        return sweep_object(
            record,
            spec=spec,
            best=self._best(record),
            waiting=self._waiting(record),
            controller=self._controller(record),
            view=self._view(record),
            finals=finals_of(self.ledger, record),
        )

    def _best(self, record: SweepRecord) -> TrialRecord | None:
        """The best trial. What is complete stays so: while none is added, the best remains the best.

        Where none is complete, the stopped ones have it.
        """
        complete = record.counts.get("complete", 0)
        count = (complete, 0 if complete else record.counts.get("stopped", 0))
        known, best = self._bests.get(record.sweep, ((0, 0), None))
        if known != count:
            best = self._best_now(record)
            if len(self._bests) >= REMEMBERED:
                self._bests.clear()
            self._bests[record.sweep] = (count, best)
        return best

    def _best_now(self, record: SweepRecord) -> TrialRecord | None:
        """The same, looked for: constraints are judged by metrics, of which only those of new trials are read."""
        number = self.live.best(record) if record.spec.get("constraints") else None
        if number is not None:
            return self.ledger.trial(record.sweep, number)
        return next(iter(best_trials(self.ledger, record, 1)), None)

    def _controller(self, record: SweepRecord) -> str | None:
        return None if record.state.terminal else self._watch.controller(record.sweep)

    def _waiting(self, record: SweepRecord) -> str:
        if record.state is not SweepState.QUEUED:
            return record.waiting
        if code_of(record.spec):
            return f"waiting: it has code, and {MAX_PROCESSES} such sweeps run at a time, {MAX_OF_ONE} of one user"
        return "waiting: the service will start it shortly"

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
        spec = read_submission(data, folder_of(self.settings.home, who.user), self.takes_code(who))
        spec = take_over(spec, self.ledger, owner=who.sees)
        check_public(spec)
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

    def takes_code(self, who: Identity) -> bool:
        """Whether this identity's sweeps may hold code of their own."""
        return who.may_send_code(self._allow_code)

    def steer(self, who: Identity) -> Steering:
        """What this identity does to a sweep that it may change."""
        return Steering(self.ledger, Watch(self.ledger), who.user, WAIT_SECONDS, self.service)

    def delete(self, record: SweepRecord, who: Identity) -> None:
        """Remove the sweep from the ledger, its files, and its runs from MLflow.

        Raises:
            SweepBusy: it runs.
        """
        self.steer(who).check_idle(record)
        remove(self.settings, self.ledger, record)

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

    def printed(self, record: SweepRecord, number: int, begin: int) -> bytes:
        """What a trial of an objective of the user's own has printed, from byte ``begin`` on."""
        return TrialFiles(self.settings.home / "sweeps" / record.sweep / "trials").printed(number, begin)

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
