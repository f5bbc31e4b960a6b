"""The list of tokens that count no more, kept by triggers; issuers that wait for news of it are notified."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


_STATEMENTS = (
    # Readers go on from the highest number that they have seen: a lower one must not be committed after it.
    """CREATE FUNCTION denials_in_order() RETURNS trigger LANGUAGE plpgsql AS
    $$BEGIN PERFORM pg_advisory_xact_lock(hashtext('denials')); RETURN NULL; END$$""",
    """CREATE FUNCTION denials_notify() RETURNS trigger LANGUAGE plpgsql AS
    $$BEGIN PERFORM pg_notify('denials', ''); RETURN NULL; END$$""",
    # No access token lives longer than 21600 s (WLCG profile 4.3.1). A request that saw the row as it was before may
    # still sign within the second.
    """CREATE FUNCTION deny() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE now_s bigint := floor(extract(epoch FROM clock_timestamp()))::bigint;
    BEGIN
        INSERT INTO denials (kind, key, issued_until, expires_at)
        VALUES (TG_ARGV[0], to_jsonb(OLD) ->> TG_ARGV[1], now_s + 1, now_s + 21600);
        RETURN NULL;
    END$$""",
    """CREATE FUNCTION deny_token() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO denials (kind, key, issued_until, expires_at)
        VALUES ('token', NEW.jti, NEW.expires_at, NEW.expires_at);
        RETURN NULL;
    END$$""",
    """CREATE TRIGGER denials_in_order BEFORE INSERT ON denials
    FOR EACH STATEMENT EXECUTE FUNCTION denials_in_order()""",
    "CREATE TRIGGER denials_notify AFTER INSERT ON denials FOR EACH STATEMENT EXECUTE FUNCTION denials_notify()",
    "CREATE TRIGGER deny_token AFTER INSERT ON revoked_tokens FOR EACH ROW EXECUTE FUNCTION deny_token()",
    *(
        f"""CREATE TRIGGER {name} AFTER {event} ON {table} FOR EACH ROW WHEN ({condition})
        EXECUTE FUNCTION deny('{kind}', '{column}')"""
        for table, kind, column in (("users", "subject", "sub"), ("clients", "client", "client_id"))
        for name, event, condition in (
            ("deny_switched_off", "UPDATE OF active", "OLD.active AND NOT NEW.active"),
            ("deny_deleted", "DELETE", "OLD.active"),
        )
    ),
    """INSERT INTO denials (kind, key, issued_until, expires_at)
    SELECT 'token', jti, expires_at, expires_at FROM revoked_tokens""",
)


def upgrade() -> None:
    """Add the table, its triggers, and what is revoked already."""
    op.create_table(
        "denials",
        sa.Column("id", sa.BigInteger(), primary_key=True, autoincrement=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("issued_until", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
    )
    op.create_index("denials_whom", "denials", ["kind", "key"])
    op.create_index(op.f("ix_denials_expires_at"), "denials", ["expires_at"])
    for statement in _STATEMENTS:
        op.execute(statement)
