"""Search for two objectives measured: what the front covers, beside Optuna's TPE and chance.

    python -m benchmarks.objectives [--seeds 40] [--trials 96] [--batch 8] [--window 16]

The functions are those of ``suggest.py``, each with a cost that its best values pay for. Measured is the area between
the front and a corner that is worse than most of the space, as a share of the rectangle from the ideal point to that
corner. Everyone is asked in the same batches and told with the same delay; Optuna is asked one by one.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna

from benchmarks.results import Table
from benchmarks.suggest import FUNCTIONS, Function, Params, Search
from sweeper.scheduling.window import told_before
from sweeper.search.dominance import non_dominated
from sweeper.search.study import Outcome, Study
from sweeper.search_spaces import load_space
from sweeper.states import TrialState

BOTH = ("minimize", "minimize")


@dataclass(frozen=True)
class Trade:
    """A function, what it costs (0 to 1, lower is better), and the value at the corner."""

    function: Function
    cost: Callable[[Params], float]
    corner: float

    def values(self, params: Params) -> tuple[float, float]:
        """Both objectives."""
        return self.function.value(params), self.cost(params)

    def covered(self, found: Sequence[tuple[float, float]]) -> float:
        """The share of the rectangle up to the corner that is dominated by the values found."""
        points = np.array(found) / (self.corner, 1.0)
        points = points[(points < 1.0).all(axis=1)]
        front = points[non_dominated(points)]
        front = front[np.argsort(front[:, 0])]
        edges = np.append(front[1:, 0], 1.0)
        return float(((edges - front[:, 0]) * (1.0 - front[:, 1])).sum())


def size(p: Params) -> float:
    """The width on a logarithmic scale: narrow is cheap, and a little worse."""
    return math.log2(p["width"] / 8) / 6


TRADES = {
    "valley, depth": Trade(FUNCTIONS["valley"], lambda p: (p["depth"] - 1) / 5, 4.0),
    "ridge, width": Trade(FUNCTIONS["ridge"], size, 2.0),
    "rugged, decay": Trade(FUNCTIONS["rugged"], lambda p: 1.0 - p["weight_decay"], 4.0),
}


def found_by_us(trade: Trade, seed: int, trials: int, batch: int, window: int, sampler: str = "tpe") -> float:
    """What the front of our study covers."""
    study = Study(load_space(trade.function.space), Search(sampler, seed), BOTH, batch, window)
    values: list[tuple[float, float]] = []
    told = 0
    for start in range(0, trials, batch):
        while told < told_before(start, window, batch):
            study.tell(told, Outcome(TrialState.COMPLETE, values[told][0], values=values[told]))
            told += 1
        values += [trade.values(params) for params in study.ask(range(start, min(start + batch, trials)))]
    return trade.covered(values)


def found_by_optuna(trade: Trade, seed: int, trials: int, batch: int, window: int) -> float:
    """What the front of Optuna's TPE covers, asked one by one, with results told at the same delay."""
    space = load_space(trade.function.space)
    study = optuna.create_study(directions=list(BOTH), sampler=optuna.samplers.TPESampler(seed=seed))
    values: list[tuple[float, float]] = []
    told = 0
    for start in range(0, trials, batch):
        while told < told_before(start, window, batch):
            study.tell(told, values[told])
            told += 1
        for _ in range(start, min(start + batch, trials)):
            values.append(trade.values(space.suggest(study.ask())))
    return trade.covered(values)


def compare(seeds: int, trials: int, batch: int, window: int) -> list[dict[str, Any]]:
    """Means over the seeds, and what we cover more than Optuna and than chance, with paired standard errors."""
    rows = []
    for name, trade in TRADES.items():
        ours = [found_by_us(trade, seed, trials, batch, window) for seed in range(seeds)]
        theirs = [found_by_optuna(trade, seed, trials, batch, window) for seed in range(seeds)]
        chance = [found_by_us(trade, seed, trials, trials, trials, "random") for seed in range(seeds)]
        means = {"ours": np.mean(ours), "optuna": np.mean(theirs), "random": np.mean(chance)}
        rows.append(
            {"function": name, "more": difference(ours, theirs), "more_than_random": difference(ours, chance)}
            | {who: float(mean) for who, mean in means.items()}
        )
    return rows


def difference(ours: Sequence[float], others: Sequence[float]) -> tuple[float, float]:
    """The mean of the differences, and its standard error."""
    gaps = np.subtract(ours, others)
    return float(gaps.mean()), float(gaps.std(ddof=1) / math.sqrt(len(gaps)))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run in a child."""
    from benchmarks import process

    return process.measure("objectives", *(["--quick"] if options.quick else []))


def tables(section: Mapping[str, Any]) -> list[Table]:
    """One row for each function."""
    rows = tuple(
        (
            r["function"],
            *(f"{r[who]:.3f}" for who in ("ours", "optuna", "random")),
            *(f"{r[what][0]:+.3f} +- {r[what][1]:.3f}" for what in ("more", "more_than_random")),
        )
        for r in section["functions"]
    )
    note = (
        f"Share of the rectangle that the front of {section['trials']} trials covers (more is better), mean of "
        f"{section['seeds']} seeds; batches of {section['batch']}, window of {section['window']}. Differences are "
        "paired by seed, with their standard errors."
    )
    columns = ("function, cost", "ours", "Optuna", "random", "ours - Optuna", "ours - random")
    return [Table("Two objectives", columns, rows, note)]


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--trials", type=int, default=96)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--window", type=int, default=16)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if options.quick:
        options.seeds, options.trials = 2, 24
    scale = {"seeds": options.seeds, "trials": options.trials, "batch": options.batch, "window": options.window}
    print(json.dumps(scale | {"functions": compare(**scale)}))


if __name__ == "__main__":
    main()
