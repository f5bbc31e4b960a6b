"""Requests to join a group: made by people, decided by a manager of the group or an administrator."""

from __future__ import annotations

import uuid
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import insert, or_, select, update

from boathouse.apps.tokens.admin import checks, groups
from boathouse.apps.tokens.admin.desk import Desk
from boathouse.apps.tokens.persistence import schema as t
from boathouse.errors import AuthError, ConflictError, NotFoundError

PENDING, APPROVED, REJECTED, WITHDRAWN = "PENDING", "APPROVED", "REJECTED", "WITHDRAWN"


@dataclass(frozen=True)
class JoinRequest:
    """A request to join a group."""

    id: str
    sub: str
    login: str
    name: str
    """Of the person."""
    group: str
    status: str
    """``PENDING``, ``APPROVED``, ``REJECTED`` or ``WITHDRAWN``."""
    notes: str
    """Why the person wants to join."""
    created_at: int
    decided_at: int | None
    decided_by: str
    motivation: str
    """Why it was decided so."""

    def as_dict(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)


_SELECT = select(
    t.requests.c.id,
    t.requests.c.sub,
    t.users.c.login,
    t.users.c.name,
    t.requests.c.grp.label("group"),
    *(t.requests.c[name] for name in ("status", "notes", "created_at", "decided_at", "decided_by", "motivation")),
).join(t.users, t.users.c.sub == t.requests.c.sub)


def list_(desk: Desk, *, status: str = "", group: str = "", who: str = "") -> list[JoinRequest]:
    """Requests, the oldest first: all of them for whoever may read, else the own and those of managed groups.

    Args:
        desk: who asks.
        status: only these.
        group: only those to join this group.
        who: only those of this person, by login or subject.
    """
    statement = _SELECT.order_by(t.requests.c.created_at, t.requests.c.id)
    if not desk.actor.reads:
        if desk.actor.user is None:
            desk.refuse("see requests")
        statement = statement.where(or_(t.requests.c.sub == desk.sub, t.requests.c.grp.in_(groups.managed(desk))))
    if status:
        statement = statement.where(t.requests.c.status == status)
    if group:
        statement = statement.where(t.requests.c.grp == group)
    if who:
        statement = statement.where(or_(t.users.c.login == who, t.users.c.sub == who))
    return [JoinRequest(**row) for row in desk.connection.execute(statement).mappings()]


def get(desk: Desk, request_id: str) -> JoinRequest:
    """A request: for who made it, the group's managers, and whoever may read."""
    found = _find(desk, request_id)
    if not desk.actor.reads and desk.sub != found.sub and not groups.manages(desk, found.group):
        raise NotFoundError("no such request", got=repr(request_id[:80]))
    return found


def _find(desk: Desk, request_id: str) -> JoinRequest:
    row = desk.connection.execute(_SELECT.where(t.requests.c.id == request_id)).mappings().one_or_none()
    if row is None:
        raise NotFoundError("no such request", got=repr(request_id[:80]))
    return JoinRequest(**row)


def ask(desk: Desk, group: str, *, notes: str = "") -> JoinRequest:
    """Ask to join a group, for oneself.

    Raises:
        ConflictError: the person is a member, or has asked already.
    """
    if desk.actor.user is None:
        raise AuthError("only people ask to join groups", got=desk.actor.name)
    desk.lock()
    there = groups.find(desk, group)
    checks.plain(notes, "reason", at_most=500)
    if there.name in desk.actor.user.groups:
        raise ConflictError("already a member", got=there.name)
    if list_(desk, status=PENDING, group=there.name, who=desk.sub):
        raise ConflictError("already asked to join", got=there.name)
    request_id = str(uuid.uuid4())
    values = {"id": request_id, "sub": desk.sub, "grp": there.name, "notes": notes, "created_at": desk.store.now}
    desk.connection.execute(insert(t.requests).values(**values, status=PENDING))
    desk.note("request.made", whom=desk.actor.user.login, group=there.name, notes=notes)
    return _find(desk, request_id)


def approve(desk: Desk, request_id: str, *, until: int | None = None) -> JoinRequest:
    """Make the person who asks a member, until then if that is given; the desk's reason is kept with it."""
    found = _to_decide(desk, request_id)
    if found.status == APPROVED:
        return found
    groups.add_member(desk, found.group, found.sub, until=until)
    return _decide(desk, found, APPROVED)


def reject(desk: Desk, request_id: str) -> JoinRequest:
    """Refuse a request; the desk's reason is kept with it."""
    found = _to_decide(desk, request_id)
    return found if found.status == REJECTED else _decide(desk, found, REJECTED)


def withdraw(desk: Desk, request_id: str) -> JoinRequest:
    """Take back the own request, if nobody has decided it."""
    found = _find(desk, request_id)
    if found.sub != desk.sub and not desk.actor.writes:
        raise NotFoundError("no such request", got=repr(request_id[:80]))
    desk.lock()
    return _decide(desk, _find(desk, request_id), WITHDRAWN)


def _to_decide(desk: Desk, request_id: str) -> JoinRequest:
    found = _find(desk, request_id)
    if not desk.actor.writes and not groups.manages(desk, found.group):
        desk.refuse(f"decide who joins {found.group}")
    desk.lock()
    return _find(desk, request_id)


def _decide(desk: Desk, found: JoinRequest, status: str) -> JoinRequest:
    if found.status != PENDING:
        raise ConflictError(
            "the request was decided already", expected=PENDING, got=f"{found.status} by {found.decided_by}"
        )
    values = {
        "status": status,
        "decided_at": desk.store.now,
        "decided_by": desk.actor.name,
        "motivation": desk.reason,
    }
    desk.connection.execute(update(t.requests).where(t.requests.c.id == found.id).values(**values))
    desk.note(f"request.{status.lower()}", whom=found.login, group=found.group)
    return _find(desk, found.id)
