"""How good the search is: regret after some trials on LCBench's tasks and conditional functions, beside Optuna's TPE.

    python -m benchmarks --only search [--seeds 20]
    python -m benchmarks.search --file search.jsonl [--seeds 20] [--first-seed 0] [--workers 1 2 8 64] [--trials 200]
                                [--methods ours optuna random] [--tasks 3945 ...] [--conditional]
    python -m benchmarks.search --file search.jsonl --seeds 0          # only shows what the file has

With w workers the suggestion of trial n sees the results of the trials before n - w + 1; the others are pending.
Ours takes w as its window and asks in batches of a quarter of it; Optuna is asked one by one and pretends that what is
pending is bad ("constant liar", its default). Every sweep is a line of the file; those that it has are not run again.
Seeds that a method has not had on all problems yet are not shown. The tasks need the files of YAHPO Gym's
surrogate, see ``surrogate.py``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from typing import Any, Protocol

import numpy as np
import optuna

from benchmarks.problems import Params, Problem, conditional
from benchmarks.problems import tables as lcbench
from benchmarks.regret import Results, Row, arguments, described, paired, regrets, section
from benchmarks.results import Table, show
from benchmarks.suggest import Search
from sweeper.scheduling.window import told_before
from sweeper.search.study import Outcome, Study
from sweeper.search_spaces import load_space
from sweeper.states import TrialState

MARKS = (20, 50, 100, 200)
WORKERS = (1, 2, 8, 64)


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


def run(
    results: Results,
    problems: Sequence[Problem],
    methods: Sequence[str],
    seeds: Iterable[int],
    workers: Sequence[int],
    trials: int,
) -> None:
    """Every sweep that the results lack, seed by seed. Random trials do not depend on the number of workers."""
    done = {tuple(row.get(key) for key in ("problem", "method", "workers", "seed")) for row in results.rows}
    for seed, several, method, problem in product(seeds, workers, methods, problems):
        count = 1 if method == "random" else several
        if (problem.name, method, count, seed) in done:
            continue
        done.add((problem.name, method, count, seed))
        curve = best_so_far(problem, METHODS[method](problem, problem.seed(seed), count), trials, count)
        best = [curve[mark - 1] for mark in MARKS if mark <= trials]
        row = {"problem": problem.name, "method": method, "workers": count, "seed": seed, "found": best}
        results.add({"kind": "sweep"} | row)


def regret_table(rows: Sequence[Row], family: str, peer: str = "optuna") -> Table | None:
    """Mean regret over the problems; at 100 trials the difference to the peer with as many workers, and with one."""
    found = regrets(rows, family)
    if not found:
        return None
    marks = MARKS[: min(own.shape[-1] for own in found.values())]
    at = min(len(marks) - 1, MARKS.index(100))
    lines = []
    for (method, workers), own in sorted(found.items(), key=lambda item: (item[0][1], item[0][0])):
        means = [f"{100 * own[:, :, m].mean():.2f}" for m in range(len(marks))]
        others = [] if method in (peer, "random") else [found.get((peer, workers)), found.get((peer, 1))]
        lines.append((method, str(workers), *means, *([paired(own, other, at) for other in others] or ["", ""])))
    header = ("method", "workers", *(f"{mark} trials" for mark in marks))
    header += (f"- {peer}, at {marks[at]}", f"- {peer} one by one")
    return Table(f"Regret, {family}", header, tuple(lines), described(found))


def measure(options: argparse.Namespace) -> dict[str, Any] | None:
    """All of it, of some seeds; None, and a sentence, where the surrogate's files are missing."""
    functions, (workers, trials) = conditional(), ((1, 8), 20) if options.quick else (WORKERS, MARKS[-1])

    def both(results: Results, tasks: list[Problem], seeds: range) -> None:
        run(results, tasks, PLAIN, seeds, workers, trials)
        run(results, functions, tuple(METHODS), seeds, workers, trials)
        results.add_scales(functions)

    return section(options, both)


def tables(measured: Mapping[str, Any]) -> list[Table]:
    """One table for each family of problems."""
    found = [regret_table(measured["rows"], family) for family in ("lcbench", "conditional")]
    return [table for table in found if table]


def main() -> None:
    """Run what is missing in the file, and show all that it has."""
    parser = arguments(__doc__, METHODS, PLAIN, WORKERS, 20)
    parser.add_argument("--trials", type=int, default=MARKS[-1])
    parser.add_argument("--conditional", action="store_true", help="the conditional functions instead of the tasks")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    results = Results(options.file)
    problems = conditional() if options.conditional else lcbench(options.tasks)
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    run(results, problems, options.methods, seeds, options.workers, options.trials)
    results.add_scales(problems)
    show(tables({"rows": results.rows}))


if __name__ == "__main__":
    main()
