"""How far a search gets with pruning in as many epochs: ours beside Optuna's and Ray Tune's, on LCBench's tasks.

    python -m benchmarks --only search_pruning [--seeds 3]
    python -m benchmarks.search_pruning --file pruned.jsonl [--seeds 2] [--first-seed 0] [--workers 1 8] [--budget 50]
                                        [--methods "ours, asha" ...] [--tasks 3945 ...]

A search may train ``budget`` times the epochs of a whole trial, in simulated time: every epoch takes as long as any
other, and a worker trains one trial at a time. What counts is the best final value of a complete trial; until there is
one, the best value of any epoch, as the product answers. Ours has the product's window for so many workers, its study,
pruners and view of earlier trials; Optuna's pruners and Ray Tune's scheduler have their defaults (they are told the
number of epochs) and see all results at once. Ray's scheduler and ``OptunaSearch`` are called as its controller does,
without a cluster. Every sweep is a line of the file; those that it has are not run again.
"""

from __future__ import annotations

import argparse
import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import product
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np
import optuna

from benchmarks import surrogate
from benchmarks.problems import Params, Problem
from benchmarks.problems import tables as lcbench
from benchmarks.regret import (
    Regrets,
    Results,
    Row,
    arguments,
    contenders,
    described,
    paired,
    regrets,
    section,
    whole_seeds,
)
from benchmarks.results import Table, show
from benchmarks.suggest import Search
from sweeper.running.trial import Curves, EndedBefore, TrialRun
from sweeper.running.windows import LEAST, PER_CORE
from sweeper.scheduling.window import told_before
from sweeper.search.ordered_costs import OrderedCosts
from sweeper.search.pruning import Judged, Objective, make_pruner
from sweeper.search.study import Outcome, Study
from sweeper.search_spaces import load_space
from sweeper.states import TrialState

SHARES = (0.25, 0.5, 1.0)  # of the budget at which the best value is noted
BUDGET = 50
WORKERS = (1, 8)
NEVER = 1 << 30  # a window in which no result is waited for
Curve = list[float]


class Contender(Protocol):
    """Starts trials, and says after an epoch whether they stop."""

    def start(self) -> tuple[int, Params] | None:
        """The next trial; None: it waits for a result."""
        ...

    def stops(self, number: int, curve: Curve) -> bool:
        """Whether a trial stops after these epochs, which are not all."""
        ...

    def end(self, number: int, curve: Curve, complete: bool) -> None:
        """A trial has ended after these epochs."""
        ...


class Ours:
    """The project's study and pruners, in the product's window, or in a ``narrow`` one of as many trials as workers."""

    def __init__(
        self,
        problem: Problem,
        seed: int,
        workers: int,
        epochs: int,
        sampler: str = "tpe",
        pruner: str = "none",
        narrow: bool = False,
    ) -> None:
        self._window = workers if narrow else max(LEAST, PER_CORE * workers)
        self._batch = max(1, self._window // 4)
        self._study = Study(load_space(problem.space), Search(sampler, seed), "minimize", self._batch, self._window)
        self._pruner = make_pruner(pruner, objective=Objective("val_error", "minimize", epochs))
        self._legs = frozenset(self._pruner.legs(epochs))
        self._trials: dict[int, TrialRun] = {}
        self._ordered = OrderedCosts(Curves(self._trials))
        self._asked: deque[tuple[int, Params]] = deque()

    def start(self) -> tuple[int, Params] | None:
        """As ``Contender``."""
        first = self._study.asked
        if not self._asked and self._study.ready(first):
            numbers = range(first, first + self._batch)
            self._asked.extend(zip(numbers, self._study.ask(numbers), strict=True))
        return self._asked.popleft() if self._asked else None

    def stops(self, number: int, curve: Curve) -> bool:
        """As ``Contender``."""
        if len(curve) not in self._legs:
            return False
        seen = told_before(number, self._window, self._batch)
        return self._pruner.decide(Judged(number, curve, EndedBefore(self._trials, seen, self._ordered))).stop

    def end(self, number: int, curve: Curve, complete: bool) -> None:
        """As ``Contender``."""
        self._trials[number] = TrialRun(curve=curve, ended=True)
        state = TrialState.COMPLETE if complete else TrialState.PRUNED
        self._study.tell(number, Outcome(state, curve[-1], (len(curve) - 1, curve[-1])))


class Optuna:
    """Optuna's TPE and one of its pruners."""

    def __init__(self, problem: Problem, seed: int, pruner: optuna.pruners.BasePruner) -> None:
        self._space = load_space(problem.space)
        self._study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed), pruner=pruner)
        self._trials: dict[int, optuna.Trial] = {}

    def start(self) -> tuple[int, Params]:
        """As ``Contender``."""
        trial = self._study.ask()
        self._trials[trial.number] = trial
        return trial.number, self._space.suggest(trial)

    def stops(self, number: int, curve: Curve) -> bool:
        """As ``Contender``."""
        self._trials[number].report(curve[-1], len(curve))
        return self._trials[number].should_prune()

    def end(self, number: int, curve: Curve, complete: bool) -> None:
        """As ``Contender``."""
        trial = self._trials.pop(number)
        if complete:
            trial.report(curve[-1], len(curve))
            self._study.tell(trial, curve[-1])
        else:
            self._study.tell(trial, state=optuna.trial.TrialState.PRUNED)


