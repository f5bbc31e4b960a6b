"""The queue and the links at one glance, for metrics and pages: questions that take no longer for a longer queue."""

from __future__ import annotations

from sqlalchemy import Engine, select

from boathouse.apps.transfers import counts, database
from boathouse.apps.transfers.metrics import Gauges, Link
from boathouse.apps.transfers.steering import Steering
from boathouse.apps.transfers.store import Row, Store
from boathouse.apps.transfers.tables import optimizer


class Overview:
    """Answers about the whole service.

    Args:
        engine: the database.
        store: jobs and files.
        steering: what the operator decided.
    """

    def __init__(self, engine: Engine, store: Store, steering: Steering) -> None:
        self._reading = database.reading(engine)
        self._store = store
        self._steering = steering

    def gauges(self) -> Gauges:
        """All that metrics tell of the database."""
        return Gauges(
            files=self.links(),
            queue=self.queue(),
            unreachable=self._store.unreachable(),
            banned=[(ban.se, ban.vo) for ban in self._steering.decisions().policy.bans],
            decided=self.decided(),
        )

    def links(self) -> list[Row]:
        """Files by link and state: source_host, dest_host, file_state, count."""
        return self._store.gauges()

    def queue(self) -> list[Row]:
        """Files by VO, activity and state."""
        with self._reading.connect() as connection:
            return counts.by_activity(connection)

    def decided(self) -> dict[Link, int]:
        """Copies that the optimizer lets each link run at once."""
        with self._reading.connect() as connection:
            rows = connection.execute(select(optimizer)).mappings()
            return {(row["source_host"], row["dest_host"]): row["active"] for row in rows}
