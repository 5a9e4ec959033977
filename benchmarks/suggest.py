"""Suggestions measured: quality of the batched TPE beside Optuna's own, and cost per trial as the history grows.

    python -m benchmarks.suggest [--seeds 20] [--trials 200] [--batch 8] [--window 16]

Quality: the best value after N trials on three test functions with five mixed parameters, for the same batches and the
same delay of results; Optuna is asked one by one. Cost: CPU milliseconds per suggestion in batches of 32.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import optuna

from benchmarks.results import Table, number, times
from benchmarks.workloads import R2, data
from sweeper.scheduling.window import told_before
from sweeper.search.study import Outcome, Study
from sweeper.search_spaces import load_space
from sweeper.states import TrialState

Params = Mapping[str, Any]
COST_BATCH = 32


@dataclass(frozen=True)
class Search:
    """What the study reads of a sweep's search section."""

    sampler: str = "tpe"
    seed: int = 0
    deterministic: bool = True


@dataclass(frozen=True)
class Function:
    """A test problem: a space of five parameters and its value, lower is better."""

    space: Mapping[str, Any]
    value: Callable[[Params], float]


OPTIMIZERS = {"sgd": 0.6, "momentum": 0.25, "rmsprop": 0.3, "adam": 0.0, "adamw": 0.1}
ACTIVATIONS = {"relu": 0.0, "tanh": 0.3, "sigmoid": 0.8}
MIXED = {
    "learning_rate": {"float": [1e-5, 1.0], "log": True},
    "weight_decay": {"float": [1e-6, 1e-1], "log": True},
    "depth": {"int": [1, 6]},
    "optimizer": {"choice": list(OPTIMIZERS)},
    "activation": {"choice": list(ACTIVATIONS)},
}
NUMERIC = {
    "learning_rate": {"float": [1e-5, 1.0], "log": True},
    "momentum": {"float": [0.0, 0.99]},
    "beta1": {"float": [0.0, 0.99]},
    "width": {"int": [8, 512], "log": True},
    "activation": {"choice": list(ACTIVATIONS)},
}
CONDITIONAL = {
    "learning_rate": {"float": [1e-5, 1.0], "log": True},
    "optimizer": {"choice": ["sgd", "momentum", "adam"]},
    "momentum": {"float": [0.0, 0.99], "when": {"optimizer": ["momentum"]}},
    "depth": {"int": [1, 6]},
    "weight_decay": {"float": [0.0, 1.0]},
}


def valley(p: Params) -> float:
    """A learning-curve-like bowl whose best learning rate depends on the optimizer and the depth."""
    centre = {"sgd": -1.0, "momentum": -1.5, "rmsprop": -3.0, "adam": -3.0, "adamw": -2.8}[p["optimizer"]]
    rate = math.log10(p["learning_rate"]) - centre + 0.2 * (p["depth"] - 3)
    decay = math.log10(p["weight_decay"]) + 4
    shallow = 0.15 * abs(p["depth"] - 3)
    return rate**2 + 0.15 * decay**2 + shallow + OPTIMIZERS[p["optimizer"]] + ACTIVATIONS[p["activation"]]


def ridge(p: Params) -> float:
    """A narrow curved valley (Rosenbrock's) in learning rate and momentum, plus a bowl in the others."""
    x, y = (math.log10(p["learning_rate"]) + 2.5) / 2, 4 * p["momentum"] - 1
    rosenbrock = math.log1p(20 * (y - x * x) ** 2 + (1 - x) ** 2)
    width = math.log2(p["width"] / 64)
    return rosenbrock + (p["beta1"] - 0.9) ** 2 + 0.05 * width**2 + ACTIVATIONS[p["activation"]]


def rugged(p: Params) -> float:
    """Many local optima (Rastrigin's) with a conditional parameter that only pays for one choice."""
    x, w = math.log10(p["learning_rate"]) + 2, 4 * (p["weight_decay"] - 0.3)
    waves = x * x + w * w + 0.6 * (2 - math.cos(2 * math.pi * x) - math.cos(2 * math.pi * w))
    choice = {"sgd": 0.5, "momentum": 4 * (p.get("momentum", 0.0) - 0.8) ** 2, "adam": 0.2}[p["optimizer"]]
    return waves + choice + 0.1 * abs(p["depth"] - 2)


