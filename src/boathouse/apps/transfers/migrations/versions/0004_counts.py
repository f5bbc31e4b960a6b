"""How many files wait, are copied, or left something: counted when they change, not when somebody asks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_STATE = """
    CREATE FUNCTION counted_state(file_state text, busy bool) RETURNS text IMMUTABLE LANGUAGE sql AS $$
      SELECT CASE WHEN file_state IN ('SUBMITTED', 'ACTIVE') THEN file_state WHEN busy THEN 'UNCLEAN' END $$"""
_COUNT = """
    CREATE FUNCTION count_files() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      INSERT INTO file_counts (vo, activity, source_host, dest_host, state, files)
      SELECT vo, activity, source_host, dest_host, state, sum(change) FROM ({changes}) AS changes
      WHERE state IS NOT NULL GROUP BY vo, activity, source_host, dest_host, state HAVING sum(change) <> 0;
      RETURN NULL;
    END $$"""
_ROWS = (
    "SELECT vo, activity, source_host, dest_host, counted_state(file_state, busy) AS state, {change} AS change "
    "FROM {table}"
)
_FRESH, _GONE = _ROWS.format(change=1, table="fresh"), _ROWS.format(change=-1, table="gone")
_TRIGGERS = {
    "insert": (_FRESH, "NEW TABLE AS fresh"),
    "update": (f"{_FRESH} UNION ALL {_GONE}", "OLD TABLE AS gone NEW TABLE AS fresh"),
    "delete": (_GONE, "OLD TABLE AS gone"),
}


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "file_counts",
        sa.Column("vo", sa.Text(), nullable=False),
        sa.Column("activity", sa.Text(), nullable=False),
        sa.Column("source_host", sa.Text(), nullable=False),
        sa.Column("dest_host", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False, comment="SUBMITTED, ACTIVE, or UNCLEAN"),
        sa.Column("files", sa.BigInteger(), nullable=False, comment="how many more there are"),
    )
    op.execute(_STATE)
    op.execute(
        f"INSERT INTO file_counts {_ROWS.format(change='count(*)', table='files')} GROUP BY 1, 2, 3, 4, 5 HAVING "
        "counted_state(file_state, busy) IS NOT NULL"
    )
    for event, (changes, tables) in _TRIGGERS.items():
        name = f"count_files_{event}"
        op.execute(_COUNT.format(changes=changes).replace("count_files()", f"{name}()"))
        op.execute(
            f"CREATE TRIGGER {name} AFTER {event.upper()} ON files REFERENCING {tables} "
            f"FOR EACH STATEMENT EXECUTE FUNCTION {name}()"
        )


def downgrade() -> None:
    """Take back."""
    for event in _TRIGGERS:
        op.execute(f"DROP TRIGGER count_files_{event} ON files")
        op.execute(f"DROP FUNCTION count_files_{event}()")
    op.execute("DROP FUNCTION counted_state(text, bool)")
    op.drop_table("file_counts")
