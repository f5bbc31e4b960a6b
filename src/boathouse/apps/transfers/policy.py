"""What the operator decided for the service: bans, limits, shares. Small, and read whole at every use.

Hosts are ``host:port``, as files are queued under; the store expands an element's name to those of all its doors.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

from sqlalchemy import Connection, select

from boathouse.apps.transfers.tables import activity_shares, banned, defaults, link_limits, shares, storage_limits

ANY = "*"
"""Every storage element, or every VO."""
PUBLIC = "public"
"""VOs that have no share of their own (FTS3's word)."""


class BanStatus(StrEnum):
    """What a ban means for files that wait."""

    CANCEL = "CANCEL"
    """They were canceled, and no job is taken."""
    WAIT = "WAIT"
    """They wait for the end of the ban, and no job is taken."""
    WAIT_AS = "WAIT_AS"
    """They wait for the end of the ban, and new jobs do."""


@dataclass(frozen=True)
class Ban:
    """A storage element that is not copied from or to."""

    se: str
    hosts: frozenset[str]
    vo: str
    status: BanStatus
    message: str

    def holds(self, host: str, vo: str) -> bool:
        """Whether copies of a VO from or to a host are banned."""
        return host in self.hosts and self.vo in (ANY, vo)

    @property
    def words(self) -> str:
        """For people."""
        return f"{self.se} is banned for {'all VOs' if self.vo == ANY else self.vo}" + (
            f": {self.message}" if self.message else ""
        )


@dataclass(frozen=True)
class StorageLimit:
    """Limits of one storage element; ``None`` is the service's own."""

    inbound_max_active: int | None = None
    outbound_max_active: int | None = None
    inbound_max_throughput: float | None = None
    """MB/s, all copies into the element together."""
    outbound_max_throughput: float | None = None
    """MB/s, all copies out of the element together."""
    tpc_support: str | None = None
    """``FULL``, ``PULL``, ``PUSH`` or ``NONE``."""

    @property
    def pulls(self) -> bool:
        """Whether the element may be asked to fetch files."""
        return self.tpc_support in (None, "FULL", "PULL")

    @property
    def pushes(self) -> bool:
        """Whether the element may be asked to send files."""
        return self.tpc_support in (None, "FULL", "PUSH")


@dataclass(frozen=True)
class LinkLimit:
    """Limits of a link; no hosts means any."""

    source_hosts: frozenset[str]
    dest_hosts: frozenset[str]
    min_active: int
    max_active: int


@dataclass(frozen=True)
class Share:
    """The weight of a VO on a link; no hosts means any."""

    source_hosts: frozenset[str]
    dest_hosts: frozenset[str]
    vo: str
    share: int


@dataclass(frozen=True)
class Defaults:
    """What holds for jobs that do not say; ``None`` is the service's own."""

    retry: int | None = None
    max_time_queue: int | None = None
    """Hours."""


@dataclass(frozen=True)
class Policy:
    """All decisions."""

    bans: tuple[Ban, ...] = ()
    storage: Mapping[str, StorageLimit] = field(default_factory=dict)
    """By host, or ``*``."""
    links: tuple[LinkLimit, ...] = ()
    shares: tuple[Share, ...] = ()
    activities: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Weights of activities by VO, where they are switched on."""
    defaults: Mapping[str, Defaults] = field(default_factory=dict)
    """By VO, or ``*``."""

    @property
    def limits_rates(self) -> bool:
        """Whether an element has a limit on what it is written or read with."""
        return any(each.inbound_max_throughput or each.outbound_max_throughput for each in self.storage.values())

    def ban(self, source_host: str, dest_host: str, vo: str) -> Ban | None:
        """The ban that keeps a VO's files of a link waiting, if there is one."""
        return next((ban for ban in self.bans if ban.holds(source_host, vo) or ban.holds(dest_host, vo)), None)

    def default(self, vo: str) -> Defaults:
        """Defaults of a VO's jobs: each its own, or that of ``*``."""
        own, common = self.defaults.get(vo, Defaults()), self.defaults.get(ANY, Defaults())
        return Defaults(
            common.retry if own.retry is None else own.retry,
            common.max_time_queue if own.max_time_queue is None else own.max_time_queue,
        )

    def limit(self, host: str) -> StorageLimit:
        """The limits of an element: its own, or those of ``*``."""
        return self.storage.get(host) or self.storage.get(ANY) or StorageLimit()

    def link(self, source_host: str, dest_host: str) -> LinkLimit | None:
        """The limits of a link: of the entry that names it most closely, the source before the destination."""
        return _closest(self.links, source_host, dest_host)

    def weights(self, source_host: str, dest_host: str) -> dict[str, int]:
        """Weights of VOs on a link; ``public`` is that of all others. Empty: all VOs are equal."""
        found: dict[str, int] = {}
        for vo in {each.vo for each in self.shares}:
            closest = _closest([each for each in self.shares if each.vo == vo], source_host, dest_host)
            if closest is not None:
                found[vo] = closest.share
        return found


_Entry = TypeVar("_Entry", LinkLimit, Share)


def _closest(entries: Iterable[_Entry], source_host: str, dest_host: str) -> _Entry | None:
    fitting = [
        each
        for each in entries
        if (not each.source_hosts or source_host in each.source_hosts)
        and (not each.dest_hosts or dest_host in each.dest_hosts)
    ]
    return max(fitting, key=lambda each: (bool(each.source_hosts), bool(each.dest_hosts)), default=None)


def load(connection: Connection) -> Policy:
    """The policy as it is stored now."""

    def rows(table: Any) -> Sequence[Mapping[str, Any]]:
        return [dict(row) for row in connection.execute(select(table)).mappings()]

    storage: dict[str, StorageLimit] = {}
    for row in rows(storage_limits):
        limit = StorageLimit(**{name: row[name] for name in StorageLimit.__dataclass_fields__})
        storage.update(dict.fromkeys([ANY] if row["se"] == ANY else row["hosts"], limit))
    return Policy(
        bans=bans(connection),
        storage=storage,
        links=tuple(
            LinkLimit(*_ends(row), min_active=row["min_active"], max_active=row["max_active"])
            for row in rows(link_limits)
        ),
        shares=tuple(Share(*_ends(row), vo=row["vo"], share=row["share"]) for row in rows(shares)),
        activities={row["vo"]: row["share"] for row in rows(activity_shares) if row["active"]},
        defaults={row["vo_name"]: Defaults(row["retry"], row["max_time_queue"]) for row in rows(defaults)},
    )


def bans(connection: Connection) -> tuple[Ban, ...]:
    """Storage elements that are banned now."""
    return tuple(
        Ban(row["se"], frozenset(row["hosts"]), row["vo"], BanStatus(row["status"]), row["message"])
        for row in connection.execute(select(banned)).mappings()
    )


def _ends(row: Mapping[str, Any]) -> tuple[frozenset[str], frozenset[str]]:
    return frozenset(row["source_hosts"]), frozenset(row["dest_hosts"])
