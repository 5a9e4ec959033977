"""Sweeps in processes of their own that can be killed, and what must hold of a sweep after any fault."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ENVIRONMENT = {"MLFLOW_DISABLE_TELEMETRY": "true", "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
TRIALS = 40
SWEEP: dict[str, Any] = {
    "name": "faulty",
    "dataset": {"name": "digits"},
    "space": {
        "learning_rate": {"float": [1e-4, 1e4], "log": True},
        "optimizer": {"choice": ["sgd", "momentum", "adam"]},
        "activation": {"choice": ["relu", "tanh"]},
        "hidden_layers": {"choice": [[48, 48]]},
    },
    "training": {"epochs": 60, "clip_norm": None},
    "search": {"trials": TRIALS, "seed": 5, "window": 10},  # else that of a server is not that of this machine
}
INLINE = ("--workers", "inline")
SMALL_BASELINES = {"TREES": 2, "LINEAR_STEPS": 5}  # of sweeps that are about something else: a tenth of a second
QUICKLY = (
    *(f"sweeper.training.baselines.{name} = {value}" for name, value in SMALL_BASELINES.items()),
    "sweeper.running.beside.TRIALS = 10**9",  # no process beside the sweep, which takes seconds to load what it needs
)
CLEARED = (
    "SWEEPER_HOME", "SWEEPER_DATABASE_URL", "SWEEPER_SERVER", "SWEEPER_TOKEN", "MLFLOW_TRACKING_URI", "RAY_ADDRESS",
)  # fmt: skip


@dataclass
class Site:
    """One SWEEPER_HOME, and processes of the command line on it.

    ``patches`` are statements that run before the command line, to make waits short: ``sweeper.running.run.X = 1``.
    """

    home: Path
    env: dict[str, str] = field(default_factory=dict)
    patches: tuple[str, ...] = ()
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, *words: str, prefix: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        """The command line in a process and process group of its own."""
        patches = self.patches
        if words[:1] in (("run",), ("resume",), ("retry",), ("serve",)):
            patches = (*QUICKLY, *patches)
        modules = sorted({patch.split(" = ")[0].rpartition(".")[0] for patch in patches})
        imports = [f"import {module}" for module in modules]
        program = "; ".join([*imports, *patches, "from sweeper.cli.app import main", "main()"])
        process = subprocess.Popen(
            [*prefix, sys.executable, "-c", program, *words],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=self.environment(), start_new_session=True,
        )  # fmt: skip
        self.started.append(process)
        return process

    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name not in CLEARED}
        return kept | ENVIRONMENT | {"SWEEPER_HOME": str(self.home)} | self.env

    def run(self, *words: str, timeout: float = 240, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        process = self.start(*words, prefix=prefix)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.kill(process)
            out, err = process.communicate()
            raise AssertionError(f"{words} did not end within {timeout} s:\n{err[-3000:]}") from None
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def answer(self, *words: str, **options: Any) -> dict[str, Any]:
        """The JSON object that a command prints."""
        done = self.run(*words, "--json", **options)
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout)

    def kill(self, process: subprocess.Popen[str], number: int = signal.SIGKILL) -> None:
        """Signal one process; nothing else of its group."""
        if process.poll() is None:
            process.send_signal(number)

    def close(self) -> None:
        """End whatever is left of what was started here, Ray's processes included."""
        for process in self.started:
            self.kill(process)
            process.wait()
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()

    def trials(self, sweep: str) -> list[dict[str, Any]]:
        return self.answer("trials", sweep)["trials"]

    def done(self, sweep: str) -> int:
        """How many trials have ended, read from the ledger without a process."""
        from sweeper.ledger.opening import open_ledger

        ledger = open_ledger(self.env.get("SWEEPER_DATABASE_URL"), self.home)
        try:
            counts = ledger.sweep(sweep).counts
            return sum(counts.get(state, 0) for state in ("complete", "pruned", "failed", "stopped"))
        finally:
            ledger.close()

    def wait_for_trials(self, sweep: str, number: int, process: subprocess.Popen[str], timeout: float = 120) -> None:
        """Until so many trials have ended, while the process lives."""
        from sweeper.errors import SweeperError

        def enough() -> bool:
            try:
                return self.done(sweep) >= number
            except SweeperError:  # not created yet
                return False

        wait_until(lambda: enough() or process.poll() is not None, timeout)
        assert process.poll() is None, f"it ended before {number} trials had: {process.communicate()[1][-3000:]}"


def wait_until(true: Callable[[], bool], timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while not true():
        assert time.monotonic() < deadline, f"not within {timeout} s"
        time.sleep(0.05)


def outcomes(trials: list[dict[str, Any]]) -> dict[int, Any]:
    """What must not depend on faults: state, value, parameters, epochs and metrics by number."""
    return {t["number"]: (t["state"], t["value"], t["epochs"], t["params"], t["metrics"]) for t in trials}


def check_promise(site: Site, sweep: str, requested: int, undisturbed: Mapping[int, Any]) -> list[dict[str, Any]]:
    """N requested trials are N terminal records, each once, with the undisturbed run's results; MLflow agrees."""
    answer = site.answer("trials", sweep)
    sweep, trials = answer["sweep"], answer["trials"]
    assert [t["number"] for t in trials] == list(range(requested))
    assert all(t["state"] in ("complete", "pruned", "failed", "stopped") and t["reason"] for t in trials)
    got = outcomes(trials)
    different = {number: (got[number], wanted) for number, wanted in undisturbed.items() if got[number] != wanted}
    assert not different, str(different)[:2000]
    check_mlflow(site, sweep, trials)
    return trials


def check_mlflow(site: Site, sweep: str, trials: list[dict[str, Any]]) -> None:
    """MLflow has exactly one run per trial, with its state, its value, all of its epochs and the one it kept."""
    from mlflow import MlflowClient

    client = MlflowClient(site.env.get("MLFLOW_TRACKING_URI") or f"sqlite:///{site.home / 'mlflow.db'}")
    experiments = [e.experiment_id for e in client.search_experiments()]
    runs = client.search_runs(experiments, f"tags.`sweep.id` = '{sweep}'", max_results=10_000)
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert [run.info.status for run in parents] == ["FINISHED"], parents
    children = {int(run.data.tags["trial.number"]): run for run in runs if "mlflow.parentRunId" in run.data.tags}
    assert len(children) == len(runs) - 1, "a trial has two runs"
    assert sorted(children) == [t["number"] for t in trials]
    for trial in trials:
        run = children[trial["number"]]
        assert run.info.run_id == trial["mlflow_run_id"]
        assert run.data.tags["trial.state"] == trial["state"]
        assert run.info.status == {"complete": "FINISHED", "failed": "FAILED"}.get(trial["state"], "KILLED")
        if trial["state"] == "complete":
            assert run.data.metrics["objective"] == trial["value"]
    for trial in trials[:: max(1, len(trials) // 5)]:
        history = client.get_metric_history(trial["mlflow_run_id"], "val_loss")
        kept = trial["metrics"].get("best_epoch", trial["epochs"])  # one more point has the value of the epoch it kept
        assert [point.step for point in history] == list(range(trial["epochs"] + (kept != trial["epochs"])))
