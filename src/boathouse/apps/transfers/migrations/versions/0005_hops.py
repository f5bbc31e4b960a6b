"""Jobs of several hops, and files that are removed when their job ends."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column(
        "files",
        sa.Column(
            "transient",
            sa.Boolean(),
            server_default=sa.text("false"),
            nullable=False,
            comment="to be removed when the job ends",
        ),
    )
    op.create_index("files_transient", "files", ["job_id"], unique=False, postgresql_where=sa.text("transient"))
    op.create_index(
        "jobs_hops",
        "jobs",
        ["job_id"],
        unique=False,
        postgresql_where=sa.text("job_finished IS NULL AND job_type = 'H'"),
    )


def downgrade() -> None:
    """Take back."""
    op.drop_index("jobs_hops", table_name="jobs")
    op.drop_index("files_transient", table_name="files")
    op.drop_column("files", "transient")
