"""The tracker against real MLflow: an SQLite store in a temporary home, and a real server over HTTP."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sweeper.ledger.memory import MemoryLedger
from sweeper.ledger.protocol import Ledger
from sweeper.records import Reopened, SweepChanged, SweepRecord
from sweeper.settings import Settings
from sweeper.spec.parse import SweepSpec
from sweeper.states import SweepState, TrialState
from sweeper.tracking.database import RunRows, dump_schema, make_database
from sweeper.tracking.entries import ATTEMPTS, NUMBER, PARENT, STATE, trial_entry
from sweeper.tracking.store import Location, Store, resolve_uri
from sweeper.tracking.tracker import Tracker, delete_runs
from sweeper.tracking.ui import UiServer, serve_ui
from tests.ended_sweeps import BEGAN, EPOCHS, REASONS, TableStub, end_trials, new_sweep, spec_of
from tests.faults import wait_until
from tests.ports import own_port

PATIENCE = 120.0
STATES = {1: TrialState.PRUNED, 2: TrialState.FAILED, 3: TrialState.STOPPED}


@contextmanager
def asked_of(uri: str) -> Iterator[None]:
    """What of MLflow asks the global store asks this one."""
    import mlflow

    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(None)  # the variable in the environment goes with it


class Told(list[tuple[str, dict[str, Any]]]):
    """What a tracker said, in order."""

    def __call__(self, action: str, fields: Mapping[str, Any]) -> None:
        self.append((action, dict(fields)))

    @property
    def actions(self) -> list[str]:
        return [action for action, _ in self]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home")


def tracker_of(settings: Settings, ledger: Ledger, sweep: str, spec: SweepSpec, told: Told | None = None) -> Tracker:
    tracker = Tracker(settings, ledger.sweep(sweep), spec, TableStub(), ledger, told if told is not None else Told())
    tracker.start()
    return tracker


def track(
    settings: Settings, ledger: Ledger, sweep: str, spec: SweepSpec, told: Told | None = None, end: bool = False
) -> list[int]:
    """Everything that the ledger has and MLflow has not is written by a new tracker; returns what is left."""
    tracker = tracker_of(settings, ledger, sweep, spec, told)
    if end:
        ledger.commit(sweep, [SweepChanged(state=SweepState.COMPLETE, at=BEGAN + 100)])
    tracker.trials_ended()
    tracker.sweep_ended()
    try:
        return tracker.flush(PATIENCE)
    finally:
        tracker.close()


def client_of(settings: Settings) -> Any:
    return Store(settings.mlflow_tracking_uri, settings.home).client


def children(client: Any, sweep: SweepRecord) -> dict[int, Any]:
    """The active child runs by trial number; fails when a trial has two."""
    where = f"tags.`{PARENT}` = '{sweep.mlflow_run_id}'"
    found = client.search_runs([sweep.mlflow_experiment_id], where, max_results=5000)
    numbers = [int(run.data.tags[NUMBER]) for run in found]
    assert len(numbers) == len(set(numbers))
    return dict(zip(numbers, found, strict=True))


def test_every_trial_is_one_child_run_with_its_state_parameters_curves_and_times(settings: Settings) -> None:
    ledger, spec = MemoryLedger(), spec_of()
    sweep = new_sweep(ledger, spec).sweep
    end_trials(ledger, sweep, range(4), STATES)
    assert track(settings, ledger, sweep, spec, end=True) == []
    record, client = ledger.sweep(sweep), client_of(settings)
    runs = children(client, record)
    assert {number: run.info.status for number, run in runs.items()} == {
        0: "FINISHED",
        1: "KILLED",
        2: "FAILED",
        3: "KILLED",
    }
    for trial in ledger.trials(sweep):
        run = runs[trial.number]
        assert (trial.mlflow_run_id, trial.tracked_state) == (run.info.run_id, trial.state)
        assert run.info.run_name == f"trial-{trial.number:04d}"
        assert run.data.tags[STATE] == trial.state
        assert run.data.tags["trial.reason"] == REASONS[trial.state]
        assert run.data.params["optimizer"] == trial.params["optimizer"]
        assert (run.info.start_time, run.info.end_time) == (trial.started_at * 1000, trial.ended_at * 1000)
    history = sorted(client.get_metric_history(runs[0].info.run_id, "val_loss"), key=lambda metric: metric.step)
    reports = ledger.reports(sweep, 0)[0]
    assert [(m.step, m.value) for m in history] == [(r.epoch, r.metrics["val_loss"]) for r in reports]
    assert runs[0].data.metrics["objective"] == ledger.trial(sweep, 0).value


def test_the_parent_run_has_spec_table_counts_and_final_state(settings: Settings) -> None:
    ledger, spec = MemoryLedger(), spec_of(tracking={"experiment": "/Users/me@example.com/größe"})
    sweep = new_sweep(ledger, spec).sweep
    end_trials(ledger, sweep, range(4), STATES)
    track(settings, ledger, sweep, spec, end=True)
    record, client = ledger.sweep(sweep), client_of(settings)
    parent = client.get_run(record.mlflow_run_id)
    assert client.get_experiment(record.mlflow_experiment_id).name == "/Users/me@example.com/größe"
    assert parent.info.status == "FINISHED"
    assert parent.data.params["objective.metric"] == "val_loss"
    assert parent.data.metrics["trials_complete"] == parent.data.metrics["trials_failed"] == 1
    assert parent.data.metrics["best_value"] == ledger.trial(sweep, 0).value
    assert {file.path for file in client.list_artifacts(parent.info.run_id)} >= {
        "sweep.yaml",
        "trials.json",
        "trials.csv",
    }
    with asked_of(resolve_uri(None, settings.home)):
        table = client.load_table(record.mlflow_experiment_id, "trials.json", [parent.info.run_id])
    assert list(table["number"]) == [0, 1, 2, 3]
    assert list(table["mlflow_run_id"]) == [trial.mlflow_run_id for trial in ledger.trials(sweep)]
    assert str(settings.home) in parent.info.artifact_uri


def test_a_large_sweep_has_runs_for_some_of_its_trials_and_a_table_of_all(settings: Settings) -> None:
    ledger, spec = MemoryLedger(), spec_of(trials=40, tracking={"trials": 8})
    sweep = new_sweep(ledger, spec).sweep
    end_trials(ledger, sweep, range(40), dict.fromkeys(range(20, 30), TrialState.FAILED))
    assert track(settings, ledger, sweep, spec, end=True) == []
    record, client = ledger.sweep(sweep), client_of(settings)
    runs = children(client, record)
    trials = ledger.trials(sweep)
    assert {number for number in runs if trials[number].state is TrialState.FAILED} >= {20, 21}
    assert {trial.number for trial in ledger.best(sweep, 2)} <= set(runs)
    assert 8 <= len(runs) <= 14
    assert {trial.number for trial in trials if trial.mlflow_run_id} == set(runs)
    assert not ledger.untracked(sweep)
    folder = client.download_artifacts(record.mlflow_run_id, "trials.csv")
    lines = Path(folder).read_text(encoding="utf-8").splitlines()
    assert len(lines) == 41
    assert lines[0].startswith("number,state,")
    note = client.get_run(record.mlflow_run_id).data.tags["mlflow.note.content"]
    assert f"{len(runs)} of its 40 trials have runs here" in note
    assert track(settings, ledger, sweep, spec) == []  # a resume writes no more
    assert set(children(client, record)) == set(runs)


def test_two_sweeps_share_an_experiment_that_was_deleted_in_between(settings: Settings) -> None:
    ledger, spec = MemoryLedger(), spec_of(trials=1)
    first, second = new_sweep(ledger, spec).sweep, new_sweep(ledger, spec).sweep
    track(settings, ledger, first, spec)
    client_of(settings).delete_experiment(ledger.sweep(first).mlflow_experiment_id)
    end_trials(ledger, second, [0])
    assert track(settings, ledger, second, spec) == []
    assert ledger.sweep(first).mlflow_experiment_id == ledger.sweep(second).mlflow_experiment_id
    assert len(children(client_of(settings), ledger.sweep(second))) == 1


def test_trials_that_end_while_the_sweep_runs_appear_without_being_asked_for(settings: Settings) -> None:
    ledger, spec = MemoryLedger(), spec_of()
    sweep = new_sweep(ledger, spec).sweep
    tracker = tracker_of(settings, ledger, sweep, spec)
    for number in range(3):
        end_trials(ledger, sweep, [number])
        tracker.trial_ended(number)
    wait_until(lambda: not ledger.untracked(sweep), PATIENCE)
    assert sorted(children(client_of(settings), ledger.sweep(sweep))) == [0, 1, 2]
    assert client_of(settings).get_run(ledger.sweep(sweep).mlflow_run_id).info.status == "RUNNING"
    tracker.close()


def test_trials_are_written_as_the_ledger_has_them_when_their_turn_comes(settings: Settings) -> None:
    ledger, spec = MemoryLedger(), spec_of()
    sweep = new_sweep(ledger, spec).sweep
    tracker = Tracker(settings, ledger.sweep(sweep), spec, TableStub(), ledger)
    end_trials(ledger, sweep, range(4), {3: TrialState.FAILED})
    for number in range(4):
        tracker.trial_ended(number)
    assert not ledger.commit(sweep, [Reopened(3, "retried by the user")])
    tracker.log_report("<h1>digits</h1>")
    tracker.start()
    assert tracker.flush(PATIENCE) == []
    tracker.close()
    client, record = client_of(settings), ledger.sweep(sweep)
    runs = children(client, record)
    assert sorted(runs) == [0, 1, 2]
    for run in runs.values():
        assert len(client.get_metric_history(run.info.run_id, "val_loss")) == EPOCHS
    assert "report.html" in {file.path for file in client.list_artifacts(record.mlflow_run_id)}


def test_a_half_written_run_is_completed_and_no_value_is_there_twice(settings: Settings) -> None:
    """As after a kill -9 between the calls of one trial: the run exists, with some of its metrics."""
    ledger, spec = MemoryLedger(), spec_of()
    sweep = new_sweep(ledger, spec).sweep
    track(settings, ledger, sweep, spec)
    end_trials(ledger, sweep, range(2))
    store, record = Store(None, settings.home), ledger.sweep(sweep)
    for number, written in ((0, 0), (1, 30)):
        entry = trial_entry(record, ledger.trial(sweep, number), ledger.reports(sweep, number)[number])
        tags = {**entry.tags, PARENT: record.mlflow_run_id}
        run = store.client.create_run(record.mlflow_experiment_id, entry.started, tags, entry.name)
        store.log(run.info.run_id, entry.points[:written], dict(list(entry.params.items())[:written]))
    assert track(settings, ledger, sweep, spec) == []
    for run in children(store.client, record).values():
        assert run.info.status == "FINISHED"
        assert "learning_rate" in run.data.params
        for metric in ("train_loss", "val_loss", "learning_rate"):
            assert len(store.client.get_metric_history(run.info.run_id, metric)) == EPOCHS


def test_a_finished_run_that_the_ledger_was_not_told_of_is_found_again(settings: Settings) -> None:
    """As after a kill -9 between MLflow's last call and the ledger's commit."""
    ledger, spec = MemoryLedger(), spec_of()
    sweep = new_sweep(ledger, spec).sweep
    end_trials(ledger, sweep, range(4))
    track(settings, ledger, sweep, spec)
    before = {number: run.info.run_id for number, run in children(client_of(settings), ledger.sweep(sweep)).items()}
    forgetful = MemoryLedger()
    forgetful._sweeps = {sweep: ledger._sweeps[sweep]}
    for row in forgetful._sweeps[sweep].trials.values():
        row.mlflow_run_id = row.tracked_state = None
    assert track(settings, forgetful, sweep, spec) == []
    assert {trial.number: trial.mlflow_run_id for trial in forgetful.trials(sweep)} == before
    assert len(children(client_of(settings), ledger.sweep(sweep))) == 4


def test_a_retried_trial_shows_its_new_end_and_the_old_run_is_gone(settings: Settings) -> None:
    ledger, spec = MemoryLedger(), spec_of()
    sweep = new_sweep(ledger, spec).sweep
    end_trials(ledger, sweep, range(4), {2: TrialState.FAILED})
    track(settings, ledger, sweep, spec)
    old = ledger.trial(sweep, 2).mlflow_run_id
    assert not ledger.commit(sweep, [Reopened(2, "retried by the user")])
    end_trials(ledger, sweep, [2])
    assert track(settings, ledger, sweep, spec) == []
    client, record = client_of(settings), ledger.sweep(sweep)
    run = children(client, record)[2]
    assert (run.info.status, run.data.tags[STATE], run.data.tags[ATTEMPTS]) == ("FINISHED", "complete", "2")
    assert ledger.trial(sweep, 2).mlflow_run_id == run.info.run_id != old
    assert client.get_run(old).info.lifecycle_stage == "deleted"


def test_of_two_runs_of_one_trial_one_is_left(settings: Settings) -> None:
    ledger, spec = MemoryLedger(), spec_of(trials=1)
    sweep = new_sweep(ledger, spec).sweep
    end_trials(ledger, sweep, [0])
    track(settings, ledger, sweep, spec)
    store, record = Store(None, settings.home), ledger.sweep(sweep)
    tags = {PARENT: record.mlflow_run_id, NUMBER: "0"}
    store.client.create_run(record.mlflow_experiment_id, 1, tags, "trial-0000")
    track(settings, ledger, sweep, spec)
    assert children(store.client, record)[0].info.run_id == ledger.trial(sweep, 0).mlflow_run_id


def test_a_trial_that_mlflow_refuses_is_named_and_does_not_stop_the_others(settings: Settings) -> None:
    ledger, spec, told = MemoryLedger(), spec_of(), Told()
    sweep = new_sweep(ledger, spec).sweep
    track(settings, ledger, sweep, spec)
    end_trials(ledger, sweep, range(4))
    store, record = Store(None, settings.home), ledger.sweep(sweep)
    entry = trial_entry(record, ledger.trial(sweep, 1), ledger.reports(sweep, 1)[1])
    run = store.client.create_run(record.mlflow_experiment_id, 1, {**entry.tags, PARENT: record.mlflow_run_id}, "x")
    store.client.log_param(run.info.run_id, "optimizer", "another")  # MLflow lets no parameter change
    assert track(settings, ledger, sweep, spec, told) == [1]
    assert {n for n, run in children(store.client, record).items() if run.info.status == "FINISHED"} == {0, 2, 3}
    [refusal] = [fields for action, fields in told if action == "tracker.refused"]
    assert refusal["what"] == "trial 1"
    assert "optimizer" in refusal["reason"]


def rows_of(home: Path, experiment: str) -> dict[str, list[tuple[Any, ...]]]:
    """All that the database holds of an experiment's trials, its runs under the numbers of their trials."""
    with closing(sqlite3.connect(home / "mlflow.db")) as database:
        database.row_factory = sqlite3.Row
        numbered = "SELECT run_uuid, value FROM tags JOIN runs USING (run_uuid) WHERE key = ? AND experiment_id = ?"
        numbers = dict(map(tuple, database.execute(numbered, (NUMBER, experiment))))
        found = {}
        for table in ("runs", "tags", "params", "metrics", "latest_metrics"):
            rows = [dict(row) for row in database.execute(f"SELECT * FROM {table}")]
            kept = [row | {"run_uuid": numbers[row["run_uuid"]]} for row in rows if row["run_uuid"] in numbers]
            if table == "runs":
                for row in kept:
                    assert row.pop("experiment_id") == int(experiment)
                    assert row["artifact_uri"].split("/")[-1] == "artifacts"
                    row["artifact_uri"] = row["artifact_uri"].rsplit("/", 2)[0].rsplit("/", 1)[0]
            found[table] = sorted(tuple(sorted(row.items())) for row in kept)
    return found


