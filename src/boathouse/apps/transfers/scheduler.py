"""How many files of whom may start on which link: a pure decision, taken anew at every claim.

Slots are dealt one by one: to the link with the fewest copies, there to the VO that is furthest below its share, there
to the activity that is furthest below its own. Among files of one activity, priority and age decide.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from boathouse.apps.transfers.policy import PUBLIC, Policy
from boathouse.apps.transfers.settings import Limits

Link = tuple[str, str]
"""Source host and destination host."""
DEFAULT_ACTIVITY = "default"
"""Whose weight activities have that have none of their own (FTS3's word)."""


class Group(NamedTuple):
    """Files that compete as one: a VO's activity on a link."""

    source: str
    destination: str
    vo: str
    activity: str

    @property
    def link(self) -> Link:
        """Its link."""
        return self.source, self.destination


@dataclass(frozen=True)
class Rules:
    """What the decision rests on."""

    limits: Limits
    policy: Policy = field(default_factory=Policy)
    optimized: Mapping[Link, int] = field(default_factory=dict)
    """Copies that the optimizer lets a link run."""
    rates_in: Mapping[str, float] = field(default_factory=dict)
    """What hosts were written with lately, MB/s."""
    rates_out: Mapping[str, float] = field(default_factory=dict)
    """What was read from hosts lately, MB/s."""

    def on_link(self, link: Link) -> int:
        """How many copies a link may run: the optimizer's number, within what the operator allows."""
        lowest, highest = self.bounds(link)
        return max(lowest, min(highest, self.optimized.get(link, min(self.limits.per_link, highest))))

    def bounds(self, link: Link) -> tuple[int, int]:
        """The fewest and the most copies that the optimizer may choose for a link."""
        limit = self.policy.link(*link)
        if limit is not None:
            return limit.min_active, limit.max_active
        return 1, max(self.limits.per_link, self.limits.per_storage)

    def pool(self, group: Group) -> Group:
        """The group in which a group competes: activities without weights are one, and priority decides there."""
        return group if self.policy.activities.get(group.vo) else group._replace(activity="")

    def share_of_vo(self, group: Group) -> float:
        """Weight of a group's VO on its link. 0: it gets what others leave."""
        weights = self.policy.weights(*group.link)
        return weights.get(group.vo, weights.get(PUBLIC, 0)) if weights else 1.0

    def share_of_activity(self, group: Group) -> float:
        """Weight of a group's activity in its VO. 0: it gets what others leave."""
        weights = self.policy.activities.get(group.vo)
        return weights.get(group.activity, weights.get(DEFAULT_ACTIVITY, 0)) if weights else 1.0


class _Load:
    """Copies that run and slots that were dealt, by what they count against."""

    def __init__(self, rules: Rules, active: Mapping[Group, int], unreachable: Mapping[str, bool]) -> None:
        self._rules, self._unreachable = rules, unreachable
        self.out: Counter[str] = Counter()
        self.into: Counter[str] = Counter()
        self.link: Counter[Link] = Counter()
        self.vo: Counter[tuple[Link, str]] = Counter()
        self.pool: Counter[Group] = Counter()
        for group, count in active.items():
            self.add(group, count)

    def add(self, group: Group, count: int = 1) -> None:
        self.out[group.source] += count
        self.into[group.destination] += count
        self.link[group.link] += count
        self.vo[group.link, group.vo] += count
        self.pool[self._rules.pool(group)] += count

    def has_room(self, link: Link) -> bool:
        source, destination = link
        rules = self._rules
        reading, writing = rules.policy.limit(source), rules.policy.limit(destination)
        return (
            self.link[link] < rules.on_link(link)
            and self._host_has_room(source, self.out[source], reading.outbound_max_active)
            and self._host_has_room(destination, self.into[destination], writing.inbound_max_active)
            and (not self.out[source] or not _too_fast(rules.rates_out.get(source), reading.outbound_max_throughput))
            and (
                not self.into[destination]
                or not _too_fast(rules.rates_in.get(destination), writing.inbound_max_throughput)
            )
        )

    def _host_has_room(self, host: str, load: int, limit: int | None) -> bool:
        if host in self._unreachable:
            return not self._unreachable[host] and load == 0
        # FTS3 takes 0 for no limit of its own.
        return load < (limit or self._rules.limits.per_storage)

    def standing(self, group: Group) -> tuple[int, Link, tuple[bool, float], str, tuple[bool, float]]:
        """How little a group has, for a comparison: the least comes first."""
        rules = self._rules
        return (
            self.link[group.link],
            group.link,
            _standing(self.vo[group.link, group.vo], rules.share_of_vo(group)),
            group.vo,
            _standing(self.pool[rules.pool(group)], rules.share_of_activity(group)),
        )


def _too_fast(rate: float | None, limit: float | None) -> bool:
    return bool(limit) and rate is not None and rate > (limit or 0)


def _standing(count: int, share: float) -> tuple[bool, float]:
    return (share <= 0, (count + 1) / share if share > 0 else float(count))


def slots(
    waiting: Iterable[Group],
    active: Mapping[Group, int],
    unreachable: Mapping[str, bool],
    *,
    rules: Rules,
    free: int,
) -> dict[Group, int]:
    """Slots of each group of files that waits.

    Args:
        waiting: groups with waiting files.
        active: copies that run now, over all workers.
        unreachable: hosts that could not be reached, and whether their pause goes on. When it is over, one copy at
            a time may try whether the host is back.
        rules: limits, shares, bans.
        free: copies that can still be started.

    Returns:
        Slots by pool (see :meth:`Rules.pool`); pools without one are left out.
    """
    load = _Load(rules, active, unreachable)
    pools = {rules.pool(group) for group in waiting if rules.policy.ban(*group.link, group.vo) is None}
    queue = [(load.standing(pool), pool) for pool in pools]
    heapq.heapify(queue)
    given: Counter[Group] = Counter()
    while queue and free > 0:
        standing, pool = heapq.heappop(queue)
        if standing != (now := load.standing(pool)):
            # Standings only ever fall behind: it is looked at again in its new place.
            heapq.heappush(queue, (now, pool))
        elif load.has_room(pool.link):
            given[pool] += 1
            load.add(pool)
            free -= 1
            heapq.heappush(queue, (load.standing(pool), pool))
    return dict(given)
