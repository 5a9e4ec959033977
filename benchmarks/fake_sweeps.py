"""Sweeps without training: the project's own study and pruners over learning curves whose truth is known.

A trial's final loss is ``exp(level(params) + noise)``. Its curve begins far above that and gets there at the last
epoch, at a speed that may differ between optimizers:

    d(e) = (exp(-speed e) - exp(-speed E)) / (1 - exp(-speed E))
    loss(e) = final * (1 + 4 d(e)) * exp(jitter(e)), or final^(1 - d(e)) * exp(begin d(e)) * exp(jitter(e))

Names of dimensions: E epochs of a complete trial; u and w are learning rate and weight decay, from 0 to 1 on the
logarithm of their ranges.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sweeper.records import EpochReport, TrialRecord
from sweeper.running.parts import window_and_batch
from sweeper.scheduling.window import told_before
from sweeper.search.pruning import BatchPruner, Judged, Objective, Pruner, make_pruner
from sweeper.search.study import Outcome, Study
from sweeper.spec.parse import SweepSpec, load_spec
from sweeper.states import TrialState

EPOCHS = 20
JITTER = 0.01  # of each epoch, on the logarithm
SPACE = {
    "learning_rate": {"float": [1e-4, 1e-1], "log": True},
    "weight_decay": {"float": [1e-6, 1e-2], "log": True},
    "optimizer": {"choice": ["adam", "sgd"]},
    "activation": {"choice": ["relu", "tanh"]},
    "initialization": {"choice": ["xavier_uniform", "he_uniform", "normal"]},
}


@dataclass(frozen=True)
class Point:
    """One trial's parameters."""

    u: float
    w: float
    optimizer: str
    activation: str


Shape = Callable[[Point], float]


def _same(point: Point) -> float:
    return 0.15


def _little(point: Point) -> float:
    return 0.05


def _calm(point: Point) -> float:
    return 0.3


@dataclass(frozen=True)
class Surface:
    """The truth: the ``level`` of the log loss, the ``noise`` about it and the ``speed`` of learning.

    ``real`` are the claims that hold on it, by kind; every other claim of a kind is false. At an early epoch what is
    said of ``early`` is true as well: that one of the choices leads there, or leads there in some settings.
    """

    level: Shape
    noise: Shape = _same
    speed: Shape = _calm
    begin: float | None = None  # the log loss that all curves begin at, whatever they come to
    wander: float = 0.0  # how much the speed differs from trial to trial, on the logarithm
    real: Mapping[str, frozenset[str]] = field(default_factory=dict)
    early: frozenset[str] = frozenset()


def valley(p: Point) -> float:
    """The best learning rate lies in the middle."""
    return 3.0 * (p.u - 0.5) ** 2


def cliff(p: Point) -> float:
    """The loss falls with the learning rate up to a cliff."""
    return -0.8 * p.u + 2.0 * (p.u > 0.7)


def bent(p: Point) -> float:
    """A bent valley: the best learning rate depends on the weight decay, and the sides are uneven."""
    off = p.u - 0.35 - 0.3 * p.w**2
    return 4.0 * off * off * (2.0 if off > 0 else 1.0) + 0.15 * math.sin(9 * p.u)


def _uneven(p: Point) -> float:
    return (0.05 + 0.7 * abs(p.u - 0.5)) * (2.0 if p.activation == "tanh" else 1.0)


def _uneven_speed(p: Point) -> float:
    return 0.5 if p.optimizer == "adam" else 0.15


def _crossed_speed(p: Point) -> float:
    return 0.1 + 0.5 * (1 - p.u if p.optimizer == "adam" else p.u)


def optimizer_effect(size: float) -> Surface:
    """The loss of sgd is ``1 + size`` times that of adam."""
    real = {"beats": frozenset({"optimizer"}), "no effect": frozenset({"weight_decay", "initialization", "activation"})}
    return Surface(lambda p: valley(p) + math.log(1 + size) * (p.optimizer == "sgd"), real=real)


def crossing(p: Point) -> float:
    """Adam wants smaller learning rates than sgd."""
    return 3.0 * (p.u - (0.3 if p.optimizer == "adam" else 0.7)) ** 2


INERT = {"no effect": frozenset({"weight_decay", "optimizer", "activation", "initialization"})}
LEAD = frozenset({"optimizer", "optimizer, learning_rate"})
NULLS = {
    "tie": Surface(valley, speed=_uneven_speed, real=INERT, early=LEAD),
    "cliff": Surface(cliff, _little, real=INERT),
    "uneven noise": Surface(valley, _uneven, real=INERT),
    "curved": Surface(bent, real={"no effect": INERT["no effect"] - {"weight_decay"}}),
}
SPEEDS = {  # with pruners only: choices differ in how they learn, but not in what they come to
    "late": Surface(valley, speed=_uneven_speed, begin=1.0, wander=0.2, real=INERT, early=LEAD),
    "late cliff": Surface(cliff, _little, speed=_uneven_speed, begin=1.0, wander=0.2, real=INERT, early=LEAD),
    "late speeds": Surface(valley, speed=_crossed_speed, begin=1.0, wander=0.2, real=INERT, early=LEAD),
}
TRUTHS = {
    "optimizer 10%": optimizer_effect(0.1),
    "optimizer 20%": optimizer_effect(0.2),
    "optimizer 50%": optimizer_effect(0.5),
    "crossing": Surface(
        crossing,
        real={
            "beats": frozenset({"optimizer"}),
            "interaction": frozenset({"optimizer, learning_rate"}),
            "condition": frozenset({"optimizer, learning_rate"}),
            "no effect": INERT["no effect"] - {"optimizer"},
        },
    ),
    "edge": Surface(lambda p: -1.2 * p.u, real={"boundary": frozenset({"learning_rate"}), **INERT}),
}
SEARCHES = {
    "random": ("random", "none"),
    "tpe": ("tpe", "none"),
    **{f"tpe, {p}": ("tpe", p) for p in ("median", "asha", "hyperband", "halving", "percentile", "plateau")},
}


