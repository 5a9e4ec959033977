"""One sweep's place in MLflow: experiment, parent run and child runs, written so that every call can be repeated."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from sweeper.tracking.database import RunRows, make_database, sqlite_uri
from sweeper.tracking.entries import ATTEMPTS, NUMBER, PARENT, STATE, SWEEP_ID, Point, TrialEntry

if TYPE_CHECKING:
    from mlflow import MlflowClient

_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
_IS_PARENT = "sweep.parent"
_EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}  # else the UI opens on a page about agents
_PAGE = 1000
_TOGETHER = 50  # trials in one transaction, if MLflow's database takes them so
_PROBE_EXPERIMENT = "Default"  # MLflow makes it by itself: nothing new is left behind
# Read by MLflow at its first import or at every call. Retries are ours: a repeated create_run would make a second run.
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "GIT_PYTHON_REFRESH": "quiet",
}


@dataclass(frozen=True, slots=True)
class Child:
    """A trial's run as MLflow shows it."""

    run: str
    status: str
    state: str
    attempts: str

    @classmethod
    def showing(cls, entry: TrialEntry, run: str) -> Child:
        """The run that was written for this end of a trial."""
        return cls(run, entry.status, sys.intern(entry.tags[STATE]), sys.intern(entry.tags[ATTEMPTS]))

    def shows(self, entry: TrialEntry) -> bool:
        """The run is that of this end of the trial, and nothing is missing in it."""
        return self.of(entry) and self.status == entry.status

    def of(self, entry: TrialEntry) -> bool:
        """The run was begun for this end of the trial, not for one before a retry."""
        return self.attempts == entry.tags[ATTEMPTS] and self.state == entry.tags[STATE]


@dataclass(frozen=True)
class Location:
    """Where a sweep is found in MLflow. ``created`` is true when this process made the parent run."""

    experiment: str
    parent: str
    created: bool


@dataclass(frozen=True)
class StoreProbe:
    """What a tracking store answered. ``server`` is the version of the server; None: the store needs none."""

    uri: str
    client: str
    server: str | None
    seconds: float


def resolve_uri(uri: str | None, home: Path) -> str:
    """The tracking URI in force: the given one, else the database in the home folder."""
    return uri or sqlite_uri(home / "mlflow.db")


def is_server(uri: str) -> bool:
    """The URI is that of a running MLflow server."""
    return urlsplit(uri).scheme in ("http", "https")