R2_SPACE: dict[str, dict[str, Any]] = {
    "learning_rate": {"float": [1e-4, 1e-1], "log": True},
    "weight_decay": {"float": [1e-6, 1e-2], "log": True},
    "optimizer": {"choice": ["sgd", "momentum", "rmsprop", "adam", "adamw"]},
    "initialization": {"choice": ["normal", "xavier_uniform", "xavier_normal", "he_uniform", "he_normal"]},
    "activation": {"choice": ["relu", "tanh", "sigmoid"]},
}
R2_RATES, R2_DECAYS = np.geomspace(1e-4, 1e-1, 13), np.geomspace(1e-6, 1e-2, 4)
R2_CHOICES = [R2_SPACE[name]["choice"] for name in ("optimizer", "initialization", "activation")]


@cache
def r2_table() -> dict[tuple[Any, ...], float]:
    """The validation loss of the 3900 trials of R2 on a grid of its space; all are trained, which takes a minute."""
    from sweeper.models import TrialConfig, train_cohort

    keys = list(itertools.product(range(len(R2_RATES)), range(len(R2_DECAYS)), *R2_CHOICES))
    configs = [
        TrialConfig(
            learning_rate=float(R2_RATES[rate]),
            weight_decay=float(R2_DECAYS[decay]),
            optimizer=optimizer,
            initialization=initialization,
            activation=activation,
            hidden_layers=R2.hidden_layers,
        )
        for rate, decay, optimizer, initialization, activation in keys
    ]
    histories = train_cohort(configs, R2.train, data(), [0] * len(configs))
    return {key: 10.0 if h.diverged else h.val_loss[-1] for key, h in zip(keys, histories, strict=True)}


def r2(p: Params) -> float:
    """The trial of the table that is nearest in learning rate and weight decay."""
    rate = int(np.abs(np.log(R2_RATES / p["learning_rate"])).argmin())
    decay = int(np.abs(np.log(R2_DECAYS / p["weight_decay"])).argmin())
    return r2_table()[rate, decay, p["optimizer"], p["initialization"], p["activation"]]


FUNCTIONS = {
    "valley": Function(MIXED, valley),
    "ridge": Function(NUMERIC, ridge),
    "rugged": Function(CONDITIONAL, rugged),
    "R2's trials as a table": Function(R2_SPACE, r2),
}
VALLEY = FUNCTIONS["valley"]


def best_with_batch_tpe(function: Function, seed: int, trials: int, batch: int, window: int) -> float:
    """The best value found by our study."""
    study = Study(load_space(function.space), Search(seed=seed), "minimize", batch, window)
    values: list[float] = []
    told = 0
    for start in range(0, trials, batch):
        while told < told_before(start, window, batch):
            study.tell(told, Outcome(TrialState.COMPLETE, values[told]))
            told += 1
        values += [function.value(params) for params in study.ask(range(start, min(start + batch, trials)))]
    return min(values)


def best_with_optuna(function: Function, seed: int, trials: int, batch: int, window: int) -> float:
    """The best value found by Optuna's TPE, asked one by one, with results told at the same delay."""
    space = load_space(function.space)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    values: list[float] = []
    told = 0
    for start in range(0, trials, batch):
        while told < told_before(start, window, batch):
            study.tell(told, values[told])
            told += 1
        for _ in range(start, min(start + batch, trials)):
            values.append(function.value(space.suggest(study.ask())))
    return min(values)


def quality(seeds: int, trials: int, batch: int, window: int) -> list[dict[str, Any]]:
    """Medians over seeds for each function, and the standard error of the difference of two medians."""
    rows = []
    for name, function in FUNCTIONS.items():
        ours = [best_with_batch_tpe(function, seed, trials, batch, window) for seed in range(seeds)]
        theirs = [best_with_optuna(function, seed, trials, batch, window) for seed in range(seeds)]
        chance = [best_by_chance(function, seed, trials) for seed in range(seeds)]
        noise = 1.25 * math.sqrt((np.var(ours, ddof=1) + np.var(theirs, ddof=1)) / seeds)
        middle = [float(np.median(values)) for values in (ours, theirs, chance)]
        rows.append({"function": name, "ours": middle[0], "optuna": middle[1], "random": middle[2], "noise": noise})
    return rows


