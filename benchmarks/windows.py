"""What a window costs and brings: the best value found by the batched TPE, and the rate of a sweep, by window.

    python -m benchmarks.windows [--seeds 20] [--trials 100] [--sweep 256]

Quality: two functions of numbers only and one with a conditional parameter, batches of a quarter of the window; after
half of the trials, after all, and after as many as a sweep of R1 with that window trains in the time in which one with
the largest window trains them all. Rate: the scheduler played through with the epochs of R1 and of ``wide`` as a thread
measured them, a leg's answer 12 ms and a batch of suggestions 6 ms late, as a share of what the workers could do
without a wait. CPU: whole sweeps of R1, inline, as the process's own time from a quarter of the trials to the last.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.suggest import FUNCTIONS as MIXED
from benchmarks.suggest import Search
from sweeper.running import local, rehearsal
from sweeper.running.parts import ProgressSink
from sweeper.running.rehearsal import ShapeCost, rehearse
from sweeper.scheduling.events import Event, LegDone, Shape, SweepPlan, TrialsSuggested
from sweeper.scheduling.window import told_before
from sweeper.search.study import Outcome, Study
from sweeper.search_spaces import load_space
from sweeper.settings import Settings
from sweeper.spec.parse import load_spec
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
WINDOWS, WORKERS = (1, 2, 4, 8, 16, 32, 64), (1, 2, 8)


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


CUBES: dict[str, tuple[int, Callable[[np.ndarray], float]]] = {
    "hartmann6": (6, hartmann6),
    "log-rosen5": (5, log_rosen5),
}
FUNCTIONS = (*CUBES, "rugged")  # the last one is conditional


def searched(name: str) -> tuple[Mapping[str, Any], Callable[[Mapping[str, Any]], float]]:
    """The space of a function, and its value."""
    if name not in CUBES:
        return MIXED[name].space, MIXED[name].value
    size, function = CUBES[name]
    return {key: {"float": list(CUBE[key])} for key in list(CUBE)[:size]}, lambda params: function(unit(params))


def best_values(name: str, window: int, seed: int, trials: int) -> list[float]:
    """The best value after each trial."""
    space, value = searched(name)
    batch = max(1, window // 4)
    study, values, told = Study(load_space(space), Search(seed=seed), "minimize", batch, window), list[float](), 0
    for start in range(0, trials, batch):
        while told < told_before(start, window, batch):
            study.tell(told, Outcome(TrialState.COMPLETE, values[told]))
            told += 1
        values += [value(params) for params in study.ask(range(start, min(start + batch, trials)))]
    return list(np.minimum.accumulate(values))


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


class _Timed(ProgressSink):
    """The process's own time at each trial's end."""

    def __init__(self) -> None:
        self.ended: list[float] = []

    def __call__(self, action: str, fields: Mapping[str, Any]) -> None:
        if action == "trial.ended":
            self.ended.append(time.process_time())


def cpu_per_trial(window: int, trials: int) -> float:
    """Milliseconds of a whole sweep of R1: training, search, ledger and MLflow, without start and end."""
    data = {"dataset": {"name": "digits"}, "space": "mlp", "search": {"trials": trials, "window": window}}
    timed = _Timed()
    with tempfile.TemporaryDirectory(prefix="windows-", ignore_cleanup_errors=True) as folder:
        local.run_new(load_spec(data), Settings(home=Path(folder)), "inline", lambda _: timed)
    first = trials // 4  # the baselines are trained beside these
    return 1000 * (timed.ended[-1] - timed.ended[first]) / (len(timed.ended) - 1 - first)


def rates() -> dict[tuple[int, int], float]:
    """Print the rates of the played-through scheduler; that of R1 by workers and window."""
    every = [Shape((w,) * d, b, 20) for d in (1, 2, 3) for w in (64, 128, 256) for b in (32, 128)]
    drawn = random.Random(0).choices(every, k=PLAYED)
    found = {}
    for workers in WORKERS:
        for window in WINDOWS:
            found[workers, window] = rate([Shape((128, 128), 64, 20)], workers, window, True)
            row: dict[str, Any] = {"workers": workers, "window": window, "R1": round(found[workers, window], 3)}
            row |= {f"wide, mixed {m}": round(rate(drawn, workers, window, m), 3) for m in (False, True)}
            print(json.dumps(row), flush=True)
    return found


def main() -> None:
    """Measure and print one JSON object per line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--sweep", type=int, default=256)
    options = parser.parse_args()
    played, trials = rates(), options.trials
    for name in FUNCTIONS:
        for window in WINDOWS:
            curves = np.median([best_values(name, window, seed, trials) for seed in range(options.seeds)], axis=0)
            row = {"function": name, "window": window, "half": curves[trials // 2 - 1], "whole": curves[-1]}
            for workers in WORKERS:
                share = played[workers, window] / played[workers, max(WINDOWS)]
                row[f"equal seconds, {workers} workers"] = curves[min(trials, max(1, round(share * trials))) - 1]
            print(json.dumps({k: v if isinstance(v, str | int) else round(v, 4) for k, v in row.items()}), flush=True)
    for window in WINDOWS if options.sweep else ():
        row = {"window": window, "CPU ms per trial": round(cpu_per_trial(window, options.sweep), 1)}
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
