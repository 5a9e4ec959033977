"""What an objective of the user's own says of a trial: its attributes, and the ranges of its parameters."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add them to the trials; NULL where there are none."""
    op.add_column("trials", sa.Column("attributes", sa.Text))
