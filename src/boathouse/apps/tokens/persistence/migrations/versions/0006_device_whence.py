"""Where and when a device asked for its code, so that the page can tell the person."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns."""
    op.add_column("devices", sa.Column("address", sa.Text(), server_default="", nullable=False))
    op.add_column("devices", sa.Column("begun_at", sa.BigInteger(), server_default="0", nullable=False))
