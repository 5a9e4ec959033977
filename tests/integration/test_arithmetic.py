"""A sweep keeps to the arithmetic it began in, and a winner that comes out otherwise when trained again is told of."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

import sweeper
from sweeper.errors import SweeperError
from sweeper.insight.results import run_summary
from sweeper.ledger.opening import open_ledger
from sweeper.models.arithmetic import arithmetic_of
from sweeper.records import SweepChanged
from sweeper.running.local import run_again
from sweeper.settings import Settings
from sweeper.states import SweepState
from sweeper.tracking.tracker import SHOWN

SPEC: dict[str, Any] = {
    "name": "kept",
    "dataset": {"name": "iris"},
    "space": {"learning_rate": {"float": [1e-2, 1e-1]}, "hidden_layers": {"choice": [[8]]}},
    "training": {"epochs": 2},
    "search": {"trials": 2, "sampler": "random"},
}


def change(home: Path, statement: str) -> None:
    """Change the ledger behind the program's back."""
    with sqlite3.connect(home / "ledger.db") as connection:
        connection.execute(statement)
    connection.close()


def test_a_sweep_names_its_arithmetic_and_keeps_to_it(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep, ledger = sweeper.run(SPEC, workers="inline").sweep, open_ledger(None, home)
    record, best = ledger.sweep(sweep), ledger.best(sweep)[0]
    assert record.arithmetic == arithmetic_of("cpu")
    assert "again" not in run_summary(ledger, sweep, "")

    # shown again, the winner is trained again: to the same bits, and a recorded value that is off by one is told of
    unseen = {key: value for key, value in record.summary.items() if key != SHOWN}
    ledger.commit(sweep, [SweepChanged(summary=unseen)])
    run_again(sweep, Settings.from_env(), "inline")
    assert "again" not in run_summary(ledger, sweep, "")
    assert best.value is not None
    change(home, f"UPDATE trials SET value = {best.value + 1e-9!r} WHERE number = {best.number}")
    ledger.commit(sweep, [SweepChanged(summary=unseen)])
    run_again(sweep, Settings.from_env(), "inline")
    assert run_summary(ledger, sweep, "")["again"] == {
        "trial": best.number,
        "recorded": best.value + 1e-9,
        "again": best.value,
        "arithmetic": record.arithmetic,
    }
    page = (home / "sweeps" / sweep / "report.html").read_text(encoding="utf-8")
    assert f"Beware: trial {best.number} was recorded with" in page

    # trials that are left cannot be trained in another arithmetic
    change(home, "UPDATE sweeps SET state = 'stopped', arithmetic = 'cuda-sm90'")
    with pytest.raises(SweeperError, match="computed in cuda-sm90, and this machine computes in"):
        run_again(sweep, Settings.from_env(), "inline")
    assert ledger.sweep(sweep).state is SweepState.STOPPED
