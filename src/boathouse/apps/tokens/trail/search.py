"""Questions to the audit log: the newest records that match."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Text, cast, or_, select

from boathouse.apps.tokens.persistence.schema import audit

_WHO = ("who", "whom", "login", "sub", "client", "actor")
"""Members of a record's detail that name who acted, or whom it is about."""


def newest(
    connection: Connection,
    count: int,
    *,
    before: int | None = None,
    event: str = "",
    who: str = "",
    text: str = "",
    until_s: int | None = None,
) -> Sequence[Any]:
    """Records, the latest first.

    Args:
        connection: to the issuer's database.
        count: how many at most.
        before: only those with a smaller number.
        event: only those whose event begins so.
        who: only those that name this login, subject or client.
        text: only those whose detail, as JSON, holds this.
        until_s: only those until the end of this second since the epoch.

    Returns:
        Rows of the table.
    """
    statement = select(audit).order_by(audit.c.seq.desc()).limit(count)
    if before is not None:
        statement = statement.where(audit.c.seq < before)
    if event:
        statement = statement.where(audit.c.event.startswith(event, autoescape=True))
    if who:
        statement = statement.where(or_(*(audit.c.detail[name].astext == who for name in _WHO)))
    if text:
        statement = statement.where(cast(audit.c.detail, Text).contains(text, autoescape=True))
    if until_s is not None:
        statement = statement.where(audit.c.at_ms < (until_s + 1) * 1000)
    return connection.execute(statement).all()
