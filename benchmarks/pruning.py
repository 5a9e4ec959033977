"""What pruning saves on R1 and what it costs: best validation loss and epochs trained over ten seeds."""

from __future__ import annotations

import argparse
import statistics
from typing import Any

from benchmarks.results import Table
from benchmarks.workloads import R1

RACERS = (("none", 1.0), ("halving", 2.35), ("halving", 1), ("asha", 1), ("hyperband", 1), ("median", 1))
"""Pruner, and how many times the trials of an unpruned sweep it gets."""
SEEDS = 10
TRIALS = 128


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Every pruner on every seed; results do not depend on the machine's load."""
    seeds, trials = (2, 16) if options.quick else (SEEDS, TRIALS)
    runs: dict[str, list[dict[str, float]]] = {f"{name}, {int(factor * trials)} trials": [] for name, factor in RACERS}
    for seed in range(seeds):
        for (name, factor), found in zip(RACERS, runs.values(), strict=True):
            one = sweep(name, seed, int(factor * trials))
            found.append({"best": one["best"], "share": int(factor * trials) / trials * one["share"]})
            print(f"seed {seed}, {name} with {int(factor * trials)} trials: {found[-1]}", flush=True)
    return {"trials": trials, "seeds": seeds, "runs": runs}


def sweep(pruner: str, seed: int, trials: int) -> dict[str, float]:
    """One sweep of R1 in this process, without MLflow: its best loss and the share of the epochs that it trained."""
    from benchmarks.inline import train
    from sweeper.spec.parse import spec_from_options

    sets = [f"search.pruner={pruner}", f"training.epochs={R1.epochs}", f"training.batch_size={R1.batch_size}"]
    spec = spec_from_options("digits", "mlp", trials=trials, seed=seed, name="pruning", timeout=None, sets=sets)
    ended, _ = train(spec)
    best = min(t.value for t in ended if t.state == "complete" and t.value is not None)
    return {"best": best, "share": sum(t.epochs for t in ended) / (trials * R1.epochs)}


def tables(data: dict[str, Any]) -> list[Table]:
    """One row per pruner; the difference to no pruning is paired by seed."""
    rows = []
    base = [run["best"] for run in next(iter(data["runs"].values()))]
    for name, runs in data["runs"].items():
        best = [run["best"] for run in runs]
        differences = [own - other for own, other in zip(best, base, strict=True)]
        error = statistics.stdev(differences) / len(differences) ** 0.5
        spread = statistics.stdev(base) / len(base) ** 0.5
        rows.append(
            (
                name,
                f"{100 * statistics.mean(run['share'] for run in runs):.0f}%",
                f"{statistics.mean(best):.4f}",
                f"{statistics.mean(differences):+.4f}",
                f"{error:.4f}",
                f"{spread:.4f}",
            )
        )
    title = f"Pruning on R1, {data['seeds']} seeds"
    header = ("pruner", "epochs trained", "best val_loss, mean", "minus none, mean", "its standard error", "of none")
    note = f"Epochs in shares of {data['trials']} whole trials; seeds pair the sweeps; standard errors over the seeds."
    return [Table(title, header, tuple(rows), note)]
