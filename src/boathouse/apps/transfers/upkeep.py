"""What must happen without anybody asking: jobs that waited too long end, old ones are forgotten.

Each call is one transaction over a bounded number of rows, and may be made by any number of workers.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from sqlalchemy import Connection, Engine, RowMapping, text

from boathouse.apps.transfers import archive, counts
from boathouse.apps.transfers.events import JOBS, notify
from boathouse.apps.transfers.settings import Limits
from boathouse.apps.transfers.store import purge_tokens

_BATCH = 500
_EXPIRE = text("""
    WITH over AS (
      SELECT job_id FROM jobs WHERE job_finished IS NULL AND expires_at < now()
      ORDER BY job_id LIMIT :batch FOR UPDATE SKIP LOCKED)
    UPDATE files f SET file_state = 'CANCELED', finish_time = now(),
      reason = 'Job has been canceled because it stayed in the queue for too long'
    FROM over WHERE f.job_id = over.job_id AND f.file_state = 'SUBMITTED'
    RETURNING f.job_id, f.file_index, f.file_state""")
# Links are taken from the counts, files from the index of the queue: not every file that waits is looked at.
_IMPATIENT = text("""
    WITH links AS (
      SELECT DISTINCT c.source_host, c.dest_host, e.host, e.reason FROM endpoints e
      JOIN file_counts c ON c.state = 'SUBMITTED' AND e.host IN (c.source_host, c.dest_host)
      WHERE e.since < now() - make_interval(secs => :patience)),
    over AS (
      SELECT late.file_id, links.host, links.reason FROM links CROSS JOIN LATERAL (
        SELECT f.file_id FROM files f JOIN jobs j ON j.job_id = f.job_id
        WHERE f.file_state = 'SUBMITTED' AND f.source_host = links.source_host AND f.dest_host = links.dest_host
          AND j.submit_time < now() - make_interval(secs => :patience)
        LIMIT :batch FOR UPDATE OF j, f SKIP LOCKED) late)
    UPDATE files f SET file_state = 'FAILED', finish_time = now(), error_class = 'network',
      reason = concat(over.reason, '; ', over.host, ' could not be reached for too long')
    FROM over WHERE f.file_id = over.file_id AND f.file_state = 'SUBMITTED'
    RETURNING f.job_id, f.file_index, f.file_state""")
# A file that still waits is on its last source, or its destination is at fault: its element ends with it.
_COUNT = text("""
    WITH gone AS (
      SELECT * FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r(job_id uuid, file_index int, state text)),
    counted AS (
      SELECT job_id, count(*) FILTER (WHERE state = 'FAILED') AS failed,
             count(*) FILTER (WHERE state = 'CANCELED') AS canceled FROM gone GROUP BY job_id),
    changed AS (
      SELECT j.job_id, j.failed + c.failed AS failed, j.canceled + c.canceled AS canceled,
        j.finished + j.failed + j.canceled + c.failed + c.canceled >= j.elements AS ended
      FROM jobs j JOIN counted c USING (job_id))
    UPDATE jobs j SET failed = c.failed, canceled = c.canceled, revision = j.revision + 1,
      job_finished = CASE WHEN c.ended THEN now() ELSE j.job_finished END,
      job_state = CASE WHEN NOT c.ended THEN j.job_state WHEN j.finished > 0 THEN 'FINISHEDDIRTY'
        WHEN c.failed > 0 THEN 'FAILED' ELSE 'CANCELED' END
    FROM changed c WHERE j.job_id = c.job_id AND j.job_finished IS NULL RETURNING j.job_id""")
# Hops after one that was canceled, or that waited too long, are not started.
_BROKEN = text("""
    UPDATE jobs SET failed = elements - finished - canceled, job_finished = now(), revision = revision + 1,
      job_state = CASE WHEN canceled > 0 AND failed = 0 THEN 'CANCELED' ELSE 'FAILED' END
    WHERE job_id IN (
      SELECT j.job_id FROM jobs j WHERE j.job_finished IS NULL AND j.job_type = 'H'
        AND EXISTS (SELECT 1 FROM files f WHERE f.job_id = j.job_id AND f.file_state IN ('FAILED', 'CANCELED'))
        AND NOT EXISTS (SELECT 1 FROM files f WHERE f.job_id = j.job_id AND f.file_state IN ('SUBMITTED', 'ACTIVE'))
      ORDER BY j.job_id LIMIT :batch FOR UPDATE SKIP LOCKED) RETURNING job_id""")
_FORGET_WORKERS = text("""
    DELETE FROM workers w WHERE w.started < now() - make_interval(secs => :keep) AND w.worker <> :worker
      AND NOT EXISTS (SELECT 1 FROM files f WHERE f.worker = w.worker AND f.busy)""")
# A host that nobody waits for any more has no trouble worth remembering.
_FORGET_ENDPOINTS = text("""
    DELETE FROM endpoints e WHERE e.paused_until < now() - make_interval(secs => :patience) AND NOT EXISTS (
      SELECT 1 FROM file_counts c WHERE c.state <> 'UNCLEAN' AND e.host IN (c.source_host, c.dest_host)
      GROUP BY c.source_host, c.dest_host HAVING sum(c.files) > 0)""")


def end_waiting(engine: Engine, limits: Limits) -> int:
    """End files whose time in the queue is over, and those whose storage could not be reached for too long.

    Returns:
        How many files were ended.
    """
    total = 0
    for statement in (_EXPIRE, _IMPATIENT):
        with engine.begin() as connection:
            rows = connection.execute(statement, {"batch": _BATCH, "patience": limits.patience_s}).mappings().all()
            if rows:
                _count(connection, rows)
            total += len(rows)
    with engine.begin() as connection:
        if broken := [str(job_id) for job_id in connection.scalars(_BROKEN, {"batch": _BATCH})]:
            purge_tokens(connection, broken)
            notify(connection, JOBS, broken)
    return total


def _count(connection: Connection, rows: Sequence[RowMapping]) -> None:
    ended = json.dumps(
        [{"job_id": str(row["job_id"]), "file_index": row["file_index"], "state": row["file_state"]} for row in rows]
    )
    job_ids = [str(job_id) for job_id in connection.scalars(_COUNT, {"rows": ended})]
    purge_tokens(connection, job_ids)
    notify(connection, JOBS, job_ids)


def forget(engine: Engine, limits: Limits, worker: int) -> int:
    """Move jobs that ended long ago into the archive, drop what lies there too long, and what remains of dead workers.

    Returns:
        How many jobs went into the archive.
    """
    with engine.begin() as connection:
        counts.merge(connection)
    with engine.begin() as connection:
        connection.execute(_FORGET_WORKERS, {"keep": limits.keep_s, "worker": worker})
        connection.execute(_FORGET_ENDPOINTS, {"patience": limits.patience_s})
        archive.forget(connection, keep_s=limits.archive_s, batch=_BATCH)
        return archive.put_away(connection, keep_s=limits.keep_s, batch=_BATCH)
