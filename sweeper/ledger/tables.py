"""The ledger's tables. The schema is made by the migrations; a test compares the two."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    false,
)

SCHEMA_VERSION = "0005"  # the newest file in migrations/versions
VERSION_TABLE = "ledger_version"


class Real(TypeDecorator[float]):
    """A float that may be NaN, which SQLite would store as NULL: there it is the text 'NaN'."""

    impl = Double
    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> Callable[[float | None], Any] | None:
        """Python to database, past SQLAlchemy's own conversion, which would turn the text into NaN again."""
        return _nan_as_text if dialect.name == "sqlite" else super().bind_processor(dialect)

    def process_result_value(self, value: Any, dialect: Dialect) -> float | None:
        """Database to Python."""
        return None if value is None else float(value)


def _nan_as_text(value: float | None) -> float | str | None:
    return "NaN" if value is not None and math.isnan(value) else value


metadata = MetaData()

# JSON is kept as text written by Python's json module, which keeps NaN and the infinities.
# Rows of one sweep lie together on disk: SQLite's tables are clustered by their primary key.

sweeps = Table(
    "sweeps",
    metadata,
    Column("sweep", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("requested", Integer, nullable=False),
    Column("spec", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("started_at", Double),
    Column("ended_at", Double),
    Column("seconds", Double, nullable=False),
    Column("owner", Text, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("key", Text, nullable=False),
    Column("parent", Text, ForeignKey("sweeps.sweep", ondelete="CASCADE")),
    Column("mlflow_run_id", Text),
    Column("mlflow_experiment_id", Text),
    Column("summary", Text, nullable=False),
    Column("lease", Integer, nullable=False, server_default="0"),  # the number of its last lease
    Column("arithmetic", Text, nullable=False, server_default=""),
    Column("note", Text, nullable=False, server_default=""),
    Column("tags", Text, nullable=False, server_default="[]"),
    Column("archived", Boolean, nullable=False, server_default=false()),
    UniqueConstraint("owner", "key", name="sweeps_owner_key"),
    Index("sweeps_created", "created_at", "sweep"),
    sqlite_with_rowid=False,
)

trials = Table(
    "trials",
    metadata,
    Column("sweep", Text, ForeignKey("sweeps.sweep", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("state", Text, nullable=False, server_default="waiting"),
    Column("reason", Text, nullable=False, server_default=""),
    Column("cause", Text),
    Column("params", Text),
    Column("seed", BigInteger, nullable=False, server_default="0"),
    Column("attempt", Integer, nullable=False, server_default="0"),
    Column("lost", Integer, nullable=False, server_default="0"),
    Column("value", Real),
    Column("metrics", Text),
    Column("epochs", Integer, nullable=False, server_default="0"),
    Column("seconds", Double, nullable=False, server_default="0"),
    Column("started_at", Double),
    Column("ended_at", Double),
    Column("mlflow_run_id", Text),
    Column("tracked_state", Text),
    Column("notes", Text),
    Column("attributes", Text),
    Index("trials_state", "sweep", "state"),
    sqlite_with_rowid=False,
)

attempts = Table(
    "attempts",
    metadata,
    Column("sweep", Text, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("worker", Text, nullable=False),
    Column("started_at", Double, nullable=False),
    Column("ended_at", Double),
    Column("outcome", Text, nullable=False, server_default=""),
    ForeignKeyConstraint(["sweep", "number"], ["trials.sweep", "trials.number"], ondelete="CASCADE"),
    sqlite_with_rowid=False,
)

reports = Table(
    "reports",
    metadata,
    Column("sweep", Text, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("epoch", Integer, primary_key=True),
    Column("metrics", Text, nullable=False),
    Column("flow", LargeBinary),
    ForeignKeyConstraint(["sweep", "number"], ["trials.sweep", "trials.number"], ondelete="CASCADE"),
    sqlite_with_rowid=False,
)

leases = Table(
    "leases",
    metadata,
    Column("sweep", Text, ForeignKey("sweeps.sweep", ondelete="CASCADE"), primary_key=True),
    Column("owner", Text, nullable=False),
    Column("beat", BigInteger, nullable=False),
    Column("ttl", Double, nullable=False),
    sqlite_with_rowid=False,
)

requests = Table(
    "requests",
    metadata,
    Column("request", Integer, primary_key=True),
    Column("token", Text, nullable=False, unique=True),
    Column("sweep", Text, ForeignKey("sweeps.sweep", ondelete="CASCADE"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("args", Text, nullable=False),
    Column("at", Double, nullable=False),
    Column("taken", Text),
    Index("requests_sweep", "sweep", "request"),
)

tokens = Table(
    "tokens",
    metadata,
    Column("token", Text, primary_key=True),
    Column("user", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("revoked_at", Double),
    sqlite_with_rowid=False,
)

# PostgreSQL only: the last commit of each open ledger and its answer, so that a commit whose answer was lost with the
# server is not written twice.
commits = Table(
    "commits",
    metadata,
    Column("sweep", Text, ForeignKey("sweeps.sweep", ondelete="CASCADE"), primary_key=True),
    Column("writer", Text, primary_key=True),
    Column("token", Text, nullable=False),
    Column("refused", Text, nullable=False),
    sqlite_with_rowid=False,
)
