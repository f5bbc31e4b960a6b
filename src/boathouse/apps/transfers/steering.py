"""What the operator decides, and what is told of it: bans, limits, shares, the optimizer.

Decisions are kept for a second in this process; the claim itself looks at the tables.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import Connection, Engine, delete, func, insert, select, text, tuple_
from sqlalchemy.dialects.postgresql import insert as upsert

from boathouse.apps.transfers import admission, database, policy, views
from boathouse.apps.transfers.cancellation import Cancellation
from boathouse.apps.transfers.events import WORK, notify
from boathouse.apps.transfers.policy import ANY, BanStatus, Policy
from boathouse.apps.transfers.settings import Settings
from boathouse.apps.transfers.tables import (
    banned,
    banned_people,
    config_audit,
    optimizer,
    optimizer_evolution,
)
from boathouse.errors import InputError

_Link = tuple[str, str]
_FRESH_S = 1.0
_AUDITED = 100
_EVOLUTION = 50
_HOSTS = text("""
    SELECT w.host, count(*) FROM files f JOIN workers w ON w.worker = f.worker
    WHERE f.file_state = 'ACTIVE' GROUP BY w.host ORDER BY w.host""")


@dataclass(frozen=True)
class Decisions:
    """All that is decided at one time."""

    policy: Policy
    people: frozenset[str]
    """Subjects of people who are banned."""


class Elements:
    """Names of storage elements, as clients give them, and what files are queued under.

    Args:
        settings: the elements that are known, and their copy doors.
    """

    def __init__(self, settings: Settings) -> None:
        self._known = settings.elements
        self._doors = settings.doors
        self._https_of = settings.https_of

    def hosts(self, name: str) -> list[str]:
        """``host:port`` of an element and of its copy door; none for ``*``.

        A name without port, as FTS3 writes it, means all known elements of the host.

        Raises:
            InputError: the name is none.
        """
        if name == ANY:
            return []
        parts = urlsplit(name if "//" in name else f"//{name}")
        try:
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port = None, None
        if not host or parts.path not in ("", "/") or parts.query:
            raise InputError("not a storage element", expected="davs://host:port", got=name[:200])
        netloc = parts.netloc.lower()
        https = self._https_of.get(netloc, netloc).removesuffix(":443")
        named = {https} if port else self._of_host(host.lower())
        both = named | {self._doors[each] for each in named & self._doors.keys()}
        return sorted(both | {each for each, door in self._doors.items() if door in named})

    def _of_host(self, host: str) -> set[str]:
        return {each for each in self._known if each.rpartition(":")[0] == host} or {host}


class Steering:
    """Reads and changes decisions. Each change is one transaction, and is noted with who made it.

    Args:
        engine: the database.
        settings: of the service.
    """

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine = engine
        self._reading = database.reading(engine)
        self._lock = threading.Lock()
        self._decisions = Decisions(Policy(), frozenset())
        self._until = 0.0
        self.elements = Elements(settings)
        self.cancellation = Cancellation(engine)

    def decisions(self) -> Decisions:
        """What is decided now, or was a second ago."""
        with self._lock:
            if time.monotonic() >= self._until:
                with self._reading.connect() as connection:
                    people = frozenset(connection.scalars(select(banned_people.c.subject)))
                    self._decisions = Decisions(policy.load(connection), people)
                self._until = time.monotonic() + _FRESH_S
            return self._decisions

    def note(self, connection: Connection, subject: str, action: str, config: object) -> None:
        """Note a change, and have it looked at by all: part of the change's transaction."""
        row = {"subject": subject, "action": action, "config": json.dumps(config)[:4000]}
        connection.execute(insert(config_audit), row)
        notify(connection, WORK)
        self.forget()

    def forget(self) -> None:
        """Look at the tables again at the next question."""
        with self._lock:
            self._until = 0.0

    def audit(self) -> list[views.Json]:
        """The last changes, newest first."""
        query = select(config_audit).order_by(config_audit.c.id.desc()).limit(_AUDITED)
        with self._reading.connect() as connection:
            return [
                {
                    "datetime": views.timestamp(row["at"]),
                    "dn": row["subject"],
                    "action": row["action"],
                    "config": row["config"],
                }
                for row in connection.execute(query).mappings()
            ]

    # Bans.

    def ban(self, se: str, vo: str, status: BanStatus, message: str, admin: str) -> list[str]:
        """Ban a storage element for a VO, or for all (``*``).

        Returns:
            Jobs whose files were canceled, or wait for the end of the ban.
        """
        hosts = self.elements.hosts(se)
        if not hosts:
            raise InputError("a ban must name one storage element", got=se)
        row = {"hosts": hosts, "status": status, "message": message, "admin": admin, "added": func.now()}
        with self._engine.begin() as connection:
            admission.alone(connection)
            connection.execute(
                upsert(banned)
                .values(se=se, vo=vo, **row)
                .on_conflict_do_update(index_elements=[banned.c.se, banned.c.vo], set_=row)
            )
            self.note(connection, admin, "ban-se", f"Storage {se} for {vo} banned ({status})")
        self.forget()
        if status is BanStatus.CANCEL:
            return self.cancellation.at_element(hosts, vo, f"Storage banned{': ' if message else ''}{message}")
        return self.cancellation.waiting_at(hosts, vo)

    def unban(self, se: str, vo: str, admin: str) -> None:
        """End a ban; files that wait may start."""
        hosts = self.elements.hosts(se)
        with self._engine.begin() as connection:
            connection.execute(delete(banned).where(banned.c.vo == vo, banned.c.hosts.overlap(hosts)))
            self.note(connection, admin, "unban-se", f"Storage {se} unbanned")
        self.forget()

    def bans(self) -> list[views.Json]:
        """All bans of storage elements, in FTS3's form."""
        with self._reading.connect() as connection:
            return [
                {
                    "se": row["se"],
                    "vo": row["vo"],
                    "status": row["status"],
                    "message": row["message"],
                    "admin_dn": row["admin"],
                    "addition_time": views.timestamp(row["added"]),
                }
                for row in connection.execute(select(banned).order_by(banned.c.se, banned.c.vo)).mappings()
            ]

    def ban_person(self, subject: str, message: str, admin: str) -> list[str]:
        """Ban a person; returns the jobs that were canceled."""
        row = {"message": message, "admin": admin, "added": func.now()}
        with self._engine.begin() as connection:
            admission.alone(connection)
            connection.execute(
                upsert(banned_people)
                .values(subject=subject, **row)
                .on_conflict_do_update(index_elements=[banned_people.c.subject], set_=row)
            )
            self.note(connection, admin, "ban-dn", f"User {subject} banned")
        self.forget()
        return self.cancellation.everything(owner=subject, reason="User banned")[1]

    def unban_person(self, subject: str, admin: str) -> None:
        """Let a person in again."""
        with self._engine.begin() as connection:
            connection.execute(delete(banned_people).where(banned_people.c.subject == subject))
            self.note(connection, admin, "unban-dn", f"User {subject} unbanned")
        self.forget()

    def banned_people(self) -> list[views.Json]:
        """All people who are banned, in FTS3's form."""
        with self._reading.connect() as connection:
            return [
                {
                    "dn": row["subject"],
                    "message": row["message"],
                    "admin_dn": row["admin"],
                    "addition_time": views.timestamp(row["added"]),
                    "status": None,
                }
                for row in connection.execute(select(banned_people).order_by(banned_people.c.subject)).mappings()
            ]

    # The optimizer, and who works.

    def optimizer(
        self, source: str | None, destination: str | None, links: Collection[_Link] | None = None
    ) -> list[views.Json]:
        """How many copies each link may run; of these links only, if they are given."""
        query = select(optimizer).order_by(optimizer.c.updated.desc())
        return [views.optimizer(row) for row in self._links(query, optimizer, source, destination, links)]

    def evolution(
        self, source: str | None, destination: str | None, links: Collection[_Link] | None = None
    ) -> list[views.Json]:
        """The last decisions of the optimizer, newest first; of these links only, if they are given."""
        table = optimizer_evolution
        query = select(table).order_by(table.c.id.desc()).limit(_EVOLUTION)
        return [views.evolution(row) for row in self._links(query, table, source, destination, links)]

    def _links(
        self, query: Any, table: Any, source: str | None, destination: str | None, links: Collection[_Link] | None
    ) -> list[Mapping[str, Any]]:
        if links is not None:
            query = query.where(tuple_(table.c.source_host, table.c.dest_host).in_(list(links)))
        for column, name in ((table.c.source_host, source), (table.c.dest_host, destination)):
            if name is not None and name != ANY:
                query = query.where(column.in_(self.elements.hosts(name)))
        with self._reading.connect() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def set_optimizer(self, source: str, destination: str, active: int, admin: str) -> views.Json:
        """Start links over from a number of copies; the optimizer goes on from there."""
        rows = [
            {"source_host": one, "dest_host": other, "active": active}
            for one in self._named(source)
            for other in self._named(destination)
        ]
        with self._engine.begin() as connection:
            statement = upsert(optimizer).values(rows)
            connection.execute(
                statement.on_conflict_do_update(
                    index_elements=[optimizer.c.source_host, optimizer.c.dest_host],
                    set_={"active": statement.excluded.active, "updated": func.now()},
                )
            )
            self.note(connection, admin, "optimizer", {"source": source, "destination": destination, "active": active})
        return self.optimizer(source, destination)[0]

    def _named(self, name: str) -> Collection[str]:
        if hosts := self.elements.hosts(name):
            return hosts
        raise InputError("name one storage element", got=name)

    def hosts(self) -> list[tuple[str, int]]:
        """Copies that run, by the machine of their worker."""
        with self._reading.connect() as connection:
            return [(row[0], row[1]) for row in connection.execute(_HOSTS)]
