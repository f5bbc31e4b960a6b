"""The queue and the links at one glance, for metrics and pages: bounded questions, asked at most every few seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import Engine, select, text

from boathouse.apps.transfers import database
from boathouse.apps.transfers.metrics import Gauges, Link
from boathouse.apps.transfers.steering import Steering
from boathouse.apps.transfers.store import Row, Store
from boathouse.apps.transfers.tables import optimizer

_FRESH_S = 5.0
"""Counting a long queue takes time: whoever asks again within this time gets the same answer."""
_QUEUE = text("""
    SELECT vo AS vo_name, activity, file_state, count(*) AS count FROM files
    WHERE file_state IN ('SUBMITTED', 'ACTIVE') GROUP BY 1, 2, 3 ORDER BY 1, 2, 3""")
_T = TypeVar("_T")


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
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[float, Any]] = {}

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
        return self._lately("links", self._store.gauges)

    def queue(self) -> list[Row]:
        """Files by VO, activity and state."""
        return self._lately("queue", self._count)

    def decided(self) -> dict[Link, int]:
        """Copies that the optimizer lets each link run at once."""
        with self._reading.connect() as connection:
            rows = connection.execute(select(optimizer)).mappings()
            return {(row["source_host"], row["dest_host"]): row["active"] for row in rows}

    def _count(self) -> list[Row]:
        with self._reading.connect() as connection:
            return [dict(row) for row in connection.execute(_QUEUE).mappings()]

    def _lately(self, name: str, ask: Callable[[], _T]) -> _T:
        with self._lock:
            at, answer = self._kept.get(name, (-_FRESH_S, None))
            if time.monotonic() - at >= _FRESH_S:
                answer = ask()
                self._kept[name] = (time.monotonic(), answer)
            found: _T = answer
            return found