def best_by_chance(function: Function, seed: int, trials: int) -> float:
    """The best value of as many random trials."""
    study = Study(load_space(function.space), Search("random", seed), "minimize", trials, trials)
    return min(function.value(params) for params in study.ask(range(trials)))


def cost(histories: Sequence[int], repeats: int, batch: int = COST_BATCH) -> list[dict[str, Any]]:
    """CPU milliseconds per suggestion of a batch after so many finished trials (the least of some repeats)."""
    rows = []
    for finished in histories:
        start = -(-finished // batch) * batch
        past = Study(load_space(VALLEY.space), Search("random"), "minimize", start, start).ask(range(start))
        ours, theirs = cost_of_ours(past, batch, repeats), cost_of_optuna(past, repeats)
        rows.append({"finished": finished, "ours": ours, "optuna": theirs})
    return rows


def cost_of_ours(past: list[dict[str, Any]], batch: int, repeats: int) -> float:
    """Milliseconds per trial of a batch."""
    start, least = len(past), math.inf
    for _ in range(repeats):
        study = Study(load_space(VALLEY.space), Search(), "minimize", batch, batch)
        study.restore((p, Outcome(TrialState.COMPLETE, VALLEY.value(p))) for p in past)
        study.ask(range(start, start + batch))  # encodes the history once
        for asked in range(start, start + batch):
            study.tell(asked, Outcome(TrialState.COMPLETE, 9.0))
        begin = time.process_time()
        study.ask(range(start + batch, start + 2 * batch))
        least = min(least, (time.process_time() - begin) * 1000 / batch)
    return least


def cost_of_optuna(past: list[dict[str, Any]], repeats: int) -> float:
    """Milliseconds of one ask."""
    space, least = load_space(VALLEY.space), math.inf
    peer = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
    distributions = space.distributions()
    values = [VALLEY.value(p) for p in past]
    peer.add_trials(
        [
            optuna.create_trial(value=value, params=dict(p), distributions=distributions)
            for value, p in zip(values, past, strict=True)
        ]
    )
    for _ in range(repeats):
        begin = time.process_time()
        space.suggest(peer.ask())
        least = min(least, (time.process_time() - begin) * 1000)
    return least


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run in a child."""
    from benchmarks import process

    return process.measure("suggest", *(["--quick"] if options.quick else []))


def tables(section: Mapping[str, Any]) -> list[Table]:
    """Cost per suggestion, and quality after some trials."""
    cost_rows = tuple(
        (f"{r['finished']:,}", number(r["ours"]), number(r["optuna"]), times(r["optuna"], r["ours"]))
        for r in section["cost"]
    )
    quality_rows = tuple(
        (
            r["function"],
            *(f"{r[key]:.4f}" for key in ("ours", "optuna", "random")),
            f"{(r['ours'] - r['optuna']) / r['noise']:+.2f}",
        )
        for r in section["quality"]
    )
    cost_note = f"CPU ms per trial: ours in batches of {COST_BATCH}, Optuna's TPE asked one by one, both in memory."
    quality_note = (
        f"Best value of {section['trials']} trials (lower is better), median of {section['seeds']} seeds; the same "
        f"batches of {section['batch']} and window of {section['window']}. Difference in units of its standard error."
    )
    return [
        Table("Cost of a suggestion", ("finished trials", "ours", "Optuna", "Optuna takes"), cost_rows, cost_note),
        Table(
            "Quality of the suggestions",
            ("function", "ours", "Optuna", "random", "difference"),
            quality_rows,
            quality_note,
        ),
    ]


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--window", type=int, default=16)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if options.quick:
        options.seeds, options.trials = 2, 24
    scale = {"seeds": options.seeds, "trials": options.trials, "batch": options.batch, "window": options.window}
    histories = (100, 1000) if options.quick else (100, 1000, 5000, 10_000)
    costs = cost(histories, 1 if options.quick else 5)
    print(json.dumps(scale | {"cost": costs, "quality": quality(**scale)}))


if __name__ == "__main__":
    main()
