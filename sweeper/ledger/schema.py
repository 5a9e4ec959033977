"""The version of a ledger's schema: checked at every opening, brought up to date under a lock."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sweeper.errors import LedgerError
from sweeper.ledger.engine import DATABASE_VARIABLE, Database
from sweeper.ledger.tables import SCHEMA_VERSION, VERSION_TABLE, metadata

MIGRATIONS = Path(__file__).parent / "migrations"
_MIGRATION_LOCK = 0x53574545  # PostgreSQL's advisory lock: any number that everyone agrees on


def prepare(database: Database) -> None:
    """Create or upgrade the schema when it is behind. Several processes may do this at once.

    Raises:
        LedgerError: the ledger is newer than this program, or the database belongs to another program.
    """
    if database.read(lambda connection: _version(connection, database.where)) != SCHEMA_VERSION:
        database.write(lambda connection: _upgrade(connection, database.where))


def _version(connection: Connection, where: str) -> str | None:
    tables = set(sa.inspect(connection).get_table_names())
    if VERSION_TABLE not in tables:
        foreign = sorted(tables & set(metadata.tables))
        if foreign:
            raise LedgerError(
                f"{where} belongs to another program: it has tables {', '.join(foreign)}, but no {VERSION_TABLE}. "
                f"Give the ledger a database of its own in {DATABASE_VARIABLE}"
            )
        return None
    version = str(connection.execute(sa.text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar_one())  # noqa: S608
    if version > SCHEMA_VERSION:
        raise LedgerError(
            f"the ledger {where} has version {version}, and this program knows versions up to {SCHEMA_VERSION}. "
            "Upgrade sweeper, or use another ledger"
        )
    return version


def _upgrade(connection: Connection, where: str) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
    if _version(connection, where) == SCHEMA_VERSION:
        return  # another process was faster
    from alembic import command
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    command.upgrade(config, "head")
