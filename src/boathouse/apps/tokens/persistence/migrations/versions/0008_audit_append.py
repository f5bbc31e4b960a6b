"""The database chains audit records itself, so that nobody holds the chain while a process of the issuer thinks."""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

# Each record comes as canonical JSON of its time, event and detail; its hash goes over the number and these letters.
# The lock is the one that earlier versions take. What follows it sees what was committed before it was given.
_APPEND = """
CREATE FUNCTION audit_append(records json) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    entry json;
    last bigint;
    digest bytea;
BEGIN
    PERFORM pg_advisory_xact_lock(1635083369);
    SELECT seq, hash INTO last, digest FROM audit ORDER BY seq DESC LIMIT 1;
    IF NOT FOUND THEN
        last := 0;
        digest := decode(repeat('00', 32), 'hex');
    END IF;
    FOR entry IN SELECT value FROM json_array_elements(records) LOOP
        last := last + 1;
        digest := sha256(digest || convert_to('[' || last || ',' || substr(entry::text, 2), 'UTF8'));
        INSERT INTO audit (seq, at_ms, event, detail, hash)
        VALUES (last, (entry ->> 0)::bigint, entry ->> 1, (entry -> 2)::text::jsonb, digest);
    END LOOP;
END $$
"""


def upgrade() -> None:
    """Add the function."""
    op.execute(_APPEND)
