"""Population based training against random search at equal epochs, and Ray Tune's PBT.

R1 with momentum and a learning rate that has to fall, which only a population does: there is no plateau or schedule.
The best validation loss of any epoch of any member counts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

from benchmarks.results import Table
from benchmarks.workloads import R1

SPACE = {
    "learning_rate": {"float": [1e-3, 1.0], "log": True},
    "optimizer": "momentum",
    "momentum": {"float": [0.5, 0.99]},
    "weight_decay": {"float": [1e-6, 1e-2], "log": True},
    "hidden_layers": list(R1.hidden_layers),
}
EPOCHS, READY, MEMBERS = 40, 4, 16
SEEDS = 10
OURS: dict[str, tuple[str, Any]] = {
    "random": ("random", None),
    "pbt": ("pbt", None),
    "random, with the default plateau": ("random", {}),
}
PEER = "Ray Tune's PBT"


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Every contender on every seed."""
    seeds, members = (1, 4) if options.quick else (SEEDS, MEMBERS)
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in [*OURS, PEER]}
    for seed in range(seeds):
        for name, (sampler, plateau) in OURS.items():
            runs[name].append(sweep(sampler, plateau, seed, members))
            print(f"seed {seed}, {name}: {runs[name][-1]}", flush=True)
        runs[PEER].append(peer(seed, members))
        print(f"seed {seed}, {PEER}: {runs[PEER][-1]}", flush=True)
    return {"members": members, "seeds": seeds, "runs": runs}


def sweep(sampler: str, plateau: Any, seed: int, members: int) -> dict[str, float]:
    """One sweep in this process, without MLflow: its best loss, its epochs and its seconds."""
    from benchmarks.inline import train
    from sweeper.spec.parse import load_spec

    search = {"sampler": sampler, "trials": members, "seed": seed, **({"ready": READY} if sampler == "pbt" else {})}
    training = {"epochs": EPOCHS, "batch_size": R1.batch_size, "plateau": plateau, "gradient_flow": None}
    spec = load_spec({"dataset": {"name": "digits"}, "space": SPACE, "training": training, "search": search})
    began = time.perf_counter()
    _, reports = train(spec)
    told = [report.metrics for curve in reports.values() for report in curve]
    best = min(metrics["val_loss"] for metrics in told if metrics)  # a diverged member's epochs have none
    return {"best": best, "epochs": sum(map(len, reports.values())), "seconds": time.perf_counter() - began}


def peer(seed: int, members: int) -> dict[str, float]:
    """The same with Ray Tune, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "benchmarks.raytune_population", folder, str(seed), str(members)]
        began = time.perf_counter()
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        return {**json.loads(done.stdout.splitlines()[-1]), "seconds": time.perf_counter() - began}


def tables(data: dict[str, Any]) -> list[Table]:
    """One row per contender; the difference to random search is paired by seed."""
    rows, base = [], [run["best"] for run in data["runs"]["random"]]
    for name, runs in data["runs"].items():
        if not runs:
            continue
        best = [run["best"] for run in runs]
        differences = [own - other for own, other in zip(best, base, strict=False)]
        error = statistics.stdev(differences) / len(differences) ** 0.5 if len(differences) > 1 else float("nan")
        rows.append(
            (
                name,
                str(len(runs)),
                f"{statistics.mean(run['epochs'] for run in runs):,.0f}",
                f"{statistics.mean(best):.4f}",
                f"{statistics.mean(differences):+.4f} ± {error:.4f}",
                str(sum(difference < 0 for difference in differences)),
                f"{statistics.median(run['seconds'] for run in runs):.1f}",
            )
        )
    title = f"Population based training: R1 with {EPOCHS} epochs, {data['members']} members, ready {READY}"
    header = ("search", "seeds", "epochs", "best val_loss, mean", "minus random", "better in", "seconds")
    note = "Differences are paired by seed, with standard errors over the seeds; seconds are medians, without MLflow."
    return [Table(title, header, tuple(rows), note)]
