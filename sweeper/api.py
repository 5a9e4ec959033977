"""The Python API: run a sweep or load one, and look at its trials as a DataFrame."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sweeper.data.given import keep
from sweeper.errors import SpecError
from sweeper.insight.results import best_row, best_trials, front_of, run_summary, trial_frame
from sweeper.ledger.opening import open_home_ledger
from sweeper.ledger.protocol import Ledger
from sweeper.records import SweepRecord
from sweeper.running import local
from sweeper.settings import Settings
from sweeper.spec.parse import SweepSpec, load_spec
from sweeper.spec.stored import spec_of
from sweeper.spec.user_files import read_function, stored_function

if TYPE_CHECKING:
    import optuna
    import pandas as pd
    from matplotlib.figure import Figure

    from sweeper.records import EpochReport, TrialRecord


@dataclass(frozen=True)
class Result:
    """A sweep's outcome, read from the ledger when it is asked for."""

    sweep: str
    record: SweepRecord
    _ledger: Ledger
    _settings: Settings

    @property
    def best(self) -> dict[str, Any] | None:
        """The best trial: ``trial``, ``value``, ``params``, ``metrics``; None: no trial has an answer.

        Where none is complete it is the best of those that were stopped under way, with its ``state`` and ``epochs``.
        """
        found = best_trials(self._ledger, self.record, 1)
        return best_row(found[0]) if found else None

    @property
    def front(self) -> list[dict[str, Any]]:
        """The Pareto front of several objectives as rows like ``best``, best on the first one first; else empty."""
        return [best_row(trial) for trial in front_of(self._ledger, self.record)]

    @property
    def trials(self) -> pd.DataFrame:
        """One row per trial: record fields, then ``params_*`` and ``metrics_*`` columns."""
        return trial_frame(self._ledger.trials(self.sweep))

    @property
    def spec(self) -> SweepSpec:
        """The sweep file as validated."""
        return spec_of(self.record)

    def to_optuna(self) -> optuna.Study:
        """The ended trials as an Optuna study in memory, for all of Optuna's plots and importances."""
        from sweeper.export.optuna_study import study_in_memory

        return study_in_memory(self._ledger.sweep(self.sweep), self.spec, self.records(), self.reports())

    def records(self) -> list[TrialRecord]:
        """All trials as records, by number."""
        return self._ledger.trials(self.sweep)

    def reports(self) -> dict[int, list[EpochReport]]:
        """Every trial's metrics by epoch."""
        return self._ledger.reports(self.sweep)

    def plot_history(self) -> Figure:
        """Every trial's value and the best so far."""
        return self._picture("history")

    def plot_curves(self) -> Figure:
        """The objective by epoch: the best trial, the median, and the middle 80%."""
        return self._picture("curves")

    def plot_parallel(self) -> Figure:
        """Each trial as a line through its parameters to its rank."""
        return self._picture("parallel")

    def plot_gradients(self) -> Figure:
        """Gradient norms by epoch, by activation and by initialization."""
        return self._picture("gradients")

    def plot_slices(self) -> Figure:
        """Each parameter against the value."""
        return self._picture("slices")

    def plot_importance(self) -> Figure:
        """Which parameters matter, with intervals."""
        return self._picture("importance")

    def plot_choices(self) -> Figure:
        """The effect of each choice, adjusted for the other parameters."""
        return self._picture("choices")

    def plot_interactions(self) -> Figure:
        """Where the better choice depends on another parameter."""
        return self._picture("interactions")

    def _picture(self, name: str) -> Figure:
        """A matplotlib figure.

        Raises:
            SweeperError: the sweep has not enough trials for it.
        """
        from sweeper.report.figures import picture

        return picture(name, self.sweep, self.spec, self.records(), self.reports())

    def _repr_html_(self) -> str:
        from sweeper.report.notebook import result_html

        return result_html(self._ledger.sweep(self.sweep), self.spec, self.records())

    @property
    def summary(self) -> dict[str, Any]:
        """The same object as ``sweeper run --json`` prints."""
        from sweeper.tracking.store import resolve_uri

        uri = resolve_uri(self._settings.mlflow_tracking_uri, self._settings.home)
        return run_summary(self._ledger, self.sweep, uri)


