"""Exported studies in SQLite and in PostgreSQL, opened by Optuna and by optuna-dashboard."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any

import optuna
import pytest

from sweeper.export.writing import to_optuna
from sweeper.insight.pareto import pareto_front
from sweeper.ledger.memory import MemoryLedger
from sweeper.ledger.protocol import Ledger
from sweeper.records import SweepRecord
from sweeper.states import TrialState
from tests.ended_sweeps import end_trials, new_sweep, spec_of
from tests.faults import wait_until
from tests.ports import own_port
from tests.postgres import PostgresServer

pytestmark = [pytest.mark.slow]
STATES = {1: TrialState.PRUNED, 2: TrialState.FAILED, 3: TrialState.STOPPED}
TRIALS = 12


@contextmanager
def dashboard(url: str, log: Path) -> Iterator[str]:
    """A running optuna-dashboard on a database; its address."""
    process, address = started(url, log)
    try:
        yield address
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def started(url: str, log: Path) -> tuple[subprocess.Popen[bytes], str]:
    """An optuna-dashboard that answers."""
    port = own_port()
    command = [sys.executable, "-c", "from optuna_dashboard._cli import main; main()"]
    command += [url, "--host", "127.0.0.1", "--port", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
    address = f"http://127.0.0.1:{port}"
    wait_until(lambda: process.poll() is not None or answers(f"{address}/api/studies"), 90)
    assert process.poll() is None, log.read_text()[-2000:]
    return process, address


def answers(url: str) -> bool:
    try:
        ask(url)
    except (OSError, HTTPException):
        return False
    return True


def ask(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=20) as answer:
        return json.load(answer)


def ended(**sections: Any) -> tuple[Ledger, SweepRecord]:
    ledger, spec = MemoryLedger(), spec_of(trials=TRIALS, **sections)
    sweep = new_sweep(ledger, spec).sweep
    end_trials(ledger, sweep, range(TRIALS), STATES)
    return ledger, ledger.sweep(sweep)


def check(url: str, folder: Path) -> None:
    """Optuna and the dashboard show the sweep that is exported to ``url``."""
    ledger, record = ended()
    assert to_optuna(ledger, record.sweep, url) == TRIALS
    study = optuna.load_study(study_name=record.sweep, storage=url)
    best = ledger.best(record.sweep)[0]
    assert (study.best_trial.user_attrs["trial"], study.best_value) == (best.number, best.value)
    with dashboard(url, folder / "dashboard.log") as address:
        [listed] = ask(f"{address}/api/studies")["study_summaries"]
        assert listed["study_name"] == record.sweep
        detail = ask(f"{address}/api/studies/{listed['study_id']}?after=0")
        states = [trial["state"] for trial in detail["trials"]]
        assert states == ["Complete", "Pruned", "Fail", "Fail", *["Complete"] * (TRIALS - 4)]
        shown = {param["name"] for trial in detail["trials"] for param in trial["params"]}
        assert shown >= {"learning_rate", "optimizer", "momentum"}
        assert min(t["values"][0] for t in detail["trials"] if t["state"] == "Complete") == pytest.approx(best.value)


def test_a_study_in_a_file(tmp_path: Path) -> None:
    check(f"sqlite:///{tmp_path / 'optuna.db'}", tmp_path)


@pytest.mark.postgres
def test_a_study_in_postgresql(postgres: PostgresServer, tmp_path: Path) -> None:
    check(postgres.create("studies"), tmp_path)


def test_several_objectives_and_constraints_are_those_of_the_study(tmp_path: Path) -> None:
    ledger, record = ended(
        objectives=[{"metric": "val_loss"}, {"metric": "val_accuracy"}], constraints=["train_loss <= 0.2"]
    )
    url = f"sqlite:///{tmp_path / 'optuna.db'}"
    to_optuna(ledger, record.sweep, url)
    study = optuna.load_study(study_name=record.sweep, storage=url)
    assert [direction.name for direction in study.directions] == ["MINIMIZE", "MAXIMIZE"]
    assert study.metric_names == ["val_loss", "val_accuracy"]
    spec = spec_of(objectives=[{"metric": "val_loss"}, {"metric": "val_accuracy"}], constraints=["train_loss <= 0.2"])
    front = pareto_front(ledger.trials(record.sweep), spec)
    assert {trial.user_attrs["trial"] for trial in study.best_trials} == {trial.number for trial in front}
    assert front
