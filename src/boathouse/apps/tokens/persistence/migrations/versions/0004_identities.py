"""Links from identities at other providers to people."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "identities",
        sa.Column("iss", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("sub", sa.Text(), sa.ForeignKey("users.sub"), nullable=False),
        sa.Column("waiting", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("linked_at", sa.BigInteger(), nullable=False),
        sa.Column("owner", sa.Text(), server_default="admin", nullable=False),
        sa.PrimaryKeyConstraint("iss", "subject"),
    )
    op.create_index(op.f("ix_identities_sub"), "identities", ["sub"], unique=False)
