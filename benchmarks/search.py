"""How good the search is: regret after some trials on LCBench's tasks and conditional functions, beside Optuna's TPE.

    python -m benchmarks --only search [--seeds 20]
    python -m benchmarks.search --file search.jsonl [--seeds 20] [--first-seed 0] [--workers 1 2 8 64] [--trials 200]
                                [--methods ours optuna random] [--tasks 3945 ...] [--conditional]

With w workers the suggestion of trial n sees the results of the trials before n - w + 1; the others are pending.
Ours takes w as its window and asks in batches of a quarter of it; Optuna is asked one by one and pretends that what is
pending is bad ("constant liar", its default). Every sweep is a line of the file; those that it has are not run again.
The tasks need the files of YAHPO Gym's surrogate, see ``surrogate.py``.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import optuna

from benchmarks import surrogate
from benchmarks.problems import Params, Problem, Scale, conditional, scale
from benchmarks.problems import tables as surrogate_tables
from benchmarks.results import Table, show
from benchmarks.suggest import Search
from sweeper.scheduling.window import told_before
from sweeper.search.study import Outcome, Study
from sweeper.search_spaces import load_space
from sweeper.states import TrialState

MARKS = (20, 50, 100, 200)
WORKERS = (1, 2, 8, 64)
QUICK_TASKS = ("3945", "7593")
Row = dict[str, Any]


class Searcher(Protocol):
    """Suggests trials in batches."""

    batch: int

    def ask(self, numbers: range) -> list[Params]:
        """The parameters of the next trials."""
        ...

    def tell(self, number: int, value: float) -> None:
        """A trial's value."""
        ...


class Ours:
    """The project's study."""

    def __init__(self, problem: Problem, seed: int, workers: int, sampler: str = "tpe") -> None:
        self.batch = max(1, workers // 4)
        self._study = Study(load_space(problem.space), Search(sampler, seed), "minimize", self.batch, workers)

    def ask(self, numbers: range) -> list[Params]:
        """As ``Searcher``."""
        return list(self._study.ask(numbers))

    def tell(self, number: int, value: float) -> None:
        """As ``Searcher``."""
        self._study.tell(number, Outcome(TrialState.COMPLETE, value))


class Optuna:
    """Optuna's TPE."""

    batch = 1

    def __init__(self, problem: Problem, seed: int, group: bool = False) -> None:
        self._space = load_space(problem.space)
        self._study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed, group=group))

    def ask(self, numbers: range) -> list[Params]:
        """As ``Searcher``."""
        return [self._space.suggest(self._study.ask()) for _ in numbers]

    def tell(self, number: int, value: float) -> None:
        """As ``Searcher``."""
        self._study.tell(number, value)


METHODS: dict[str, Callable[[Problem, int, int], Searcher]] = {
    "ours": Ours,
    "optuna": lambda problem, seed, workers: Optuna(problem, seed),
    "optuna, groups": lambda problem, seed, workers: Optuna(problem, seed, group=True),
    "random": lambda problem, seed, workers: Ours(problem, seed, workers, "random"),
}
PLAIN = ("ours", "optuna", "random")  # where every trial has all parameters, groups change nothing


def best_so_far(problem: Problem, searcher: Searcher, trials: int, workers: int) -> list[float]:
    """The best value after each trial, results being told with the delay of so many workers."""
    values: list[float] = []
    told = 0
    for start in range(0, trials, searcher.batch):
        while told < told_before(start, workers, searcher.batch):
            searcher.tell(told, values[told])
            told += 1
        points = searcher.ask(range(start, min(start + searcher.batch, trials)))
        values += problem.values(points).tolist()
    return np.minimum.accumulate(values).tolist()


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


def run(
    results: Results,
    problems: Sequence[Problem],
    methods: Iterable[str],
    seeds: Iterable[int],
    workers: Iterable[int],
    trials: int,
) -> None:
    """Every sweep that the results lack. Random trials do not depend on the number of workers."""
    done = {tuple(row.get(key) for key in ("problem", "method", "workers", "seed")) for row in results.rows}
    for seed, several, method, problem in product(seeds, workers, list(methods), problems):
        count = 1 if method == "random" else several
        if (problem.name, method, count, seed) in done:
            continue
        done.add((problem.name, method, count, seed))
        curve = best_so_far(problem, METHODS[method](problem, problem.seed(seed), count), trials, count)
        best = [curve[mark - 1] for mark in MARKS if mark <= trials]
        row = {"problem": problem.name, "method": method, "workers": count, "seed": seed, "found": best}
        results.add({"kind": "sweep"} | row)