def test_runs_that_are_written_together_are_row_by_row_those_of_the_client(settings: Settings) -> None:
    """Fails when MLflow changes its tables: then tracking_rows has to follow, or every trial costs 23 ms."""
    ledger, spec = MemoryLedger(), spec_of()
    record = new_sweep(ledger, spec)
    end_trials(ledger, record.sweep, range(4), STATES)
    entries = [
        trial_entry(record, ledger.trial(record.sweep, n), ledger.reports(record.sweep, n).get(n, [])) for n in range(4)
    ]
    entries[0] = replace(entries[0], points=(*entries[0].points, entries[0].points[0]))  # a value that comes twice
    store = Store(None, settings.home)
    assert store.together > 1
    places = [Location(store.experiment(name), "parent", created=True) for name in ("by the client", "together")]
    for entry in entries:
        store.write(places[0], entry, None)
    children = store.write_new(places[1], entries)
    by_client, together = (rows_of(settings.home, place.experiment) for place in places)
    assert {table: len(rows) for table, rows in together.items()}.items() >= {"runs": 4}.items()
    assert together == by_client
    assert [child.shows(entry) for child, entry in zip(children, entries, strict=True)] == [True] * 4
    assert store.children(places[1]) == dict(enumerate(children))


def test_a_database_with_other_tables_is_left_to_the_client(settings: Settings) -> None:
    store = Store(None, settings.home)
    with closing(sqlite3.connect(settings.home / "mlflow.db")) as database:
        database.execute("ALTER TABLE metrics ADD COLUMN unit TEXT")
    other = Store(None, settings.home)
    assert (store.together, other.together) == (50, 1)
    assert RunRows.open("http://127.0.0.1:1") is None
    ledger, spec = MemoryLedger(), spec_of()
    sweep = new_sweep(ledger, spec).sweep
    end_trials(ledger, sweep, range(4))
    assert track(settings, ledger, sweep, spec, end=True) == []
    assert sorted(children(client_of(settings), ledger.sweep(sweep))) == [0, 1, 2, 3]


