"""All that knows MLflow's undocumented tables: a database made from a kept schema, ended trials written as its rows.

Its migrations take 10 s of CPU at the first start. Its client takes 23 ms of CPU for a trial of 20 epochs, in five
transactions, and has no call for several runs; here many runs are one transaction, equal to those the client makes. The
tables are no documented interface, so their columns are compared with those known here before anything is written.
"""

from __future__ import annotations

import os
import re
import sqlite3
import sys
import tempfile
import uuid
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.parse import quote, unquote

from sweeper.tracking.entries import Point, TrialEntry

SCHEMA = Path(__file__).with_name("mlflow_schema.sql")
_MARK = "-- mlflow "
_WAIT = 30.0  # seconds for another writer of the database
_COLUMNS = {
    "runs": "run_uuid, name, source_type, source_name, entry_point_name, user_id, status, start_time, end_time, "
    "deleted_time, source_version, lifecycle_stage, artifact_uri, experiment_id",
    "tags": "key, value, run_uuid",
    "params": "key, value, run_uuid",
    "metrics": "key, value, timestamp, run_uuid, step, is_nan",
    "latest_metrics": "key, value, timestamp, step, is_nan, run_uuid",
}
_PREFIX = "sqlite:///"
_SPECIAL = re.compile(r"[%?#\x00-\x1f]")


def sqlite_uri(path: Path) -> str:
    """The tracking URI of a database file, whatever its folder is called: SQLAlchemy, which reads it, decodes it.

    MLflow makes the folder that the URI spells before it is decoded, so only what must be is encoded.
    """
    return _PREFIX + _SPECIAL.sub(lambda found: quote(found.group()), str(path.absolute()))


def sqlite_path(uri: str) -> Path | None:
    """The file of a tracking URI; None: it is no plain SQLite file."""
    if not uri.startswith(_PREFIX) or "?" in uri:
        return None
    return Path(unquote(uri.removeprefix(_PREFIX)))


@dataclass(frozen=True)
class RunRows:
    """MLflow's SQLite database at ``path``."""

    path: Path

    @classmethod
    def open(cls, uri: str) -> RunRows | None:
        """The database of a tracking URI; None when it is no plain SQLite file or its tables are others than these."""
        path = sqlite_path(uri)
        if path is None:
            return None
        with closing(sqlite3.connect(path, timeout=_WAIT)) as database:
            for table, known in _COLUMNS.items():
                found = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
                if sorted(found) != sorted(known.split(", ")):
                    return None
        return cls(path)

    def write(self, experiment: str, entries: Sequence[TrialEntry], tags: dict[str, str]) -> list[str] | None:
        """Make a finished run of each entry, with ``tags`` beside its own: all of them, or none after any error.

        Returns the runs' ids; None when the experiment is not active: MLflow itself says what is wrong then.

        Raises:
            sqlite3.Error: the database is locked, full or damaged.
        """
        with closing(sqlite3.connect(self.path, timeout=_WAIT)) as database, database:
            database.execute("PRAGMA foreign_keys = ON")
            database.execute("BEGIN IMMEDIATE")
            where = "SELECT artifact_location FROM experiments WHERE experiment_id = ? AND lifecycle_stage = 'active'"
            found = database.execute(where, (int(experiment),)).fetchone()
            if found is None:
                return None
            runs = [uuid.uuid4().hex for _ in entries]
            pairs = list(zip(runs, entries, strict=True))
            _insert(database, "runs", (_run(run, entry, int(experiment), found[0]) for run, entry in pairs))
            for run, entry in pairs:
                points = dict.fromkeys(entry.points)  # a value that comes twice is kept once, as MLflow does it
                named = {**entry.tags, **tags, "mlflow.runName": entry.name}
                _insert(database, "tags", ((key, value, run) for key, value in named.items()))
                _insert(database, "params", ((key, value, run) for key, value in entry.params.items()))
                _insert(database, "metrics", ((p.key, p.value, p.timestamp, run, p.step, 0) for p in points))
                last = _last(points)
                _insert(database, "latest_metrics", ((p.key, p.value, p.timestamp, p.step, 0, run) for p in last))
            return runs


def _insert(database: sqlite3.Connection, table: str, rows: Iterable[tuple[object, ...]]) -> None:
    names = _COLUMNS[table]
    marks = ", ".join("?" * len(names.split(", ")))
    database.executemany(f"INSERT INTO {table} ({names}) VALUES ({marks})", rows)  # noqa: S608 names of this file


def _run(run: str, entry: TrialEntry, experiment: int, location: str) -> tuple[object, ...]:
    begun: tuple[object, ...] = (run, entry.name, "UNKNOWN", "", "", "unknown", entry.status, entry.started)
    return (*begun, entry.ended, None, "", "active", f"{location.rstrip('/')}/{run}/artifacts", experiment)


def _last(points: Iterable[Point]) -> Iterable[Point]:
    """The point of each metric that MLflow calls its latest."""
    latest: dict[str, Point] = {}
    for point in points:
        known = latest.get(point.key)
        order = (point.step, point.timestamp, point.value)
        if known is None or order > (known.step, known.timestamp, known.value):
            latest[point.key] = point
    return latest.values()


def make_database(path: Path) -> bool:
    """Make the SQLite database of the installed MLflow, unless the file exists; readers of it never block the writer.

    False when there is nothing to do, or when another version of MLflow is installed: MLflow then migrates by itself.
    """
    if path.exists() or not _is_installed(schema_version()):
        return False
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f"{path.name}.", suffix=".new", dir=path.parent)
    os.close(handle)
    try:
        with closing(sqlite3.connect(name)) as database:
            database.execute("PRAGMA journal_mode = WAL")
            database.executescript(SCHEMA.read_text(encoding="utf-8"))
        with suppress(FileExistsError):  # another process was faster
            os.link(name, path)
    finally:
        os.unlink(name)
    return True


def schema_version() -> str:
    """The MLflow whose schema is kept beside this file."""
    with SCHEMA.open(encoding="utf-8") as file:
        return file.readline().removeprefix(_MARK).split()[0]


def dump_schema(database: Path) -> str:
    """The kept schema's text, from a database that MLflow has migrated from nothing."""
    with closing(sqlite3.connect(database)) as source:
        lines = [line for line in source.iterdump() if not line.startswith('INSERT INTO "experiments"')]
    head = f"{_MARK}{version('mlflow')} (what its migrations make of nothing, written by tracking/database.py)"
    return "\n".join([head, *lines, ""])


def _is_installed(wanted: str) -> bool:
    try:
        return version("mlflow") == wanted
    except PackageNotFoundError:
        return False


if __name__ == "__main__":
    SCHEMA.write_text(dump_schema(Path(sys.argv[1])), encoding="utf-8")
