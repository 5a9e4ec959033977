"""Where sweeps run: what a verb can do there, and how it is done on this machine."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from sweeper.errors import SpecError, SweepBusy, SweeperError
from sweeper.insight.results import run_summary
from sweeper.ledger.protocol import Ledger, LedgerReader
from sweeper.records import SweepChanged, SweepRecord
from sweeper.running.custody import end_unheld, holder, reopen_unheld
from sweeper.running.finals import finals_of
from sweeper.settings import Settings
from sweeper.spec.parse import SweepSpec
from sweeper.states import SweepState, TrialState

UI_PORT = 5000
WAITING = "waiting: "  # how a reason to wait begins
WAIT_SECONDS = 30.0  # how long a command waits for the controller to act on a request
START_SECONDS = 120.0  # how long a detached sweep may take to be in the ledger

Progress = Callable[[SweepRecord], Any]


@dataclass(frozen=True)
class Standing:
    """Who runs a sweep (None: nobody), and what a sweep that has not ended waits for ("": nothing is known)."""

    controller: str | None
    waiting: str


class Place(Protocol):
    """What a verb can do where the sweeps are. ``option`` is added to a command so that it goes there."""

    option: str

    @property
    def ledger(self) -> LedgerReader:
        """The records of the sweeps."""
        ...

    def run(self, spec: SweepSpec, workers: str | None, progress: Progress, priority: int | None = None) -> str:
        """Run a new sweep to its end and return its id."""
        ...

    def detach(self, spec: SweepSpec, workers: str | None, priority: int | None = None) -> dict[str, Any]:
        """Start a new sweep and leave it: ``sweep``, ``name`` and ``log``, where its events are."""
        ...

    def resume(self, ref: str, workers: str | None, progress: Progress) -> str:
        """Go on with a sweep to its total and return its id."""
        ...

    def retry(self, ref: str, workers: str | None, progress: Progress) -> str:
        """Run a sweep's failed trials again and return its id."""
        ...

    def end(self, record: SweepRecord, wanted: SweepState) -> None:
        """Stop or pause a sweep that is neither, or the finals of a complete one."""
        ...

    def change(self, record: SweepRecord, requested: int | None, priority: int | None) -> SweepRecord:
        """Change the number of trials or the priority of a sweep that has not ended."""
        ...

    def delete(self, record: SweepRecord) -> None:
        """Remove a sweep with everything that belongs to it."""
        ...

    def summary(self, sweep: str) -> dict[str, Any]:
        """The object of ``run --json``."""
        ...

    def standing(self, record: SweepRecord) -> Standing:
        """Who runs the sweep, and what its trials wait for."""
        ...

    def check_idle(self, record: SweepRecord) -> None:
        """Refuse a sweep that is running.

        Raises:
            SweepBusy: it is.
        """
        ...

    def view(self, record: SweepRecord) -> str:
        """The link of the sweep's comparison view in MLflow; empty when there is none."""
        ...

    def open_ui(self, record: SweepRecord | None, host: str, port: int, browser: bool) -> None:
        """Show the comparison view of a sweep, or MLflow itself."""
        ...

    def export_model(self, ref: str, out: str) -> dict[str, Any]:
        """Write the winner of a sweep to the new folder ``out``."""
        ...

    def report(self, record: SweepRecord, out: Path | None) -> tuple[Path, str]:
        """Write the report of a sweep to ``out`` (default: into this home); the file and its first sentence."""
        ...