@dataclass(frozen=True)
class FakeSweep:
    """What the report reads."""

    spec: SweepSpec
    trials: list[TrialRecord]
    reports: dict[int, list[EpochReport]]


def spec_of(sampler: str, pruner: str, trials: int, seed: int) -> SweepSpec:
    """A sweep file's worth of settings."""
    search = {"trials": trials, "sampler": sampler, "pruner": pruner, "seed": seed}
    training = {"epochs": EPOCHS}
    sections: dict[str, Any] = {"dataset": {"name": "iris"}, "space": SPACE, "search": search, "training": training}
    return load_spec({"name": "fake", **sections})


def fake_sweep(surface: Surface, search: str, trials: int, seed: int) -> FakeSweep:
    """One sweep from its first suggestion to its end, batch by batch as the controller runs it."""
    spec = spec_of(*SEARCHES[search], trials, seed)
    window, batch = window_and_batch(spec, trials)
    study = Study(spec.space, spec.search, "minimize", batch, window)
    pruner = make_pruner(spec.search.pruner, objective=Objective("val_loss", "minimize", EPOCHS))
    rng = np.random.default_rng(seed)
    curves: dict[int, list[float]] = {}
    records: list[TrialRecord] = []
    told = 0
    for start in range(0, trials, batch):
        seen = told_before(start, window, batch)
        while told < seen:
            study.tell(told, _outcome(records[told]))
            told += 1
        numbers = range(start, min(start + batch, trials))
        params = study.ask(numbers)
        whole = {n: _curve(surface, p, rng) for n, p in zip(numbers, params, strict=True)}
        peers = {n: curve for n, curve in curves.items() if n < seen}
        kept = allowed(pruner, whole, peers)
        for n, point in zip(numbers, params, strict=True):
            curves[n] = kept[n]
            records.append(record(n, point, kept[n]))
    return FakeSweep(spec, records, reports_of(curves))


def reports_of(curves: Mapping[int, list[float]]) -> dict[int, list[EpochReport]]:
    """Curves as the report reads them."""
    return {n: [EpochReport(e, {"val_loss": v}) for e, v in enumerate(curve)] for n, curve in curves.items()}


def allowed(
    pruner: Pruner | BatchPruner, whole: Mapping[int, list[float]], peers: Mapping[int, list[float]]
) -> dict[int, list[float]]:
    """What of the ``whole`` curves of a batch a pruner allows, which sees the curves of ``peers``."""
    if isinstance(pruner, BatchPruner):
        return _pruned_together(pruner, whole)
    return {n: _pruned(pruner, n, curve, peers) for n, curve in whole.items()}


def _curve(surface: Surface, params: Mapping[str, Any], rng: np.random.Generator) -> list[float]:
    u = (math.log10(params["learning_rate"]) + 4) / 3
    w = (math.log10(params["weight_decay"]) + 6) / 4
    point = Point(u, w, params["optimizer"], params["activation"])
    final = math.exp(surface.level(point) - 1.0 + surface.noise(point) * rng.standard_normal())
    speed, epochs = surface.speed(point), np.arange(1, EPOCHS + 1)
    if surface.wander:
        speed *= math.exp(surface.wander * rng.standard_normal())
    end = math.exp(-speed * EPOCHS)
    decay = (np.exp(-speed * epochs) - end) / (1 - end)
    shape = 1 + 4 * decay if surface.begin is None else np.exp((surface.begin - math.log(final)) * decay)
    values: list[float] = (final * shape * np.exp(JITTER * rng.standard_normal(EPOCHS))).tolist()
    return values


def _pruned(pruner: Pruner, number: int, curve: list[float], peers: Mapping[int, list[float]]) -> list[float]:
    """The epochs that a trial was allowed, decided by itself."""
    for epochs in pruner.legs(EPOCHS):
        if pruner.decide(Judged(number, curve[:epochs], peers)).stop:
            return curve[:epochs]
    return curve


def _pruned_together(pruner: BatchPruner, curves: Mapping[int, list[float]]) -> dict[int, list[float]]:
    """The epochs that the trials of a batch were allowed."""
    kept = dict(curves)
    alive = set(curves)
    for epochs in pruner.legs(EPOCHS):
        decisions = pruner.decide_batch({n: curves[n][epochs - 1] for n in sorted(alive)}, epochs)
        stopped = {n for n, decision in decisions.items() if decision.stop}
        kept |= {n: curves[n][:epochs] for n in stopped}
        alive -= stopped
    return kept


def record(number: int, params: Mapping[str, Any], curve: list[float]) -> TrialRecord:
    """A trial that ended after these epochs."""
    state = TrialState.COMPLETE if len(curve) == EPOCHS else TrialState.PRUNED
    last = {"val_loss": curve[-1]}
    return TrialRecord(number, state, params=params, value=curve[-1], metrics=last, epochs=len(curve))


def _outcome(record: TrialRecord) -> Outcome:
    return Outcome(record.state, record.value, (record.epochs - 1, record.value or 0.0))
