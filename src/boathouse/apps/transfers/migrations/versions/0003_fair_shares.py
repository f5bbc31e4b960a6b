"""The VO of a file, the queue in the order of VOs and activities, and what links were measured with."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_Columns = list[str | sa.TextClause | sa.ColumnElement[Any]]
_QUEUE: _Columns = ["source_host", "dest_host", "vo", "activity", sa.literal_column("priority DESC"), "file_id"]
_WAITS = sa.text("file_state = 'SUBMITTED'")


def upgrade() -> None:
    """Apply."""
    op.add_column("files", sa.Column("vo", sa.Text(), nullable=True, comment="that of its job"))
    op.execute("UPDATE files SET vo = jobs.vo_name FROM jobs WHERE jobs.job_id = files.job_id")
    op.alter_column("files", "vo", nullable=False)
    op.drop_index("files_queue", table_name="files")
    op.create_index("files_queue", "files", _QUEUE, unique=False, postgresql_where=_WAITS)
    op.create_table(
        "link_samples",
        sa.Column("at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("worker", sa.Integer(), nullable=False),
        sa.Column("source_host", sa.Text(), nullable=False),
        sa.Column("dest_host", sa.Text(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False, comment="length of the interval that ended at that time"),
        sa.Column("bytes", sa.BigInteger(), nullable=False, comment="moved in it, by copies that go on as well"),
        sa.Column("finished", sa.Integer(), nullable=False),
        sa.Column(
            "failed", sa.Integer(), nullable=False, comment="by the link or its ends, not by tokens or missing files"
        ),
        sa.Column("sizes", sa.Float(), nullable=False, comment="sum of the sizes of finished files"),
        sa.Column("squares", sa.Float(), nullable=False, comment="sum of their squares"),
    )
    op.create_index("link_samples_at", "link_samples", ["at"], unique=False)


def downgrade() -> None:
    """Take back."""
    op.drop_table("link_samples")
    op.drop_index("files_queue", table_name="files")
    op.create_index("files_queue", "files", [*_QUEUE[:2], *_QUEUE[4:]], unique=False, postgresql_where=_WAITS)
    op.drop_column("files", "vo")
