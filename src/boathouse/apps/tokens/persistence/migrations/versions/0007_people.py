"""Administration of people: switches, managers of groups, requests to join; and the audit log by change and time."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


# What an administrator's switch turns off is denied as what is gone is. People who wait to be let in are switched off
# rather than gone.
_SWITCH = """CREATE TRIGGER deny_switched_off AFTER UPDATE OF active, suspended ON {table} FOR EACH ROW
WHEN (OLD.active AND NOT OLD.suspended AND NOT (NEW.active AND NOT NEW.suspended))
EXECUTE FUNCTION deny('{kind}', '{column}')"""
_WAITING = """UPDATE users SET active = true, suspended = true
FROM identities WHERE identities.sub = users.sub AND identities.waiting AND NOT users.active"""


def upgrade() -> None:
    """Add the tables and columns."""
    for table in ("users", "clients"):
        op.add_column(table, sa.Column("suspended", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.create_table(
        "managers",
        sa.Column("sub", sa.Text(), nullable=False),
        sa.Column("grp", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["grp"], ["groups.name"]),
        sa.ForeignKeyConstraint(["sub"], ["users.sub"]),
        sa.PrimaryKeyConstraint("sub", "grp"),
    )
    op.create_table(
        "requests",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("sub", sa.Text(), nullable=False),
        sa.Column("grp", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("notes", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("decided_at", sa.BigInteger(), nullable=True),
        sa.Column("decided_by", sa.Text(), server_default="", nullable=False),
        sa.Column("motivation", sa.Text(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(["grp"], ["groups.name"]),
        sa.ForeignKeyConstraint(["sub"], ["users.sub"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_requests_sub"), "requests", ["sub"], unique=False)
    op.create_index(op.f("ix_requests_grp"), "requests", ["grp"], unique=False)
    op.create_index("audit_changes", "audit", ["seq"], unique=False, postgresql_where=sa.text("detail ? 'state'"))
    op.create_index("audit_at", "audit", ["at_ms"], unique=False, postgresql_using="brin")
    for table, kind, column in (("users", "subject", "sub"), ("clients", "client", "client_id")):
        op.execute(f"DROP TRIGGER deny_switched_off ON {table}")
        op.execute(_SWITCH.format(table=table, kind=kind, column=column))
    op.execute(_WAITING)
