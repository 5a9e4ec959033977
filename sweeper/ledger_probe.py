"""Whether a ledger can be used: what it answers, how fast, and by which clock."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeper.ledger_engine import Database
from sweeper.ledger_schema import prepare
from sweeper.ledger_tables import VERSION_TABLE, requests


@dataclass(frozen=True)
class LedgerProbe:
    """What a ledger answered. ``skew`` is the server's clock minus ours, in seconds; None: a file has our clock."""

    where: str
    version: str
    write_seconds: float
    read_seconds: float
    skew: float | None


def probe_ledger(url: str | None, home: Path) -> LedgerProbe:
    """Open the ledger as every command does, write a row and read it back; nothing is left behind.

    The row is a request to no sweep, removed in the transaction that wrote it: nobody else ever sees it.

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
        skew = database.read(_skew) if database.remote else None
        return LedgerProbe(database.where, version, written - began, read - written, skew)
    finally:
        database.close()


def _write_and_remove(connection: Any) -> None:
    token = uuid.uuid4().hex
    row = {"token": token, "sweep": "", "kind": "doctor", "args": "{}", "at": time.time()}
    connection.execute(requests.insert().values(row))
    kept = connection.execute(requests.select().where(requests.c.token == token)).one()
    if kept.at != row["at"]:
        raise ValueError(f"the ledger gave back {kept.at!r} for {row['at']!r}")
    connection.execute(requests.delete().where(requests.c.token == token))


def _version(connection: Any) -> str:
    return str(connection.exec_driver_sql(f"SELECT version_num FROM {VERSION_TABLE}").scalar_one())  # noqa: S608


def _skew(connection: Any) -> float:
    """The server's clock against the middle of the time that asking it took."""
    before = time.time()
    theirs = float(connection.exec_driver_sql("SELECT extract(epoch FROM clock_timestamp())").scalar_one())
    return theirs - (before + time.time()) / 2