class RayTune:
    """Ray Tune's ASHA, with its OptunaSearch or with random points."""

    def __init__(self, problem: Problem, seed: int, epochs: int, searches: bool) -> None:
        from ray.tune.schedulers import ASHAScheduler
        from ray.tune.search.optuna import OptunaSearch

        space, goal = load_space(problem.space), {"metric": "val_error", "mode": "min"}
        self._search = OptunaSearch(space.distributions(), seed=seed, **goal) if searches else None
        self._random = Study(space, Search("random", seed), "minimize", 1, NEVER)
        self._scheduler = ASHAScheduler(max_t=epochs, **goal)
        self._trials: list[Any] = []

    def start(self) -> tuple[int, Params]:
        """As ``Contender``."""
        number = len(self._trials)
        self._trials.append(SimpleNamespace(trial_id=str(number)))
        self._scheduler.on_trial_add(None, self._trials[-1])
        if self._search is None:
            return number, self._random.ask([number])[0]
        return number, self._search.suggest(str(number))

    def stops(self, number: int, curve: Curve) -> bool:
        """As ``Contender``."""
        result = _result(curve)
        if self._scheduler.on_trial_result(None, self._trials[number], result) == self._scheduler.STOP:
            return True
        if self._search:
            self._search.on_trial_result(str(number), result)
        return False

    def end(self, number: int, curve: Curve, complete: bool) -> None:
        """As ``Contender``: the last result of a trial that was stopped counts as its final one there."""
        self._scheduler.on_trial_complete(None, self._trials[number], _result(curve))
        if self._search:
            self._search.on_trial_complete(str(number), _result(curve))


def _result(curve: Curve) -> dict[str, Any]:
    return {"training_iteration": len(curve), "val_error": curve[-1]}


Made = Callable[[Problem, int, int, int], Contender]  # of problem, seed, workers and epochs


def _ours(sampler: str, pruner: str, narrow: bool = False) -> Made:
    return partial(Ours, sampler=sampler, pruner=pruner, narrow=narrow)


def _optuna(pruner: Callable[[int], optuna.pruners.BasePruner]) -> Made:
    return lambda problem, seed, workers, epochs: Optuna(problem, seed, pruner(epochs))


METHODS: dict[str, Made] = {
    "random": _ours("random", "none"),
    "ours": _ours("tpe", "none"),
    "ours, median": _ours("tpe", "median"),
    "ours, percentile": _ours("tpe", "percentile"),
    "ours, asha": _ours("tpe", "asha"),
    "ours, hyperband": _ours("tpe", "hyperband"),
    "ours, narrow": _ours("tpe", "none", narrow=True),
    "ours, asha, narrow": _ours("tpe", "asha", narrow=True),
    "Optuna": _optuna(lambda epochs: optuna.pruners.NopPruner()),
    "Optuna, median": _optuna(lambda epochs: optuna.pruners.MedianPruner()),
    "Optuna, asha": _optuna(lambda epochs: optuna.pruners.SuccessiveHalvingPruner()),
    "Optuna, hyperband": _optuna(lambda epochs: optuna.pruners.HyperbandPruner(max_resource=epochs)),
    "Ray asha, Optuna": lambda problem, seed, workers, epochs: RayTune(problem, seed, epochs, searches=True),
    "Ray asha, random": lambda problem, seed, workers, epochs: RayTune(problem, seed, epochs, searches=False),
}


class Spent:
    """What a search has spent and found."""

    def __init__(self) -> None:
        self.found: list[float] = []  # after each epoch
        self.trials = self.ticks = 0
        self._complete = self._any = math.inf

    def add(self, value: float, final: bool) -> None:
        """One more epoch."""
        self._any = min(self._any, value)
        if final:
            self._complete = min(self._complete, value)
        self.found.append(self._complete if math.isfinite(self._complete) else self._any)


