"""Regret of searches whose results a file keeps, and methods compared in pairs of problem and seed.

Names of dimensions: P problems, S seeds, M marks at which the best value is noted.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray

from benchmarks import surrogate
from benchmarks.problems import Problem, Scale, scale, tables

QUICK_TASKS = ("3945", "7593")
Row = dict[str, Any]
Contender = tuple[str, int]  # method and workers
Regrets = dict[Contender, NDArray[np.float64]]  # (P, S, M)


class Results:
    """Lines of a file, one for each sweep, and what regret is measured against."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        kept = path.read_text(encoding="utf-8").splitlines() if path and path.exists() else []
        self.rows: list[Row] = [json.loads(line) for line in kept]

    def has(self, **known: Any) -> bool:
        """Whether there is such a row."""
        return any(known.items() <= row.items() for row in self.rows)

    def add(self, row: Row) -> None:
        """One more."""
        self.rows.append(row)
        if self._path:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")

    def add_scales(self, problems: Iterable[Problem]) -> None:
        """What the regret on these problems is measured against."""
        for problem in problems:
            if not self.has(problem=problem.name, kind="scale"):
                found = scale(problem)
                known = {"problem": problem.name, "family": problem.family, "best": found.best}
                self.add({"kind": "scale", **known, "typical": found.typical})


def contenders(rows: Iterable[Row]) -> dict[Contender, list[Row]]:
    """The sweeps of each."""
    found: dict[Contender, list[Row]] = {}
    for row in rows:
        if row["kind"] == "sweep":
            found.setdefault((row["method"], row["workers"]), []).append(row)
    return found


def whole_seeds(rows: Sequence[Row], family: str) -> list[Row]:
    """The sweeps on problems of a family, of those seeds that every contender has had on every one of the problems."""
    family_names = {row["problem"] for row in rows if row["kind"] == "scale" and row["family"] == family}
    sweeps = [row for row in rows if row["kind"] == "sweep" and row["problem"] in family_names]
    names = {row["problem"] for row in sweeps}
    ran = {key: {(row["problem"], row["seed"]) for row in own} for key, own in contenders(sweeps).items()}
    common: set[tuple[str, int]] = set.intersection(*ran.values()) if ran else set()
    whole = {seed for _, seed in common if all((name, seed) in common for name in names)}
    return [row for row in sweeps if row["seed"] in whole]


def regrets(rows: Sequence[Row], family: str) -> Regrets:
    """Those of each contender in its whole seeds."""
    sweeps = whole_seeds(rows, family)
    names = sorted({row["problem"] for row in sweeps})
    scales = {row["problem"]: Scale(row["best"], row["typical"]) for row in rows if row["kind"] == "scale"}
    for row in rows:
        if row["kind"] == "sweep" and row["problem"] in scales:
            scales[row["problem"]] = scales[row["problem"]].improved(min(row["found"]))
    found = {}
    for key, own in contenders(sweeps).items():
        of = {(row["problem"], row["seed"]): row["found"] for row in own}
        seeds = sorted({row["seed"] for row in own})
        marks = [[[scales[name].regret(v) for v in of[name, seed]] for seed in seeds] for name in names]
        found[key] = np.array(marks)
    return found


def paired(own: NDArray[np.float64], other: NDArray[np.float64] | None, mark: int) -> str:
    """The mean difference in percent, its standard error, on how many problems the own is better, the error over seeds.

    The first error is that over problems, each with the mean of its seeds: it says what other problems may bring. The
    second one is what other seeds on the same problems may bring.
    """
    if other is None or len(own) < 2:
        return ""
    gaps = 100 * (own - other)[:, :, mark]
    text = (
        f"{gaps.mean():+.2f} +- {_error(gaps.mean(axis=1)):.2f} ({int((gaps.mean(axis=1) < 0).sum())} of {len(gaps)})"
    )
    return text if gaps.shape[1] < 2 else f"{text}, seeds +- {_error(gaps.mean(axis=0)):.2f}"


def _error(values: NDArray[np.float64]) -> float:
    return float(values.std(ddof=1) / math.sqrt(len(values)))


def described(found: Regrets) -> str:
    """How the numbers of a table are to be read."""
    problems, seeds, _ = next(iter(found.values())).shape
    return (
        f"Regret in percent (0: the best known, 100: a random point), mean over {problems} problems of {seeds} seeds "
        "each. Differences are paired by problem and seed, with standard error over problems, wins, and over seeds."
    )


def section(options: argparse.Namespace, run: Callable[[Results, list[Problem], range], None]) -> dict[str, Any] | None:
    """What ``run`` adds on LCBench's tasks, of some seeds; None, and a sentence, where the surrogate is missing."""
    try:
        tasks = tables(QUICK_TASKS if options.quick else None)
    except surrogate.Missing as error:
        print(error)
        return None
    results = Results(None)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    run(results, tasks, range(1 if options.quick else options.seeds))
    results.add_scales(tasks)
    return {"rows": results.rows}


def arguments(
    description: str | None, methods: Mapping[str, Any], chosen: Sequence[str], workers: Sequence[int], seeds: int
) -> argparse.ArgumentParser:
    """Those of a command that runs what is missing in a file; of no seeds (0) it only shows what the file has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=seeds)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--workers", type=int, nargs="+", default=workers)
    parser.add_argument("--methods", nargs="+", choices=methods, default=tuple(chosen))
    parser.add_argument("--tasks", nargs="+", help="default: all of them")
    return parser
