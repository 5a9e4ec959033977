"""A sweep as a study in an Optuna database, which optuna and optuna-dashboard open."""

from __future__ import annotations

import contextlib
import math
import sqlite3
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    check_distribution_compatibility,
    json_to_distribution,
)
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from sweeper.errors import SpecError, SweeperError
from sweeper.insight.results import clean
from sweeper.records import EpochReport, SweepRecord, TrialRecord
from sweeper.search_spaces import Space, SpaceError
from sweeper.spec.goals import excesses_of, values_of
from sweeper.spec.own_code import code_of
from sweeper.spec.parse import SweepSpec
from sweeper.states import TrialState

STATES = {  # trials in any other state have not ended: they are left out
    TrialState.COMPLETE: OptunaState.COMPLETE,
    TrialState.PRUNED: OptunaState.PRUNED,
    TrialState.FAILED: OptunaState.FAIL,
    TrialState.STOPPED: OptunaState.FAIL,
}
SHOWN = ("file", "function", "text")  # of a function of the user's own
LARGEST = 1e30  # stands for how far a trial is off whose metric is unknown
REMEDY = "Write sqlite:///FILE.db or postgresql://USER:PASSWORD@HOST/DATABASE"


@dataclass(frozen=True)
class _Point:
    """One trial's parameters as Optuna holds them."""

    keys: dict[str, Any]
    distributions: dict[str, BaseDistribution]


def export_study(
    record: SweepRecord,
    spec: SweepSpec,
    trials: Sequence[TrialRecord],
    reports: Mapping[int, list[EpochReport]],
    url: str,
) -> int:
    """Write the ended trials as a study named after the sweep's id and return how many there are.

    Raises:
        SpecError: the URL is no database that can hold a study, or a study of that name is there already.
        SweeperError: the database went away on the way; what was written of the study is removed where possible.
    """
    made = _frozen_trials(spec, [trial for trial in trials if trial.state in STATES], reports)
    with _quiet():
        storage = _open(url)
        study = _create(storage, record, spec)
        try:
            for name, value in _about(record, spec).items():
                study.set_user_attr(name, value)
            study.add_trials(made)
        except BaseException as error:
            with contextlib.suppress(Exception):
                optuna.delete_study(study_name=record.sweep, storage=storage)
            if not isinstance(error, Exception):
                raise
            raise SweeperError(f"the study could not be written ({_first_line(error)}). Export it again") from error
        finally:
            storage.remove_session()
    return len(made)


def study_in_memory(
    record: SweepRecord,
    spec: SweepSpec,
    trials: Sequence[TrialRecord],
    reports: Mapping[int, list[EpochReport]],
) -> optuna.Study:
    """The ended trials as a study in memory, for Optuna's plots and importances."""
    made = _frozen_trials(spec, [trial for trial in trials if trial.state in STATES], reports)
    with _quiet():
        study = _create(None, record, spec)
        for name, value in _about(record, spec).items():
            study.set_user_attr(name, value)
        study.add_trials(made)
    return study


def _open(url: str) -> optuna.storages.RDBStorage:
    scheme, separator, rest = url.partition("://")
    backend = scheme.partition("+")[0]
    if not separator or backend not in ("sqlite", "postgresql", "postgres"):
        raise SpecError("this is not the URL of a database that can hold a study", key="--optuna", remedy=REMEDY)
    if backend == "sqlite":
        file = unquote(rest.removeprefix("/").partition("?")[0])
        if not rest.startswith("/") or file in ("", ":memory:"):
            raise SpecError("it names no file", key="--optuna", remedy=REMEDY)
        _check_free(file)
    else:
        url = f"postgresql+psycopg://{rest}"
    try:
        return optuna.storages.RDBStorage(url)
    except Exception as error:  # sqlalchemy's own kinds, which only the ledger knows
        problem = f"the database cannot be opened ({_first_line(error)})"
        raise SpecError(problem, key="--optuna", remedy=REMEDY) from error


def _check_free(file: str) -> None:
    """Refuse a SQLite file that holds other tables: Optuna's have names such as trials, which a ledger has, too."""
    try:
        with contextlib.closing(sqlite3.connect(Path(file).absolute().as_uri() + "?mode=ro", uri=True)) as connection:
            tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.Error:  # there is no such file yet, or Optuna will say what is wrong with it
        return
    if tables and "studies" not in tables:
        raise SpecError(f"{file} holds other tables", key="--optuna", remedy="Name a file of its own for the study")


def check_not_ours(url: str, others: Sequence[str | None]) -> None:
    """Refuse a server's database that ``others`` (URLs) hold a ledger or MLflow's store in.

    Raises:
        SpecError: it is one of them.
    """
    mine = _place(url)
    if mine is not None and mine in {_place(other) for other in others if other is not None}:
        remedy = "Name another database of that server"
        raise SpecError("this database holds the ledger or MLflow's runs", key="--optuna", remedy=remedy)


def _place(url: str) -> tuple[str, int, str] | None:
    """Host, port and name of a PostgreSQL database."""
    if not url.startswith("postgres"):
        return None
    try:
        parts = urlsplit(url)
        return parts.hostname or "localhost", parts.port or 5432, parts.path.strip("/")
    except ValueError:
        return None


def _create(storage: optuna.storages.RDBStorage | None, record: SweepRecord, spec: SweepSpec) -> optuna.Study:
    directions = [objective.direction for objective in spec.objectives]
    try:
        study = optuna.create_study(study_name=record.sweep, storage=storage, directions=directions)
        study.set_metric_names([objective.metric for objective in spec.objectives])
        return study
    except optuna.exceptions.DuplicatedStudyError as error:
        remedy = (
            f"Name another database, or delete it first: optuna delete-study --study-name {record.sweep} --storage URL"
        )
        raise SpecError(f"there is a study {record.sweep!r} already", key="--optuna", remedy=remedy) from error


