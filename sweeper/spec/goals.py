"""What a sweep optimises and what its trials must satisfy: objectives and constraints on a trial's metrics."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, InstanceOf, PlainSerializer

from sweeper.errors import nearest
from sweeper.models.metric_names import OF_TASK, larger_is_better
from sweeper.spec.section import MAX_SECONDS, Section, refuse, seconds
from sweeper.spec.user_code import UserFunction
from sweeper.spec.user_files import read_function, stored_function
from sweeper.spec.warm import as_tuple

Task = Literal["classification", "regression"]
Direction = Literal["minimize", "maximize"]

METRICS: dict[Task, tuple[str, ...]] = {
    task: ("val_loss", "train_loss", *(f"val_{name}" for name in names if name != "loss"))
    for task, names in OF_TASK.items()
}
PARAMETERS, SECONDS = "parameters", "seconds"  # the network's weights and biases; the trial's training time
COSTS = (PARAMETERS, SECONDS)  # metrics of a trial as a whole, not of an epoch
ALL_METRICS = (*dict.fromkeys(name for names in METRICS.values() for name in names), *COSTS)
TOLERANCE = 1e-6  # of a bound, for metrics that were computed in float32: 0.95 is stored as 0.949999988

_CONSTRAINT = re.compile(r"\s*(?P<metric>[^\s<>=!]+)\s*(?P<sign>[<>=!]+)\s*(?P<bound>\S+)\s*")
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?")


def natural_direction(metric: str) -> Direction:
    """The direction in which a metric gets better."""
    return "maximize" if larger_is_better(metric) else "minimize"


Function = Annotated[InstanceOf[UserFunction], BeforeValidator(read_function), PlainSerializer(stored_function)]
VALUE = "value"  # the metric of a function of the user's own: what it returns, and what it reports on the way
OWN = ("function", "reports", "time_limit")  # the keys of an objective of the user's own


class ObjectiveSpec(Section):
    """What is optimised, in which direction (default: the one in which the metric gets better).

    With a ``function`` of the user's own that is what it returns. ``reports`` is how many times a whole trial calls
    ``trial.report`` (None: not known), ``time_limit`` the seconds after which a trial is ended.
    """

    function: Function | None = None
    metric: str = Field(default_factory=lambda data: "val_loss" if data.get("function") is None else VALUE)
    direction: Literal["minimize", "maximize"] = Field(default_factory=lambda data: natural_direction(data["metric"]))

    reports: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    time_limit: Annotated[float, BeforeValidator(seconds), Field(gt=0, le=MAX_SECONDS)] | None = None

    @property
    def sign(self) -> float:
        """1, or -1 when larger is better: times a value, less is better."""
        return -1.0 if self.direction == "maximize" else 1.0


@dataclass(frozen=True)
class Constraint:
    """``metric <= bound``, or ``metric >= bound`` where ``at_least``."""

    metric: str
    at_least: bool
    bound: float

    def __str__(self) -> str:
        return f"{self.metric} {'>=' if self.at_least else '<='} {self.bound:.12g}"

    def excess(self, metrics: Mapping[str, float | None]) -> float:
        """How far a trial lies beyond the bound, in shares of the bound (of 1 where it is 0): above 0 it is violated.

        A trial without the metric is infinitely far off.
        """
        value = metrics.get(self.metric)
        if value is None or not math.isfinite(value):
            return math.inf
        beyond = (self.bound - value if self.at_least else value - self.bound) / (abs(self.bound) or 1.0)
        return beyond if abs(beyond) > TOLERANCE else 0.0


def parse_constraint(text: Any) -> Constraint:
    """The constraint that a text such as ``val_accuracy >= 0.95`` states; refused as a validation error otherwise."""
    if isinstance(text, Constraint):
        return text
    remedy = 'Write a metric, <= or >=, and a number, such as "val_accuracy >= 0.95"'
    if not isinstance(text, str):
        refuse(f"{str(text)[:60]!r} is not a constraint", remedy=remedy)
    match = _CONSTRAINT.fullmatch(text[:200])
    if match is None:
        refuse(f"{text[:60]!r} is not a constraint", remedy=remedy)
    metric, sign, bound = match["metric"], match["sign"], match["bound"]
    if not metric.isidentifier():
        refuse(f"{metric[:60]!r} is not a metric", remedy=nearest(metric[:60], ALL_METRICS))
    if sign not in ("<=", ">="):
        refuse(f"{sign[:10]!r} is not a comparison", remedy="Use <= or >=")
    if _NUMBER.fullmatch(bound) is None or not math.isfinite(float(bound)):
        refuse(f"{bound[:40]!r} is not a number", remedy=remedy)
    return Constraint(metric, sign == ">=", float(bound))


Limit = Annotated[InstanceOf[Constraint], BeforeValidator(parse_constraint), PlainSerializer(str)]
Limits = Annotated[tuple[Limit, ...], BeforeValidator(lambda value: () if value is None else as_tuple(value))]
Objectives = Annotated[tuple[ObjectiveSpec, ...], BeforeValidator(as_tuple)]


def values_of(metrics: Mapping[str, float | None], objectives: Sequence[ObjectiveSpec]) -> tuple[float, ...]:
    """A trial's objective values in the order of the objectives; empty when one of them is missing or not finite."""
    found = [metrics.get(objective.metric) for objective in objectives]
    values = tuple(float(value) for value in found if value is not None and math.isfinite(value))
    return values if len(values) == len(objectives) else ()


