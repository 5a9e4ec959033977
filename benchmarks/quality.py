"""How good the winner is: a sweep in a given time beside untuned boosted trees, on rows that neither saw.

    python -m benchmarks --only quality [--seconds 300] [--seeds 3] [--spaces tabular wide] [--tables phoneme ...]
                                        [--peer-python VENV/bin/python]
    python -m benchmarks.quality --file quality.jsonl [the same, and --first-seed 0]

Each sweep is what `sweeper init` writes for the table, with this time for its search, on one worker, with MLflow; of
spaces other than `tabular` only the space is exchanged. Its search chooses by rows that are no test rows. The others
are untuned, on one core and on all rows that are no test rows. XGBoost, CatBoost and pytabkit's RealMLP-TD run in an
interpreter of their own, since they are no dependencies; the ones that it lacks are named as missing. A score is a
line of the file; those that it has are not measured again, so that the second command goes on where it was cut off.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml
from scipy.stats import rankdata

from benchmarks.quality_peers import METHODS, SCIKIT
from benchmarks.real_tables import TABLES, RealTable, table
from benchmarks.regret import Results, Row
from benchmarks.results import Table, show
from sweeper.cli.render import sweep_file
from sweeper.data.loading import has_few_rows

QUICK_SECONDS = 20.0


def add_options(parser: argparse.ArgumentParser) -> None:
    """What only this section reads."""
    group = parser.add_argument_group("quality")
    group.add_argument("--seconds", type=float, default=300.0, help="search time of one sweep")
    group.add_argument("--seeds", type=int, default=3, help="splits and searches of each table; searches of each task")
    group.add_argument("--spaces", nargs="*", default=["tabular", "wide"], help="spaces to compare")
    group.add_argument("--peers", nargs="*", default=METHODS, choices=METHODS, help="others to compare")
    group.add_argument("--peer-python", default=sys.executable, help="an interpreter that has the other libraries")
    group.add_argument("--tables", nargs="+", choices=[one.name for one in TABLES], help="default: all of them")
    group.add_argument("--folder", default=".tables", help="where the tables are kept")


@dataclass(frozen=True)
class Cell:
    """One score to measure: a method on a table with a seed. ``limit``: seconds for a sweep's search (None: a peer)."""

    about: RealTable
    method: str
    seed: int
    limit: float | None

    @property
    def key(self) -> Row:
        """What tells its line from others."""
        return {"table": self.about.name, "method": self.method, "seed": self.seed, "limit": self.limit}


def cells(options: argparse.Namespace, first_seed: int = 0) -> Iterator[Cell]:
    """Every score that is asked for, a seed of all tables before the next seed."""
    seconds = QUICK_SECONDS if options.quick else options.seconds
    for seed in range(first_seed, first_seed + (1 if options.quick else options.seeds)):
        for about in TABLES:
            if not options.tables or about.name in options.tables:
                yield from (Cell(about, space, seed, seconds) for space in options.spaces)
                yield from (Cell(about, method, seed, None) for method in options.peers)


def run(options: argparse.Namespace, results: Results, first_seed: int = 0) -> None:
    """Measure what the results lack."""
    for cell in cells(options, first_seed):
        if results.has(**cell.key):
            continue
        print(f"  {cell.about.name}, {cell.method}, seed {cell.seed} ...", flush=True)
        files = table(cell.about.name, Path(options.folder).absolute())
        found = swept(cell, files) if cell.limit is not None else peer(options.peer_python, cell, files)
        if found is not None:
            print(f"    {found['score']:.4f} in {found['seconds']:.0f} s", flush=True)
            results.add({**cell.key, "metric": cell.about.metric, **found})


def peer(python: str, cell: Cell, files: tuple[Path, Path]) -> Row | None:
    """Another library with its defaults on all rows that are no test rows; None: it is not there, or fails."""
    command = [sys.executable if cell.method == SCIKIT else python, "-W", "ignore", "-m", "benchmarks.quality_peers"]
    command += [cell.method, *map(str, files), cell.about.task, str(cell.seed)]
    one_core = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=one_core)
    if done.returncode:
        print(f"    missing: {(done.stderr.strip() or 'no message').splitlines()[-1]}", flush=True)
        return None
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def swept(cell: Cell, files: tuple[Path, Path]) -> Row:
    """The kept model's score on the test rows."""
    spec = yaml.safe_load(sweep_file({"path": str(files[0]), "target": "target"}, has_few_rows(str(files[0]))))
    spec["dataset"] |= {"test": str(files[1]), "task": cell.about.task}
    spec["split"] = {key: value for key, value in spec["split"].items() if key != "test"} | {"seed": cell.seed}
    spec["space"] = cell.method
    spec["search"] |= {"trials": 10_000, "seed": cell.seed, "timeout": cell.limit}
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
    return {"score": said["test"][cell.about.metric], "seconds": took, "trials": said["complete"]}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All scores."""
    results = Results(None)
    run(options, results)
    return {"rows": results.rows}


def tables(data: Mapping[str, Any]) -> list[Table]:
    """Scores, their ranks and seconds by table and method; the trials that were complete in the median sweep."""
    rows: Sequence[Row] = data["rows"]
    limits = sorted({row["limit"] for row in rows if row["limit"] is not None})
    title = f"Test rows: sweeps of {', '.join(f'{one:g}' for one in limits)} s and untuned peers, on one core"
    methods = list(dict.fromkeys(row["method"] for row in rows))
    scores, spent = [], []
    ranks: dict[str, list[float]] = {name: [] for name in methods}
    for name in dict.fromkeys(row["table"] for row in rows):
        of = {method: [r for r in rows if (r["table"], r["method"]) == (name, method)] for method in methods}
        means = {method: fmean(row["score"] for row in found) for method, found in of.items() if found}
        metric, seeds = next(row["metric"] for row in rows if row["table"] == name), max(map(len, of.values()))
        if len(means) == len(methods):  # a rank among fewer says another thing
            sign = 1.0 if metric == "rmse" else -1.0
            for method, rank in zip(means, rankdata([sign * value for value in means.values()]), strict=True):
                ranks[method].append(float(rank))
        cell = {m: f"{means[m]:.4f}" + ("" if len(of[m]) == seeds else f" ({len(of[m])})") for m in means}
        scores.append((name, metric, str(seeds), *(cell.get(method, "missing") for method in methods)))
        spent.append((name, *(_spent(of[method]) for method in methods)))
    ranked = len(next(iter(ranks.values()), []))
    means_of = (f"{fmean(ranks[method]):.2f}" if ranked else "" for method in methods)
    scores.append((f"mean rank of {ranked}", "", "", *means_of))
    return [
        Table(title, ("table", "metric", "seeds", *methods), tuple(scores)),
        Table(
            "Seconds until the score, with the end of a sweep (its complete trials)", ("table", *methods), tuple(spent)
        ),
    ]


def _spent(rows: Sequence[Row]) -> str:
    """The mean seconds, and trials where there are any."""
    if not rows:
        return "missing"
    trials = [row["trials"] for row in rows if "trials" in row]
    return f"{fmean(row['seconds'] for row in rows):.0f}" + (f" ({fmean(trials):.0f})" if trials else "")


def main() -> None:
    """Measure what is missing in the file, and show all that it has."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path, required=True)
    parser.add_argument("--first-seed", type=int, default=0)
    add_options(parser)
    options = argparse.Namespace(**vars(parser.parse_args()), quick=False)
    results = Results(options.file)
    run(options, results, options.first_seed)
    show(tables({"rows": results.rows}))


if __name__ == "__main__":
    main()
