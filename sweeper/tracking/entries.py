"""What sweeps and trials look like as MLflow runs: names, tags, parameters and metrics within MLflow's limits."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sweeper.flow import first_to_last
from sweeper.models.metric_names import OF_TASK, larger_is_better
from sweeper.records import EpochReport, FlowReport, SweepRecord, TrialRecord
from sweeper.spec.goals import COSTS, Constraint
from sweeper.spec.phases import Schedule, history_in, phases_in_words
from sweeper.states import SweepState, TrialState

MAX_KEY, MAX_PARAM, MAX_TAG = 250, 6000, 8000

TRIAL_STATUS = {
    TrialState.COMPLETE: "FINISHED",
    TrialState.PRUNED: "KILLED",
    TrialState.FAILED: "FAILED",
    TrialState.STOPPED: "KILLED",
}
SWEEP_STATUS = {
    SweepState.COMPLETE: "FINISHED",
    SweepState.FAILED: "FAILED",
    SweepState.STOPPED: "KILLED",
    SweepState.PAUSED: "SCHEDULED",
    SweepState.RUNNING: "RUNNING",
    SweepState.QUEUED: "SCHEDULED",
}
SWEEP_ID, PARENT = "sweep.id", "mlflow.parentRunId"
NUMBER, STATE, ATTEMPTS, PARETO = "trial.number", "trial.state", "trial.attempts", "trial.pareto"
PHASES = "trial.phases"  # of a member of a population: what it trained with when, and whom it copied
_NO_PARAMETERS = ("search.trials", "search.timeout", "search.warm.points", "search.warm.left_out")
_SUMMARISED = tuple(f"val_{name}" for names in OF_TASK.values() for name in names)
RATIO = "flow/first_over_last_gradient"
FLOW_METRICS = (RATIO, "flow/dead_units", "flow/saturated", "flow/longest_step", "flow/clip_rate")
MAX_FLOW_EPOCHS = 5  # the last included: MLflow's client takes 0.15 ms for a value, 15 ms for all epochs


@dataclass(frozen=True)
class Point:
    """One metric value: ``timestamp`` in milliseconds since 1970, ``step`` the epoch it belongs to (from 0)."""

    key: str
    value: float
    timestamp: int
    step: int


@dataclass(frozen=True)
class TrialEntry:
    """One ended trial, ready to be written. Times are milliseconds since 1970."""

    number: int
    state: TrialState
    name: str
    tags: Mapping[str, str]
    params: Mapping[str, str]
    points: tuple[Point, ...]
    status: str
    started: int
    ended: int


def trial_entry(
    sweep: SweepRecord, trial: TrialRecord, reports: Sequence[EpochReport], flow: Sequence[FlowReport] = ()
) -> TrialEntry:
    """The run of an ended trial with its metrics and gradient flow by epoch; the same records give the same entry.

    The ledger knows when a trial began and ended: its epochs are spread evenly between the two.
    """
    ended = trial.ended_at if trial.ended_at is not None else trial.started_at or sweep.created_at
    started = min(trial.started_at if trial.started_at is not None else ended, ended)
    tags = {
        SWEEP_ID: sweep.sweep,
        "sweep.name": sweep.name,
        NUMBER: str(trial.number),
        STATE: str(trial.state),
        "trial.reason": trial.reason,
        ATTEMPTS: str(trial.attempt),
    }
    if history := history_in(trial.attributes):
        tags[PHASES] = "\n".join(phases_in_words(history))
    given = trial.attributes.get("user_attrs", {})
    tags = {clean_key(name): text(value) for name, value in given.items()} | tags
    return TrialEntry(
        number=trial.number,
        state=trial.state,
        name=f"trial-{trial.number:04d}",
        tags={key: _cut(value, MAX_TAG) for key, value in tags.items()},
        params={clean_key(key): text(value) for key, value in {**(trial.params or {}), "seed": trial.seed}.items()},
        points=tuple(_points(trial, reports, flow, started, ended)),
        status=TRIAL_STATUS[trial.state],
        started=milliseconds(started),
        ended=milliseconds(ended),
    )


def spec_params(spec: Mapping[str, Any]) -> dict[str, str]:
    """The parameters of a sweep's parent run: the spec's settings under dotted names.

    Left out is what may change while a sweep lives, because MLflow never lets a parameter change, and what is long.
    """
    rest = {key: value for key, value in spec.items() if key not in ("space", "name")}
    rest["metrics"] = [f"{metric['file']}:{metric['function']}" for metric in rest.get("metrics") or ()] or None
    objective = dict(rest.get("objective") or {})
    if isinstance(function := objective.get("function"), Mapping):
        rest["objective"] = {**objective, "function": f"{function['file']}:{function['function']}"}
    search = dict(rest.get("search") or {})
    if isinstance(function := search.pop("own_sampler", None), Mapping):
        rest["search"] = {**search, "sampler": f"{function['file']}:{function['function']}"}
    flat = {key: value for key, value in _flatten(rest) if not key.startswith(_NO_PARAMETERS)}
    space = spec.get("space")
    if isinstance(space, Mapping):
        flat["space"] = space.get("name")
    return {clean_key(key): text(value) for key, value in flat.items() if value is not None}


def sweep_tags(sweep: SweepRecord) -> dict[str, str]:
    """The tags of a sweep's parent run."""
    tags = {SWEEP_ID: sweep.sweep, "sweep.name": sweep.name, "sweep.state": str(sweep.state)}
    tags |= {"sweep.requested": str(sweep.requested), "sweep.reason": sweep.reason}
    return {key: _cut(value, MAX_TAG) for key, value in tags.items()}