class Here:
    """Sweeps on this machine: in its ledger, on its workers or its Ray cluster."""

    option = ""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @cached_property
    def ledger(self) -> Ledger:
        """The ledger of this machine, opened when it is first asked for."""
        from sweeper.ledger.opening import open_home_ledger

        return open_home_ledger(self.settings)

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
        with tempfile.NamedTemporaryFile("w", dir=home, suffix=".json", delete=False) as file:
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
                text = Path(log.name).read_text().strip().splitlines()
                raise SweeperError(text[-1].removeprefix("sweeper: ") if text else "the sweep did not start")
            time.sleep(0.2)
        raise SweeperError(f"the sweep did not start within two minutes; see {log.name}")

    def resume(self, ref: str, workers: str | None, progress: Progress) -> str:
        """See ``Place``."""
        from sweeper.running import local

        return local.run_again(ref, self.settings, workers or "auto", progress).sweep

    def retry(self, ref: str, workers: str | None, progress: Progress) -> str:
        """See ``Place``: here, or in the controller that runs the sweep."""
        record = self.ledger.sweep(ref)
        failed = self.ledger.trials(record.sweep, state=TrialState.FAILED)
        if holder(self.ledger, record.sweep) is not None:
            self.ledger.request(record.sweep, "retry")
            asked = f"its controller was asked to run {len(failed)} trials again"
            raise SweepBusy(f"sweep {record.sweep} is running: {asked}")
        reopen_unheld(self.ledger, record, "retried by the user", failed=True)
        return self.resume(record.sweep, workers, progress)

    def end(self, record: SweepRecord, wanted: SweepState) -> None:
        """See ``Place``: through the controller that runs the sweep, or right here when none does."""
        if record.state.terminal:
            finals = finals_of(self.ledger, record)
            if finals is not None and not finals.state.terminal and finals.state is not wanted:
                self.end(finals, wanted)
                reason = f"every trial has ended; finals {wanted} by the user"
                self.ledger.commit(record.sweep, [SweepChanged(reason=reason)])
            return
        if holder(self.ledger, record.sweep) is None:
            end_unheld(self.ledger, record, wanted, f"{wanted} by the user")
            return
        self.ledger.request(record.sweep, "stop" if wanted is SweepState.STOPPED else "pause")
        wait_for(self.ledger, record.sweep, wanted)

    def change(self, record: SweepRecord, requested: int | None, priority: int | None) -> SweepRecord:
        """See ``Place``: through the controller that runs the sweep, or right here when none does."""
        sweep = record.sweep
        if record.state.terminal:
            raise SweepBusy(f"sweep {sweep} is {record.state}: a sweep that has ended cannot be changed")
        if holder(self.ledger, sweep) is not None:
            self.ledger.request(sweep, "budget", {"requested": requested, "priority": priority})
            _until(self.ledger, sweep, lambda now: requested in (None, now.requested) or now.state.terminal)
            return self.ledger.sweep(sweep)
        if requested is not None:
            self.ledger.extend(sweep, requested)
        if priority is not None:
            self.ledger.commit(sweep, [SweepChanged(priority=priority)])
        return self.ledger.sweep(sweep)

    def delete(self, record: SweepRecord) -> None:
        """See ``Place``: from the ledger, its files, and its runs from MLflow."""
        import shutil

        from sweeper.tracking.tracker import delete_runs

        delete_runs(self.settings, record)
        self.ledger.delete_sweep(record.sweep)
        shutil.rmtree(self.settings.home / "sweeps" / record.sweep, ignore_errors=True)

    def summary(self, sweep: str) -> dict[str, Any]:
        """See ``Place``."""
        from sweeper.tracking.store import resolve_uri

        uri = resolve_uri(self.settings.mlflow_tracking_uri, self.settings.home)
        return run_summary(self.ledger, sweep, uri)

    def standing(self, record: SweepRecord) -> Standing:
        """See ``Place``."""
        owner = holder(self.ledger, record.sweep)
        if owner is None and record.state is SweepState.RUNNING:
            return Standing(None, f"no process runs it: continue with `sweeper resume {record.sweep}`")
        return Standing(owner, wait_reason(record.reason))

    def check_idle(self, record: SweepRecord) -> None:
        """See ``Place``."""
        if holder(self.ledger, record.sweep) is not None:
            raise SweepBusy(f"sweep {record.sweep} is running. Stop it first: sweeper stop {record.sweep}")

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


def wait_reason(reason: str) -> str:
    """A sweep's reason if it says why trials wait, as the controller writes it while the sweep runs."""
    return reason if reason.startswith(WAITING) else ""


def wait_for(ledger: LedgerReader, sweep: str, wanted: SweepState) -> None:
    """Until the sweep is in that state or has ended; says so when that takes long."""
    _until(ledger, sweep, lambda now: now.state is wanted or now.state.terminal)


def _until(ledger: LedgerReader, sweep: str, done: Callable[[SweepRecord], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        if done(ledger.sweep(sweep)):
            return
        time.sleep(0.2)
    print("sweeper: the request was sent, but the controller has not answered yet", file=sys.stderr)


def refuse_priority(priority: int | None) -> None:
    """``--priority`` says which sweeps of a server go first; a sweep on this machine has its workers for itself.

    Raises:
        SpecError: it was given.
    """
    if priority is not None:
        raise SpecError(
            "a priority only orders the sweeps of a server",
            key="--priority",
            remedy="Leave it out, or add --server URL",
        )


def refuse_workers(workers: str | None) -> None:
    """``--workers`` says how to use this machine; a server uses its own workers.

    Raises:
        SpecError: it was given.
    """
    if workers is not None:
        remedy = "Leave it out, or run the sweep here: --server ''"
        raise SpecError("a server uses its own workers", key="--workers", remedy=remedy)
