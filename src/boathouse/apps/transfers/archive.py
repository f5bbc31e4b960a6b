"""Jobs that the queue has forgotten: each is kept as one row, the job and its files as documents."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, select, text

from boathouse.apps.transfers import database
from boathouse.apps.transfers.states import JOB_TERMINAL
from boathouse.apps.transfers.store import Row, Store
from boathouse.apps.transfers.tables import archive

_TIMES = ("submit_time", "job_finished", "start_time", "finish_time")
# All parts see the tables as they were before: what is deleted is still there to be kept.
_PUT_AWAY = text("""
    WITH gone AS (
      SELECT j.job_id FROM jobs j WHERE j.job_finished < now() - make_interval(secs => :keep)
        AND NOT EXISTS (SELECT 1 FROM files f WHERE f.job_id = j.job_id AND f.busy)
      ORDER BY j.job_finished LIMIT :batch FOR UPDATE SKIP LOCKED),
    kept AS (
      INSERT INTO archive (job_id, owner, vo_name, job_finished, job, files)
      SELECT j.job_id, j.owner, j.vo_name, j.job_finished, to_jsonb(j),
        (SELECT coalesce(jsonb_agg(to_jsonb(f) ORDER BY f.file_id), '[]') FROM files f WHERE f.job_id = j.job_id)
      FROM jobs j JOIN gone USING (job_id) ON CONFLICT DO NOTHING)
    DELETE FROM jobs WHERE job_id IN (SELECT job_id FROM gone)""")
_FORGET = text("""
    DELETE FROM archive WHERE job_id IN (
      SELECT job_id FROM archive WHERE job_finished < now() - make_interval(secs => :keep)
      ORDER BY job_finished LIMIT :batch FOR UPDATE SKIP LOCKED)""")


def put_away(connection: Connection, *, keep_s: float, batch: int) -> int:
    """Move jobs that ended long ago from the queue into the archive.

    Returns:
        How many.
    """
    return connection.execute(_PUT_AWAY, {"keep": keep_s, "batch": batch}).rowcount


def forget(connection: Connection, *, keep_s: float, batch: int) -> int:
    """Drop what lies in the archive for too long. Returns how many jobs."""
    return connection.execute(_FORGET, {"keep": keep_s, "batch": batch}).rowcount


class Archive:
    """Reads jobs that have ended.

    Args:
        engine: the database.
        store: where those lie that ended a short time ago.
    """

    def __init__(self, engine: Engine, store: Store) -> None:
        self._reading = database.reading(engine)
        self._store = store

    def find(self, job_id: str) -> tuple[Row, list[Row]] | None:
        """A job that has ended, with its files; none if there is no such job."""
        recent = self._store.jobs([job_id]).get(job_id)
        if recent is not None:
            return (recent, self._store.files([job_id])[job_id]) if recent["job_state"] in JOB_TERMINAL else None
        query = select(archive.c.job, archive.c.files).where(text("job_id::text = :job_id"))
        with self._reading.connect() as connection:
            found = connection.execute(query, {"job_id": job_id.lower()}).one_or_none()
        if found is None:
            return None
        return _with_times(found[0]), [_with_times({**row, "vo_name": found[0]["vo_name"]}) for row in found[1]]


def _with_times(document: Row) -> Row:
    def opened(name: str, value: Any) -> Any:
        return datetime.fromisoformat(value) if name in _TIMES and value is not None else value

    return {name: opened(name, value) for name, value in document.items()}
