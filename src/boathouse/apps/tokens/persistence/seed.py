"""What the seed file wants becomes what the tables say.

What the seed names, it owns: it is made, changed and (when the seed names it no more) taken away by it. What people
with administrative rights made stays, except what they gave to a person or a group that has gone. Applying a seed
twice changes nothing the second time.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Table, delete, select, text, update
from sqlalchemy.dialects.postgresql import insert

from boathouse.apps.tokens.passwords import Hasher, hash_password
from boathouse.apps.tokens.persistence import departures
from boathouse.apps.tokens.persistence import schema as t
from boathouse.apps.tokens.persistence.seedfile import Seed, SeedClient, SeedGroup, SeedPolicy, SeedUser, load
from boathouse.apps.tokens.trail import audit, history
from boathouse.errors import InputError
from boathouse.wlcg.scopes import format_scopes, parse

WHO = "facility file"
"""Who acts, in the audit log, where the seed does."""


def apply_file(path: Path, engine: Engine, hasher: Hasher) -> dict[str, int]:
    """Apply the seed in a file.

    Returns:
        Rows changed by table, where there were any.

    Raises:
        InputError: it cannot be read or is wrong; nothing was changed.
    """
    seed = load(path)
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": history.CHANGE_LOCK})
        before = history.snapshot(connection)
        changes = {
            "groups": _groups(connection, seed.groups),
            "departures": _departures(connection, seed),
            "users": _users(connection, seed.users, hasher),
            "members": _members(connection, seed.users),
            "identities": _identities(connection, seed.users),
            "clients": _clients(connection, seed.clients, hasher),
            "policies": _policies(connection, seed.policies),
        }
        counts = {table: count for table, count in changes.items() if count}
        if counts:
            rows = history.differences(before, history.snapshot(connection))
            events = [(event, {"who": WHO, **detail}) for event, detail in rows]
            audit.append(connection, [("seed.applied", counts), *events])
    return counts


def _upsert(connection: Connection, table: Table, key: str, rows: Iterable[Mapping[str, Any]]) -> int:
    """Make or change rows; counts those that differed."""
    changed = 0
    for row in rows:
        there = connection.execute(select(table).where(table.c[key] == row[key])).mappings().one_or_none()
        if there is not None and all(there[name] == value for name, value in row.items()):
            continue
        statement = insert(table).values(**row)
        connection.execute(statement.on_conflict_do_update(index_elements=[key], set_=dict(row)))
        changed += 1
    return changed


def _groups(connection: Connection, groups: Iterable[SeedGroup]) -> int:
    return _upsert(connection, t.groups, "name", ({**group.model_dump(), "owner": "seed"} for group in groups))


def _departures(connection: Connection, seed: Seed) -> int:
    """Take away people and groups that the seed names no more, with all that anybody gave them.

    Nothing of it waits for the next person with that login, or the next group of that name.
    """
    blank = {"active": False, "login": text("sub"), "password": "", "seed_mark": "", "name": "", "email": ""}
    left = (
        update(t.users)
        .where(t.users.c.owner == "seed", t.users.c.active, t.users.c.sub.not_in([user.sub for user in seed.users]))
        # The login becomes free for somebody else; the subject never does (WLCG profile 2.1.1).
        .values(**blank)
    )
    count = connection.execute(left).rowcount
    names = [group.name for group in seed.groups]
    groups = departures.remove_groups(connection, (t.groups.c.owner == "seed") & t.groups.c.name.not_in(names))
    # All who are gone, not only those of today: a version before this one left things behind.
    departures.end_logins(connection, departures.GONE)
    taken = departures.take_rights(connection, departures.GONE)
    policies = departures.remove_policies(connection, departures.of_nobody(_renamed(connection, seed.users)))
    return count + len(groups) + len(taken) + len(policies)


def _renamed(connection: Connection, users: Iterable[SeedUser]) -> list[str]:
    """Logins that are about to change, and may be somebody else's then."""
    wanted = {user.sub: user.login for user in users}
    rows = connection.execute(select(t.users.c.sub, t.users.c.login).where(t.users.c.sub.in_(wanted)))
    return [login for sub, login in rows if wanted[sub] != login]


def _users(connection: Connection, users: tuple[SeedUser, ...], hasher: Hasher) -> int:
    marks = dict(connection.execute(select(t.users.c.sub, t.users.c.seed_mark)).tuples().all())
    rows = []
    for user in users:
        row: dict[str, Any] = {
            "sub": user.sub,
            "login": user.login,
            "name": user.name or user.login,
            "email": user.email,
            "admin": user.admin,
            "active": True,
            "owner": "seed",
        }
        # A keyed mark of the password tells whether the seed's one changed: argon2 is slow on purpose, and a
        # password that the person changed meanwhile stays.
        mark = hasher.hash(user.password.get_secret_value()).hex()
        if marks.get(user.sub) != mark:
            row |= {"password": hash_password(user.password.get_secret_value()), "seed_mark": mark}
        rows.append(row)
    _logins_are_free(connection, users)
    return _upsert(connection, t.users, "sub", rows)