class RunCurves:
    """The curves of the parent run: the best value and the number of trials by state over the trials that ended.

    Trials beyond the constraints do not count as the best. One in ``stride`` trials has points, and each that is the
    best so far.
    """

    def __init__(self, maximize: bool, constraints: Sequence[Constraint] = (), stride: int = 1) -> None:
        self._maximize, self._constraints, self._stride = maximize, constraints, stride
        self.best: float | None = None
        self._states: dict[int, TrialState] = {}
        self._counts: Counter[TrialState] = Counter()

    def add(self, trial: TrialRecord) -> list[Point]:
        """The points that one more ended trial adds, none for one that is known; the step is the number of them."""
        before = self._states.get(trial.number)
        if before is trial.state:
            return []
        if before is not None:  # it was retried
            self._counts[before] -= 1
        self._states[trial.number] = trial.state
        self._counts[trial.state] += 1
        step, improved = len(self._states), False
        at = milliseconds(trial.ended_at or 0.0)
        points = [Point(f"trials_{trial.state}", float(self._counts[trial.state]), at, step)]
        value = trial.value
        feasible = all(constraint.excess(trial.metrics) <= 0 for constraint in self._constraints)
        if trial.state is TrialState.COMPLETE and feasible and value is not None and math.isfinite(value):
            if self.best is None or (value > self.best if self._maximize else value < self.best):
                self.best, improved = value, True
            points.append(Point("best_value", self.best, at, step))
        return points if improved or step % self._stride == 0 else []


@lru_cache(1000)
def clean_key(key: str) -> str:
    """A name that MLflow accepts for a metric or parameter: other characters become ``_``, long names get a digest."""
    name = re.sub(r"[^\w\-./ ]", "_", key, flags=re.ASCII).strip("./ ") or "_"
    name = re.sub(r"/+|\.\.+", "_", name) if re.search(r"//|\.\.|/\.|\./", name) else name
    if len(name) > MAX_KEY:
        name = f"{name[: MAX_KEY - 9]}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"
    return name


def text(value: Any) -> str:
    """A parameter's value as text: JSON for what is no string or number, cut with a mark when it is too long."""
    if isinstance(value, str):
        return _cut(value, MAX_PARAM)
    return _cut(json.dumps(value, separators=(",", ":"), default=str), MAX_PARAM)


def summary_names(metrics: Sequence[str]) -> list[str]:
    """The names of the summary metrics that ended trials get beside ``objective``."""
    return [*(f"best_{name}" for name in metrics if name in _SUMMARISED), "epochs", *COSTS]


