"""How rates, driver time and driver memory change with rows, workers and trials.

``python -m benchmarks.scaling RUNS`` measures the rows in a process bound to one core and prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import engine, process, sweep
from benchmarks.driver import PARTS
from benchmarks.results import Table, number, times
from benchmarks.workloads import R1, WORKLOADS, Workload, data

ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
ROW_EPOCHS = 5  # of each trial while rows are varied; rates are given for the whole trial
LEAST_TRIALS = 32  # a measurement trains at least as many, one cohort after another
REPEATED = 1000  # sweeps of up to so many trials are measured ``runs`` times
PER_TRIAL = ("suggest", "ledger", "MLflow", "scheduling", "rest of the loop")

IRIS = {
    "dataset": {"name": "iris"},
    "space": {
        "learning_rate": {"float": [1e-4, 1e-1], "log": True},
        "optimizer": {"choice": ["sgd", "momentum", "rmsprop", "adam", "adamw"]},
        "weight_decay": {"float": [1e-6, 1e-2], "log": True},
        "activation": {"choice": ["relu", "tanh", "sigmoid"]},
        "hidden_layers": {"choice": [[8]]},
    },
    "training": {"epochs": 2},
}
DIGITS = {"dataset": {"name": "digits"}, "space": "mlp", "training": R1.train_options}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Rows, workers and trials."""
    quick = ["--quick"] if options.quick else []
    rows = process.measure("scaling", options.runs, *quick, one_core=True)
    print("rows measured", flush=True)
    return {"rows": rows, "workers": workers(options), "driver": driver(options)}


# Rows


def rows_of(workload: Workload, widths: tuple[int, ...], runs: int, peers: bool) -> dict[str, dict[str, float]]:
    """Trials per second at each width, by contender."""
    from sweeper.models.native import NativePath

    arrays, rates = data(), {}
    for rows in widths:
        configs = workload.configs(max(rows, LEAST_TRIALS if peers else rows))
        contenders = {"eager": engine.cohort(workload, configs, arrays, "eager", rows)}
        if NativePath.available("cpu"):
            contenders["native"] = engine.cohort(workload, configs, arrays, "native", rows)
        if peers or rows == widths[-1]:
            contenders["JAX"] = engine.jax(workload, configs, arrays, rows)
        for _ in range(runs):
            for contender in contenders.values():
                contender.run()
        scale = workload.epochs / R1.epochs
        rates[str(rows)] = {name: scale * c.numbers()["rate"] for name, c in contenders.items()}
    return rates


# Workers


def workers(options: argparse.Namespace) -> list[dict[str, float]]:
    """The command line with one worker and with two, interleaved."""
    epochs, trials = (2, 8) if options.quick else (R1.epochs, 256)
    timings: dict[int, list[sweep.Timing]] = {1: [], 2: []}
    for _ in range(1 if options.quick else options.runs):
        for count, known in timings.items():
            with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
                known.append(sweep.run_sweeper(Path(folder), trials, epochs, "--workers", str(count)))
    print("workers measured", flush=True)
    return [
        {
            "workers": count,
            "trials": trials,
            "seconds": median(t.seconds for t in known),
            "start_up": median(t.start_up for t in known),
            "rate": median(t.rate for t in known),
        }
        for count, known in timings.items()
    ]


# The driver


def driver(options: argparse.Namespace) -> list[dict[str, Any]]:
    """CPU time by part and peak memory over the number of trials, on a cheap workload and on R1."""
    totals = (8, 16) if options.quick else (256, 1000, 10_000)
    plan = [("iris", IRIS, trials, "inline") for trials in totals] + [("iris", IRIS, totals[1], "2")]
    plan += [("digits", DIGITS, totals[0], "1"), ("digits", DIGITS, totals[0], "2")]
    rows = []
    for dataset, spec, trials, count in plan:
        runs = options.runs if dataset == "iris" and trials <= REPEATED and not options.quick else 1
        found = [_drive(spec, trials, count) for _ in range(runs)]
        rows.append({"dataset": dataset, "runs": runs} | _middle(found))
        print(f"driver measured: {dataset}, {trials} trials, workers {count}", flush=True)
    return rows