def test_of_trials_that_are_written_together_all_or_none_are_there(settings: Settings) -> None:
    """One of them is refused, as by a full disk in the middle: the others are there once, by themselves."""
    ledger, spec, told = MemoryLedger(), spec_of(), Told()
    sweep = new_sweep(ledger, spec).sweep
    track(settings, ledger, sweep, spec)
    with closing(sqlite3.connect(settings.home / "mlflow.db")) as database:
        refusal = "WHEN NEW.name = 'trial-0002' BEGIN SELECT RAISE(ABORT, 'no'); END"
        database.execute(f"CREATE TRIGGER refuse BEFORE INSERT ON runs {refusal}")
    end_trials(ledger, sweep, range(4))
    assert track(settings, ledger, sweep, spec, told) == [2]
    assert sorted(children(client_of(settings), ledger.sweep(sweep))) == [0, 1, 3]
    [refusal] = [fields for action, fields in told if action == "tracker.refused"]
    assert refusal["what"] == "trial 2"


def test_a_database_that_another_writer_holds_is_waited_for(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweeper.tracking.database._WAIT", 0.1)
    monkeypatch.delattr(Store, "write")  # nothing was written, so that all can be rows again
    ledger, spec, told = MemoryLedger(), spec_of(), Told()
    sweep = new_sweep(ledger, spec).sweep
    tracker = tracker_of(settings, ledger, sweep, spec, told)
    assert tracker.flush(PATIENCE) == []
    end_trials(ledger, sweep, range(4))
    with closing(sqlite3.connect(settings.home / "mlflow.db")) as database:
        database.execute("BEGIN IMMEDIATE")
        for number in range(4):
            tracker.trial_ended(number)
        assert tracker.flush(PATIENCE) == [0, 1, 2, 3]
        database.rollback()
    assert tracker.flush(PATIENCE) == []
    tracker.close()
    assert told.actions == ["tracker.down", "tracker.up"]
    assert sorted(children(client_of(settings), ledger.sweep(sweep))) == [0, 1, 2, 3]


@pytest.mark.slow
def test_a_sqlite_database_that_the_user_names_is_written_together_too(tmp_path: Path) -> None:
    named = Settings(home=tmp_path / "home", mlflow_tracking_uri=f"sqlite:///{tmp_path / 'mine.db'}")
    assert Store(named.mlflow_tracking_uri, named.home).together > 1


def test_a_trial_that_ends_twice_before_it_is_written_shows_its_last_end(settings: Settings) -> None:
    ledger, spec = MemoryLedger(), spec_of()
    sweep = new_sweep(ledger, spec).sweep
    tracker = Tracker(settings, ledger.sweep(sweep), spec, TableStub(), ledger)
    end_trials(ledger, sweep, range(2), {1: TrialState.FAILED})
    for number in range(2):
        tracker.trial_ended(number)
    assert not ledger.commit(sweep, [Reopened(1, "retried by the user")])
    end_trials(ledger, sweep, [1])
    tracker.trial_ended(1)
    tracker.start()
    assert tracker.flush(PATIENCE) == []
    tracker.close()
    runs = children(client_of(settings), ledger.sweep(sweep))
    assert {number: run.data.tags[STATE] for number, run in runs.items()} == {0: "complete", 1: "complete"}


def test_a_deleted_sweep_is_gone_from_mlflow(settings: Settings) -> None:
    ledger, spec = MemoryLedger(), spec_of()
    sweep = new_sweep(ledger, spec).sweep
    end_trials(ledger, sweep, range(4))
    track(settings, ledger, sweep, spec)
    record = ledger.sweep(sweep)
    delete_runs(settings, record)
    client = client_of(settings)
    assert client.search_runs([record.mlflow_experiment_id]) == []
    assert not [key for key in client.get_experiment(record.mlflow_experiment_id).tags if "sharedViewState" in key]


def test_nothing_is_printed(settings: Settings, capfd: pytest.CaptureFixture[str]) -> None:
    ledger, spec = MemoryLedger(), spec_of(trials=1)
    sweep = new_sweep(ledger, spec).sweep
    end_trials(ledger, sweep, [0])
    track(settings, ledger, sweep, spec, end=True)
    assert capfd.readouterr() == ("", "")


def test_a_new_database_is_made_once_when_several_ask_for_it(tmp_path: Path) -> None:
    path = tmp_path / "home" / "mlflow.db"
    made: list[bool] = []
    threads = [threading.Thread(target=lambda: made.append(make_database(path))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert any(made)
    assert [file.name for file in path.parent.iterdir()] == ["mlflow.db"]
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.slow
def test_the_kept_schema_is_what_the_installed_mlflow_migrates_to(tmp_path: Path) -> None:
    from sweeper.tracking.database import SCHEMA

    Store(f"sqlite:///{tmp_path / 'migrated.db'}", tmp_path)
    remedy = "MLflow has changed: run python -m sweeper.tracking.database on a database it has just made"
    kept, made = SCHEMA.read_text(encoding="utf-8"), dump_schema(tmp_path / "migrated.db")
    # the order of constraints and indexes differs from one migration to the next
    assert sorted(line.rstrip(", ") for line in kept.splitlines()) == sorted(
        line.rstrip(", ") for line in made.splitlines()
    ), remedy


# Over HTTP


@pytest.fixture(scope="module")
def server_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="module")
def port() -> int:
    return own_port()


@pytest.fixture(scope="module")
def remote(server_home: Path, port: int) -> Settings:
    """Settings of a user whose MLflow is a server; nobody has started it yet."""
    return Settings(home=server_home / "user", mlflow_tracking_uri=f"http://127.0.0.1:{port}")


@pytest.fixture(scope="module")
def server(server_home: Path, port: int) -> Iterator[UiServer]:
    running = serve_ui(None, server_home, port=port)
    yield running
    running.close()


@pytest.mark.slow
def test_what_ends_while_the_server_is_down_is_written_by_the_next_tracker(
    remote: Settings, request: pytest.FixtureRequest
) -> None:
    ledger, spec, told = MemoryLedger(), spec_of(name="down"), Told()
    sweep = new_sweep(ledger, spec).sweep
    end_trials(ledger, sweep, range(4), STATES)
    began = time.monotonic()
    tracker = tracker_of(remote, ledger, sweep, spec, told)
    for trial in ledger.trials(sweep):
        tracker.trial_ended(trial.number)
    assert tracker.flush(PATIENCE) == [0, 1, 2, 3]
    tracker.close()
    assert time.monotonic() - began < PATIENCE / 2  # it does not wait for a server that refuses connections
    assert told.actions == ["tracker.down"]
    server: UiServer = request.getfixturevalue("server")
    assert track(remote, ledger, sweep, spec, end=True) == []
    client, record = client_of(remote), ledger.sweep(sweep)
    statuses = {number: run.info.status for number, run in children(client, record).items()}
    assert statuses == {0: "FINISHED", 1: "KILLED", 2: "FAILED", 3: "KILLED"}
    assert client.get_run(record.mlflow_run_id).info.status == "FINISHED"
    assert serve_ui(server.url, remote.home) == UiServer(server.url)  # a server needs no server


@pytest.mark.slow
def test_a_server_shows_the_same_as_a_database(remote: Settings, server: UiServer) -> None:
    ledger, spec = MemoryLedger(), spec_of(name="remote")
    sweep = new_sweep(ledger, spec).sweep
    end_trials(ledger, sweep, range(4), STATES)
    assert track(remote, ledger, sweep, spec, end=True) == []
    record, client = ledger.sweep(sweep), client_of(remote)
    for number, run in children(client, record).items():
        entry = trial_entry(record, ledger.trial(sweep, number), ledger.reports(sweep, number)[number])
        assert run.data.params == entry.params
        assert entry.tags.items() <= run.data.tags.items()
        assert run.data.metrics == pytest.approx({point.key: point.value for point in entry.points})
    artifacts = {file.path for file in client.list_artifacts(record.mlflow_run_id)}
    assert artifacts >= {"sweep.yaml", "trials.json", "trials.csv"}


@pytest.mark.slow
def test_the_ui_takes_the_next_port_when_one_is_taken_and_ends_with_its_children(tmp_path: Path, port: int) -> None:
    import socket

    with socket.socket() as taken:
        first = own_port()  # those above it are nobody's, either
        taken.bind(("127.0.0.1", first))
        taken.listen()
        running = serve_ui(None, tmp_path, port=first)
        assert not running.url.endswith(f":{first}")
    assert running.process is not None
    group = running.process.pid
    running.close()
    assert not [p for p in Path("/proc").iterdir() if p.name.isdigit() and _group(p) == group]


def _group(process: Path) -> int | None:
    try:
        return int((process / "stat").read_text().rsplit(")", 1)[1].split()[2])
    except OSError:
        return None


@pytest.mark.slow
def test_three_hundred_trials_are_written_at_a_bounded_cost(settings: Settings) -> None:
    """It is 1.5 ms of CPU on an idle machine; the bound is what the whole driver may cost."""
    ledger, spec, trials = MemoryLedger(), spec_of(trials=300), 300
    sweep = new_sweep(ledger, spec).sweep
    track(settings, ledger, sweep, spec)
    end_trials(ledger, sweep, range(trials))
    tracker = tracker_of(settings, ledger, sweep, spec)
    cpu = time.process_time()
    assert tracker.flush(PATIENCE) == []
    spent = (time.process_time() - cpu) / trials
    tracker.close()
    print(json.dumps({"cpu_ms_per_trial": round(1000 * spent, 1)}))
    assert len(children(client_of(settings), ledger.sweep(sweep))) == trials
    assert spent < 0.05


def test_a_home_with_the_signs_of_urls_in_its_name_holds_its_database(tmp_path: Path) -> None:
    home = tmp_path / "feature%2Flogin ?x=1#b ü"
    settings, ledger, spec = Settings(home=home), MemoryLedger(), spec_of(trials=1)
    sweep = new_sweep(ledger, spec).sweep
    end_trials(ledger, sweep, range(1))
    assert track(settings, ledger, sweep, spec, end=True) == []
    assert (home / "mlflow.db").is_file()
    assert list(children(client_of(settings), ledger.sweep(sweep))) == [0]


@pytest.mark.parametrize("experiment", ["kept", "renamed", "deleted"])
def test_runs_that_a_user_has_deleted_are_made_whole_by_a_resume(settings: Settings, experiment: str) -> None:
    ledger, spec, told = MemoryLedger(), spec_of(trials=6), Told()
    sweep = new_sweep(ledger, spec).sweep
    end_trials(ledger, sweep, range(3))
    track(settings, ledger, sweep, spec)
    before, client = ledger.sweep(sweep), client_of(settings)
    client.delete_run(children(client, before)[1].info.run_id)
    client.delete_run(before.mlflow_run_id)
    if experiment == "renamed":
        client.rename_experiment(before.mlflow_experiment_id, "another name")
    elif experiment == "deleted":
        client.delete_experiment(before.mlflow_experiment_id)
    end_trials(ledger, sweep, range(3, 6))
    assert track(settings, ledger, sweep, spec, told, end=True) == []
    after = ledger.sweep(sweep)
    assert (after.mlflow_run_id, after.mlflow_experiment_id) == (before.mlflow_run_id, before.mlflow_experiment_id)
    assert sorted(children(client, after)) == list(range(6))
    assert client.get_run(after.mlflow_run_id).info.lifecycle_stage == "active"
    if experiment != "deleted":  # restored, it brings all of its runs back
        assert ("tracker.repaired", {"sweep": sweep, "trials": 1, "parent": False}) in told


def test_a_parent_run_that_is_gone_for_good_is_made_again_and_keeps_its_children(settings: Settings) -> None:
    ledger, spec, told = MemoryLedger(), spec_of(trials=4), Told()
    sweep = new_sweep(ledger, spec).sweep
    end_trials(ledger, sweep, range(3))
    track(settings, ledger, sweep, spec)
    before, client = ledger.sweep(sweep), client_of(settings)
    runs = {number: run.info.run_id for number, run in children(client, before).items()}
    client.delete_run(before.mlflow_run_id)
    client._tracking_client.store._hard_delete_run(before.mlflow_run_id)  # what `mlflow gc` does
    end_trials(ledger, sweep, range(3, 4))
    assert track(settings, ledger, sweep, spec, told, end=True) == []
    after = ledger.sweep(sweep)
    assert after.mlflow_run_id != before.mlflow_run_id
    found = {number: run.info.run_id for number, run in children(client, after).items()}
    assert found.items() >= runs.items()
    assert sorted(found) == list(range(4))
    assert "tracker.repaired" in told.actions
