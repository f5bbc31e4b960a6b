"""Deletion of what has expired: some rows a transaction, so that nobody waits for a long one."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import ARRAY, Connection, Engine, Select, Table, any_, delete, literal, select

from boathouse.apps.tokens.persistence import schema as t
from boathouse.apps.tokens.persistence.database import transaction

_AT_ONCE = 1000
_PASSING = (t.codes, t.devices, t.refresh_tokens, t.revoked_tokens, t.denials, t.sessions, t.throttle)


def sweep(engine: Engine) -> None:
    """Delete what has expired; several processes may do so at once."""
    now = int(time.time())
    while transaction(engine, lambda connection: _sweep_registrations(connection, now)) == _AT_ONCE:
        pass
    for table in _PASSING:
        while transaction(engine, lambda connection, table=table: _sweep_some(connection, table, now)) == _AT_ONCE:  # type: ignore[misc]
            pass


def _sweep_some(connection: Connection, table: Table, now: int) -> int:
    (key,) = table.primary_key.columns
    gone = connection.execute(_expired(table, now)).scalars().all()
    if gone:
        # Given as an array, the keys are looked up; given as a question, the whole table would be read.
        connection.execute(delete(table).where(key == any_(literal(gone, ARRAY(key.type)))))
    return len(gone)


def _sweep_registrations(connection: Connection, now: int) -> int:
    """A client that registered itself goes with its registration, and with what people agreed to for it."""
    gone = connection.execute(_expired(t.registrations, now)).scalars().all()
    for table in (t.clients, t.consents, t.registrations):
        connection.execute(delete(table).where(table.c.client_id.in_(gone)))
    return len(gone)


def _expired(table: Table, now: int) -> Select[tuple[Any]]:
    """Keys of the first rows that have expired, locked; those that another process deletes just now are left to it."""
    (key,) = table.primary_key.columns
    expired = select(key).where(table.c.expires_at <= now).order_by(table.c.expires_at)
    return expired.limit(_AT_ONCE).with_for_update(skip_locked=True)
