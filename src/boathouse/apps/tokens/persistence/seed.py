"""The seed file: groups, people, clients and policies as the facility file wants them.

What the seed names, it owns: it is made, changed and (when the seed names it no more) switched off by it. What
people with administrative rights made stays as it is. Applying a seed twice changes nothing the second time.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from sqlalchemy import Connection, Engine, Table, delete, select, text, update
from sqlalchemy.dialects.postgresql import insert

from boathouse.apps.tokens.admin.checks import LOGIN, PRINTABLE
from boathouse.apps.tokens.passwords import Hasher, hash_password
from boathouse.apps.tokens.persistence import schema as t
from boathouse.apps.tokens.persistence.records import GRANT_NAMES, GRANTS
from boathouse.apps.tokens.trail import audit, history
from boathouse.errors import InputError
from boathouse.wlcg.scopes import format_scopes, group_name, parse

WHO = "facility file"
"""Who acts, in the audit log, where the seed does."""


def _checked(value: str, check: Any) -> str:
    try:
        check(value)
    except InputError as error:
        message = f"{error.what}: expected {error.expected}, got {error.got}"
        raise ValueError(message) from error
    return value


def _scope(value: str) -> str:
    return _checked(value, parse)


def _group(value: str) -> str:
    return _checked(value, group_name)


def _grant(value: str) -> str:
    full = GRANT_NAMES.get(value, value)
    if full not in GRANTS:
        message = f"not a grant: {value}"
        raise ValueError(message)
    return full


ScopeText = Annotated[str, AfterValidator(_scope)]
GroupName = Annotated[str, AfterValidator(_group)]
Printable = Annotated[str, Field(pattern=f"^{PRINTABLE}$")]
Grant = Annotated[str, AfterValidator(_grant)]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SeedGroup(_Entry):
    """A group; an optional one stands in a token only when it is asked for by name."""

    name: GroupName
    optional: bool = False
    description: str = ""


class SeedIdentity(_Entry):
    """What a person is at another provider."""

    iss: Printable
    sub: Annotated[str, Field(min_length=1, max_length=255)]


class SeedUser(_Entry):
    """A person who signs in with a password, or elsewhere."""

    login: Annotated[str, Field(pattern=f"^{LOGIN}$")]
    sub: Printable
    password: SecretStr
    name: str = ""
    email: str = ""
    groups: tuple[GroupName, ...] = ()
    admin: bool = False
    identities: tuple[SeedIdentity, ...] = ()


class SeedClient(_Entry):
    """A program; without a secret it is a public client, which must use PKCE or a device code."""

    client_id: Printable
    name: str = ""
    secret: SecretStr | None = None
    grants: tuple[Grant, ...]
    scopes: tuple[ScopeText, ...]
    redirect_uris: tuple[str, ...] = ()
    exchange_from: tuple[str, ...] = ()
    """Clients whose tokens it may exchange; its own it always may."""
    audiences: tuple[Printable, ...] | None = None
    """The audiences that it may ask for; any if absent."""
    trusted: bool = False
    """Whether people are spared the question for consent."""
    hands_over: bool = False
    """Whether whoever began a login gets its token; people are then asked at each login, and told so."""


class SeedPolicy(_Entry):
    """A scope policy for one account, one group, or (with neither) everybody."""

    effect: Literal["PERMIT", "DENY"]
    scopes: Annotated[tuple[ScopeText, ...], Field(min_length=1)]
    account: str = ""
    group: GroupName | Literal[""] = ""
    description: str = ""


class Seed(_Entry):
    """The whole file."""

    groups: tuple[SeedGroup, ...] = ()
    users: tuple[SeedUser, ...] = ()
    clients: tuple[SeedClient, ...] = ()
    policies: tuple[SeedPolicy, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Seed:
        groups = {group.name for group in self.groups}
        faults = [f"user {u.login}: no group {g}" for u in self.users for g in u.groups if g not in groups]
        faults += [f"policy: no group {p.group}" for p in self.policies if p.group and p.group not in groups]
        clients = [client.client_id for client in self.clients]
        for kind, names in (
            ("group", [group.name for group in self.groups]),
            ("login", [user.login for user in self.users]),
            ("subject or client", [user.sub for user in self.users] + clients),
        ):
            faults += [f"{kind} {name} occurs twice" for name in sorted({n for n in names if names.count(n) > 1})]
        if faults:
            raise ValueError("; ".join(faults))
        return self


def load(path: Path) -> Seed:
    """The seed in a file.

    Raises:
        InputError: it cannot be read or is wrong; no secret is in the message.
    """
    try:
        return Seed.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError("the seed file cannot be read", got=str(error), where=str(path)) from error
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise InputError("the seed file is wrong", got=faults, where=str(path)) from error


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
    gone = (
        update(t.users)
        .where(t.users.c.owner == "seed", t.users.c.active, t.users.c.sub.not_in([user.sub for user in users]))
        # The login becomes free for somebody else; the subject never does (WLCG profile 2.1.1).
        .values(active=False, login=text("sub"))
    )
    count = connection.execute(gone).rowcount
    _logins_are_free(connection, users)
    return count + _upsert(connection, t.users, "sub", rows)


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
    columns = select(table.c.iss, table.c.subject, table.c.sub).where(table.c.owner == "seed")
    there = {(iss, subject): sub for iss, subject, sub in connection.execute(columns)}
    if there == wanted:
        return 0
    connection.execute(delete(table).where(table.c.owner == "seed"))
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