def _about(record: SweepRecord, spec: SweepSpec) -> dict[str, Any]:
    """What the study says of the sweep, with the functions of the user's own that it ran."""
    names: dict[str, Any] = {
        "sweep": record.sweep,
        "name": record.name,
        "metric": spec.objective.metric,
        "state": str(record.state),
    }
    if code := code_of(record.spec):
        names["code"] = {key: {name: one[name] for name in SHOWN if name in one} for key, one in code.items()}
    return names if record.mlflow_run_id is None else {**names, "mlflow_run_id": record.mlflow_run_id}


def _frozen_trials(
    spec: SweepSpec, trials: Sequence[TrialRecord], reports: Mapping[int, list[EpochReport]]
) -> list[FrozenTrial]:
    points = _points(spec.space, trials) if spec.objective.function is None else _shown(trials)
    metric = spec.objective.metric
    made = []
    for trial in trials:
        curve = {r.epoch: float(r.metrics[metric]) for r in reports.get(trial.number, []) if metric in r.metrics}
        made.append(_frozen(spec, trial, points[trial.number], curve))
    return made


def _values(spec: SweepSpec, trial: TrialRecord, curve: dict[int, float]) -> list[float] | None:
    """One value per objective; None when one is missing or no number."""
    if len(spec.objectives) > 1:
        return list(values_of(trial.metrics, spec.objectives)) or None
    value = trial.value
    if value is None and trial.state is TrialState.PRUNED and curve:
        value = curve[max(curve)]  # as Optuna records a pruned trial
    return None if value is None or math.isnan(value) else [value]


def _frozen(spec: SweepSpec, trial: TrialRecord, point: _Point, curve: dict[int, float]) -> FrozenTrial:
    """One trial in Optuna's form. Optuna numbers what it gets: the sweep's own number is a user attribute."""
    state, values = STATES[trial.state], _values(spec, trial, curve)
    if values is None and state is OptunaState.COMPLETE:
        state = OptunaState.FAIL
    excesses = [min(excess, LARGEST) for excess in excesses_of(trial.metrics, spec.constraints)]
    about = {
        "trial": trial.number,
        "state": str(trial.state),
        "reason": trial.reason,
        "attempts": trial.attempt,
        "epochs": trial.epochs,
        "seed": trial.seed,
        "metrics": clean(dict(trial.metrics)),
        "mlflow_run_id": trial.mlflow_run_id,
        **trial.attributes.get("user_attrs", {}),
    }
    made = optuna.create_trial(
        state=state,
        values=None if state is OptunaState.FAIL else values,
        params=point.keys,
        distributions=point.distributions,
        user_attrs=about,
        system_attrs={"constraints": excesses} if excesses else {},  # what Optuna and its dashboard read
        intermediate_values=curve if len(spec.objectives) == 1 else {},
    )
    ended = trial.ended_at or time.time()
    made.datetime_start = datetime.fromtimestamp(trial.started_at or ended)  # Optuna keeps local times
    made.datetime_complete = datetime.fromtimestamp(ended)
    return made


def _points(space: Space, trials: Sequence[TrialRecord]) -> dict[int, _Point]:
    """Each trial's parameters with their distributions, those that do not apply left out."""
    keys = {trial.number: space.encode(trial.params or {}) for trial in trials}
    if space.is_function:
        return _function_points(space, keys)
    distributions = space.distributions()
    return {n: _Point(point, {name: distributions[name] for name in point}) for n, point in keys.items()}


def _shown(trials: Sequence[TrialRecord]) -> dict[int, _Point]:
    """Each trial of an objective of the user's own with the distributions that it has suggested from."""
    points = {}
    for trial in trials:
        told = trial.attributes.get("distributions", {})
        shown = {name: json_to_distribution(text) for name, text in told.items() if name in (trial.params or {})}
        points[trial.number] = _Point({name: (trial.params or {})[name] for name in shown}, shown)
    return points


def _function_points(space: Space, keys: dict[int, dict[str, Any]]) -> dict[int, _Point]:
    """A function space shows its distributions as it runs; where it does not lead back, the values seen make them.

    So they do where the function was sent to a server: this may be another user's machine.
    """
    points, known = {}, dict[str, BaseDistribution]()
    try:
        if space.function is not None and space.function.text:
            raise SpaceError("it was sent by somebody, and runs where their trials are suggested alone")
        for number, point in keys.items():
            trial = optuna.trial.FixedTrial(point, number=number)
            if point and set(space.encode(space.suggest(trial))) != set(trial.params):
                raise SpaceError("the function returned other parameters than it suggested")
            for name, distribution in trial.distributions.items():
                check_distribution_compatibility(known.setdefault(name, distribution), distribution)
            points[number] = _Point(dict(trial.params), dict(trial.distributions))
    except (SpaceError, ValueError):
        seen: dict[str, list[Any]] = {}
        for point in keys.values():
            for name, value in point.items():
                seen.setdefault(name, []).append(value)
        spanned = {name: _spanned(values) for name, values in seen.items()}
        return {n: _Point(point, {name: spanned[name] for name in point}) for n, point in keys.items()}
    return points


def _spanned(values: Sequence[Any]) -> BaseDistribution:
    """The narrowest distribution that holds all values."""
    kinds = {type(value) for value in values}
    if kinds == {int}:
        return IntDistribution(min(values), max(values))
    if kinds <= {int, float}:
        return FloatDistribution(min(values), max(values))
    return CategoricalDistribution(sorted(set(values), key=str))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Optuna reports every study it creates, and warns of its own defaults."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
