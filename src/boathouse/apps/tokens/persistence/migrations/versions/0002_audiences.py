"""The audiences that a client may ask for; none given means any, as before."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.add_column("clients", sa.Column("audiences", postgresql.ARRAY(sa.Text()), nullable=True))
