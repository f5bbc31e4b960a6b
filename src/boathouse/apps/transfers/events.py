"""Wake-up calls between the API and the workers, through PostgreSQL's LISTEN and NOTIFY.

They carry no state: who misses one looks at the tables a little later. After a lost connection every listener is
called once, as if all had been missed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Collection, Iterable

import psycopg
from sqlalchemy import Connection, text

WORK = "boathouse_work"
"""Something may be claimed."""
CANCEL = "boathouse_cancel"
"""Jobs were canceled; the payload names them."""
JOBS = "boathouse_jobs"
"""Jobs changed; the payload names them."""

WORKER_LOCK = 0x776F726B
"""First key of the advisory lock that a live worker holds; the second is its number."""
_IDS_PER_CALL = 200
_RETRY_S = 0.5

log = logging.getLogger(__name__)


def notify(connection: Connection, channel: str, job_ids: Collection[str] = ()) -> None:
    """Call all listeners of a channel once the transaction is committed."""
    ids = list(job_ids)
    for start in range(0, max(len(ids), 1), _IDS_PER_CALL):
        payload = ",".join(ids[start : start + _IDS_PER_CALL])
        connection.execute(text("SELECT pg_notify(:channel, :payload)"), {"channel": channel, "payload": payload})


class Hub:
    """The one connection of a process that listens, and that holds its worker's lock.

    PostgreSQL gives the lock up the moment the process dies, however it dies: so others know without waiting for a
    clock.

    Args:
        dsn: libpq connection string.
        worker: the worker's number.
    """

    def __init__(self, dsn: str, worker: int) -> None:
        self._dsn = dsn
        self._worker = worker
        self._listeners: dict[str, list[Callable[[tuple[str, ...]], None]]] = {}
        self.connected = asyncio.Event()

    def on(self, channel: str, call: Callable[[tuple[str, ...]], None]) -> None:
        """Have ``call`` called with the job ids of each wake-up; with none when any may have been missed."""
        self._listeners.setdefault(channel, []).append(call)

    async def run(self) -> None:
        """Listen until canceled; connect again when the connection is lost."""
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(self._dsn, autocommit=True) as connection:
                    await self._listen(connection)
            except psycopg.OperationalError as error:
                log.warning("database connection lost, trying again: %s", " ".join(str(error).split()))
            finally:
                self.connected.clear()
            await asyncio.sleep(_RETRY_S)

    async def _listen(self, connection: psycopg.AsyncConnection) -> None:
        await connection.execute("SELECT pg_advisory_lock(%s, %s)", (WORKER_LOCK, self._worker))
        for channel in self._listeners:
            await connection.execute(psycopg.sql.SQL("LISTEN {}").format(psycopg.sql.Identifier(channel)))
        self.connected.set()
        for channel in self._listeners:
            self._call(channel, ())
        async for event in connection.notifies():
            self._call(event.channel, tuple(filter(None, event.payload.split(","))))

    def _call(self, channel: str, job_ids: tuple[str, ...]) -> None:
        for call in self._listeners.get(channel, ()):
            call(job_ids)


class Changes:
    """Lets requests wait until one of their jobs changes."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Event]] = {}

    def happened(self, job_ids: Iterable[str]) -> None:
        """Wake those that wait for these jobs; for all jobs if none is named."""
        for job_id in tuple(job_ids) or tuple(self._waiting):
            for event in self._waiting.get(job_id, ()):
                event.set()

    @contextlib.asynccontextmanager
    async def watch(self, job_ids: Collection[str]) -> AsyncIterator[asyncio.Event]:
        """An event that is set at the next change of one of the jobs."""
        event = asyncio.Event()
        for job_id in job_ids:
            self._waiting.setdefault(job_id, set()).add(event)
        try:
            yield event
        finally:
            for job_id in job_ids:
                events = self._waiting.get(job_id, set())
                events.discard(event)
                if not events:
                    self._waiting.pop(job_id, None)
