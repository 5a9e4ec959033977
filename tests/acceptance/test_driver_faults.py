"""Real faults of the driver: killed, stopped, started twice, without memory or disk. Nothing is lost or run twice."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults import INLINE, SWEEP, TRIALS, Site, check_promise, outcomes, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
OFTEN = ("sweeper.running.clock.CHECKPOINT_SECONDS = 0.2", "sweeper.running.run.LEG_SECONDS = 0.1")


def test_a_driver_killed_at_twenty_random_moments_loses_and_repeats_nothing(
    spec: str, site: Site, undisturbed: dict[int, Any]
) -> None:
    site.patches, draw, kills = (*OFTEN, "sweeper.running.fitting.MAX_ROWS_CPU = 4"), random.Random(0), 0
    process = site.start("run", spec, *INLINE)
    wait_until(lambda: (site.home / "ledger.db").exists() and list((site.home / "sweeps").glob("*")) != [], 60)
    while kills < 20:
        patience = time.monotonic() + draw.uniform(0.0, 4.5)
        while time.monotonic() < patience and process.poll() is None:
            time.sleep(0.02)
        if process.poll() is not None:  # it got to its end in between: what comes then must change nothing
            assert process.returncode == 0, process.communicate()[1][-3000:]
        site.kill(process)
        process.wait()
        kills += 1
        process = site.start("resume", "faulty", *INLINE)
    assert process.wait(timeout=240) == 0, process.communicate()[1][-3000:]
    trials = check_promise(site, "faulty", TRIALS, undisturbed)
    assert max(t["attempts"] for t in trials) > 1, "no kill hit a running trial"
    sweep = site.answer("status", "faulty")["sweep"]
    assert not (site.home / "sweeps" / sweep / "checkpoints").exists()


def test_a_killed_trial_goes_on_from_its_checkpoint(spec: str, site: Site, undisturbed: dict[int, Any]) -> None:
    site.patches = OFTEN
    process = site.start("run", spec, *INLINE)
    saved = site.home / "sweeps"
    wait_until(lambda: len(list(saved.glob("*/checkpoints/*.safetensors"))) >= 3, 60)
    site.kill(process)
    process.wait()
    spoilt = sorted(saved.glob("*/checkpoints/*.safetensors"))[0]
    spoilt.write_bytes(spoilt.read_bytes()[:-7])
    site.answer("resume", "faulty", *INLINE)
    check_promise(site, "faulty", TRIALS, undisturbed)
    log = next(saved.glob("*/events.jsonl")).read_text().splitlines()
    resumed = [e for e in map(json.loads, log) if e["action"] == "trial.started" and e["epoch"] > 0]
    assert resumed, "no trial went on from a checkpoint"
    number = int(spoilt.stem.removeprefix("trial-"))
    why = site.answer("why", "faulty", str(number))
    assert ["could not be read" in note for note in why["notes"]] == [True]


def test_a_driver_killed_between_a_checkpoint_and_the_ledger_changes_nothing(
    spec: str, site: Site, undisturbed: dict[int, Any]
) -> None:
    words, beside = ["run", spec], "sweeper.running.beside.TRIALS = 32"  # the process beside a sweep is there, too
    for saves in (1, 9):
        deadly = f"sweeper.running.controller.armed = __import__('tests.killing', fromlist=['arm']).arm({saves})"
        site.patches = (*OFTEN, beside, deadly)
        process = site.start(*words, *INLINE)
        assert process.wait(timeout=120) == -signal.SIGKILL
        words = ["resume", "faulty"]
    site.patches = OFTEN
    site.answer("resume", "faulty", *INLINE)
    check_promise(site, "faulty", TRIALS, undisturbed)


def test_batches_that_decide_together_decide_the_same_after_kills(spec: str, site: Site, tmp_path: Path) -> None:
    words = ("run", spec, "--set", "search.pruner=halving", *INLINE)
    calm = Site(tmp_path / "calm")
    assert calm.answer(*words)["pruned"] > TRIALS // 3
    wanted = outcomes(calm.trials("faulty"))
    site.patches = OFTEN
    process = site.start(*words)
    for ended in (3, 15):
        site.wait_for_trials("faulty", ended, process)
        site.kill(process)
        process.wait()
        process = site.start("resume", "faulty", *INLINE)
    assert process.wait(timeout=240) == 0, process.communicate()[1][-3000:]
    check_promise(site, "faulty", TRIALS, wanted)


def test_a_second_controller_is_refused_and_takes_over_when_the_first_is_dead(
    spec: str, site: Site, undisturbed: dict[int, Any]
) -> None:
    first = site.start("run", spec, *INLINE)
    site.wait_for_trials("faulty", 4, first)
    second = site.run("resume", "faulty", *INLINE)
    assert second.returncode == 1
    assert "is run by" in second.stderr
    site.kill(first)
    first.wait()
    assert site.answer("resume", "faulty", *INLINE)["complete"] > 0
    check_promise(site, "faulty", TRIALS, undisturbed)


def freeze(site: Site, process: subprocess.Popen[str]) -> None:
    """Stop the process between two of its transactions: a lock of SQLite would stop everybody else, too."""
    while True:
        site.kill(process, signal.SIGSTOP)
        try:
            for name in ("ledger.db", "mlflow.db"):
                with contextlib.closing(sqlite3.connect(site.home / name, timeout=0)) as database:
                    database.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            site.kill(process, signal.SIGCONT)
            time.sleep(0.05)
        else:
            return


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="needs root and unshare")
def test_a_frozen_controller_is_taken_over_from_another_pid_namespace_finds_out_and_stops(
    spec: str, site: Site, undisturbed: dict[int, Any]
) -> None:
    site.patches = ("sweeper.running.leases.LEASE_SECONDS = 3.0", "sweeper.running.run.LEG_SECONDS = 0.1")
    elsewhere = ("unshare", "--pid", "--fork", "--mount-proc")
    first = site.start("run", spec, *INLINE)
    site.wait_for_trials("faulty", 4, first)
    refused = site.run("resume", "faulty", *INLINE, prefix=elsewhere)
    assert refused.returncode == 1, refused.stderr[-3000:]
    assert f"is run by {socket.gethostname()}:{first.pid}" in refused.stderr
    assert first.poll() is None, "it has ended already"
    freeze(site, first)
    second = site.start("resume", "faulty", *INLINE, prefix=elsewhere)
    log = next(site.home.glob("sweeps/*/events.jsonl"))
    wait_until(lambda: log.read_text().count('"sweep.opened"') == 2, 60)
    site.kill(first, signal.SIGCONT)
    _, err = first.communicate(timeout=60)
    assert first.returncode == 5, err[-3000:]
    assert "was taken over by" in err
    assert "Traceback" not in err
    _, err = second.communicate(timeout=240)
    assert second.returncode == 0, err[-3000:]
    check_promise(site, "faulty", TRIALS, undisturbed)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_after_the_running_legs_and_says_how_to_go_on(
    spec: str, site: Site, undisturbed: dict[int, Any], number: int
) -> None:
    process = site.start("run", spec, *INLINE)
    site.wait_for_trials("faulty", 2, process)
    site.kill(process, number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err[-2000:]
    assert "sweeper resume" in err
    assert "Traceback" not in err
    assert site.answer("status", "faulty")["state"] == "paused"
    site.answer("resume", "faulty", *INLINE)
    check_promise(site, "faulty", TRIALS, undisturbed)


def test_a_second_ctrl_c_stops_at_once(spec: str, site: Site, undisturbed: dict[int, Any]) -> None:
    site.patches = ("sweeper.running.run.LEG_SECONDS = 1000.0",)
    process = site.start("run", spec, *INLINE, "--set", "training.epochs=2000")
    wait_until(lambda: '"trial.started"' in "".join(p.read_text() for p in site.home.glob("sweeps/*/events.jsonl")), 60)
    site.kill(process, signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None, "the first one waits for the leg"
    site.kill(process, signal.SIGINT)
    began = time.monotonic()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert time.monotonic() - began < 30
    assert "Traceback" not in err


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)], check=False)
    if mounted.returncode != 0:
        pytest.skip("file systems cannot be mounted here (not root)")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_said_and_what_was_written_stays(
    spec: str, small_disk: Path, undisturbed: dict[int, Any]
) -> None:
    site = Site(small_disk / "home")
    process = site.start("run", spec, *INLINE)
    site.wait_for_trials("faulty", 4, process)
    with (small_disk / "ballast").open("wb", buffering=0) as ballast, pytest.raises(OSError, match="No space"):
        while True:
            ballast.write(b"x" * 4096)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1, err[-2000:]
    assert "Traceback" not in err
    assert "disk" in err
    (small_disk / "ballast").unlink()
    site.answer("resume", "faulty", *INLINE)
    check_promise(site, "faulty", TRIALS, undisturbed)
    site.close()


def address_space(pid: int) -> int:
    """The most bytes of addresses that a process has had."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = re.search(r"VmPeak:\s+(\d+) kB", status)
    return int(found.group(1)) * 1024 if found else 0


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="prlimit is not installed")
def test_a_cohort_that_does_not_fit_the_memory_is_halved(tmp_path: Path) -> None:
    wide = SWEEP | {
        "space": {"learning_rate": {"float": [1e-4, 1e-2], "log": True}, "hidden_layers": [2000, 2000]},
        "training": {"epochs": 1},
        "dataset": {"name": "iris"},
        "search": {"trials": 32, "sampler": "random"},
    }
    path = tmp_path / "wide.json"
    path.write_text(json.dumps(wide))
    free, tight = Site(tmp_path / "free"), Site(tmp_path / "tight")
    process, most = free.start("run", str(path), *INLINE), 0
    while process.poll() is None:
        most = max(most, address_space(process.pid))
        time.sleep(0.02)
    tight.answer("run", str(path), *INLINE, prefix=("prlimit", f"--as={most - (500 << 20)}"), timeout=400)
    log = next((tight.home / "sweeps").glob("*/events.jsonl")).read_text()
    assert '"kind": "oom"' in log, "the memory sufficed"
    check_promise(tight, "faulty", 32, outcomes(free.trials("faulty")))
    for site in (free, tight):
        site.close()
