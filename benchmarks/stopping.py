"""What ``search.stop`` saves and loses: trials until the end, and what the trials after it would have gained.

    python -m benchmarks.stopping [--seeds 20] [--trials 400] [--optuna]

Searches by the batched TPE (batches of 4, window 16) on two functions and on R2's trials as a table. Each rule is
asked before every batch, of the trials that its suggestions may see. ``--optuna`` adds Optuna's regret bound, every
20 trials.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import optuna
from optuna.terminator import RegretBoundEvaluator

from benchmarks import suggest
from benchmarks.suggest import Search
from benchmarks.windows import CUBE, hartmann6, unit
from sweeper.scheduling.window import told_before
from sweeper.search.ending import Ending
from sweeper.search.study import Outcome, Study
from sweeper.search_spaces import Space, load_space
from sweeper.states import TrialState

WINDOW, BATCH, OPTUNA_EVERY = 16, 4, 20
TABLE = "R2's trials as a table"
Value = Callable[[Mapping[str, Any]], float]
PROBLEMS: dict[str, tuple[Mapping[str, Any], Value]] = {
    "hartmann6": ({name: {"float": list(CUBE[name])} for name in CUBE}, lambda p: hartmann6(unit(p))),
    "valley": (suggest.FUNCTIONS["valley"].space, suggest.FUNCTIONS["valley"].value),
    TABLE: (suggest.FUNCTIONS[TABLE].space, suggest.FUNCTIONS[TABLE].value),
}
# what counts as nothing: of the table about the standard error of its best loss, else 1% of the values' spread
NOISE = {"hartmann6": 0.03, "valley": 0.05, TABLE: 0.01}


def searched(space: Space, value: Value, seed: int, trials: int) -> tuple[list[dict[str, Any]], list[float]]:
    """Parameters and values of one search."""
    study, told = Study(space, Search(seed=seed), "minimize", BATCH, WINDOW), 0
    points, values = list[dict[str, Any]](), list[float]()
    for start in range(0, trials, BATCH):
        while told < told_before(start, WINDOW, BATCH):
            study.tell(told, Outcome(TrialState.COMPLETE, values[told]))
            told += 1
        points += study.ask(range(start, start + BATCH))
        values += [value(p) for p in points[start:]]
    return points, values


def end_of(values: list[float], parameters: int, patience: int | None, regret: float | None, noise: float) -> int:
    """How many trials such a sweep has."""
    ending = Ending(patience, regret)
    for number, value in enumerate(values):
        ending.tell(number, value, noise, parameters)
    starts = range(0, len(values), BATCH)
    return next((s for s in starts if ending.reason(told_before(s, WINDOW, BATCH)) is not None), len(values))


def optuna_bounds(space: Space, points: list[dict[str, Any]], values: list[float]) -> dict[int, float]:
    """Optuna's bound on the regret after so many trials."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for point, value in zip(points, values, strict=True):
        study.enqueue_trial(dict(point))
        asked = study.ask()
        space.suggest(asked)
        study.tell(asked, value)
    every, direction = study.get_trials(deepcopy=False), optuna.study.StudyDirection.MINIMIZE
    counts = range(2 * OPTUNA_EVERY, len(values), OPTUNA_EVERY)
    return {count: RegretBoundEvaluator(seed=0).evaluate(every[:count], direction) for count in counts}


def measure(name: str, seeds: int, trials: int, with_optuna: bool) -> list[dict[str, Any]]:
    """A row for each rule."""
    given, value = PROBLEMS[name]
    space, noise = load_space(dict(given)), NOISE[name]
    found = [searched(space, value, seed, trials) for seed in range(seeds)]
    ends: dict[str, list[int]] = {}
    for patience in (30, 50, 100):
        ends[f"patience {patience}"] = [end_of(v, len(given), patience, None, noise) for _, v in found]
    for share in (1, 2, 5):
        ends[f"regret {share * noise:g}"] = [end_of(v, len(given), None, share * noise, noise) for _, v in found]
    bounds = [optuna_bounds(space, *one) for one in found] if with_optuna else []
    for share in (1, 2, 5) if with_optuna else ():
        low = [[count for count, bound in each.items() if bound < share * noise] for each in bounds]
        ends[f"Optuna, regret {share * noise:g}"] = [min([n + WINDOW - BATCH for n in each] + [trials]) for each in low]
    rows = []
    for rule, counts in ends.items():
        lost = np.array([min(v[:n]) - min(v) for n, (_, v) in zip(counts, found, strict=True)])
        row: dict[str, Any] = {"problem": name, "rule": rule, "trials": float(np.median(counts))}
        row |= {"ended": float(np.mean(np.array(counts) < trials)), "lost": round(float(np.median(lost)), 5)}
        row["lost in one of ten"] = round(float(np.quantile(lost, 0.9)), 5)
        if "regret" in rule:
            row["held"] = float(np.mean(lost <= float(rule.split()[-1])))
        rows.append(row)
    return rows


def main() -> None:
    """Measure and print one JSON object per line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--optuna", action="store_true")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for name in PROBLEMS:
        for row in measure(name, options.seeds, options.trials, options.optuna):
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