def run(
    spec_or_path: SweepSpec | Mapping[str, Any] | str | os.PathLike[str] | None = None,
    *,
    data: Any = None,
    target: str | None = None,
    workers: str | int = "auto",
    **overrides: Any,
) -> Result:
    """Run a sweep to its end.

    ``data`` is a table (pandas, Arrow, polars, or what else exports itself to Arrow) with the column ``target``, or a
    pair (X, y) of arrays, or of a table and its target; it takes the place of the dataset's file, and is kept in the
    home folder, so that the sweep can be resumed. The rest is as ``spec_or_path`` and ``overrides`` say, or by default.

    ``objective`` may be a Python function on an Optuna trial, also one of a notebook: ``run(objective=f, trials=100)``,
    or ``run(objective={"function": f, "direction": "maximize"})``; then there is no data and no space.

    ``overrides`` are sections of the sweep file, merged into it: ``run("sweep.yaml", search={"trials": 20})``, and the
    short cuts ``trials``, ``seed``, ``name`` and ``timeout``. ``model`` and ``space`` may be Python functions, of a
    notebook say: ``space(trial)`` suggests a trial's hyperparameters (define by run) and returns them by name.

    Raises:
        SpecError: the spec or its data cannot be used.
        Interrupted: Ctrl-C; the sweep can be resumed.
    """
    short = {key: overrides.pop(key) for key in ("trials", "seed", "name", "timeout") if key in overrides}
    settings = Settings.from_env()
    base: Any = {} if spec_or_path is None else spec_or_path
    if (own := overrides.get("objective")) is not None and (callable(own) or callable(own.get("function"))):
        base = _with_objective(base, overrides.pop("objective"))
    texts = _flat(overrides)
    if data is not None:
        settings.ensure_home()
        path, target = keep(data, target, settings.home / "data")
        texts += [f"dataset.path={json.dumps(str(path))}", "dataset.name=null"]
    if target is not None:
        texts.append(f"dataset.target={json.dumps(target)}")
    if spec_or_path is None and data is None and not base and "dataset" not in overrides:
        raise SpecError("there is nothing to run", remedy="Give a sweep file, or data= with target=, or objective=")
    spec = load_spec(base, texts, **short)
    record = local.run_new(spec, settings, workers)
    return load(record.sweep)


def load(sweep_id: str) -> Result:
    """A sweep by id, id prefix or name.

    Raises:
        SweepNotFound: there is no such sweep.
    """
    settings = Settings.from_env()
    ledger = open_home_ledger(settings)
    record = ledger.sweep(sweep_id)
    return Result(record.sweep, record, ledger, settings)


def _with_objective(base: Any, objective: Any) -> dict[str, Any]:
    """The sweep file's content with an objective that is a Python function, or a section with one."""
    if not isinstance(base, Mapping):
        remedy = "Give the rest as keywords too, such as search={...}, or name the function in the file"
        raise SpecError("a function does not go into a sweep file", key="objective", remedy=remedy)
    section = dict(objective) if isinstance(objective, Mapping) else {"function": objective}
    return {**base, "objective": {**dict(base.get("objective") or {}), **section}}


def _flat(overrides: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Nested mappings as ``a.b=c`` texts; a space is replaced as a whole, and a function as a stored spec has it."""
    texts = []
    for key, value in overrides.items():
        if isinstance(value, Mapping) and key != "space":
            texts += _flat(value, f"{prefix}{key}.")
        elif callable(value):
            made = _space(value) if prefix + key == "space" else _function(value, f"{prefix}{key}")
            texts.append(f"{prefix}{key}={json.dumps(made)}")
        else:
            texts.append(f"{prefix}{key}={json.dumps(value)}")
    return texts


def _function(value: Any, key: str) -> dict[str, Any]:
    try:
        return stored_function(read_function(value))
    except ValueError as error:
        raise SpecError(str(error), key=key) from error


def _space(function: Any) -> str | dict[str, str]:
    """A define-by-run space as a sweep file names it, or as a stored spec has one that lies in no file."""
    try:
        own = read_function(function)
    except ValueError as error:
        raise SpecError(str(error), key="space") from error
    if not own.pickled:
        return own.reference
    return {"name": own.function, "function": own.reference, "sha256": own.sha256, "pickled": own.pickled}
