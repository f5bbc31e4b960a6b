"""What clients hold of people: logins that live on by refresh tokens. People see and revoke their own."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import distinct_on

from boathouse.apps.tokens.admin import users
from boathouse.apps.tokens.admin.desk import Desk
from boathouse.apps.tokens.persistence import schema as t
from boathouse.errors import NotFoundError


@dataclass(frozen=True)
class Grant:
    """One login of a person at a client, which lives on by refresh tokens."""

    family: str
    """Names it for :func:`revoke`."""
    client_id: str
    client: str
    """Name of the client, for people."""
    scope: str
    """What was consented to; policies narrow it at each use."""
    audience: str
    begun_at: int
    """When the person signed in, or the first token was given."""
    used_at: int
    """When the youngest token was given."""
    expires_at: int

    def as_dict(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)


def list_(desk: Desk, who: str = "") -> list[Grant]:
    """What clients hold of a person now, the latest first; the own by default.

    Raises:
        AuthError: it is somebody else's, and the actor may not read.
    """
    sub = users.get(desk, who or desk.sub).sub
    table = t.refresh_tokens
    live = select(table).where(
        table.c.sub == sub, ~table.c.revoked, table.c.rotated_at.is_(None), table.c.expires_at > desk.store.now
    )
    young = live.ext(distinct_on(table.c.family)).order_by(table.c.family, table.c.issued_at.desc()).subquery()
    first = (
        select(table.c.family, func.min(table.c.issued_at).label("begun_at"))
        .where(table.c.sub == sub)
        .group_by(table.c.family)
        .subquery()
    )
    rows = desk.connection.execute(
        select(
            *(young.c[name] for name in ("family", "client_id", "scope", "audience", "expires_at")),
            func.coalesce(func.nullif(t.clients.c.name, ""), young.c.client_id).label("client"),
            func.coalesce(young.c.auth_time, first.c.begun_at).label("begun_at"),
            young.c.issued_at.label("used_at"),
        )
        .select_from(
            young.join(first, first.c.family == young.c.family).outerjoin(
                t.clients, t.clients.c.client_id == young.c.client_id
            )
        )
        .order_by(young.c.issued_at.desc(), young.c.family)
    )
    return [Grant(**row) for row in rows.mappings()]


def revoke(desk: Desk, family: str) -> None:
    """End one login: its refresh tokens are worth nothing from now on, access tokens live to their end.

    Raises:
        NotFoundError: there is none, or it is somebody else's.
    """
    table = t.refresh_tokens
    row = desk.connection.execute(
        select(table.c.sub, table.c.client_id).where(table.c.family == family, ~table.c.revoked).limit(1)
    ).one_or_none()
    if row is None or (row.sub != desk.sub and not desk.actor.writes):
        raise NotFoundError("no such login", got=repr(family[:80]))
    desk.connection.execute(update(table).where(table.c.family == family).values(revoked=True))
    desk.note("refresh.revoked", sub=row.sub, client=row.client_id)


def revoke_client(desk: Desk, client_id: str, who: str = "") -> None:
    """End all that a client holds of a person, the remembered consent too; the own by default."""
    person = users.get(desk, who or desk.sub)
    if person.sub != desk.sub and not desk.actor.writes:
        desk.refuse("revoke this")
    desk.store.revoke_consent(person.sub, client_id)
    desk.note("consent.withdrawn", sub=person.sub, client=client_id[:255])