def spend(problem: Problem, contender: Contender, workers: int, epochs: int, budget: int) -> Spent:
    """A search of ``budget`` epochs: at each tick every worker with a trial trains one epoch of it.

    Raises:
        RuntimeError: no trial runs and none is begun.
    """
    spent = Spent()
    running: dict[int, tuple[Curve, int]] = {}  # whole curves, and the epochs that are trained
    while len(spent.found) < budget:
        while len(running) < workers and (begun := contender.start()) is not None:
            number, params = begun
            assert problem.curves is not None
            running[number] = (problem.curves([params])[0].tolist(), 0)
            spent.trials += 1
        if not running:
            raise RuntimeError("no trial runs and none is begun")
        spent.ticks += 1
        for number, (whole, before) in sorted(running.items())[: budget - len(spent.found)]:
            curve, final = whole[: before + 1], before + 1 == epochs
            spent.add(curve[-1], final)
            running[number] = (whole, before + 1)
            if final or contender.stops(number, curve):
                contender.end(number, curve, final)
                del running[number]
    return spent


def run(
    results: Results,
    problems: Sequence[Problem],
    methods: Sequence[str],
    seeds: Iterable[int],
    workers: Sequence[int],
    budget: int,
    epochs: int = surrogate.EPOCHS,
) -> None:
    """Every search that the results lack, seed by seed; ``budget`` is in whole trials."""
    for seed, problem, several, method in product(seeds, problems, workers, methods):
        known = {"problem": problem.name, "method": method, "workers": several, "seed": seed, "budget": budget}
        if results.has(**known):
            continue
        contender = METHODS[method](problem, problem.seed(seed), several, epochs)
        spent = spend(problem, contender, several, epochs, budget * epochs)
        found = [spent.found[round(share * budget * epochs) - 1] for share in SHARES]
        busy = budget * epochs / (spent.ticks * several)
        results.add({"kind": "sweep", **known, "found": found, "trials": spent.trials, "busy": busy})


def tables(measured: Mapping[str, Any]) -> list[Table]:
    """Mean regret over the tasks, each method paired with others of as many workers."""
    rows: Sequence[Row] = measured["rows"]
    found = regrets(rows, "lcbench")
    if not found:
        return []
    sweeps, lines = contenders(whole_seeds(rows, "lcbench")), []
    for (method, workers), by in sorted(found.items(), key=lambda item: (item[0][1], list(METHODS).index(item[0][0]))):
        means = [f"{100 * by[:, :, at].mean():.1f}" for at in range(len(SHARES))]
        trials, busy = (float(np.mean([row[key] for row in sweeps[method, workers]])) for key in ("trials", "busy"))
        pairs = [_paired(found, method, other, workers) for other in ("ours", "Optuna", _peer(method))]
        lines.append((method, str(workers), *means, f"{trials:.0f}", f"{100 * busy:.0f}%", *pairs))
    header = ("method", "workers", *(f"at {share:.0%}" for share in SHARES), "trials", "busy")
    header += ("minus ours whole", "minus Optuna whole", "minus Optuna's same pruner")
    note = (
        f"{described(found)} By share of a budget of {next(iter(sweeps.values()))[0]['budget']} whole trials' epochs, "
        "differences at the end. Busy: how much of the workers' time is training."
    )
    return [Table("Regret with pruning at equal epochs", header, tuple(lines), note)]


def _peer(method: str) -> str:
    return method.removesuffix(", narrow").replace("ours", "Optuna") if method.startswith("ours, ") else ""


def _paired(found: Regrets, method: str, other: str, workers: int) -> str:
    return "" if other == method else paired(found[method, workers], found.get((other, workers)), len(SHARES) - 1)


def measure(options: argparse.Namespace) -> dict[str, Any] | None:
    """All of it, of some seeds; None, and a sentence, where the surrogate's files are missing."""
    budget = 4 if options.quick else BUDGET
    return section(options, lambda results, tasks, seeds: run(results, tasks, tuple(METHODS), seeds, WORKERS, budget))


def main() -> None:
    """Run what is missing in the file, and show all that it has."""
    parser = arguments(__doc__, METHODS, tuple(METHODS), WORKERS, 2)
    parser.add_argument("--budget", type=int, default=BUDGET, help="in whole trials")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    results, problems = Results(options.file), lcbench(options.tasks)
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    run(results, problems, options.methods, seeds, options.workers, options.budget)
    results.add_scales(problems)
    show(tables({"rows": results.rows}))


if __name__ == "__main__":
    main()
