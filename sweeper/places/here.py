"""Sweeps on this machine: how each verb is carried out here."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeper.errors import SweepBusy, SweeperError
from sweeper.insight.results import run_summary
from sweeper.ledger.opening import open_home_ledger
from sweeper.ledger.protocol import Ledger
from sweeper.places.place import WAIT_SECONDS, Custody, Progress, refuse_priority, tell_unanswered
from sweeper.records import Labels, SweepRecord
from sweeper.running.custody import NoService, Steering, label, remove
from sweeper.running.finals import finals_of
from sweeper.running.leases import LEASE_SECONDS, Watch
from sweeper.settings import Settings
from sweeper.spec.parse import SweepSpec
from sweeper.states import SweepState
from sweeper.tracking.trial_files import TrialFiles

if TYPE_CHECKING:
    from sweeper.insight.comparison import SweepComparison

UI_PORT = 5000
START_SECONDS = 120.0  # how long a detached sweep may take to be in the ledger


class Here:
    """Sweeps on this machine: in its ledger, on its workers or its Ray cluster."""

    option = ""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @cached_property
    def ledger(self) -> Ledger:
        """The ledger of this machine, opened when it is first asked for."""
        return open_home_ledger(self.settings)

    @cached_property
    def _watch(self) -> Watch:
        return Watch(self.ledger)

    @property
    def _steering(self) -> Steering:
        return Steering(self.ledger, self._watch, "the user", WAIT_SECONDS, NoService(self._watch))

    def run(self, spec: SweepSpec, workers: str | None, progress: Progress, priority: int | None = None) -> str:
        """See ``Place``."""
        from sweeper.running import local

        refuse_priority(priority)
        return local.run_new(spec, self.settings, workers or "auto", progress).sweep

    def detach(self, spec: SweepSpec, workers: str | None, priority: int | None = None) -> dict[str, Any]:
        """See ``Place``: in a process of its own."""
        import subprocess
        import tempfile

        refuse_priority(priority)
        home, before = self.settings.home, {record.sweep for record in self.ledger.sweeps(name=spec.name)}
        with tempfile.NamedTemporaryFile("w", dir=home, suffix=".json", delete=False, encoding="utf-8") as file:
            json.dump(spec.to_json(), file)
        logs = home / "logs"
        logs.mkdir(exist_ok=True)
        with (logs / f"{Path(file.name).stem}.log").open("w") as log:
            command = [sys.executable, "-m", "sweeper", "run", file.name, "--workers", workers or "auto"]
            process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            new = [r for r in self.ledger.sweeps(name=spec.name) if r.sweep not in before]
            if new:
                return {"sweep": new[0].sweep, "name": new[0].name, "log": log.name}
            if process.poll() is not None:
                text = Path(log.name).read_text(encoding="utf-8", errors="replace").strip().splitlines()
                raise SweeperError(text[-1].removeprefix("sweeper: ") if text else "the sweep did not start")
            time.sleep(0.2)
        raise SweeperError(f"the sweep did not start within two minutes; see {log.name}")

    def resume(self, ref: str, workers: str | None, progress: Progress, trials: int | None = None) -> str:
        """See ``Place``."""
        from sweeper.running import local

        if (owner := self._watch.controller(self.ledger.sweep(ref).sweep)) is not None:
            asked = f"waiting for a sign of life from {owner}, which has the sweep (at most {LEASE_SECONDS:.0f} s)"
            print(f"sweeper: {asked}", file=sys.stderr)
        return local.run_again(ref, self.settings, workers or "auto", progress, trials).sweep

    def retry(self, ref: str, workers: str | None, progress: Progress) -> str:
        """See ``Place``: here, or in the controller that runs the sweep."""
        record = self.ledger.sweep(ref)
        if self._steering.retry(record):
            asked = f"its controller was asked to run {record.counts.get('failed', 0)} trials again"
            raise SweepBusy(f"sweep {record.sweep} is running: {asked}")
        return self.resume(record.sweep, workers, progress)

    def end(self, record: SweepRecord, wanted: SweepState) -> None:
        """See ``Place``: through the controller that runs the sweep, or right here when none does."""
        record = self._steering.end(record, wanted)
        asked = finals_of(self.ledger, record) or record
        if asked.state is not wanted and not asked.state.terminal:
            tell_unanswered()

    def change(self, record: SweepRecord, requested: int | None, priority: int | None) -> SweepRecord:
        """See ``Place``: through the controller that runs the sweep, or right here when none does."""
        record = self._steering.change(record, requested, priority)
        if requested not in (None, record.requested) and not record.state.terminal:
            tell_unanswered()
        return record

    def label(self, record: SweepRecord, labels: Labels) -> SweepRecord:
        """See ``Place``."""
        return label(self.ledger, record, labels)

    def printed(self, record: SweepRecord, number: int, begin: int = 0) -> bytes:
        """As ``Place``."""
        return TrialFiles(self.settings.home / "sweeps" / record.sweep / "trials").printed(number, begin)

    def delete(self, record: SweepRecord) -> None:
        """See ``Place``: from the ledger, its files, and its runs from MLflow."""
        remove(self.settings, self.ledger, record)

    def summary(self, sweep: str) -> dict[str, Any]:
        """See ``Place``."""
        from sweeper.tracking.store import resolve_uri

        uri = resolve_uri(self.settings.mlflow_tracking_uri, self.settings.home)
        return run_summary(self.ledger, sweep, uri)

    def custody(self, record: SweepRecord) -> Custody:
        """See ``Place``."""
        owner = self._watch.controller(record.sweep)
        if owner is None and record.state is SweepState.RUNNING:
            return Custody(None, f"no process runs it: continue with `sweeper resume {record.sweep}`")
        return Custody(owner, record.waiting)

    def check_idle(self, record: SweepRecord) -> None:
        """See ``Place``."""
        self._steering.check_idle(record)

    def view(self, record: SweepRecord) -> str:
        """See ``Place``: on the MLflow server in use, or where ``sweeper ui`` will start one."""
        from sweeper.tracking.ui import is_server, sweep_link

        uri = self.settings.mlflow_tracking_uri or ""
        return sweep_link(uri.rstrip("/") if is_server(uri) else f"http://127.0.0.1:{UI_PORT}", record)

    def open_ui(self, record: SweepRecord | None, host: str, port: int, browser: bool) -> None:
        """See ``Place``: starts the MLflow UI and stays until Ctrl-C."""
        from sweeper.tracking.tracker import open_ui

        open_ui(self.settings, record, host, port, browser)

    def export_model(self, ref: str, out: str) -> dict[str, Any]:
        """See ``Place``: trained again from the same data."""
        from sweeper.export.writing import to_model

        return to_model(self.ledger, ref, out)

    def report(self, record: SweepRecord, out: Path | None) -> tuple[Path, str]:
        """See ``Place``."""
        from sweeper.report.gather import make_report

        return make_report(self.ledger, self.settings.home / "sweeps" / record.sweep, record.sweep, out)

    def compare(self, refs: Sequence[str], seeds: int) -> SweepComparison:
        """See ``Place``: their winners are trained in this process."""
        from sweeper.running.comparing import compare_sweeps

        return compare_sweeps(self.ledger, self.settings.home, refs, seeds)
