"""Who signs in elsewhere: links from (issuer, subject) to a person, and the accounts that are made for newcomers."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, select, update
from sqlalchemy.dialects.postgresql import insert

from boathouse.apps.tokens.persistence import schema as t
from boathouse.apps.tokens.upstream.providers import Provider, login_for

_TEXT_AT_MOST = 200


@dataclass(frozen=True)
class Linked:
    """The person behind an identity."""

    sub: str
    active: bool
    waiting: bool
    """Whether the account was never let in yet."""


class Identities:
    """Links in one transaction.

    Args:
        connection: with a transaction open on it.
        now: seconds since the epoch.
    """

    def __init__(self, connection: Connection, now: int) -> None:
        self._connection = connection
        self._now = now

    def find(self, issuer: str, subject: str) -> Linked | None:
        """The person that an identity belongs to: by issuer and subject, never by name or address."""
        table = t.identities
        row = self._connection.execute(
            select(
                table.c.sub,
                (t.users.c.active & ~t.users.c.suspended).label("active"),
                # Who was removed does not wait for anything.
                (t.users.c.active & table.c.waiting).label("waiting"),
            )
            .select_from(table.join(t.users, table.c.sub == t.users.c.sub))
            .where(table.c.iss == issuer, table.c.subject == subject)
        ).first()
        return Linked(row.sub, row.active, row.waiting) if row else None

    def make(self, provider: Provider, claims: Mapping[str, Any], *, active: bool) -> tuple[str, str]:
        """An account without password for somebody new, and the link to it.

        Returns:
            Its subject and login.
        """
        taken = self._connection.execute(select(t.users.c.login)).scalars()
        sub, login = str(uuid.uuid4()), login_for(provider, claims, taken)
        self._connection.execute(
            insert(t.users).values(
                sub=sub,
                login=login,
                name=_text(claims.get("name")) or login,
                email=_text(claims.get("email")) if claims.get("email_verified") is True else "",
                active=True,
                # An administrator lets them in as any other person who is switched off.
                suspended=not active,
                owner="admin",
            )
        )
        self._connection.execute(
            insert(t.identities).values(
                iss=provider.issuer, subject=claims["sub"], sub=sub, waiting=not active, linked_at=self._now
            )
        )
        return sub, login

    def let_in(self, issuer: str, subject: str) -> None:
        """Note that the account waits no more."""
        table = t.identities
        whose = (table.c.iss == issuer, table.c.subject == subject)
        self._connection.execute(update(table).where(*whose).values(waiting=False))

    def activate(self, sub: str) -> None:
        """Open an account that waited."""
        self._connection.execute(update(t.users).where(t.users.c.sub == sub).values(suspended=False))

    def set_groups(self, sub: str, provider: Provider, groups: Iterable[str]) -> None:
        """Make memberships that follow from the provider's claims what they are now; others stay."""
        owner = f"provider:{provider.name}"
        table = t.members
        wanted = list(groups)
        known = set(self._connection.execute(select(t.groups.c.name).where(t.groups.c.name.in_(wanted))).scalars())
        gone = delete(table).where(table.c.sub == sub, table.c.owner == owner)
        self._connection.execute(gone)
        for position, group in enumerate(group for group in wanted if group in known):
            # A membership from elsewhere is not touched: it may have an end, or outlive this provider.
            values = {"sub": sub, "grp": group, "position": position, "owner": owner}
            self._connection.execute(insert(table).values(**values).on_conflict_do_nothing())


def _text(value: object) -> str:
    """A claim as one line of text."""
    return "".join(letter for letter in value if letter.isprintable())[:_TEXT_AT_MOST] if isinstance(value, str) else ""
