"""Real faults of the services: the MLflow server and PostgreSQL are killed in the middle of a sweep and come back."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults import ENVIRONMENT, INLINE, TRIALS, Site, check_promise, wait_until
from tests.ports import own_port
from tests.postgres import PostgresServer, find_binaries

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
SLOWLY = ("sweeper.running.fitting.MAX_ROWS_CPU = 4", "sweeper.running.run.LEG_SECONDS = 0.1")


class MlflowServer:
    """A tracking server with its store in a folder, to be started; it can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._port = folder, own_port()
        self.url = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--port", str(self._port), "--workers", "1"]
        command += ["--backend-store-uri", f"sqlite:///{self._folder / 'mlflow.db'}"]
        command += ["--artifacts-destination", str(self._folder / "artifacts")]
        environment = {**os.environ, **ENVIRONMENT, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
        wait_until(self._answers, 120)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=2):
                return True
        except OSError:
            return False

    def kill(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@pytest.fixture
def mlflow_server(tmp_path: Path) -> Iterator[MlflowServer]:
    folder = tmp_path / "mlflow"
    folder.mkdir()
    server = MlflowServer(folder)
    yield server
    server.kill()


def test_an_mlflow_server_that_is_killed_and_comes_back_misses_nothing(
    spec: str, site: Site, undisturbed: dict[int, Any], mlflow_server: MlflowServer
) -> None:
    site.env, site.patches = {"MLFLOW_TRACKING_URI": mlflow_server.url}, SLOWLY
    mlflow_server.start()
    process = site.start("run", spec, *INLINE)
    site.wait_for_trials("faulty", 4, process)
    mlflow_server.kill()
    site.wait_for_trials("faulty", TRIALS // 2, process)
    mlflow_server.start()
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err[-3000:]
    if "cannot be reached" not in out + err:
        pytest.fail(f"the outage went unsaid: {err[-2000:]}")
    site.answer("resume", "faulty", *INLINE)  # writes what the run could not
    check_promise(site, "faulty", TRIALS, undisturbed)


def test_a_sweep_without_mlflow_is_shown_there_by_a_later_resume(
    spec: str, site: Site, undisturbed: dict[int, Any], mlflow_server: MlflowServer
) -> None:
    site.env = {"MLFLOW_TRACKING_URI": mlflow_server.url}
    done = site.run("run", spec, *INLINE)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "MLflow" in done.stderr
    mlflow_server.start()
    site.answer("resume", "faulty", *INLINE)
    check_promise(site, "faulty", TRIALS, undisturbed)


@pytest.mark.postgres
def test_a_postgresql_killed_and_restarted_under_a_sweep_costs_nothing(
    spec: str, site: Site, undisturbed: dict[int, Any]
) -> None:
    binaries = find_binaries()
    if binaries is None:
        pytest.skip("PostgreSQL is not installed")
    folder = Path(tempfile.mkdtemp(prefix="pg-"))  # pytest's own folders are closed to the user postgres
    server = PostgresServer(binaries, folder)
    try:
        site.env, site.patches = {"SWEEPER_DATABASE_URL": server.create("ledger")}, SLOWLY
        process = site.start("run", spec, *INLINE)
        site.wait_for_trials("faulty", 4, process)
        for _ in range(2):
            server.kill()
            time.sleep(2)
            server.start()
            time.sleep(1)
        assert process.wait(timeout=240) == 0, process.communicate()[1][-3000:]
        check_promise(site, "faulty", TRIALS, undisturbed)
        shown = site.answer("list")["sweeps"]
        assert [(row["name"], row["requested"]) for row in shown] == [("faulty", TRIALS)], json.dumps(shown)
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
