"""A newcomer's way through the command line, in real processes: every verb, on a table of their own."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults import INLINE, SWEEP, Site, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """300 flowers of three kinds, with a text column, a constant one and holes."""
    draw, path = random.Random(0), tmp_path / "flowers.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["length", "width", "place", "planet", "kind"])
        for number in range(300):
            kind = number % 3
            length = "" if draw.random() < 0.05 else f"{draw.gauss(3 + kind, 0.4):.2f}"
            rows.writerow([length, f"{draw.gauss(1 + kind / 2, 0.3):.2f}", draw.choice("NSEW"), "earth", "abc"[kind]])
    return path


def test_from_a_table_to_the_winner_and_back_out(site: Site, table: Path, tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    assert site.run("init", str(file), "--dataset", str(table), "--target", "kind").returncode == 0
    assert site.run("init", str(file)).returncode == 2, "it must not write over a file"
    plan = site.answer("plan", str(file))
    assert plan["trials"] == 64
    assert not (site.home / "ledger.db").exists(), "plan starts and writes nothing"

    done = site.run("run", str(file), "--trials", "12", "--name", "flowers", "--set", "training.epochs=5", *INLINE)
    assert done.returncode == 0, done.stderr[-2000:]
    for words in ("winner: trial", "sweeper ui", "viewStateShareKey", "sweeper report", "next:"):
        assert words in done.stdout
    assert "planet" in done.stderr, "a constant column is dropped with a warning"

    listed = site.answer("list")["sweeps"]
    assert [(row["name"], row["state"], row["complete"]) for row in listed] == [("flowers", "complete", 12)]
    ranked = site.answer("trials", "flowers", "--sort", "value")["trials"]
    assert [t["value"] for t in ranked] == sorted(t["value"] for t in ranked)
    page = site.answer("trials", "flowers", "--sort", "value", "--limit", "3", "--offset", "2")
    assert (page["trials"], page["total"]) == (ranked[2:5], 12)
    assert site.answer("best", "flowers", "-k", "2")["best"][0]["trial"] == ranked[0]["number"]
    rows = list(csv.DictReader(io.StringIO(site.run("trials", "flowers", "--csv").stdout)))
    assert len(rows) == 12
    assert {"number", "state", "params_learning_rate", "metrics_val_loss"} <= set(rows[0])
    assert "trained 5 epochs" in site.run("why", "flowers", "3").stdout
    assert site.answer("report", "flowers")["verdict"]
    assert site.answer("retry", "flowers", "--failed", *INLINE)["complete"] == 12
    assert site.answer("delete", "flowers", "--yes")["deleted"] == listed[0]["sweep"]
    assert site.answer("list") == {"sweeps": []}
    assert site.run("status", "flowers").returncode == 4


def test_a_detached_sweep_is_paused_resumed_and_stopped(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "sweep.json"
    file.write_text(json.dumps(SWEEP | {"training": {"epochs": 400}}))
    sweep = site.answer("run", str(file), "--detach", *INLINE)["sweep"]
    wait_until(lambda: site.done(sweep) >= 2, 120)
    status = site.answer("status", sweep)
    assert status["state"] == "running"
    assert status["controller"]
    assert site.answer("pause", sweep)["state"] == "paused"
    wait_until(lambda: site.answer("status", sweep)["controller"] is None, 60)
    paused = site.answer("status", sweep)
    assert paused["running"] == 0
    process = site.start("resume", sweep, *INLINE)
    wait_until(lambda: site.done(sweep) > paused["complete"] + paused["failed"], 120)
    stopped = site.answer("stop", sweep)
    assert stopped["state"] == "stopped"
    assert sum(stopped[state] for state in ("complete", "failed", "stopped")) == stopped["requested"]
    out, err = process.communicate(timeout=120)
    assert "stopped" in out, err[-2000:]
    assert "Traceback" not in err


def test_a_terminal_gets_a_live_panel(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "sweep.json"
    file.write_text(json.dumps(SWEEP))
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "sweeper", "run", str(file), *INLINE]
    process = subprocess.Popen(command, stdout=follower, stderr=follower, env=site.environment() | {"TERM": "xterm"})
    os.close(follower)
    seen = b""
    while True:
        try:
            part = os.read(leader, 65536)
        except OSError:  # the other end is closed
            break
        seen += part
    os.close(leader)
    assert process.wait(timeout=60) == 0
    text = seen.decode(errors="replace")
    for words in ("sweep", "40/40 done", "trials/min", "ETA", "best: trial", "winner: trial"):
        assert words in text, text[-3000:]
