"""One database: its connections, transactions that outlive a lost server, and errors in the user's words."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
import sqlalchemy.orm  # MLflow imports it in another thread: half imported, it breaks every statement
from sqlalchemy import event, exc
from sqlalchemy.engine import URL, Connection, make_url

from sweeper.errors import LedgerError, SpecError

T = TypeVar("T")

DATABASE_VARIABLE = "SWEEPER_DATABASE_URL"
PATIENCE_OPEN = 10.0  # seconds to wait for a server that does not answer when the ledger is opened
PATIENCE = 60.0  # and when it goes away later: a killed PostgreSQL recovers within seconds
_BUSY_SECONDS = 30.0  # how long SQLite waits for another process's transaction

# PostgreSQL's states that pass by themselves: shut down or starting (57P0x), too many connections, deadlock.
_PASSING = frozenset({"57P01", "57P02", "57P03", "53300", "40001", "40P01"})
_NEVER_PASSING = ("authentication", "does not exist", "pg_hba.conf", "not permitted", "could not translate host name")
_SQLITE_REMEDIES = {
    "unable to open": "The folder must exist and be writable: set SWEEPER_HOME to one that is",
    "readonly": "Make the file and its folder writable, or set SWEEPER_HOME to a folder that is",
    "disk is full": "Free some space, then run `sweeper resume`: what was committed before is safe",
    "disk I/O error": "Check the disk and its free space, then run `sweeper resume`: what was committed before is safe",
    "locked": "Another program keeps the file locked: close it, then run `sweeper resume`",
    "not a database": "This is not a ledger, or it was overwritten: move it away, or restore a copy",
    "malformed": "The file is damaged: move it away, or restore a copy (`sqlite3 FILE .recover` saves what it can)",
}


class Database:
    """A SQLite file or a PostgreSQL server, with reading and writing transactions.

    SQLite keeps a write-ahead log with synchronous=NORMAL: a killed process loses nothing that was committed, because
    the kernel holds those pages. Only a power cut can undo the last commits, and an undone commit leaves a consistent
    earlier state from which the sweep is resumed to the same values. FULL would cost a disk flush per commit.

    Raises:
        SpecError: the URL is not one of a supported database.
        LedgerError: the database cannot be used.
    """

    def __init__(self, url: str | None, home: Path):
        self.url = _parse(url, home)
        self.remote = self.url.get_backend_name() == "postgresql"
        self.where = self.url.render_as_string(hide_password=True) if self.remote else str(self.url.database)
        self.patience = PATIENCE_OPEN
        try:
            self._engine = self._connect_remote() if self.remote else self._connect_file()
        except ImportError as error:
            raise LedgerError(f"the ledger {self.where} needs a driver that is missing ({error})") from error
        self._writer = self._engine.execution_options(ledger_writes=True)
        self._writing = threading.Lock()  # SQLite's own waiting is polling

    def read(self, work: Callable[[Connection], T]) -> T:
        """Run ``work`` in one transaction that only reads."""
        return self._run(self._engine, work)

    def write(self, work: Callable[[Connection], T]) -> T:
        """Run ``work`` in one transaction, again from the start when the server went away in the middle.

        The server may have committed before it went away: ``work`` must be safe to repeat.
        """
        with self._writing:
            return self._run(self._writer, work)

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    def _run(self, engine: sa.Engine, work: Callable[[Connection], T]) -> T:
        deadline, pause = time.monotonic() + self.patience, 0.05
        while True:
            try:
                with engine.begin() as connection:
                    return work(connection)
            except exc.DBAPIError as error:
                if not (self.remote and _passes(error)) or time.monotonic() + pause > deadline:
                    raise self._explained(error) from error
            except exc.TimeoutError as error:
                raise LedgerError(f"the ledger {self.where} has no free connection: {error}") from error
            time.sleep(pause)
            pause = min(2 * pause, 2.0)

    def _explained(self, error: exc.DBAPIError) -> LedgerError:
        said = " ".join(str(error.orig).split()) or type(error.orig).__name__
        if self.remote:
            remedy = f"Check the server and {DATABASE_VARIABLE}, then run `sweeper resume`: what was committed is safe"
        else:
            remedy = next(
                (text for part, text in _SQLITE_REMEDIES.items() if part in said), "Check the disk and the file"
            )
        return LedgerError(f"the ledger {self.where} cannot be used: {said}. {remedy}")

    def _connect_remote(self) -> sa.Engine:
        # a server that vanished without a word is noticed after 20 s of silence instead of a quarter of an hour
        options = {"connect_timeout": 5, "tcp_user_timeout": 20_000, "application_name": "sweeper"}
        return sa.create_engine(self.url, pool_pre_ping=True, connect_args=options | dict(self.url.query))

    def _connect_file(self) -> sa.Engine:
        path = Path(str(self.url.database))
        # An existing file is left to SQLite: closing it here would drop the locks that this process holds on it, and
        # another process would then take the write-ahead log away from under an open connection.
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))  # SQLite's log files get the same mode
        except FileExistsError:
            pass
        except OSError as error:
            problem = f"the ledger {path} cannot be used: {error.strerror or error}"
            raise LedgerError(f"{problem}. {_SQLITE_REMEDIES['unable to open']}") from error
        engine = sa.create_engine(self.url, connect_args={"timeout": _BUSY_SECONDS})
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine


def _parse(url: str | None, home: Path) -> URL:
    if url is None:
        return URL.create("sqlite", database=str(home / "ledger.db"))
    remedy = "Write postgresql+psycopg://USER:PASSWORD@HOST/DATABASE, or sqlite:///FILE"
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except exc.ArgumentError as error:
        raise SpecError("this is not a database URL", key=DATABASE_VARIABLE, remedy=remedy) from error
    if backend not in ("sqlite", "postgresql"):
        raise SpecError(f"{backend} cannot hold the ledger", key=DATABASE_VARIABLE, remedy=remedy)
    if backend == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise SpecError("a ledger in memory would be lost", key=DATABASE_VARIABLE, remedy=remedy)
    return parsed.set(drivername="postgresql+psycopg" if backend == "postgresql" else "sqlite")


def _passes(error: exc.DBAPIError) -> bool:
    """The server went away or is coming up: the same transaction may work in a moment."""
    if error.connection_invalidated:
        return True
    state = getattr(error.orig, "sqlstate", None)
    if state:
        return state in _PASSING or state.startswith("08")
    return isinstance(error, exc.OperationalError) and not any(word in str(error.orig) for word in _NEVER_PASSING)


def _prepare_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    connection.isolation_level = None  # we begin transactions ourselves, see below
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    # a writer takes the lock at once: a transaction that reads first and writes later could not wait for it
    writes = connection.get_execution_options().get("ledger_writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
