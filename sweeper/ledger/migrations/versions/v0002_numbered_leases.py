"""Leases that are numbered, and that no clock ends. Leases that are held at the time of the upgrade are forgotten."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Number the leases of each sweep, and count their renewals."""
    op.add_column("sweeps", sa.Column("lease", sa.Integer, nullable=False, server_default="0"))
    op.drop_table("leases")
    op.create_table(
        "leases",
        sa.Column("sweep", sa.Text, sa.ForeignKey("sweeps.sweep", ondelete="CASCADE"), primary_key=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("beat", sa.BigInteger, nullable=False),
        sa.Column("ttl", sa.Double, nullable=False),
        sqlite_with_rowid=False,
    )
