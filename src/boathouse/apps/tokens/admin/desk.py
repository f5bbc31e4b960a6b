"""Who acts, with which rights, in which transaction; and the record that each change leaves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

from sqlalchemy import Connection, Table

from boathouse.apps.tokens.admin.checks import plain
from boathouse.apps.tokens.persistence.records import User
from boathouse.apps.tokens.persistence.store import Store
from boathouse.apps.tokens.trail import history, tracing
from boathouse.errors import AuthError, ConflictError

FACILITY = "seed"
"""Owner of what the facility file names."""
ADMIN = "admin"
"""Owner of what administrators made."""


@dataclass(frozen=True)
class Actor:
    """Who acts."""

    name: str
    """Login or client, as the audit log names it."""
    user: User | None = None
    """The person, for what everybody may do with their own."""
    reads: bool = False
    """Whether it may look at everything."""
    writes: bool = False
    """Whether it may change everything."""
    manages: bool = False
    """Whether it may act as manager of the groups that the person manages."""

    @classmethod
    def person(cls, user: User) -> Actor:
        """Somebody who has signed in."""
        return cls(user.login, user, reads=user.admin, writes=user.admin, manages=True)


@dataclass(frozen=True)
class Desk:
    """Where one request is worked on.

    Args:
        store: the database in a transaction.
        actor: who acts.
        reason: why, for the audit log.
        address: where from, for the audit log.
    """

    store: Store
    actor: Actor
    reason: str = ""
    address: str = ""

    def __post_init__(self) -> None:
        plain(self.reason, "reason", at_most=500)

    @property
    def connection(self) -> Connection:
        """The connection with the transaction."""
        return self.store.connection

    @property
    def sub(self) -> str:
        """Subject of the person who acts; empty for a client."""
        return self.actor.user.sub if self.actor.user else ""

    def may_read(self) -> None:
        """Go on only for who may look at everything.

        Raises:
            AuthError: the actor may not.
        """
        if not self.actor.reads:
            self.refuse("see this")

    def must_write(self) -> None:
        """Go on only for who may change everything, as :meth:`may_write`, and keep nobody else waiting.

        Raises:
            AuthError: the actor may not.
        """
        if not self.actor.writes:
            self.refuse("change this")

    def may_write(self) -> None:
        """Go on only for who may change everything; until the end of the transaction nobody else changes anything.

        Raises:
            AuthError: the actor may not.
        """
        self.must_write()
        self.lock()

    def lock(self) -> None:
        """Let changes follow each other, so that the chain tells them in the order in which they count."""
        self.store.lock_changes()

    def refuse(self, what: str) -> NoReturn:
        """End with the refusal.

        Raises:
            AuthError: always.
        """
        raise AuthError(f"{self.actor.name} may not {what}", expected="an administrator, or who it belongs to")

    def changed(self, event: str, table: Table, *key: Any, whom: str, **more: Any) -> None:
        """Record what became of a row.

        Args:
            event: ``user.disabled``, ``policy.added``, …
            table: of the row.
            key: its primary key.
            whom: the person, group, policy or client, as people call it.
            more: what else is worth telling.
        """
        state = history.state_of(self.connection, table, key)
        self.note(event, whom=whom, **more, **({} if state is None else {"state": state}))

    def note(self, event: str, **detail: Any) -> None:
        """Record something that changes no row of history."""
        self.store.changes.append(
            (
                event,
                {
                    "who": self.actor.name,
                    "reason": self.reason,
                    "address": self.address,
                    "request": tracing.current(),
                    **detail,
                },
            )
        )


def not_the_facility_files(owner: str, what: str) -> None:
    """Go on only if administrators may change it.

    Raises:
        ConflictError: the facility file alone may, and would undo the change at the next ``boathouse up``.
    """
    if owner == FACILITY:
        raise ConflictError(
            f"{what} belongs to the facility file",
            expected="something that was made by an administrator",
            remedy="change the facility file, then boathouse up",
        )
