"""How good the winner is: a sweep of a space in a given time beside untuned boosted trees, on rows that neither saw.

    python -m benchmarks --only quality [--seconds 300] [--seeds 3] [--spaces tabular wide mlp] [--tables phoneme ...]

Each sweep is the command line's own, on one worker, with MLflow. The trees are the sweep's baseline, scikit-learn's
HistGradientBoosting without tuning, trained on the same rows. Of the rows that are no test rows a fifth validates.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml

from benchmarks.real_tables import TABLES, RealTable, table
from benchmarks.results import Table

QUICK_SECONDS = 20.0


def add_options(parser: argparse.ArgumentParser) -> None:
    """What only this section reads."""
    group = parser.add_argument_group("quality")
    group.add_argument("--seconds", type=float, default=300.0, help="search time of one sweep")
    group.add_argument("--seeds", type=int, default=3, help="splits and searches of each table")
    group.add_argument("--spaces", nargs="+", default=["tabular", "wide", "mlp"], help="spaces to compare")
    group.add_argument("--tables", nargs="+", choices=[one.name for one in TABLES], help="default: all of them")
    group.add_argument("--folder", default=".tables", help="where the tables are kept")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The score of every space and of the trees on each table, by seed."""
    seconds = QUICK_SECONDS if options.quick else options.seconds
    seeds = 1 if options.quick else options.seeds
    found: dict[str, Any] = {}
    for about in TABLES:
        if options.tables and about.name not in options.tables:
            continue
        files = table(about.name, Path(options.folder))
        scores: dict[str, list[float]] = {}
        for seed in range(seeds):
            for space in options.spaces:
                print(f"  {about.name}, {space}, seed {seed} ...", flush=True)
                ours, trees = swept(about, files, space, seed, seconds)
                scores.setdefault(space, []).append(ours)
                scores.setdefault("trees", []).append(trees)
        found[about.name] = {"metric": about.metric, "scores": scores}
    return {"seconds": seconds, "tables": found}


def swept(about: RealTable, files: tuple[Path, Path], space: str, seed: int, seconds: float) -> tuple[float, float]:
    """The winner's and the trees' score on the test rows."""
    goal = {"metric": f"val_{about.metric}"}
    spec = {
        "dataset": {"path": str(files[0]), "test": str(files[1]), "target": "target", "task": about.task},
        "split": {"validation": 0.2, "seed": seed},
        "space": space,
        "training": {"epochs": 100, "batch_size": 256, "patience": 16, "gradient_flow": None},
        "objective": goal,
        "search": {"trials": 10_000, "seed": seed, "timeout": seconds},
    }
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch, "sweep.yaml")
        file.write_text(yaml.safe_dump(spec))
        command = [sys.executable, "-m", "sweeper", "run", str(file), "--workers", "inline", "--json"]
        began = time.perf_counter()
        done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr[-2000:])
        said = json.loads(done.stdout)
        took = time.perf_counter() - began
    trees = next(row for row in said["baselines"]["rows"] if row["method"] == "tree")
    ours, theirs = said["test"][about.metric], trees["test"][about.metric]
    print(f"    {said['complete']} trials in {took:.0f} s: {ours:.4f}, trees {theirs:.4f}; {said['best']['params']}")
    return ours, theirs


def tables(data: Mapping[str, Any]) -> list[Table]:
    """One row per table, one column per space."""
    first = next(iter(data["tables"].values()))["scores"]
    names = [name for name in first if name != "trees"]
    rows = []
    for name, found in data["tables"].items():
        scores = [*(found["scores"][space] for space in names), found["scores"]["trees"]]
        rows.append((name, found["metric"], *(f"{fmean(column):.4f}" for column in scores)))
    title = f"Winner after {data['seconds']:g} s on one core beside untuned boosted trees, means over seeds, test rows"
    return [Table(title, ("table", "metric", *names, "HistGradientBoosting, untuned"), tuple(rows))]
