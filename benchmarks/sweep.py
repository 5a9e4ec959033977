"""Whole sweeps on all cores, from process start to exit: ``sweeper run`` beside Ray Tune and beside Optuna."""

from __future__ import annotations

import argparse
import json
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import process
from benchmarks.results import Table, number, times

STAMPS = ((min, "starts"), (max, "ends"))
OURS, TUNE, OPTUNA = "sweeper run", "Ray Tune", "Optuna, two processes"


@dataclass(frozen=True)
class Timing:
    """One sweep: seconds from process start to exit, of which ``start_up`` until the first trial began.

    ``wind_up``: seconds after the last trial ended, which more trials would not prolong. Ours holds the report and the
    winner's model, which a peer has not.
    """

    trials: int
    complete: int
    seconds: float
    start_up: float
    wind_up: float
    mlflow_runs: int
    mlflow_metrics: int

    @property
    def rate(self) -> float:
        """Trials per second from the first trial's begin to the last one's end."""
        return self.trials / (self.seconds - self.start_up - self.wind_up)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All contenders, interleaved."""
    epochs = 2 if options.quick else 20
    ours, peers = (8, 4) if options.quick else (options.trials, options.peer_trials)
    contenders: dict[str, tuple[Callable[[Path, int, int], Timing], int]] = {
        OURS: (run_sweeper, ours),
        TUNE: (lambda *a: run_peer("raytune_peer", *a), peers),
        OPTUNA: (lambda *a: run_peer("optuna_peer", *a), peers),
    }
    timings: dict[str, list[Timing]] = {name: [] for name in contenders}
    for number_of_run in range(1 if options.quick else options.runs):
        for name, (contender, trials) in contenders.items():
            with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
                timing = contender(Path(folder), trials, epochs)
            print(f"run {number_of_run + 1}: {name}: {trials} trials in {timing.seconds:.1f} s", flush=True)
            timings[name].append(timing)
    return {"trials": ours, "peer_trials": peers, "runs": {n: [asdict(t) for t in ts] for n, ts in timings.items()}}


def run_sweeper(folder: Path, trials: int, epochs: int, *options: str) -> Timing:
    """The command line in a home of its own."""
    words = ["--dataset", "digits", "--space", "mlp", "--trials", str(trials), "--json", *options]
    words += ["--set", f"training.epochs={epochs}"]
    ran = process.run(["-m", "sweeper", "run", *words], {"SWEEPER_HOME": str(folder)}, folder)
    log = next(folder.glob("sweeps/*/events.jsonl")).read_text(encoding="utf-8")
    events = [json.loads(line) for line in log.splitlines()]
    first = min(event["at"] for event in events if event["action"] == "trial.started")
    last = max(event["at"] for event in events if event["action"] == "trial.ended")
    ended = ran.json["complete"] + ran.json["failed"]  # a diverged trial counts as failed
    end = last - ran.started_at
    return Timing(trials, ended, ran.seconds, first - ran.started_at, ran.seconds - end, *logged(folder))


def run_peer(module: str, folder: Path, trials: int, epochs: int) -> Timing:
    """A peer's script, which notes when each trial begins."""
    ran = process.run(["-m", f"benchmarks.{module}", str(folder), str(trials), str(epochs)], cwd=folder)
    first, last = (choose(map(float, (folder / f"{name}.txt").read_text().split())) for choose, name in STAMPS)
    start_up, end = first - ran.started_at, last - ran.started_at
    return Timing(trials, ran.json["complete"], ran.seconds, start_up, ran.seconds - end, *logged(folder))


def logged(folder: Path) -> tuple[int, int]:
    """How many ended runs and metric values the MLflow store in ``folder`` holds."""
    with closing(sqlite3.connect(folder / "mlflow.db")) as store:
        runs = store.execute("select count(*) from runs where status != 'RUNNING'").fetchone()[0]
        return runs, store.execute("select count(*) from metrics").fetchone()[0]


def tables(section: Mapping[str, Any]) -> list[Table]:
    """Rates with and without start-up, and ratios of ours to the peers."""
    wanted = section["trials"]
    medians = {name: _median(Timing(**t) for t in timings) for name, timings in section["runs"].items()}
    ours = medians[OURS]
    rows = [
        (
            name,
            str(m["trials"]),
            number(m["seconds"]),
            number(m["start_up"]),
            number(m["wind_up"]),
            number(m["rate"]),
            times(ours["rate"], m["rate"]),
            number(_to_last_result(m, wanted)),
            times(_to_last_result(m, wanted), _to_last_result(ours, wanted)),
            number(_to_exit(m, wanted)),
            times(_to_exit(m, wanted), _to_exit(ours, wanted)),
            str(m["mlflow_runs"]),
            str(m["mlflow_metrics"]),
        )
        for name, m in medians.items()
    ]
    columns = ("", "trials", "seconds", "start-up s", "wind-up s", "trials/s without both", "sweeper is")
    columns += (f"s to result {wanted}", "sweeper is", f"s to exit, {wanted} trials", "sweeper is")
    columns += ("MLflow runs", "MLflow values")
    count = len(section["runs"][OURS])
    note = (
        f"Medians of {count} interleaved runs on all cores, TPE and MLflow on SQLite in each, from process start. "
        "Start-up: until the first trial begins. Wind-up: after the last trial; ours draws the report and exports the "
        f"winner's model, a peer's does not. The peers ran {section['peer_trials']} trials; their time for {wanted} is "
        f"start-up, {wanted} trials at their rate and wind-up."
    )
    return [Table("Whole sweep: digits, hidden 128x128", columns, tuple(rows), note)]


def _median(timings: Iterable[Timing]) -> dict[str, float]:
    runs = [asdict(timing) | {"rate": timing.rate} for timing in timings]
    return {key: median(run[key] for run in runs) for key in runs[0]}


def _to_last_result(m: Mapping[str, float], trials: int) -> float:
    """Seconds from process start to the end of the last of so many trials."""
    return m["start_up"] + trials / m["rate"]


def _to_exit(m: Mapping[str, float], trials: int) -> float:
    """Seconds from process start to exit, with so many trials."""
    return _to_last_result(m, trials) + m["wind_up"]