def excesses_of(metrics: Mapping[str, float | None], constraints: Sequence[Constraint]) -> tuple[float, ...]:
    """How far a trial lies beyond each constraint; see ``Constraint.excess``."""
    return tuple(constraint.excess(metrics) for constraint in constraints)


def network_size(n_inputs: int, hidden_layers: Sequence[int], n_outputs: int, normalization: str = "none") -> int:
    """How many weights and biases a network has: the metric ``parameters``. A normalization has two for each unit."""
    widths = (n_inputs, *hidden_layers, n_outputs)
    norms = 2 * sum(hidden_layers) if normalization != "none" else 0
    return sum((before + 1) * after for before, after in pairwise(widths)) + norms


def fold_metric(fold: int) -> str:
    """The name of a complete trial's metric that keeps its objective on one fold (from 0)."""
    return f"fold_{fold}"


def of_folds(values: Sequence[float]) -> dict[str, float]:
    """The metrics that keep a complete trial's objective on each fold in turn."""
    return {fold_metric(i): value for i, value in enumerate(values)}


def values_of_folds(metrics: Mapping[str, float | None]) -> list[float | None]:
    """The objective's values on each fold in turn, from a trial's metrics; empty where there were no folds."""
    found: list[float | None] = []
    while (name := fold_metric(len(found))) in metrics:
        found.append(metrics[name])
    return found


def violation(excesses: Sequence[float]) -> float:
    """How far in all a trial lies beyond its constraints; 0: it is feasible."""
    return sum(excess for excess in excesses if excess > 0)


def places_of(objectives: Sequence[ObjectiveSpec], constraints: Sequence[Constraint]) -> list[tuple[str, str]]:
    """Where a sweep file names a metric: (dotted key, metric)."""
    keys = ["objective"] if len(objectives) == 1 else [f"objectives.{i}" for i in range(len(objectives))]
    places = [(f"{key}.metric", objective.metric) for key, objective in zip(keys, objectives, strict=True)]
    return places + [(f"constraints.{i}", constraint.metric) for i, constraint in enumerate(constraints)]


def check_goals(
    objectives: Sequence[ObjectiveSpec], constraints: Sequence[Constraint], search: Any, own: Sequence[str] = ()
) -> None:
    """Refuse what cannot be searched, as a validation error: ``search`` is the sweep's SearchSpec.

    ``own`` are the names of the user's own metrics.
    """
    names = [objective.metric for objective in objectives]
    for key, metric in places_of(objectives, constraints):
        if metric not in (*ALL_METRICS, *own):
            refuse(f"{metric[:60]!r} is not a metric", key, nearest(metric[:60], (*own, *ALL_METRICS)))
    if names[0] in COSTS:
        remedy = "Put a metric of the training first, such as val_loss"
        refuse(f"{names[0]} alone says nothing about the training", "objective.metric", remedy)
    doubled = next((name for name in names if names.count(name) > 1), None)
    if doubled is not None:
        refuse(f"{doubled} is listed twice", "objectives", "Keep one of the two")
    if search.deterministic and SECONDS in (*names, *(constraint.metric for constraint in constraints)):
        problem = "seconds is measured, so the same seed will not give the same sweep"
        refuse(problem, "search.deterministic", "Set search.deterministic: false, or use parameters instead")
    if len(objectives) > 1:
        if search.sampler in ("gp", "cmaes", "own"):
            remedy = "Use tpe (or random, sobol, grid)"
            refuse(f"{search.sampler} searches for one objective only", "search.sampler", remedy)
        if search.pruner != "none":
            remedy = "Set search.pruner: none, or keep one objective and write the others as constraints"
            refuse("pruners support one objective only", "search.pruner", remedy)
    if len(objectives) > 1 and search.stop is not None:
        refuse(
            "a front has no best value that could stop to improve", "search.stop", "Remove it, or keep one objective"
        )
    if constraints and search.sampler == "cmaes":
        refuse("cmaes does not support constraints", "search.sampler", "Use tpe or gp")
