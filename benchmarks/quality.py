"""How good the winner is: a sweep of a space in a given time beside untuned boosted trees, on rows that neither saw.

    python -m benchmarks --only quality [--seconds 300] [--seeds 3] [--spaces tabular wide] [--tables phoneme ...]
                                        [--peer-python VENV/bin/python]

Each sweep is the command line's own, on one worker, with MLflow. The trees are the sweep's baseline, scikit-learn's
HistGradientBoosting without tuning, trained on the same rows. Of the rows that are no test rows a fifth validates.
XGBoost, CatBoost and pytabkit's RealMLP-TD, untuned, on one core and on all of these rows, run in an interpreter of
their own, since they are no dependencies; the ones that it lacks are named as missing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml
from scipy.stats import rankdata

from benchmarks.quality_peers import METHODS
from benchmarks.real_tables import TABLES, RealTable, table
from benchmarks.results import Table

QUICK_SECONDS = 20.0
TREES = "HistGradientBoosting"


def add_options(parser: argparse.ArgumentParser) -> None:
    """What only this section reads."""
    group = parser.add_argument_group("quality")
    group.add_argument("--seconds", type=float, default=300.0, help="search time of one sweep")
    group.add_argument("--seeds", type=int, default=3, help="splits and searches of each table; searches of each task")
    group.add_argument("--spaces", nargs="+", default=["tabular", "wide"], help="spaces to compare")
    group.add_argument("--peer-python", default=sys.executable, help="an interpreter that has the other libraries")
    group.add_argument("--tables", nargs="+", choices=[one.name for one in TABLES], help="default: all of them")
    group.add_argument("--folder", default=".tables", help="where the tables are kept")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The score and the seconds of every method on each table, by seed."""
    seconds = QUICK_SECONDS if options.quick else options.seconds
    seeds = 1 if options.quick else options.seeds
    found: dict[str, Any] = {}
    for about in TABLES:
        if options.tables and about.name not in options.tables:
            continue
        files = table(about.name, Path(options.folder).absolute())
        scores: dict[str, list[float]] = {}
        spent: dict[str, list[float]] = {}

        def note(method: str, one: Scored, scores: Any = scores, spent: Any = spent) -> None:
            scores.setdefault(method, []).append(one.score)
            spent.setdefault(method, []).append(one.seconds)

        for seed in range(seeds):
            for space in options.spaces:
                print(f"  {about.name}, {space}, seed {seed} ...", flush=True)
                ours, trees = swept(about, files, space, seed, seconds)
                note(space, ours)
                if space == options.spaces[0]:
                    note(TREES, trees)
            for method in METHODS:
                one = peer(options.peer_python, method, about, files, seed)
                if one is not None:
                    note(method, one)
        found[about.name] = {"metric": about.metric, "scores": scores, "spent": spent}
    return {"seconds": seconds, "seeds": seeds, "tables": found}


@dataclass(frozen=True)
class Scored:
    """A score on the test rows, and the seconds to it."""

    score: float
    seconds: float


def peer(python: str, method: str, about: RealTable, files: tuple[Path, Path], seed: int) -> Scored | None:
    """Another library with its defaults on all rows that are no test rows; None: it is not there, or fails."""
    command = [python, "-W", "ignore", "-m", "benchmarks.quality_peers"]
    command += [method, *map(str, files), about.task, str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"    {method} is missing: {(done.stderr.strip() or 'no message').splitlines()[-1]}", flush=True)
        return None
    said = json.loads(done.stdout.strip().splitlines()[-1])
    print(f"    {method}: {said['score']:.4f} in {said['seconds']:.0f} s", flush=True)
    return Scored(said["score"], said["seconds"])


def swept(about: RealTable, files: tuple[Path, Path], space: str, seed: int, seconds: float) -> tuple[Scored, Scored]:
    """The winner's and the trees' score on the test rows."""
    goal = {"metric": "val_loss" if about.task == "classification" else f"val_{about.metric}"}
    spec = {
        "dataset": {"path": str(files[0]), "test": str(files[1]), "target": "target", "task": about.task},
        "split": {"validation": 0.2, "seed": seed},
        "space": space,
        "training": {"epochs": 100, "batch_size": 256, "patience": 16, "gradient_flow": None},
        "objective": goal,
        "winner": "ensemble",
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
    return Scored(ours, took), Scored(theirs, trees["seconds"])


def tables(data: Mapping[str, Any]) -> list[Table]:
    """Scores and seconds by table and method, and the mean rank of each method over the tables that it was run on."""
    methods = list(dict.fromkeys(name for found in data["tables"].values() for name in found["scores"]))
    scores, spent = [], []
    ranks: dict[str, list[float]] = {name: [] for name in methods}
    for name, found in data["tables"].items():
        means = {method: fmean(values) for method, values in found["scores"].items()}
        sign = 1.0 if found["metric"] == "rmse" else -1.0
        for method, rank in zip(means, rankdata([sign * value for value in means.values()]), strict=True):
            ranks[method].append(float(rank))
        cells = (f"{means[method]:.4f}" if method in means else "missing" for method in methods)
        scores.append((name, found["metric"], *cells))
        times = found["spent"]
        spent.append((name, *(f"{fmean(times[m]):.0f}" if m in times else "missing" for m in methods)))
    scores.append(("mean rank", "", *(f"{fmean(ranks[method]):.2f}" for method in methods)))
    title = f"Test rows: sweeps of {data['seconds']:g} s and untuned peers, on one core, means of {data['seeds']} seeds"
    return [
        Table(title, ("table", "metric", *methods), tuple(scores)),
        Table("Seconds until the score, the end of the sweep included", ("table", *methods), tuple(spent)),
    ]
