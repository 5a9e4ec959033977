"""The first schema: sweeps, trials, attempts, reports, leases, requests, tokens and commits."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    _make_sweeps()
    _make_trials()
    _make_histories()
    _make_coordination()


def _make_sweeps() -> None:
    op.create_table(
        "sweeps",
        sa.Column("sweep", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("requested", sa.Integer, nullable=False),
        sa.Column("spec", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("started_at", sa.Double),
        sa.Column("ended_at", sa.Double),
        sa.Column("seconds", sa.Double, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("parent", sa.Text, sa.ForeignKey("sweeps.sweep", ondelete="CASCADE")),
        sa.Column("mlflow_run_id", sa.Text),
        sa.Column("mlflow_experiment_id", sa.Text),
        sa.Column("summary", sa.Text, nullable=False),
        sa.UniqueConstraint("owner", "key", name="sweeps_owner_key"),
        sqlite_with_rowid=False,
    )
    op.create_index("sweeps_created", "sweeps", ["created_at", "sweep"])


def _make_trials() -> None:
    op.create_table(
        "trials",
        sa.Column("sweep", sa.Text, sa.ForeignKey("sweeps.sweep", ondelete="CASCADE"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("state", sa.Text, nullable=False, server_default="waiting"),
        sa.Column("reason", sa.Text, nullable=False, server_default=""),
        sa.Column("cause", sa.Text),
        sa.Column("params", sa.Text),
        sa.Column("seed", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("attempt", sa.Integer, nullable=False, server_default="0"),
        sa.Column("lost", sa.Integer, nullable=False, server_default="0"),
        sa.Column("value", sa.Double),
        sa.Column("metrics", sa.Text),
        sa.Column("epochs", sa.Integer, nullable=False, server_default="0"),
        sa.Column("seconds", sa.Double, nullable=False, server_default="0"),
        sa.Column("started_at", sa.Double),
        sa.Column("ended_at", sa.Double),
        sa.Column("mlflow_run_id", sa.Text),
        sa.Column("tracked_state", sa.Text),
        sa.Column("notes", sa.Text),
        sqlite_with_rowid=False,
    )
    op.create_index("trials_state", "trials", ["sweep", "state"])


def _make_histories() -> None:
    op.create_table(
        "attempts",
        sa.Column("sweep", sa.Text, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("attempt", sa.Integer, primary_key=True),
        sa.Column("worker", sa.Text, nullable=False),
        sa.Column("started_at", sa.Double, nullable=False),
        sa.Column("ended_at", sa.Double),
        sa.Column("outcome", sa.Text, nullable=False, server_default=""),
        sa.ForeignKeyConstraint(["sweep", "number"], ["trials.sweep", "trials.number"], ondelete="CASCADE"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "reports",
        sa.Column("sweep", sa.Text, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("epoch", sa.Integer, primary_key=True),
        sa.Column("metrics", sa.Text, nullable=False),
        sa.Column("flow", sa.LargeBinary),
        sa.ForeignKeyConstraint(["sweep", "number"], ["trials.sweep", "trials.number"], ondelete="CASCADE"),
        sqlite_with_rowid=False,
    )


def _make_coordination() -> None:
    op.create_table(
        "leases",
        sa.Column("sweep", sa.Text, sa.ForeignKey("sweeps.sweep", ondelete="CASCADE"), primary_key=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("expires_at", sa.Double, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "requests",
        sa.Column("request", sa.Integer, primary_key=True),
        sa.Column("token", sa.Text, nullable=False, unique=True),
        sa.Column("sweep", sa.Text, sa.ForeignKey("sweeps.sweep", ondelete="CASCADE"), nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("args", sa.Text, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("taken", sa.Text),
    )
    op.create_index("requests_sweep", "requests", ["sweep", "request"])
    op.create_table(
        "tokens",
        sa.Column("token", sa.Text, primary_key=True),
        sa.Column("user", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("revoked_at", sa.Double),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "commits",
        sa.Column("sweep", sa.Text, sa.ForeignKey("sweeps.sweep", ondelete="CASCADE"), primary_key=True),
        sa.Column("writer", sa.Text, primary_key=True),
        sa.Column("token", sa.Text, nullable=False),
        sa.Column("refused", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )
