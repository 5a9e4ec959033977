"""What users write on their sweeps: a note, tags, and that a sweep is put away."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the three columns, empty."""
    op.add_column("sweeps", sa.Column("note", sa.Text, nullable=False, server_default=""))
    op.add_column("sweeps", sa.Column("tags", sa.Text, nullable=False, server_default="[]"))
    op.add_column("sweeps", sa.Column("archived", sa.Boolean, nullable=False, server_default=sa.false()))