def _logins_are_free(connection: Connection, users: tuple[SeedUser, ...]) -> None:
    """Refuse a login that somebody has who came by another door: nobody gets another one's name, or files.

    Raises:
        InputError: the seed names such a login.
    """
    wanted = {user.login: user.sub for user in users}
    rows = connection.execute(select(t.users.c.login, t.users.c.sub).where(t.users.c.login.in_(wanted)))
    others = sorted(login for login, sub in rows if sub not in wanted.values())
    if others:
        raise InputError(
            "the facility file names a login that an account made by an administrator or a provider has",
            expected="another login",
            got=", ".join(others),
            remedy="rename the user in the facility file, or remove that account",
        )


def _members(connection: Connection, users: Iterable[SeedUser]) -> int:
    changed = 0
    for user in users:
        wanted = {group: position for position, group in enumerate(user.groups)}
        owned = select(t.members.c.grp, t.members.c.position).where(
            t.members.c.sub == user.sub, t.members.c.owner == "seed"
        )
        there = dict(connection.execute(owned).tuples().all())
        if there == wanted:
            continue
        connection.execute(delete(t.members).where(t.members.c.sub == user.sub, t.members.c.owner == "seed"))
        for group, position in wanted.items():
            values = {"position": position, "owner": "seed", "expires_at": None}
            connection.execute(
                insert(t.members)
                .values(sub=user.sub, grp=group, **values)
                .on_conflict_do_update(index_elements=["sub", "grp"], set_=values)
            )
        changed += 1
    return changed


def _identities(connection: Connection, users: Iterable[SeedUser]) -> int:
    table = t.identities
    wanted = {(one.iss, one.sub): user.sub for user in users for one in user.identities}
    # Those of people who left stay: they do not come back as newcomers by that door.
    here = (table.c.owner == "seed") & table.c.sub.not_in(departures.GONE)
    columns = select(table.c.iss, table.c.subject, table.c.sub).where(here)
    there = {(iss, subject): sub for iss, subject, sub in connection.execute(columns)}
    if there == wanted:
        return 0
    connection.execute(delete(table).where(here))
    for (iss, subject), sub in wanted.items():
        # Somebody may have come before the facility file named them: the file wins.
        values = {"sub": sub, "owner": "seed", "waiting": False, "linked_at": int(time.time())}
        connection.execute(
            insert(table)
            .values(iss=iss, subject=subject, **values)
            .on_conflict_do_update(index_elements=["iss", "subject"], set_=values)
        )
    return len(wanted)


def _clients(connection: Connection, clients: tuple[SeedClient, ...], hasher: Hasher) -> int:
    rows = [
        {
            "client_id": client.client_id,
            "name": client.name,
            "secret_hash": hasher.hash(client.secret.get_secret_value()) if client.secret else None,
            "grants": list(client.grants),
            "scope": format_scopes(parse(" ".join(client.scopes))),
            "redirect_uris": list(client.redirect_uris),
            "exchange_from": list(client.exchange_from),
            "audiences": None if client.audiences is None else list(client.audiences),
            "trusted": client.trusted,
            "hands_over": client.hands_over,
            "active": True,
            "owner": "seed",
        }
        for client in clients
    ]
    names = [client.client_id for client in clients]
    gone = (
        update(t.clients)
        .where(t.clients.c.owner == "seed", t.clients.c.active, t.clients.c.client_id.not_in(names))
        .values(active=False)
    )
    return connection.execute(gone).rowcount + _upsert(connection, t.clients, "client_id", rows)


def _policies(connection: Connection, policies: Iterable[SeedPolicy]) -> int:
    columns = ("effect", "account", "grp", "scope", "description")
    wanted = Counter(
        (p.effect, p.account, p.group, format_scopes(parse(" ".join(p.scopes))), p.description) for p in policies
    )
    owned = select(t.policies.c.id, *(t.policies.c[name] for name in columns)).where(t.policies.c.owner == "seed")
    gone = []
    # Those that stay keep their numbers: the audit log tells what changed, and nothing else.
    for number, *values in connection.execute(owned.order_by(t.policies.c.id)):
        if wanted[key := tuple(values)]:
            wanted[key] -= 1
        else:
            gone.append(number)
    connection.execute(delete(t.policies).where(t.policies.c.id.in_(gone)))
    added = list(wanted.elements())
    for row in added:
        connection.execute(insert(t.policies).values(**dict(zip(columns, row, strict=True)), owner="seed"))
    return len(gone) + len(added)
