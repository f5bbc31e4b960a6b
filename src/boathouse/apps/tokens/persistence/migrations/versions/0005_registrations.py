"""Clients that register themselves (RFC 7591), and clients that hand tokens over to whoever started a login."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table and two columns."""
    op.add_column("clients", sa.Column("bounded_by", sa.Text(), server_default="", nullable=False))
    op.add_column("clients", sa.Column("hands_over", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.create_table(
        "registrations",
        sa.Column("client_id", sa.Text(), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("metadata", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("address", sa.Text(), server_default="", nullable=False),
        sa.Column("registered_at", sa.BigInteger(), nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=True),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("client_id"),
    )
    op.create_index("ix_registrations_registered_at", "registrations", ["registered_at"])
    op.create_index("ix_registrations_expires_at", "registrations", ["expires_at"])
