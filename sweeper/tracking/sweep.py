"""One sweep in MLflow: its parent run with view, spec and tables, and what is known of its trials' runs."""

from __future__ import annotations

import json
import math
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeper.errors import SweeperError
from sweeper.insight.judging import test_metric
from sweeper.insight.pareto import pareto_front
from sweeper.models.metric_names import OF_TASK
from sweeper.records import SweepRecord, TrialRecord
from sweeper.search_spaces.vocabulary import FloatRange, IntRange
from sweeper.settings import Settings
from sweeper.spec.goals import COSTS, places_of
from sweeper.tracking.choice import Choice
from sweeper.tracking.entries import (
    FLOW_METRICS,
    PARETO,
    SWEEP_ID,
    SWEEP_STATUS,
    Point,
    TrialEntry,
    milliseconds,
    spec_params,
    summary_names,
    sweep_tags,
)
from sweeper.tracking.registry import (
    Registration,
    create_version,
    difference_on,
    find_version,
    keep_outputs,
    kept_outputs,
    promote,
    score_tags,
)
from sweeper.tracking.store import Child, Location, Store
from sweeper.tracking.summary import best_of, description, final_points, finalists, sweep_points
from sweeper.tracking.table import write_rows
from sweeper.tracking.trial_files import TrialFiles
from sweeper.tracking.view import TAG_PREFIX, SweepView, view_tag

if TYPE_CHECKING:
    from sweeper.data.dataset import Dataset
    from sweeper.spec.parse import SweepSpec
    from sweeper.training.averaging import TrialModel

CURVES = {
    "classification": ("val_loss", "train_loss", "val_accuracy", "learning_rate", "grad_norm"),
    "regression": ("val_loss", "train_loss", "val_rmse", "learning_rate", "grad_norm"),
}


