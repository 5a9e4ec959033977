"""The verbs of the command line on a sweep server: what `here.Here` does on this machine, done there."""

from __future__ import annotations

import io
import json
import os
import sys
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from sweeper.errors import Interrupted, ServerUnreachable, SweepBusy, SweeperError
from sweeper.places.follow import Follower, patiently, submit, take_up
from sweeper.places.http import Server
from sweeper.places.place import WAIT_SECONDS, Custody, Progress, refuse_workers, tell_unanswered
from sweeper.places.remote_ledger import RemoteLedger, sweep_path
from sweeper.places.sending import checked_for_server
from sweeper.records import Labels, SweepRecord
from sweeper.settings import Settings
from sweeper.spec.parse import SweepSpec
from sweeper.states import SweepState

if TYPE_CHECKING:
    from sweeper.insight.comparison import SweepComparison

LOOK_SECONDS = 0.2  # between two looks whether the server has done what it was asked


class There:
    """Sweeps on a server (``place.Place``)."""

    def __init__(self, settings: Settings, option: str) -> None:
        assert settings.server is not None
        self.settings, self.option = settings, option
        self.ledger = RemoteLedger(Server(settings.server, settings.token))

    def run(self, spec: SweepSpec, workers: str | None, progress: Progress, priority: int | None = None) -> str:
        """See ``Place``. Ctrl-C leaves the sweep running.

        Raises:
            Interrupted: Ctrl-C; its message says how to go on watching, and how to stop the sweep.
        """
        return self._watched(self._submit(spec, workers, priority), progress)

    def detach(self, spec: SweepSpec, workers: str | None, priority: int | None = None) -> dict[str, Any]:
        """See ``Place``."""
        record = self._submit(spec, workers, priority)
        log = f"{self.ledger.server.api}{sweep_path(record.sweep)}/events"
        return {"sweep": record.sweep, "name": record.name, "log": log}

    def resume(self, ref: str, workers: str | None, progress: Progress, trials: int | None = None) -> str:
        """See ``Place``."""
        refuse_workers(workers)
        record = self.ledger.sweep(ref)
        finals = self.ledger.facts[record.sweep].get("finals") or {}
        same = trials in (None, record.requested)
        if same and record.state is SweepState.COMPLETE and finals.get("state") not in ("stopped", "paused"):
            return record.sweep
        return self._watched(take_up(self.ledger, record, "resume", trials), progress, since=self.ledger.server.time)

    def retry(self, ref: str, workers: str | None, progress: Progress) -> str:
        """See ``Place``."""
        refuse_workers(workers)
        record = self.ledger.sweep(ref)
        return self._watched(take_up(self.ledger, record, "retry"), progress, since=self.ledger.server.time)

    def end(self, record: SweepRecord, wanted: SweepState) -> None:
        """See ``Place``."""
        self.ledger.ask(record.sweep, "stop" if wanted is SweepState.STOPPED else "pause")
        deadline = time.monotonic() + WAIT_SECONDS
        while (now := self.ledger.sweep(record.sweep)).state is not wanted and not now.state.terminal:
            if time.monotonic() >= deadline:
                return tell_unanswered()
            time.sleep(LOOK_SECONDS)

    def change(self, record: SweepRecord, requested: int | None, priority: int | None) -> SweepRecord:
        """See ``Place``."""
        return self.ledger.change(record.sweep, requested, priority)

    def label(self, record: SweepRecord, labels: Labels) -> SweepRecord:
        """See ``Place``."""
        return self.ledger.label(record.sweep, labels)

    def printed(self, record: SweepRecord, number: int, begin: int = 0) -> bytes:
        """See ``Place``: it is kept on the server, and comes in parts."""
        found = b""
        while True:
            path = f"{sweep_path(record.sweep)}/trials/{number}/log?begin={begin + len(found)}"
            with self.ledger.server.stream(path) as response:
                part = response.read()
            if not part:
                return found
            found += part

    def delete(self, record: SweepRecord) -> None:
        """See ``Place``."""
        self.ledger.delete_sweep(record.sweep)

    def summary(self, sweep: str) -> dict[str, Any]:
        """See ``Place``."""
        return patiently(lambda: self.ledger.summary(sweep))

    def custody(self, record: SweepRecord) -> Custody:
        """See ``Place``."""
        facts = self.ledger.facts[record.sweep]
        owner = facts.get("controller")
        if owner is None and record.state is SweepState.RUNNING:
            return Custody(None, "the service will start it shortly again")
        return Custody(owner, facts.get("waiting") or "")

    def check_idle(self, record: SweepRecord) -> None:
        """See ``Place``."""
        if record.state in (SweepState.QUEUED, SweepState.RUNNING):
            stop = f"sweeper stop {record.sweep}{self.option}"
            raise SweepBusy(f"sweep {record.sweep} is {record.state}. Stop it first: {stop}")

    def view(self, record: SweepRecord) -> str:
        """See ``Place``."""
        return self.ledger.facts[record.sweep].get("view") or ""

    def open_ui(self, record: SweepRecord | None, host: str, port: int, browser: bool) -> None:
        """See ``Place``: the server's MLflow runs already.

        Raises:
            SweeperError: the server does not say where.
        """
        link = self.view(record) if record is not None else self.ledger.server.get("/info").get("mlflow")
        if not link:
            remedy = "Its administrator can set SWEEPER_MLFLOW_URL to the address that users reach MLflow at"
            raise SweeperError(f"the server {self.ledger.server.url} gives no address of MLflow. {remedy}")
        print(link, flush=True)
        if browser:
            import webbrowser

            webbrowser.open(link)

    def export_model(self, ref: str, out: str) -> dict[str, Any]:
        """See ``Place``: the server trains the winner again, the files come here."""
        from sweeper.export.writing import check_empty, write_folder

        folder = Path(os.path.abspath(out))
        check_empty(folder)
        record = self.ledger.sweep(ref)
        with self.ledger.server.stream(f"{sweep_path(record.sweep)}/model.zip", timeout=600.0) as response:
            content, headers = response.read(), response.headers
        write_folder(folder, _unzipped(content))
        about = {"trial": "x-sweeper-trial", "metrics": "x-sweeper-metrics"}
        told = {key: json.loads(headers.get(name, "null")) for key, name in about.items()}
        return {"sweep": record.sweep, "trial": told["trial"], "model": str(folder), "metrics": told["metrics"]}

    def report(self, record: SweepRecord, out: Path | None) -> tuple[Path, str]:
        """See ``Place``: the server writes it, the page comes here."""
        from sweeper.report.gather import FILE
        from sweeper.report.page import verdict_of, write_page
        from sweeper.spec.stored import spec_of

        file = self.settings.home / "sweeps" / record.sweep / FILE if out is None else out
        with self.ledger.server.stream(f"{sweep_path(record.sweep)}/report", timeout=600.0) as response:
            page = response.read().decode("utf-8")
        try:
            write_page(file, page)
        except OSError as error:
            raise SweeperError(f"the report cannot be written to {file}: {error.strerror}") from error
        return file, verdict_of(record, spec_of(record), self.ledger.trials(record.sweep))

    def compare(self, refs: Sequence[str], seeds: int) -> SweepComparison:
        """See ``Place``: on the server."""
        from sweeper.insight.comparison import comparison_from_json

        ids = [self.ledger.sweep(ref).sweep for ref in refs]
        query = urlencode([*(("sweep", sweep) for sweep in ids), ("seeds", seeds)])
        with self.ledger.server.stream(f"/comparison?{query}", timeout=600.0) as response:
            return comparison_from_json(response.read())

    def _submit(self, spec: SweepSpec, workers: str | None, priority: int | None) -> SweepRecord:
        """The new sweep; data and code are tried here, so that what is wrong with them is told before they are sent."""
        refuse_workers(workers)
        spec = checked_for_server(spec, lambda: bool(self.ledger.server.get("/info").get("takes_code")))
        return submit(self.ledger, spec, _say, priority)

    def _watched(self, record: SweepRecord, progress: Progress, since: float = 0.0) -> str:
        """Follow a sweep to its end and return its id."""
        sink = progress(record)
        try:
            Follower(self.ledger, record, sink, since).follow()
        except KeyboardInterrupt as error:
            raise Interrupted(f"interrupted. The sweep continues on the server. {self._hints(record)}") from error
        except ServerUnreachable as error:
            raise ServerUnreachable(f"{error}. The sweep may still be running there. {self._hints(record)}") from error
        finally:
            sink.close()
        return record.sweep

    def _hints(self, record: SweepRecord) -> str:
        sweep, option = record.sweep, self.option
        return f"Watch it with `sweeper status {sweep} --watch{option}`, stop it with `sweeper stop {sweep}{option}`"


def _unzipped(content: bytes) -> dict[str, bytes]:
    """The files of an archive by name; names with folders are refused.

    Raises:
        SweeperError: it is no archive, or not one that can be unpacked.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
            if any(PurePosixPath(name).name != name or "\\" in name or name in ("", ".", "..") for name in names):
                raise SweeperError("the server's archive holds folders; nothing was unpacked")
            return {name: archive.read(name) for name in names}
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        raise SweeperError(f"the server's archive cannot be unpacked ({error})") from error


def _say(text: str) -> None:
    print(f"sweeper: {text}", file=sys.stderr, flush=True)