def _points(
    trial: TrialRecord, reports: Sequence[EpochReport], flow: Sequence[FlowReport], started: float, ended: float
) -> Iterator[Point]:
    curves: dict[str, list[float]] = {}
    span, epochs = ended - started, max(trial.epochs, len(reports), 1)
    by_epoch = [(report.epoch, report.metrics) for report in reports]
    by_epoch += [(report.epoch, flow_metrics(report)) for report in chosen_epochs(flow)]
    for epoch, metrics in by_epoch:
        at = milliseconds(started + span * min(1.0, (epoch + 1) / epochs))
        for name, value in metrics.items():
            if math.isfinite(value):
                curves.setdefault(name, []).append(value)
                yield Point(clean_key(name), float(value), at, epoch)
    for epoch, name, value in _changing(history_in(trial.attributes)):
        yield Point(clean_key(f"hp/{name}"), value, milliseconds(started + span * min(1.0, epoch / epochs)), epoch)
    summary = {
        f"best_{name}": max(values) if larger_is_better(name) else min(values)
        for name, values in curves.items()
        if name in _SUMMARISED
    }
    summary |= _kept(trial, curves)
    summary |= {"epochs": float(trial.epochs), "seconds": round(trial.seconds, 4)}
    if trial.state is TrialState.COMPLETE and trial.value is not None:
        summary["objective"] = trial.value
    for name, value in summary.items():
        if math.isfinite(value):
            yield Point(clean_key(name), float(value), milliseconds(ended), trial.epochs)


def _changing(history: Schedule) -> Iterator[tuple[int, str, float]]:
    """The numbers among a member's hyperparameters that changed, each at the epoch from which it trained with them."""
    for name in dict.fromkeys(name for phase in history for name in phase.params):
        values = [(phase.epoch, phase.params.get(name)) for phase in history]
        if any(value != values[0][1] for _, value in values):
            numbers = ((epoch, v) for epoch, v in values if isinstance(v, int | float) and not isinstance(v, bool))
            yield from ((epoch, name, float(v)) for epoch, v in numbers)


def _kept(trial: TrialRecord, curves: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """What the trial stands with as a whole.

    Where that is another epoch than the last, MLflow's own name, which shows the latest number, says the kept epoch's,
    and ``last_`` before it the last epoch's.
    """
    alone = {name: value for name, value in trial.metrics.items() if name not in curves}
    if trial.state is not TrialState.COMPLETE:
        return alone
    other = {name: value for name, value in trial.metrics.items() if name in curves and value != curves[name][-1]}
    return alone | other | {f"last_{name}": curves[name][-1] for name in other}


def _flatten(mapping: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in mapping.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _cut(value: str, limit: int) -> str:
    mark = f" ... ({len(value)} characters)"
    return value if len(value) <= limit else value[: limit - len(mark)] + mark


def milliseconds(seconds: float) -> int:
    """MLflow's unit of time."""
    return round(seconds * 1000)


def flow_metrics(report: FlowReport) -> Mapping[str, float]:
    """One epoch: the layers in which it looks worst. What has no meaning for the trial's activation is left out.

    The gradient of the first layer over that of the last, each relative to the layer's weights; the share of relu units
    that are dead and of tanh and sigmoid activations that are saturated; the longest step relative to the weights it
    changed; the share of steps whose gradient was clipped.
    """
    worst = {
        name: [layer[what] for layer in report.layers if what in layer]
        for name, what in zip(FLOW_METRICS[1:4], ("dead", "saturated", "update_ratio"), strict=True)
    }
    found = {name: max(values) for name, values in worst.items() if values}
    ratio = first_to_last(report) if report.layers else None
    return ({} if ratio is None else {RATIO: ratio}) | found | {FLOW_METRICS[4]: report.clip_rate}


def chosen_epochs(flow: Sequence[FlowReport]) -> list[FlowReport]:
    """At most ``MAX_FLOW_EPOCHS`` of the measured epochs, evenly spread: the first and the last are among them."""
    steps = MAX_FLOW_EPOCHS - 1
    if len(flow) <= MAX_FLOW_EPOCHS:
        return list(flow)
    return [flow[round(i * (len(flow) - 1) / steps)] for i in range(MAX_FLOW_EPOCHS)]
