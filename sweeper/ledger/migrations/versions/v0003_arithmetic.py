"""The arithmetic that a sweep's trials are computed in; of sweeps that began before, nobody knows it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add its name to the sweeps, empty where it is not known."""
    op.add_column("sweeps", sa.Column("arithmetic", sa.Text, nullable=False, server_default=""))
