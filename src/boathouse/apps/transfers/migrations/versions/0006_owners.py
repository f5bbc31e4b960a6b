"""Files know whose they are, and are counted by that: nobody is to use up what others need room for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_COUNT = """
    CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      INSERT INTO file_counts ({keys}, files)
      SELECT {keys}, sum(change) FROM ({changes}) AS changes
      WHERE state IS NOT NULL GROUP BY {keys} HAVING sum(change) <> 0;
      RETURN NULL;
    END $$"""
_ROWS = (
    "SELECT {keys}, {change} AS change FROM (SELECT *, counted_state(file_state, busy) AS state FROM {table}) AS rows"
)
_TABLES = {
    "insert": ("NEW TABLE AS fresh", {"fresh": 1}),
    "update": ("OLD TABLE AS gone NEW TABLE AS fresh", {"fresh": 1, "gone": -1}),
    "delete": ("OLD TABLE AS gone", {"gone": -1}),
}
_BEFORE = "vo, activity, source_host, dest_host, state"
_NOW = f"owner, {_BEFORE}"


def _drop() -> None:
    for event in _TABLES:
        op.execute(f"DROP TRIGGER count_files_{event} ON files")
        op.execute(f"DROP FUNCTION count_files_{event}()")


def _count_by(keys: str) -> None:
    """Count all anew, and from now on."""
    op.execute("DELETE FROM file_counts")
    rows = _ROWS.format(keys=keys, change=1, table="files")
    op.execute(
        f"INSERT INTO file_counts ({keys}, files) SELECT {keys}, sum(change) FROM ({rows}) AS counted "  # noqa: S608
        f"WHERE state IS NOT NULL GROUP BY {keys}"
    )
    for event, (tables, changes) in _TABLES.items():
        name = f"count_files_{event}"
        counted = (_ROWS.format(keys=keys, change=change, table=table) for table, change in changes.items())
        op.execute(_COUNT.format(name=name, keys=keys, changes=" UNION ALL ".join(counted)))
        op.execute(
            f"CREATE TRIGGER {name} AFTER {event.upper()} ON files REFERENCING {tables} "
            f"FOR EACH STATEMENT EXECUTE FUNCTION {name}()"
        )


def upgrade() -> None:
    """Apply."""
    _drop()
    op.add_column("files", sa.Column("owner", sa.Text(), nullable=True, comment="that of its job"))
    op.execute("UPDATE files f SET owner = j.owner FROM jobs j WHERE j.job_id = f.job_id")
    op.alter_column("files", "owner", nullable=False)
    op.execute("DELETE FROM file_counts")
    op.add_column("file_counts", sa.Column("owner", sa.Text(), nullable=False))
    _count_by(_NOW)


def downgrade() -> None:
    """Take back."""
    _drop()
    op.drop_column("file_counts", "owner")
    op.drop_column("files", "owner")
    _count_by(_BEFORE)
