"""A new MLflow database from the schema that its migrations lead to, instead of running them all (10 s of CPU)."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

SCHEMA = Path(__file__).with_name("mlflow_schema.sql")
_MARK = "-- mlflow "


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
        with contextlib.closing(sqlite3.connect(name)) as database:
            database.execute("PRAGMA journal_mode = WAL")
            database.executescript(SCHEMA.read_text(encoding="utf-8"))
        with contextlib.suppress(FileExistsError):  # another process was faster
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
    with contextlib.closing(sqlite3.connect(database)) as source:
        lines = [line for line in source.iterdump() if not line.startswith('INSERT INTO "experiments"')]
    head = f"{_MARK}{version('mlflow')} (what its migrations make of nothing, written by tracking_template)"
    return "\n".join([head, *lines, ""])


def _is_installed(wanted: str) -> bool:
    try:
        return version("mlflow") == wanted
    except PackageNotFoundError:
        return False


if __name__ == "__main__":
    SCHEMA.write_text(dump_schema(Path(sys.argv[1])), encoding="utf-8")