def add_scales(results: Results, problems: Sequence[Problem]) -> None:
    """What the regret on these problems is measured against."""
    for problem in problems:
        if not results.has(problem=problem.name, kind="scale"):
            found = scale(problem)
            known = {"problem": problem.name, "family": problem.family, "best": found.best, "typical": found.typical}
            results.add({"kind": "scale"} | known)


Regrets = dict[tuple[str, int], dict[str, list[float]]]


def regrets(rows: Sequence[Row], family: str) -> Regrets:
    """By method and workers: by problem the mean regret over the seeds at each mark."""
    scales = {
        r["problem"]: Scale(r["best"], r["typical"]) for r in rows if r["kind"] == "scale" and r["family"] == family
    }
    sweeps = [row for row in rows if row["kind"] == "sweep" and row["problem"] in scales]
    for row in sweeps:
        scales[row["problem"]] = scales[row["problem"]].improved(min(row["found"]))
    found: dict[tuple[str, int], dict[str, list[list[float]]]] = defaultdict(lambda: defaultdict(list))
    for row in sweeps:
        own = [scales[row["problem"]].regret(value) for value in row["found"]]
        found[row["method"], row["workers"]][row["problem"]].append(own)
    return {key: {p: np.mean(r, axis=0).tolist() for p, r in by.items()} for key, by in found.items()}


def regret_table(rows: Sequence[Row], family: str, peer: str = "optuna") -> Table | None:
    """Mean regret over the problems; at 100 trials the difference to the peer with as many workers, and with one."""
    found = regrets(rows, family)
    if not found:
        return None
    seeds = len({row["seed"] for row in rows if row["kind"] == "sweep"})
    marks = MARKS[: min(len(r) for by in found.values() for r in by.values())]
    at = min(len(marks) - 1, MARKS.index(100))
    lines = []
    for (method, workers), by in sorted(found.items(), key=lambda item: (item[0][1], item[0][0])):
        means = [f"{100 * np.mean([r[m] for r in by.values()]):.2f}" for m in range(len(marks))]
        others = [] if method in (peer, "random") else [found.get((peer, workers)), found.get((peer, 1))]
        lines.append((method, str(workers), *means, *([paired(by, other, at) for other in others] or ["", ""])))
    header = ("method", "workers", *(f"{mark} trials" for mark in marks))
    header += (f"- {peer}, at {marks[at]}", f"- {peer} one by one")
    note = (
        f"Regret in percent (0: the best known, 100: a random point), mean over {len(next(iter(found.values())))} "
        f"problems of up to {seeds} seeds each. Differences are paired by problem, with standard error and wins."
    )
    return Table(f"Regret, {family}", header, tuple(lines), note)


def paired(own: Mapping[str, Sequence[float]], other: Mapping[str, Sequence[float]] | None, mark: int) -> str:
    """The mean difference over common problems, its standard error, and on how many of them the own is better."""
    common = sorted(set(own) & set(other or {}))
    if not other or len(common) < 2:
        return ""
    gaps = 100 * np.array([own[name][mark] - other[name][mark] for name in common])
    error = gaps.std(ddof=1) / math.sqrt(len(gaps))
    return f"{gaps.mean():+.2f} +- {error:.2f} ({int((gaps < 0).sum())} of {len(gaps)})"


def measure(options: argparse.Namespace) -> dict[str, Any] | None:
    """All of it, of some seeds; None, and a sentence, where the surrogate's files are missing."""
    try:
        tasks = surrogate_tables(QUICK_TASKS if options.quick else None)
    except surrogate.Missing as error:
        print(error)
        return None
    results, seeds = Results(None), range(1 if options.quick else options.seeds)
    workers, trials = ((1, 8), 20) if options.quick else (WORKERS, MARKS[-1])
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for problems, methods in ((tasks, PLAIN), (conditional(), METHODS)):
        run(results, problems, methods, seeds, workers, trials)
        add_scales(results, problems)
    return {"rows": results.rows}


def tables(section: Mapping[str, Any]) -> list[Table]:
    """One table for each family of problems."""
    found = [regret_table(section["rows"], family) for family in ("lcbench", "conditional")]
    return [table for table in found if table]


def main() -> None:
    """Run what is missing in the file, and show all that it has."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--trials", type=int, default=MARKS[-1])
    parser.add_argument("--workers", type=int, nargs="+", default=WORKERS)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=PLAIN)
    parser.add_argument("--tasks", nargs="+", help="default: all of them")
    parser.add_argument("--conditional", action="store_true", help="the conditional functions instead of the tasks")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    results = Results(options.file)
    problems = conditional() if options.conditional else surrogate_tables(options.tasks)
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    run(results, problems, options.methods, seeds, options.workers, options.trials)
    add_scales(results, problems)
    show(tables({"rows": results.rows}))


if __name__ == "__main__":
    main()