class SweepInMlflow:
    """Everything a tracker writes, in calls that can be repeated after any failure."""

    def __init__(self, settings: Settings, sweep: SweepRecord, spec: SweepSpec, dataset: Dataset) -> None:
        self._settings, self._sweep, self._spec, self._dataset = settings, sweep, spec, dataset
        self._store: Store | None = None
        self._place: Location | None = None
        self._children: dict[int, Child] = {}
        self._begun: set[int] = set()
        self.left_out: str | None = None  # why MLflow has no model of the winner

    @property
    def connected(self) -> bool:
        """MLflow has answered, and the sweep has its place there."""
        return self._place is not None

    @property
    def together(self) -> int:
        """How many trials one call of ``write`` should take."""
        return self._store.together if self._store is not None else 1

    def connect(self) -> Location:
        """Open MLflow; find or make the experiment, the parent run and the view."""
        self._store = store = self._store or Store(self._settings.mlflow_tracking_uri, self._settings.home)
        earlier = self._sweep.mlflow_run_id
        place = None if earlier is None else store.find(earlier)
        if place is None:
            experiment = store.experiment(self._spec.tracking.experiment or self._sweep.name)
            tags = sweep_tags(self._sweep)
            at = milliseconds(self._sweep.started_at or self._sweep.created_at)
            place = store.place(experiment, self._sweep.name, tags, spec_params(self._sweep.spec), at)
        if place.created:
            store.client.log_text(place.parent, _yaml(self._spec.to_json()), "sweep.yaml")
        if place.created and earlier is not None:
            store.adopt(place, self._sweep.sweep)
        if earlier is not None or not place.created:
            self._children = store.children(place)
            store.client.update_run(place.parent, "RUNNING")
        self._place = place
        self._set_view(())
        return place

    def shows(self, number: int) -> bool:
        """Whether MLflow had a run of this trial when it was connected, or has been given one since."""
        return number in self._children

    def write(self, entries: Sequence[TrialEntry]) -> list[str]:
        """The ids of the runs that show these ends of trials; they are written unless they are there already."""
        store, place = self._open()
        new: list[TrialEntry] = []
        again: list[TrialEntry] = []
        for entry in entries:
            (again if entry.number in self._children or entry.number in self._begun else new).append(entry)
        if new:
            self._write_new(store, place, new)
        for entry in again:
            self._write_again(store, place, entry)
        return [self._children[entry.number].run for entry in entries]

    def _write_new(self, store: Store, place: Location, entries: Sequence[TrialEntry]) -> None:
        numbers = [entry.number for entry in entries]
        self._begun.update(numbers)
        try:
            children = store.write_new(place, entries)
        except sqlite3.Error:  # rows are written together or not at all
            self._begun.difference_update(numbers)
            raise
        self._ended(entries, children)

    def _write_again(self, store: Store, place: Location, entry: TrialEntry) -> None:
        """Show a trial that MLflow may have a run of."""
        if entry.number in self._begun:  # an earlier call failed: nobody knows how far it came
            self._children |= store.children(place, entry.number)
        self._begun.add(entry.number)
        self._ended([entry], [store.write(place, entry, self._children.get(entry.number))])

    def _ended(self, entries: Sequence[TrialEntry], children: Sequence[Child]) -> None:
        numbers = [entry.number for entry in entries]
        self._children.update(zip(numbers, children, strict=True))
        if self._spec.objective.function is not None:
            self._keep_artifacts(dict(zip(numbers, children, strict=True)))
        self._begun.difference_update(numbers)

    def _keep_artifacts(self, children: Mapping[int, Child]) -> None:
        """Show the files that trials of an objective of the user's own have given."""
        store, _ = self._open()
        files = TrialFiles(self._settings.home / "sweeps" / self._sweep.sweep / "trials")
        for number, child in children.items():
            if (folder := files.artifacts(number)) is not None:
                store.client.log_artifacts(child.run, str(folder))

    def log_text(self, name: str, text: str) -> None:
        """Put a text file into the parent run."""
        store, place = self._open()
        store.client.log_text(place.parent, text, name)

    def log_points(self, points: Sequence[Point]) -> None:
        """Continue the parent run's curves."""
        store, place = self._open()
        store.log(place.parent, points)

    def log_winner(self, trial: TrialRecord, winner: TrialModel) -> Registration | None:
        """Log the model that is kept as the model ``model`` of the parent run, once; ``trial`` is the best trial.

        Returns what became of it in the model registry, when the spec names a model and this call registered it.
        """
        from sweeper.tracking.model import log_model, raw_network, why_left_out
        from sweeper.training.again import outputs_on_test, scores_on_test

        store, place = self._open()
        tags = {
            "winner.trial": str(trial.number),
            "winner.value": str(trial.value),
            "winner.run_id": self._run_of(trial.number) or "",
        }
        shown = store.client.get_run(place.parent).data.tags
        if all(shown.get(key) == value for key, value in tags.items()):
            return None
        network = raw_network(winner).network
        outputs = outputs_on_test(winner.dataset, network)
        metric = test_metric(self._spec, self._dataset.task)
        if metric not in OF_TASK[self._dataset.task]:
            metric = "loss"  # another sweep's function of the same name may be another one
        scores = scores_on_test(winner.dataset, outputs, [metric])
        self.left_out = why_left_out(winner)
        register, made = self._spec.tracking.register_model if self.left_out is None else None, None
        known = None if register is None else find_version(store.client, register, place.parent, tags)
        if self.left_out is not None:
            tags |= {"winner.model": f"left out: torch.export refuses it: {self.left_out}"}
        elif known is None:
            model, location = log_model(store.client, place, winner, tags)
        if register is not None:
            described = {SWEEP_ID: self._sweep.sweep, **tags, **score_tags(scores, self._dataset.rows_fingerprint)}
            keep_outputs(store.client, place.parent, trial.number, outputs)
            if known is None:
                known = create_version(store.client, register, location, place.parent, described, model)
            made = promote(
                store.client,
                register,
                str(known.version),
                described,
                metric,
                lambda old: difference_on(self._dataset, metric, outputs, kept_outputs(store.client, old)),
            )
            tags |= {"registered.model": f"{register} version {made.version}", "registered.reason": made.reason}
        at = milliseconds(self._sweep.started_at or self._sweep.created_at)
        points = [Point(f"winner_{name}", value, at, 0) for name, value in scores.items() if math.isfinite(value)]
        store.log(place.parent, points, tags=tags)
        return made

    def end(self, sweep: SweepRecord, trials: Callable[[], Iterable[TrialRecord]], choice: Choice) -> None:
        """Write what only the whole sweep tells, the final view and state of the parent run.

        ``trials`` reads all of them, by number, as often as it is called.
        """
        from sweeper.insight.results import finals_winner

        store, place = self._open()
        self._sweep = sweep
        self._end_trials(trials)
        self._set_view(list(trials()) if self._spec.space.is_function else ())
        client, parent = store.client, place.parent
        leader = finals_winner(sweep)
        best = best_of((t for t in trials() if leader in (None, t.number)), self._spec)
        shown = "" if choice.everything else choice.words(len(self._children))
        tags = {**sweep_tags(sweep), "mlflow.note.content": description(sweep, self._spec, best, shown)}
        store.log(parent, sweep_points(sweep, best), tags=tags)
        ended = milliseconds(sweep.ended_at or time.time())
        client.set_terminated(parent, SWEEP_STATUS[sweep.state], ended)

    def log_tables(self, trials: Callable[[], Iterable[TrialRecord]], choice: Choice) -> None:
        """Write the table of the trials with runs, for MLflow, and that of all trials as CSV, to the parent run."""
        from sweeper.insight.results import trial_frame

        store, place = self._open()
        frame = trial_frame(t for t in trials() if choice.everything or t.number in self._children)
        frame["mlflow_run_id"] = [self._run_of(number) for number in frame["number"]]
        client, parent = store.client, place.parent
        client.log_text(parent, frame.to_json(orient="split", index=False), "trials.json")
        if choice.everything:
            client.log_text(parent, frame.to_csv(index=False), "trials.csv")
        else:
            with tempfile.TemporaryDirectory(prefix="sweeper-") as folder:
                file = Path(folder) / "trials.csv"
                write_rows(file, trials, self._run_of)
                client.log_artifact(parent, str(file))
        table = json.dumps([{"path": "trials.json", "type": "table"}])  # what makes it a table for MLflow
        store.log(parent, tags={"mlflow.loggedArtifacts": table})

    def _end_trials(self, trials: Callable[[], Iterable[TrialRecord]]) -> None:
        """Mark the trials that the finals or several objectives single out."""
        store, place = self._open()
        for number, points in final_points(self._sweep):
            if (run := self._run_of(number)) is not None:
                store.log(run, points)
        if len(self._spec.objectives) > 1:
            front = [self._run_of(trial.number) for trial in pareto_front(list(trials()), self._spec)]
            mine = f"tags.`{SWEEP_ID}` = '{self._sweep.sweep}' and tags.`{PARETO}` = 'front'"
            before = {run.info.run_id for run in store.client.search_runs([place.experiment], mine)}
            for run in before - set(front):  # more trials came since
                store.client.delete_tag(run, PARETO)
            for run in front:
                if run is not None and run not in before:
                    store.log(run, tags={PARETO: "front"})

    def pause(self, sweep: SweepRecord) -> None:
        """Write the parent run's state, so that it does not look as if it were running."""
        store, place = self._open()
        store.log(place.parent, tags=sweep_tags(sweep))
        store.client.update_run(place.parent, SWEEP_STATUS[sweep.state])

    def _open(self) -> tuple[Store, Location]:
        if self._store is None or self._place is None:
            self.connect()
        assert self._store is not None
        assert self._place is not None
        return self._store, self._place

    def _run_of(self, number: int) -> str | None:
        child = self._children.get(number)
        return None if child is None else child.run

    def _set_view(self, trials: Sequence[TrialRecord]) -> None:
        store, place = self._open()
        view = sweep_view(self._sweep, self._spec, self._dataset.task, place.parent, trials)
        runs = [self._run_of(number) for number in finalists(self._sweep)]
        view = replace(view, finalists=tuple(run for run in runs if run is not None))
        tag = view_tag(view, self._sweep.created_at)
        store.client.set_experiment_tag(place.experiment, TAG_PREFIX + self._sweep.sweep, tag)


