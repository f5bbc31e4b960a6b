"""Clients: list, add, change, disable, remove, new secrets; and who may exchange whose tokens."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import delete, insert, select, update

from boathouse.apps.tokens.admin import checks
from boathouse.apps.tokens.admin.desk import ADMIN, Desk, not_the_facility_files
from boathouse.apps.tokens.persistence import schema as t
from boathouse.errors import ConflictError, NotFoundError


@dataclass(frozen=True)
class Registration:
    """A client as administrators see it."""

    client_id: str
    name: str
    public: bool
    """Whether it has no secret."""
    grants: tuple[str, ...]
    scopes: str
    """Separated by spaces."""
    redirect_uris: tuple[str, ...]
    exchange_from: tuple[str, ...]
    """Clients whose tokens it may exchange; its own it always may."""
    audiences: tuple[str, ...] | None
    """Audiences that it may ask for; None for any."""
    trusted: bool
    """Whether people are spared the question for consent."""
    active: bool
    owner: str

    def as_dict(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self) | {"scopes": self.scopes.split()}


REGISTERED = "registered"
"""Owner of clients that registered themselves (RFC 7591)."""
_REMEMBERED_S = 3600


def _is_ours(there: Registration) -> None:
    """Go on only if administrators may change it.

    Raises:
        ConflictError: it belongs to the facility file, or registered itself.
    """
    not_the_facility_files(there.owner, there.client_id)
    if there.owner == REGISTERED:
        raise ConflictError(
            f"{there.client_id} registered itself, and changes its registration itself",
            remedy=f"boathouse iam client disable {there.client_id}, or remove it",
        )


def _registration(row: Any) -> Registration:
    return Registration(
        client_id=row["client_id"],
        name=row["name"] or row["client_id"],
        public=row["secret_hash"] is None,
        grants=tuple(row["grants"]),
        scopes=row["scope"],
        redirect_uris=tuple(row["redirect_uris"]),
        exchange_from=tuple(row["exchange_from"]),
        audiences=None if row["audiences"] is None else tuple(row["audiences"]),
        trusted=row["trusted"],
        active=row["active"] and not row["suspended"],
        owner=row["owner"],
    )


def list_(desk: Desk) -> list[Registration]:
    """All clients by name, disabled ones too."""
    desk.may_read()
    rows = desk.connection.execute(select(t.clients).where(t.clients.c.active).order_by(t.clients.c.client_id))
    return [_registration(row) for row in rows.mappings()]


def get(desk: Desk, client_id: str) -> Registration:
    """A client.

    Raises:
        NotFoundError: there is none.
    """
    desk.may_read()
    return _find(desk, client_id)


def _find(desk: Desk, client_id: str) -> Registration:
    where = (t.clients.c.client_id == client_id) & t.clients.c.active
    row = desk.connection.execute(select(t.clients).where(where)).mappings().one_or_none()
    if row is None:
        raise NotFoundError("no such client", got=repr(client_id[:80]))
    return _registration(row)


def add(
    desk: Desk,
    client_id: str,
    *,
    name: str = "",
    grants: Iterable[str],
    scopes: str,
    redirect_uris: Iterable[str] = (),
    audiences: Iterable[str] | None = None,
    trusted: bool = False,
    public: bool = False,
) -> tuple[Registration, str]:
    """Add a client.

    Returns:
        The client, and its secret, which nobody sees again; empty for a public client.

    Raises:
        ConflictError: the name is taken.
    """
    desk.may_write()
    checks.name(client_id, "client")
    values = _values(name, grants, scopes, redirect_uris, audiences)
    taken = select(t.clients.c.client_id).where(t.clients.c.client_id == client_id)
    subject = select(t.users.c.sub).where(t.users.c.sub == client_id)
    if desk.connection.execute(taken).first() or desk.connection.execute(subject).first():
        raise ConflictError("the name of the client is taken", got=client_id)
    secret = "" if public else secrets.token_urlsafe(32)
    desk.connection.execute(
        insert(t.clients).values(
            client_id=client_id,
            **values,
            secret_hash=None if public else desk.store.hasher.hash(secret),
            exchange_from=[],
            trusted=trusted,
            active=True,
            owner=ADMIN,
        )
    )
    desk.changed("client.added", t.clients, client_id, whom=client_id)
    return _find(desk, client_id), secret


def _values(
    name: str, grants: Iterable[str], scopes: str, redirect_uris: Iterable[str], audiences: Iterable[str] | None
) -> dict[str, Any]:
    return {
        "name": checks.plain(name, "name"),
        "grants": checks.grants(grants),
        "scope": checks.scopes(scopes),
        "redirect_uris": checks.redirect_uris(redirect_uris),
        "audiences": None if audiences is None else [checks.name(one, "audience") for one in audiences],
    }


def change(
    desk: Desk,
    client_id: str,
    *,
    name: str | None = None,
    grants: Iterable[str] | None = None,
    scopes: str | None = None,
    redirect_uris: Iterable[str] | None = None,
    audiences: Iterable[str] | None = None,
    any_audience: bool = False,
    trusted: bool | None = None,
) -> Registration:
    """Change a client; None leaves it as it is.

    Args:
        desk: who acts.
        client_id: which.
        name: for people.
        grants: all that it may use.
        scopes: all that it may ask for, separated by spaces.
        redirect_uris: all of them.
        audiences: all that it may ask for.
        any_audience: let it ask for any audience.
        trusted: whether people are spared the question for consent.

    Raises:
        ConflictError: it belongs to the facility file.
    """
    desk.may_write()
    there = _find(desk, client_id)
    wanted = _values(
        there.name if name is None else name,
        there.grants if grants is None else grants,
        there.scopes if scopes is None else scopes,
        there.redirect_uris if redirect_uris is None else redirect_uris,
        None if any_audience else there.audiences if audiences is None else audiences,
    )
    wanted["trusted"] = there.trusted if trusted is None else trusted
    row = desk.connection.execute(select(t.clients).where(t.clients.c.client_id == client_id)).mappings().one()
    was = dict(row) | {"name": there.name}
    changes = {key: value for key, value in wanted.items() if was[key] != value}
    if changes:
        _is_ours(there)
        desk.connection.execute(update(t.clients).where(t.clients.c.client_id == client_id).values(**changes))
        desk.changed("client.changed", t.clients, client_id, whom=client_id, changed=" ".join(changes))
    return _find(desk, client_id)


def disable(desk: Desk, client_id: str) -> Registration:
    """Switch a client off: it gets no tokens, and what people gave it ends for good.

    This works for clients of the facility file too, and stays until :func:`enable`.
    """
    desk.may_write()
    there = _find(desk, client_id)
    if there.active:
        desk.connection.execute(update(t.clients).where(t.clients.c.client_id == client_id).values(suspended=True))
        _revoke(desk, client_id)
        desk.changed("client.disabled", t.clients, client_id, whom=client_id)
    return _find(desk, client_id)


def enable(desk: Desk, client_id: str) -> Registration:
    """Switch a client on again."""
    desk.may_write()
    if not _find(desk, client_id).active:
        desk.connection.execute(update(t.clients).where(t.clients.c.client_id == client_id).values(suspended=False))
        desk.changed("client.enabled", t.clients, client_id, whom=client_id)
    return _find(desk, client_id)


def remove(desk: Desk, client_id: str) -> None:
    """Remove a client for good; its name is never given to another one, since subjects are not.

    Raises:
        ConflictError: it belongs to the facility file.
    """
    desk.may_write()
    there = _find(desk, client_id)
    not_the_facility_files(there.owner, client_id)
    _revoke(desk, client_id)
    if there.owner == REGISTERED:
        desk.store.unregister_client(client_id, desk.store.now + _REMEMBERED_S)
    desk.connection.execute(
        update(t.clients).where(t.clients.c.client_id == client_id).values(active=False, exchange_from=[])
    )
    desk.changed("client.removed", t.clients, client_id, whom=client_id)


def new_secret(desk: Desk, client_id: str) -> str:
    """Give a client a new secret, which nobody sees again; the old one is worth nothing at once.

    Raises:
        ConflictError: the client is public, or belongs to the facility file.
    """
    desk.may_write()
    there = _find(desk, client_id)
    _is_ours(there)
    if there.public:
        raise ConflictError("a public client has no secret", got=client_id)
    secret = secrets.token_urlsafe(32)
    hashed = desk.store.hasher.hash(secret)
    desk.connection.execute(update(t.clients).where(t.clients.c.client_id == client_id).values(secret_hash=hashed))
    desk.note("client.new-secret", whom=client_id)
    return secret


def allow_exchange(desk: Desk, client_id: str, origin: str) -> Registration:
    """Let a client exchange tokens of another one (RFC 8693).

    Raises:
        ConflictError: it belongs to the facility file.
    """
    desk.may_write()
    there, other = _find(desk, client_id), _find(desk, origin)
    if other.client_id not in there.exchange_from:
        _is_ours(there)
        _set_exchange(desk, there, [*there.exchange_from, other.client_id])
    return _find(desk, client_id)


def forbid_exchange(desk: Desk, client_id: str, origin: str) -> Registration:
    """Let a client exchange tokens of another one no more.

    Raises:
        ConflictError: it belongs to the facility file.
    """
    desk.may_write()
    there = _find(desk, client_id)
    if origin in there.exchange_from:
        _is_ours(there)
        _set_exchange(desk, there, [one for one in there.exchange_from if one != origin])
    return _find(desk, client_id)


def _set_exchange(desk: Desk, there: Registration, origins: list[str]) -> None:
    changed = update(t.clients).where(t.clients.c.client_id == there.client_id).values(exchange_from=origins)
    desk.connection.execute(changed)
    desk.changed("client.changed", t.clients, there.client_id, whom=there.client_id, changed="exchange_from")


def _revoke(desk: Desk, client_id: str) -> None:
    table = t.refresh_tokens
    desk.connection.execute(update(table).where(table.c.client_id == client_id).values(revoked=True))
    desk.connection.execute(delete(t.consents).where(t.consents.c.client_id == client_id))