def _drive(spec: Mapping[str, Any], trials: int, count: str) -> dict[str, Any]:
    import yaml

    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        file = Path(folder, "sweep.yaml")
        file.write_text(yaml.safe_dump(spec), encoding="utf-8")
        return process.measure("driver", file, trials, count)


def _middle(found: list[dict[str, Any]]) -> dict[str, Any]:
    """The medians of every number of several runs."""
    first = found[0]
    merged: dict[str, Any] = {}
    for key, value in first.items():
        if isinstance(value, dict):
            merged[key] = _middle([one[key] for one in found])
        else:
            merged[key] = value if isinstance(value, str) else median(one[key] for one in found)
    return merged


# Tables


def tables(section: Mapping[str, Any]) -> list[Table]:
    """One table each for rows, workers, driver time and driver memory."""
    return [
        *(_rows_table(name, rates) for name, rates in section["rows"].items()),
        _workers_table(section["workers"]),
        _driver_table(section["driver"]),
        _once_table(section["driver"]),
    ]


def _rows_table(name: str, rates: Mapping[str, Mapping[str, float]]) -> Table:
    names = ("native", "eager", "JAX")
    rows = tuple((width, *(number(found.get(n)) for n in names)) for width, found in rates.items())
    note = f"Trials per second of {R1.epochs} epochs on one core, from {ROW_EPOCHS} epochs each; JAX without compiling."
    return Table(f"{name}: rows of a cohort", ("rows", *names), rows, note)


def _workers_table(found: list[dict[str, float]]) -> Table:
    one = found[0]["rate"]
    rows = tuple(
        (
            str(f["workers"]),
            str(f["trials"]),
            number(f["seconds"]),
            number(f["start_up"]),
            number(f["rate"]),
            times(f["rate"], one),
        )
        for f in found
    )
    columns = ("workers", "trials", "seconds", "start-up s", "trials/s after start-up", "of one worker")
    return Table("R1: Ray workers of one core each", columns, rows, "The driver shares the same cores.")


def _driver_table(found: list[dict[str, Any]]) -> Table:
    rows = tuple(
        (
            _label(f),
            *(number(1000 * f["cpu"][part] / f["trials"]) for part in PER_TRIAL),
            number(1000 * sum(f["cpu"][part] for part in PER_TRIAL[1:]) / f["trials"]),
            number(f["suggest_ms"]["p50"]),
            number(f["suggest_ms"]["p99"]),
            f"{f['idle_share']:.1%}",
            number(f["peak_mb"], 4),
        )
        for f in found
    )
    columns = ("sweep", *PER_TRIAL, "all but suggest", "suggest p50", "suggest p99", "workers idle", "peak MB")
    note = (
        "CPU ms per trial by part of the driver; suggestion times are wall ms. Workers idle: share of the controller's "
        "time, their start-up left out. Iris: hidden 8, 2 epochs. Digits: R1."
    )
    return Table("Driver: time per trial, memory", columns, rows, note)


def _once_table(found: list[dict[str, Any]]) -> Table:
    once = [part for part in (*PARTS, "other") if part not in PER_TRIAL]
    rows = tuple(
        (_label(f), *(number(f["cpu"][part]) for part in once), number(f["wall"]), number(f["loop"])) for f in found
    )
    note = (
        "CPU seconds of the driver's process. Training is in it with inline workers only; other: imports, data, "
        "starting Ray and its threads. Wall: the whole sweep; loop: the controller's part of it."
    )
    return Table("Driver: seconds per sweep", ("sweep", *once, "wall", "loop"), rows, note)


def _label(found: Mapping[str, Any]) -> str:
    return f"{found['dataset']}, {found['trials']:,} trials, workers {found['workers']}"


def main() -> None:
    """Measure the rows in this process, bound to one core."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=int)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    process.pin()
    import torch

    torch.set_num_threads(1)
    widths, runs = ((1, 2, 4), 1) if options.quick else (ROWS, options.runs)
    chosen = [replace(w, epochs=1 if options.quick else ROW_EPOCHS) for w in WORKLOADS.values()]
    print(json.dumps({w.name: rows_of(w, widths, runs, not options.quick) for w in chosen}))


if __name__ == "__main__":
    main()
