"""What ends with a person's logins, and what goes with a person who leaves: SQL only; decides nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Select, Table, delete, or_, select, update

from boathouse.apps.tokens.persistence import schema as t

Subjects = Sequence[str] | Select[tuple[str]]
"""Whose: subjects, or a query for them."""
GONE = select(t.users.c.sub).where(~t.users.c.active)
"""Everybody who was removed, or whom the facility file names no more."""


def end_logins(connection: Connection, subs: Subjects) -> None:
    """End what people have signed in to: browsers, refresh tokens, codes that nobody has redeemed yet."""
    for table in (t.sessions, t.codes, t.devices):
        connection.execute(delete(table).where(table.c.sub.in_(subs)))
    table = t.refresh_tokens
    connection.execute(update(table).where(table.c.sub.in_(subs), ~table.c.revoked).values(revoked=True))


def take_rights(connection: Connection, subs: Subjects) -> list[tuple[Table, str, str]]:
    """Take memberships, groups to manage, consents and open requests from people.

    What they are at another provider stays linked to them: who left does not come back by that door.

    Returns:
        The memberships and managers that were there: table, subject, group.
    """
    connection.execute(delete(t.consents).where(t.consents.c.sub.in_(subs)))
    connection.execute(delete(t.requests).where(t.requests.c.sub.in_(subs), t.requests.c.status == "PENDING"))
    taken: list[tuple[Table, str, str]] = []
    for table in (t.members, t.managers):
        rows = connection.execute(delete(table).where(table.c.sub.in_(subs)).returning(table.c.sub, table.c.grp))
        taken += [(table, row.sub, row.grp) for row in rows]
    return taken


def remove_policies(connection: Connection, where: Any) -> list[int]:
    """Remove policies; their numbers."""
    return list(connection.execute(delete(t.policies).where(where).returning(t.policies.c.id)).scalars())


def of_nobody(renamed: Sequence[str] = ()) -> Any:
    """Policies of administrators on a login or a group that nobody bears: whoever comes next must not get them.

    Args:
        renamed: logins that their persons lose.
    """
    people, groups = select(t.users.c.login).where(t.users.c.active), select(t.groups.c.name)
    table = t.policies
    stray = or_(
        table.c.account.in_(renamed),
        (table.c.account != "") & table.c.account.not_in(people),
        (table.c.grp != "") & table.c.grp.not_in(groups),
    )
    return (table.c.owner != "seed") & stray


def remove_groups(connection: Connection, where: Any) -> list[str]:
    """Remove groups, with their memberships, managers and requests; their names."""
    names = list(connection.execute(select(t.groups.c.name).where(where)).scalars())
    for table in (t.members, t.managers, t.requests):
        connection.execute(delete(table).where(table.c.grp.in_(names)))
    connection.execute(delete(t.groups).where(t.groups.c.name.in_(names)))
    return names
