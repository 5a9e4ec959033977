"""Takes an earlier sweep's finished trials over into a new one, as points of its space that its sampler learns from."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from sweeper.errors import SpecError, SweepNotFound
from sweeper.ledger.protocol import LedgerReader
from sweeper.records import SweepRecord, TrialRecord
from sweeper.search.ranking import Outcome, ranks
from sweeper.search_spaces import SpaceError
from sweeper.spec.goals import SECONDS, excesses_of, values_of
from sweeper.spec.parse import SweepSpec
from sweeper.spec.stored import fingerprint_of, spec_of
from sweeper.spec.warm import WarmPoint, WarmStart
from sweeper.states import Cause, TrialState

LIMIT = 256  # points that are taken over at most: they are kept in the spec, and read at every start
LIMITS = {"gp": 64}  # a Gaussian process takes the cube of their number
BEST = 25  # of more than that, so many of the best are kept, and of the others an even sample

_READ_BY = {
    "momentum": ("momentum",),
    "nesterov": ("momentum",),
    "beta1": ("adam", "adamw", "nadam"),
    "beta2": ("adam", "adamw", "nadam"),
}
_FROM_TRAINING = (
    "batch_size",
    "clip_norm",
    "schedule",
    "warmup_epochs",
)  # what a space leaves out the training section says


def take_over(
    spec: SweepSpec, ledger: LedgerReader, fingerprint: str | None = None, owner: str | None = None
) -> SweepSpec:
    """The spec with the trials of the sweep that ``search.from`` names; unchanged when it names none, or has them.

    ``fingerprint`` is that of the new sweep's data, where it is known. With an ``owner``, only their sweeps are found.

    Raises:
        SpecError: there is no such sweep.
    """
    search = spec.search
    if not search.to_resolve or search.from_ is None:
        return spec
    try:
        record = ledger.sweep(search.from_, owner=owner)
    except SweepNotFound as error:
        remedy = "`sweeper list` shows the sweeps there are"
        raise SpecError(f"there is no sweep {search.from_[:60]!r}", key="search.from", remedy=remedy) from error
    warm = _warm_start(spec, record, ledger.trials(record.sweep), fingerprint)
    return spec.model_copy(update={"search": search.model_copy(update={"warm": warm})})


def without_points(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A spec's JSON data as it was before an earlier sweep's trials were taken over."""
    return {**spec, "search": {**spec["search"], "warm": None}}


def earlier_of(spec: SweepSpec) -> list[tuple[Mapping[str, Any], Outcome]]:
    """The parameters and outcomes that the study is given of an earlier sweep."""
    points = () if spec.search.warm is None else spec.search.warm.points
    return [(point.params, _outcome(point, spec)) for point in points]


def _warm_start(
    spec: SweepSpec, record: SweepRecord, trials: Sequence[TrialRecord], fingerprint: str | None
) -> WarmStart:
    old = spec_of(record)
    left_out: Counter[str] = Counter()
    points = []
    ended = [trial for trial in trials if trial.params is not None and _state(trial) is not None]
    for trial in ended:
        try:
            points.append(_point(trial, old, spec))
        except SpaceError as error:
            left_out[error.problem] += 1
    kept = _thinned(points, spec)
    if len(kept) < len(points):
        left_out["thinned out"] = len(points) - len(kept)
    return WarmStart(
        asked=spec.search.from_ or record.sweep,
        sweep=record.sweep,
        name=record.name,
        trials=len(ended),
        comparable=_comparable(old, spec, fingerprint_of(record), fingerprint),
        left_out=dict(left_out.most_common()),
        points=tuple(kept),
    )


def _state(trial: TrialRecord) -> Any:
    """What kind of result a trial has; None: it says nothing of its parameters."""
    if trial.state in (TrialState.COMPLETE, TrialState.PRUNED):
        return str(trial.state)
    return "diverged" if trial.cause is Cause.DIVERGED else None


def _comparable(old: SweepSpec, new: SweepSpec, old_data: Any, new_data: str | None) -> bool:
    """Whether a value of the earlier sweep means the same in the new one: the same data, trained the same way."""
    same_data = (old.dataset, old.split, old.normalize) == (new.dataset, new.split, new.normalize)
    if None not in (old_data, new_data):
        same_data = same_data and old_data == new_data
    once = {"replicates": 1}
    return same_data and old.training.model_copy(update=once) == new.training.model_copy(update=once)


