"""The queue and the links at one glance, for metrics and pages: questions that take no longer for a longer queue.

An operator sees all; others what concerns their VO. A link is a VO's while files of it wait there or are copied, and
for ten minutes after this worker has copied one.
"""

from __future__ import annotations

from sqlalchemy import Engine, select

from boathouse.apps.transfers import counts, database
from boathouse.apps.transfers.metrics import Gauges, Link, Metrics
from boathouse.apps.transfers.policy import ANY, Ban
from boathouse.apps.transfers.steering import Steering
from boathouse.apps.transfers.store import Row, Store
from boathouse.apps.transfers.tables import optimizer


class Overview:
    """Answers about the whole service, or about a VO's part in it.

    Args:
        engine: the database.
        store: jobs and files.
        steering: what the operator decided.
        metrics: what this process counted.
    """

    def __init__(self, engine: Engine, store: Store, steering: Steering, metrics: Metrics) -> None:
        self._reading = database.reading(engine)
        self._store = store
        self._steering = steering
        self._metrics = metrics

    def gauges(self, vo: str | None = None) -> Gauges:
        """All that metrics tell of the database; what a VO may know of it, or everything."""
        return Gauges(
            files=self.links(vo),
            queue=self.queue(vo),
            unreachable=self.unreachable(vo),
            banned=[(ban.se, ban.vo) for ban in self.bans(vo)],
            decided=self.decided(vo),
        )

    def links(self, vo: str | None = None) -> list[Row]:
        """Files by link and state: source_host, dest_host, file_state, count."""
        with self._reading.connect() as connection:
            return counts.by_link(connection, vo)

    def queue(self, vo: str | None = None) -> list[Row]:
        """Files by VO, activity and state."""
        with self._reading.connect() as connection:
            return counts.by_activity(connection, vo)

    def of_vo(self, vo: str) -> frozenset[Link]:
        """The links of a VO."""
        waiting = {(row["source_host"], row["dest_host"]) for row in self.links(vo)}
        return frozenset(waiting | self._metrics.recent(vo).keys())

    def decided(self, vo: str | None = None) -> dict[Link, int]:
        """Copies that the optimizer lets each link run at once."""
        with self._reading.connect() as connection:
            rows = connection.execute(select(optimizer)).mappings()
            found = {(row["source_host"], row["dest_host"]): row["active"] for row in rows}
        if vo is None:
            return found
        mine = self.of_vo(vo)
        return {link: active for link, active in found.items() if link in mine}

    def unreachable(self, vo: str | None = None) -> dict[str, Row]:
        """Storage elements that could not be reached, by host."""
        found = self._store.unreachable()
        if vo is None or not found:
            return found
        mine = {host for link in self.of_vo(vo) for host in link}
        return {host: row for host, row in found.items() if host in mine}

    def bans(self, vo: str | None = None) -> list[Ban]:
        """Storage elements that are banned."""
        return [ban for ban in self._steering.decisions().policy.bans if vo is None or ban.vo in (ANY, vo)]
