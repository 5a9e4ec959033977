"""Whether a ledger can be used, how fast it is, and what its clock says."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeper.errors import LedgerError
from sweeper.ledger.engine import Database
from sweeper.ledger.schema import prepare
from sweeper.ledger.tables import VERSION_TABLE, sweeps
from sweeper.states import SweepState


@dataclass(frozen=True)
class LedgerProbe:
    """What a ledger answered."""

    where: str
    version: str
    write_seconds: float
    read_seconds: float


def probe_ledger(url: str | None, home: Path) -> LedgerProbe:
    """Open the ledger as every command does, write a row and read it back; nothing is left behind.

    The row is a sweep, removed in the transaction that wrote it: nobody else ever sees it.

    Raises:
        SpecError: the URL is not one of a supported database.
        LedgerError: the ledger cannot be opened, written or read.
    """
    database = Database(url, home)
    try:
        prepare(database)
        began = time.perf_counter()
        database.write(_write_and_remove)
        written = time.perf_counter()
        version = database.read(_version)
        read = time.perf_counter()
        return LedgerProbe(database.where, version, written - began, read - written)
    finally:
        database.close()


def clock_skew(url: str | None, home: Path) -> float | None:
    """The server's clock minus ours, in seconds; None: the ledger is a file and has our clock.

    Raises:
        SpecError: the URL is not one of a supported database.
        LedgerError: the server does not answer now; it is not waited for.
    """
    database = Database(url, home)
    database.patience = 0.0
    try:
        return database.read(_skew) if database.remote else None
    finally:
        database.close()


def _write_and_remove(connection: Any) -> None:
    now, sweep = time.time(), f"doctor-{uuid.uuid4().hex}"
    row = {"sweep": sweep, "name": "doctor", "state": SweepState.QUEUED.value, "reason": "", "requested": 0}
    row |= {"spec": "{}", "created_at": now, "seconds": 0.0, "owner": "", "priority": 0, "key": sweep, "summary": "{}"}
    mine = sweeps.c.sweep == sweep
    connection.execute(sweeps.insert().values(row))
    kept = connection.execute(sweeps.select().where(mine)).one()
    if kept.created_at != now:
        raise LedgerError(
            f"the ledger gave back {kept.created_at!r} for {now!r}: restore a copy, or use another ledger"
        )
    connection.execute(sweeps.delete().where(mine))


def _version(connection: Any) -> str:
    return str(connection.exec_driver_sql(f"SELECT version_num FROM {VERSION_TABLE}").scalar_one())  # noqa: S608


def _skew(connection: Any) -> float:
    """The server's clock against the middle of the time that asking it took."""
    before = time.time()
    theirs = float(connection.exec_driver_sql("SELECT extract(epoch FROM clock_timestamp())").scalar_one())
    return theirs - (before + time.time()) / 2