def sweep_view(sweep: SweepRecord, spec: SweepSpec, task: str, parent: str, trials: Sequence[TrialRecord]) -> SweepView:
    """The comparison view of a sweep; a function space's parameters are known from its ``trials`` only."""
    if spec.space.is_function:
        given = [trial.params for trial in trials if trial.params]
        params = list(dict.fromkeys(name for one in given for name in one))
        axes = [name for name in params if all(name in one for one in given)]
        numeric = [name for name in params if all(_is_number(one.get(name, 0)) for one in given)]
    else:
        varying = [p for p in spec.space.parameters if not p.constant]
        params = [p.name for p in varying]
        axes = [p.name for p in varying if not p.when]
        numeric = [p.name for p in varying if isinstance(p.domain, FloatRange | IntRange)]
    own = CURVES["regression" if task == "regression" else "classification"]
    judged = [metric for _, metric in places_of(spec.objectives, spec.constraints) if metric not in COSTS]
    curves = tuple(dict.fromkeys([*own, *judged, *(metric.name for metric in spec.metrics)]))
    return SweepView(
        title=f"{sweep.name} ({sweep.sweep})",
        parent=parent,
        metric=spec.objective.metric,
        maximize=spec.objective.direction == "maximize",
        params=tuple(params),
        axes=tuple(axes),
        numeric=tuple(numeric),
        curves=tuple(sorted(curves, key=lambda name: name != spec.objective.metric)),
        summaries=tuple(summary_names(curves)),
        goals=tuple(goal.metric for goal in spec.objectives[1:]),
        flow=FLOW_METRICS if spec.training.gradient_flow is not None else (),
    )


def delete_runs(settings: Settings, sweep: SweepRecord) -> None:
    """Delete a sweep's runs and view from MLflow, as MLflow does it: ``mlflow gc`` frees their space.

    Raises:
        SweeperError: MLflow does not answer.
    """
    if sweep.mlflow_run_id is None or sweep.mlflow_experiment_id is None:
        return
    place = Location(sweep.mlflow_experiment_id, sweep.mlflow_run_id, created=False)
    try:
        store = Store(settings.mlflow_tracking_uri, settings.home)
        for child in store.children(place).values():
            store.client.delete_run(child.run)
        store.client.delete_run(place.parent)
        store.client.delete_experiment_tag(place.experiment, TAG_PREFIX + sweep.sweep)
    except Exception as error:
        raise SweeperError(f"the runs of {sweep.sweep} could not be deleted from MLflow ({error})") from error


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _yaml(data: Any) -> str:
    import yaml

    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