def _point(trial: TrialRecord, old: SweepSpec, new: SweepSpec) -> WarmPoint:
    """The trial as a point of the new space that trains the very same network in the same way.

    Raises:
        SpaceError: the space has no such point, or a metric is unknown; the problem says why in a few words.
    """
    state = _state(trial)
    wanted: set[str] = {goal.metric for goal in new.objectives} | {limit.metric for limit in new.constraints}
    known = {SECONDS: trial.seconds, **trial.metrics}
    metrics = {name: float(known[name]) for name in wanted if math.isfinite(known.get(name, math.nan))}
    missing = sorted(wanted - set(metrics))
    if missing and state == "complete":
        raise SpaceError(f"without {', '.join(missing)}")
    params = translate(trial.params or {}, old, new)
    return WarmPoint(params=params, state=state, epochs=trial.epochs, metrics=metrics)


def translate(params: Mapping[str, Any], old: SweepSpec, new: SweepSpec) -> dict[str, Any]:
    """Parameters of the old sweep as parameters of the new one. What a space does not name has its default.

    Raises:
        SpaceError: the new space has no such point; the problem says why in a few words.
    """
    if new.space.is_function:
        from sweeper.search.optuna_samplers import replayed

        if replayed(new.space, dict(params), new.space.encode(params), 0) is None:
            raise SpaceError("that the space's function does not suggest")
        return dict(params)
    given = _configuration(params, old)
    try:
        point = new.space.adopt({**given, **params})
    except SpaceError as error:
        raise SpaceError(f"with {error.key} outside the space") from error
    wanted = _configuration(point, new)
    searched = {*params, *point}
    for name, value in wanted.items():
        if name in _FROM_TRAINING and name not in searched:
            continue
        if given["optimizer"] in _READ_BY.get(name, (given["optimizer"],)) and given.get(name) != value:
            raise SpaceError(f"with another {name} than the space has")
    return point


def _configuration(params: Mapping[str, Any], spec: SweepSpec) -> dict[str, Any]:
    """Everything that is trained with, defaults included; equal layers as depth and width, too."""
    config = spec.trial_config(params)
    values = {field.name: getattr(config, field.name) for field in fields(config)}
    for name in _FROM_TRAINING:
        if values[name] is None:
            values[name] = getattr(spec.training, name)
    layers = values["hidden_layers"] = list(values["hidden_layers"])
    inputs = spec.inputs_of(params)
    values |= {name: value for name, value in asdict(inputs).items() if inputs.bins or name not in ("bins", "binning")}
    if config.numeric_embedding != "none":
        values["numeric_embedding"] = config.numeric_embedding
    if len(set(layers)) == 1:
        values |= {"depth": len(layers), "width": layers[0]}
    return values


def _thinned(points: list[WarmPoint], spec: SweepSpec) -> list[WarmPoint]:
    """All points, or of too many the best and an even sample of the others, in their order."""
    limit = LIMITS.get(spec.search.sampler, LIMIT)
    if len(points) <= limit:
        return points
    outcomes = {i: _outcome(point, spec) for i, point in enumerate(points)}
    keys = ranks(outcomes, [objective.sign for objective in spec.objectives])
    ordered = [i for _, i in sorted((key, i) for i, key in keys.items() if key is not None)]
    rest, room = ordered[BEST:], limit - BEST
    sample = [rest[j * len(rest) // room] for j in range(min(room, len(rest)))]
    return [points[i] for i in sorted({*ordered[:BEST], *sample})]


def _outcome(point: WarmPoint, spec: SweepSpec) -> Outcome:
    value = point.metrics.get(spec.objective.metric)
    last = None if value is None or not point.epochs else (point.epochs - 1, value)
    if point.state == "diverged":
        return Outcome(TrialState.FAILED, None, last, diverged=True)
    values = values_of(point.metrics, spec.objectives) if len(spec.objectives) > 1 else ()
    excesses = excesses_of(point.metrics, spec.constraints) if point.state == "complete" else ()
    return Outcome(TrialState(point.state), value, last, values=values, excesses=excesses)