def prepare_environment() -> None:
    """Keep MLflow quiet and offline; must run before its first import. What the user has set stays."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


class Store:
    """An open MLflow tracking store. Making one imports MLflow and brings a new database into being (seconds)."""

    def __init__(self, uri: str | None, home: Path) -> None:
        prepare_environment()
        import logging

        from mlflow import MlflowClient

        for name in ("alembic", "mlflow.store.db.utils"):  # what they report comes to us as an exception as well
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self.uri = resolve_uri(uri, home)
        if uri is None:
            make_database(home / "mlflow.db")
        is_database = urlsplit(self.uri).scheme.split("+")[0] in _DATABASES
        self._artifacts = home.absolute() / "mlartifacts" if is_database else None
        self.client: MlflowClient = MlflowClient(tracking_uri=self.uri)
        self._rows = RunRows.open(self.uri)
        self.together = 1 if self._rows is None else _TOGETHER

    def experiment(self, name: str) -> str:
        """The id of the experiment of this name, made or restored when needed."""
        found = self.client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self.client.create_experiment(name, self._location(name), _EXPERIMENT_TAGS))
            except Exception:
                found = self.client.get_experiment_by_name(name)  # another process was faster
                if found is None:
                    raise
        if found.lifecycle_stage != "active":
            self.client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def place(
        self, experiment: str, name: str, tags: Mapping[str, str], params: Mapping[str, str], at: int
    ) -> Location:
        """The sweep's place: its parent run is found by the tag ``sweep.id``, or made and started at ``at``."""
        where = f"tags.`{SWEEP_ID}` = '{tags[SWEEP_ID]}' and tags.`{_IS_PARENT}` = 'true'"
        found = self.client.search_runs([experiment], where, max_results=1, order_by=["attributes.start_time ASC"])
        run = found[0] if found else self.client.create_run(experiment, at, {_IS_PARENT: "true"} | dict(tags), name)
        missing = {key: value for key, value in params.items() if key not in run.data.params}
        self.log(run.info.run_id, params=missing, tags=tags if found else {})
        return Location(experiment, run.info.run_id, created=not found)

    def find(self, run: str) -> Location | None:
        """The place of an earlier parent run, restored if a user has deleted it; None: it is gone for good."""
        from mlflow.exceptions import MlflowException

        try:
            info = self.client.get_run(run).info
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None
        experiment = self.client.get_experiment(info.experiment_id)
        if experiment.lifecycle_stage != "active":
            self.client.restore_experiment(info.experiment_id)
        if info.lifecycle_stage != "active":
            self.client.restore_run(run)
        return Location(str(info.experiment_id), run, created=False)

    def adopt(self, place: Location, sweep: str) -> None:
        """Make the runs of a sweep's trials children of its new parent run, after the earlier one is gone for good."""
        where = f"tags.`{SWEEP_ID}` = '{sweep}' and tags.`{PARENT}` != '{place.parent}'"
        for run in list(self._search(place.experiment, where)):
            self.client.set_tag(run.info.run_id, PARENT, place.parent)

    def children(self, place: Location, number: int | None = None) -> dict[int, Child]:
        """The trials that MLflow has (only ``number``, if given). Of two runs of one trial the lesser is deleted."""
        where = f"tags.`{PARENT}` = '{place.parent}'"
        if number is not None:
            where += f" and tags.`{NUMBER}` = '{number}'"
        result: dict[int, Child] = {}
        for run in self._search(place.experiment, where):
            tags = run.data.tags
            if not tags.get(NUMBER, "").isdigit():
                continue
            child = Child(run.info.run_id, run.info.status, tags.get(STATE, ""), tags.get(ATTEMPTS, ""))
            other = result.setdefault(int(tags[NUMBER]), child)
            if other is not child:
                kept, extra = (child, other) if other.status == "RUNNING" else (other, child)
                self.client.delete_run(extra.run)
                result[int(tags[NUMBER])] = kept
        return result

    def write(self, place: Location, entry: TrialEntry, child: Child | None) -> Child:
        """Show an ended trial in exactly one run, whatever an earlier call left of it."""
        if child is not None and child.shows(entry):
            return child
        if child is not None and not child.of(entry):
            self.client.delete_run(child.run)
            child = None
        if child is None:
            tags = {**entry.tags, PARENT: place.parent}
            run: str = self.client.create_run(place.experiment, entry.started, tags, entry.name).info.run_id
        else:
            run = child.run
        self.log(run, entry.points, entry.params)
        self.client.set_terminated(run, entry.status, entry.ended)
        return Child.showing(entry, run)

    def write_new(self, place: Location, entries: Sequence[TrialEntry]) -> list[Child]:
        """Show ended trials that MLflow has no run of, all at once where that is possible; else one after the other."""
        runs = None if self._rows is None else self._rows.write(place.experiment, entries, {PARENT: place.parent})
        if runs is None:
            return [self.write(place, entry, None) for entry in entries]
        return [Child.showing(entry, run) for entry, run in zip(entries, runs, strict=True)]

    def log(
        self,
        run: str,
        points: Iterable[Point] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Write metrics, parameters and tags of one run in as few calls as the limits allow."""
        from mlflow.entities import Metric, Param, RunTag

        metrics = [Metric(point.key, point.value, point.timestamp, point.step) for point in points]
        parameters = [Param(key, value) for key, value in (params or {}).items()]
        labels = [RunTag(key, value) for key, value in (tags or {}).items()]
        if metrics or parameters or labels:
            self.client.log_batch(run, metrics, parameters, labels)

    def _search(self, experiment: str, where: str) -> Iterator[Any]:
        token = None
        while True:
            page = self.client.search_runs([experiment], where, max_results=_PAGE, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def _location(self, name: str) -> str | None:
        if self._artifacts is None:
            return None
        folder = re.sub(r"[^A-Za-z0-9._-]+", "-", name).lstrip(".-")[:100]  # what tells the runs apart are their ids
        return (self._artifacts / (folder or "experiment")).as_uri()


def probe(uri: str | None, home: Path) -> StoreProbe:
    """Write a run as the tracker does, read it back and delete it.

    Raises:
        Exception: whatever MLflow raises when the store cannot be reached or used.
        ValueError: the store gave back something else.
    """
    store = Store(uri, home)
    from mlflow import __version__

    server = _server_version(store.uri) if is_server(store.uri) else None
    began = time.perf_counter()
    experiment = store.experiment(_PROBE_EXPERIMENT)
    run: str = store.client.create_run(experiment, run_name="sweeper doctor").info.run_id
    try:
        store.log(run, [Point("value", 0.5, 0, 1)], {"key": "text"})
        store.client.update_run(run, status="FINISHED")
        kept = store.client.get_run(run)
        if (kept.data.metrics, kept.data.params, kept.info.status) != ({"value": 0.5}, {"key": "text"}, "FINISHED"):
            raise ValueError(f"the run came back as {kept.info.status} with {kept.data.metrics} and {kept.data.params}")
    finally:
        store.client.delete_run(run)
    return StoreProbe(store.uri, __version__, server, time.perf_counter() - began)


def _server_version(uri: str) -> str:
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    answer = http_request(get_default_host_creds(uri.rstrip("/")), "/version", "GET")
    return str(answer.text).strip() if answer.status_code == 200 else "unknown"
