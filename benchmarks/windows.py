"""What a window costs and brings: the best value found by the batched TPE, and the rate of a sweep, by window.

    python -m benchmarks.windows [--seeds 20] [--trials 100]

Quality: two functions of numbers only, batches of a quarter of the window. Rate: the scheduler played through with the
epochs of R1 and of ``wide`` as a thread measured them, a leg's answer 12 ms and a batch of suggestions 6 ms late, as a
share of what the workers could do without a wait.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.suggest import Search
from sweeper.running import rehearsal
from sweeper.running.rehearsal import ShapeCost, rehearse
from sweeper.scheduling.events import Event, LegDone, Shape, SweepPlan, TrialsSuggested
from sweeper.scheduling.window import told_before
from sweeper.search.study import Outcome, Study
from sweeper.search_spaces import load_space
from sweeper.states import TrialState

# the names are those that a space may have; what is searched is a unit cube
CUBE = {
    "learning_rate": (0.01, 1.0), "momentum": (0.0, 0.99), "beta1": (0.0, 0.99), "beta2": (0.0, 0.99),
    "weight_decay": (0.0, 1.0), "dropout": (0.0, 0.9),
}  # fmt: skip
A = np.array(
    [[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]]
)
P = 1e-4 * np.array(
    [
        [1312, 1696, 5569, 124, 8283, 5886],
        [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650],
        [4047, 8828, 8732, 5743, 1091, 381],
    ]
)
ALPHA = np.array([1, 1.2, 3, 3.2])
LEG_LATE, SUGGESTION_LATE = 0.012, 0.006
PLAYED = 500


def unit(params: Mapping[str, Any]) -> np.ndarray:
    """The point in the unit cube."""
    return np.array([(params[name] - low) / (high - low) for name, (low, high) in CUBE.items() if name in params])


def hartmann6(x: np.ndarray) -> float:
    """Hartmann's function of six numbers; its least value is -3.32."""
    return float(-(ALPHA * np.exp(-(A * (x - P) ** 2).sum(1))).sum())


def log_rosen5(x: np.ndarray) -> float:
    """log(1 + Rosenbrock's function) of five numbers between -2 and 2; its least value is 0."""
    z = 4 * x - 2
    return float(np.log1p((100 * (z[1:] - z[:-1] ** 2) ** 2 + (1 - z[:-1]) ** 2).sum()))


FUNCTIONS: dict[str, tuple[int, Callable[[np.ndarray], float]]] = {
    "hartmann6": (6, hartmann6),
    "log-rosen5": (5, log_rosen5),
}


def best_values(name: str, window: int, seed: int, trials: int) -> tuple[float, float]:
    """The best value after half of the trials and after all of them."""
    size, function = FUNCTIONS[name]
    space = load_space({key: {"float": list(CUBE[key])} for key in list(CUBE)[:size]})
    batch = max(1, window // 4)
    study, values, told = Study(space, Search(seed=seed), "minimize", batch, window), list[float](), 0
    for start in range(0, trials, batch):
        while told < told_before(start, window, batch):
            study.tell(told, Outcome(TrialState.COMPLETE, values[told]))
            told += 1
        values += [function(unit(params)) for params in study.ask(range(start, min(start + batch, trials)))]
    return min(values[: trials // 2]), min(values)


def cost_of(shape: Shape) -> ShapeCost:
    """Seconds of an epoch on 1077 rows, about as ``benchmarks.ragged`` and the engine measure them on one core."""
    assert shape.batch_size != "full"
    parameters = sum(a * b + b for a, b in pairwise((61, *shape.hidden_layers, 10)))
    return ShapeCost(5e-4, 1.25e-12 * parameters * 1077 * (60 + 100 / shape.batch_size), 1.4e-3)


def rate(shapes: list[Shape], workers: int, window: int, mixes: bool) -> float:
    """Of what the workers could do without a wait, in cohorts of 16 rows: the share that a sweep gets."""
    costs = {shape: cost_of(shape) for shape in shapes}
    put = rehearsal._Stage.put

    def late(stage: rehearsal._Stage, at: float, event: Event) -> None:
        delay = LEG_LATE if isinstance(event, LegDone) else SUGGESTION_LATE if isinstance(event, TrialsSuggested) else 0
        put(stage, at + delay, event)

    plan = SweepPlan("windows", PLAYED, window, max(1, window // 4), mixed=True)
    with patch.object(rehearsal._Stage, "put", late):
        found = rehearse(plan, shapes, costs, workers, lambda _: 64, 1.0, mixes)
    order = [costs[shapes[n % len(shapes)]] for n in range(PLAYED)]
    return sum(20 * (cost.row + cost.epoch / 16) + cost.admission for cost in order) / workers / found.seconds


def main() -> None:
    """Measure and print one JSON object per line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--trials", type=int, default=100)
    options = parser.parse_args()
    every = [Shape((w,) * d, b, 20) for d in (1, 2, 3) for w in (64, 128, 256) for b in (32, 128)]
    drawn = random.Random(0).choices(every, k=PLAYED)
    for workers in (1, 2, 8):
        for window in (4 * workers, 8 * workers, 16 * workers, 64):
            row: dict[str, Any] = {"workers": workers, "window": window}
            row["R1"] = round(rate([Shape((128, 128), 64, 20)], workers, window, True), 3)
            row |= {f"wide, mixed {m}": round(rate(drawn, workers, window, m), 3) for m in (False, True)}
            print(json.dumps(row), flush=True)
    for name in FUNCTIONS:
        for window in (64, 25, 16, 8, 4):
            found = [best_values(name, window, seed, options.trials) for seed in range(options.seeds)]
            half, whole = np.median(found, axis=0)
            print(json.dumps({"function": name, "window": window, "half": half, "whole": whole}), flush=True)


if __name__ == "__main__":
    main()
