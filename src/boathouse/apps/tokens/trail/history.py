"""What of the tables decides who may what, row by row, as the audit log keeps it; and how two states differ.

A record of a change carries the row as it is afterwards: ``{"table": …, "key": […], "row": {…} or null}``. Names,
addresses and secrets are left out: the log is for ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Table, and_, select, text
from sqlalchemy.engine import RowMapping

from boathouse.apps.tokens.persistence import schema as t

CHANGE_LOCK = 0x73656564
"""Advisory lock of PostgreSQL that every change of these tables holds until its end."""

_COLUMNS: dict[str, tuple[str, ...]] = {
    "users": ("login", "admin", "active", "suspended"),
    "groups": ("optional",),
    "members": ("position", "expires_at"),
    "managers": (),
    "policies": ("effect", "account", "grp", "scope"),
    "clients": (*("active", "suspended", "grants", "scope", "redirect_uris", "exchange_from", "audiences", "trusted"),),
}
_TABLES = {name: t.metadata.tables[name] for name in _COLUMNS}
NOUNS = {
    "users": "user",
    "groups": "group",
    "members": "member",
    "managers": "manager",
    "policies": "policy",
    "clients": "client",
}
"""First word of the events about a table."""

Key = tuple[str, tuple[str | int, ...]]
"""A table and the primary key of a row of it."""
State = dict[Key, Mapping[str, Any]]
"""Rows that are there, by table and key."""


def _row(table: str, row: RowMapping) -> dict[str, Any]:
    kept = {name: row[name] for name in _COLUMNS[table]}
    if table == "clients":
        kept["public"] = row["secret_hash"] is None
    return kept


def _key_columns(table: Table) -> tuple[str, ...]:
    return tuple(column.name for column in table.primary_key)


def state_of(connection: Connection, table: Table, key: Sequence[Any]) -> dict[str, Any] | None:
    """A row as a record carries it; None if it is of a kind that is not kept."""
    matches = and_(*(table.c[name] == value for name, value in zip(_key_columns(table), key, strict=True)))
    row = connection.execute(select(table).where(matches)).mappings().one_or_none()
    if row is not None and not _is_kept(table.name, row):
        return None
    return {"table": table.name, "key": list(key), "row": None if row is None else _row(table.name, row)}


def _is_kept(table: str, row: RowMapping) -> bool:
    # Programs that register themselves come and go by the thousand, and get nothing but what people give them.
    return table != "clients" or not row["bounded_by"]


def snapshot(connection: Connection) -> State:
    """All rows as they are now."""
    state: State = {}
    for name, table in _TABLES.items():
        keys = _key_columns(table)
        for row in connection.execute(select(table)).mappings():
            if _is_kept(name, row):
                state[name, tuple(row[key] for key in keys)] = _row(name, row)
    return state


def of_person(connection: Connection, sub: str) -> State:
    """The rows about one person: their own, and those of their memberships."""
    state: State = {}
    for name in ("users", "members"):
        table = _TABLES[name]
        keys = _key_columns(table)
        for row in connection.execute(select(table).where(table.c.sub == sub)).mappings():
            state[name, tuple(row[key] for key in keys)] = _row(name, row)
    return state


def differences(before: State, after: State) -> Iterator[tuple[str, dict[str, Any]]]:
    """What a record for each row that differs says: the event, and ``whom`` and ``state`` of its detail."""
    for key in sorted(before.keys() | after.keys(), key=repr):
        was, now = before.get(key), after.get(key)
        if was == now:
            continue
        table, parts = key
        verb = "added" if was is None else "removed" if now is None else "changed"
        whom = str((now or was or {}).get("login") or " ".join(map(str, parts)))
        yield (
            f"{NOUNS[table]}.{verb}",
            {"whom": whom, "state": {"table": table, "key": list(parts), "row": None if now is None else dict(now)}},
        )


def replay(connection: Connection, *, until_ms: int | None = None) -> State:
    """The rows as the audit log tells them.

    Args:
        connection: to the issuer's database.
        until_ms: leave out what happened later, in milliseconds since the epoch.
    """
    log = t.audit
    changes = select(log.c.detail["state"]).where(text("detail ? 'state'")).order_by(log.c.seq)
    if until_ms is not None:
        changes = changes.where(log.c.at_ms <= until_ms)
    return fold(change for (change,) in connection.execute(changes))


def fold(changes: Iterable[Mapping[str, Any]]) -> State:
    """The rows after changes, each as a record carries it, in their order."""
    state: State = {}
    for change in changes:
        key = change["table"], tuple(change["key"])
        if change["row"] is None:
            state.pop(key, None)
        else:
            state[key] = change["row"]
    return state


def began_ms(connection: Connection) -> int | None:
    """When the log began to tell of changes, in milliseconds since the epoch; None if it does not."""
    log = t.audit
    first = select(log.c.at_ms).where(text("detail ? 'state'")).order_by(log.c.seq).limit(1)
    return connection.execute(first).scalar_one_or_none()
