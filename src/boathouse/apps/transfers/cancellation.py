"""The end of files that nobody wants any more: some of a job, everybody's, or all at a banned storage element.

Copies that run are not called back: their workers see it at the next marker, and clean up. Each transaction is over a
bounded number of jobs, and locks them first, in order.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, bindparam, func, select, text, update

from boathouse.apps.transfers.events import JOBS, WORK, notify
from boathouse.apps.transfers.policy import ANY
from boathouse.apps.transfers.states import FileState, JobState, job_state
from boathouse.apps.transfers.store import CANCELED_BY_USER, purge_tokens
from boathouse.apps.transfers.tables import files, jobs

_BATCH = 500
_OPEN = (FileState.SUBMITTED, FileState.ACTIVE)
_AT_ELEMENT = text("""
    SELECT DISTINCT f.job_id FROM files f JOIN jobs j USING (job_id)
    WHERE f.file_state IN ('SUBMITTED', 'ACTIVE') AND (f.source_host = ANY(:hosts) OR f.dest_host = ANY(:hosts))
      AND (:vo = '*' OR j.vo_name = :vo) ORDER BY f.job_id LIMIT :batch""")
_END_AT_ELEMENT = text("""
    UPDATE files f SET file_state = 'CANCELED', reason = :reason, finish_time = now()
    WHERE f.job_id = ANY(CAST(:job_ids AS uuid[])) AND f.file_state IN ('SUBMITTED', 'ACTIVE', 'NOT_USED')
      AND (f.source_host = ANY(:hosts) OR f.dest_host = ANY(:hosts))
    RETURNING f.job_id, f.file_index""")
# What is left of an element: another source takes over, unless one is at work already.
_PROMOTE = text("""
    UPDATE files SET file_state = 'SUBMITTED', not_before = now() WHERE file_id IN (
      SELECT DISTINCT ON (n.job_id, n.file_index) n.file_id FROM files n
      JOIN jsonb_to_recordset(CAST(:elements AS jsonb)) AS e(job_id uuid, file_index int)
        ON e.job_id = n.job_id AND e.file_index = n.file_index
      WHERE n.file_state = 'NOT_USED' AND NOT EXISTS (
        SELECT 1 FROM files o WHERE o.job_id = n.job_id AND o.file_index = n.file_index
          AND o.file_state IN ('SUBMITTED', 'ACTIVE', 'FINISHED'))
      ORDER BY n.job_id, n.file_index, n.file_id)""")
_STILL_OPEN = text("""
    SELECT DISTINCT n.job_id, n.file_index FROM files n
    JOIN jsonb_to_recordset(CAST(:elements AS jsonb)) AS e(job_id uuid, file_index int)
      ON e.job_id = n.job_id AND e.file_index = n.file_index
    WHERE n.file_state IN ('SUBMITTED', 'ACTIVE', 'FINISHED')""")

_Element = tuple[str, int]


class Cancellation:
    """Ends files.

    Args:
        engine: the database.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def files(self, job_id: str, file_ids: Collection[int]) -> None:
        """End some files of a job whose files have one source each."""
        with self._engine.begin() as connection:
            locked = _lock(connection, [job_id])
            ended = connection.scalars(
                update(files)
                .where(files.c.job_id.in_(locked), files.c.file_id.in_(file_ids), files.c.file_state.in_(_OPEN))
                .values(file_state=FileState.CANCELED, reason=CANCELED_BY_USER, finish_time=func.now())
                .returning(files.c.job_id)
            ).all()
            _count(connection, locked, Counter(str(each) for each in ended), CANCELED_BY_USER)

    def everything(self, *, vo: str | None = None, owner: str | None = None, reason: str) -> tuple[int, list[str]]:
        """End all jobs: of a VO, of a person, or of everybody.

        Returns:
            How many files were ended, and the jobs.
        """
        conditions: list[ColumnElement[bool]] = [jobs.c.job_finished.is_(None)]
        conditions += [jobs.c.vo_name == vo] if vo is not None else []
        conditions += [jobs.c.owner == owner] if owner is not None else []
        query = select(jobs.c.job_id).where(*conditions).order_by(jobs.c.job_id).limit(_BATCH)
        total = 0
        done: list[str] = []
        while True:
            with self._engine.begin() as connection:
                locked = _lock(connection, list(connection.scalars(query)))
                if not locked:
                    return total, done
                total += connection.execute(
                    update(files)
                    .where(files.c.job_id.in_(locked), files.c.file_state.in_(_OPEN))
                    .values(file_state=FileState.CANCELED, reason=reason, finish_time=func.now())
                ).rowcount
                left = {
                    job_id: row["elements"] - row["finished"] - row["failed"] - row["canceled"]
                    for job_id, row in locked.items()
                }
                _count(connection, locked, left, reason)
                done += locked

    def at_element(self, hosts: Collection[str], vo: str, reason: str) -> list[str]:
        """End files that would be copied from or to a storage element; other sources take over where there are any.

        Args:
            hosts: ``host:port`` of the element.
            vo: whose files; ``*`` for everybody's.
            reason: what the files are told.

        Returns:
            The jobs.
        """
        done: list[str] = []
        values: dict[str, Any] = {"hosts": list(hosts), "vo": vo, "batch": _BATCH, "reason": reason}
        while True:
            with self._engine.begin() as connection:
                locked = _lock(connection, [str(each) for each in connection.scalars(_AT_ELEMENT, values)])
                if not locked:
                    return done
                rows = connection.execute(_END_AT_ELEMENT, {**values, "job_ids": list(locked)})
                ended = {(str(row[0]), row[1]) for row in rows}
                elements = {"elements": _json(ended)}
                connection.execute(_PROMOTE, elements)
                ended -= {(str(row[0]), row[1]) for row in connection.execute(_STILL_OPEN, elements)}
                _count(connection, locked, Counter(job_id for job_id, _ in ended), reason)
                done += locked

    def waiting_at(self, hosts: Collection[str], vo: str) -> list[str]:
        """Jobs with files that wait for a storage element."""
        conditions: list[ColumnElement[bool]] = [
            files.c.file_state == FileState.SUBMITTED,
            files.c.source_host.in_(hosts) | files.c.dest_host.in_(hosts),
        ]
        conditions += [] if vo == ANY else [jobs.c.vo_name == vo]
        query = select(files.c.job_id).join(jobs, jobs.c.job_id == files.c.job_id).where(*conditions).distinct()
        with self._engine.connect() as connection:
            return [str(each) for each in connection.scalars(query)]


def _lock(connection: Connection, job_ids: Collection[str]) -> dict[str, Mapping[str, Any]]:
    """Jobs that have not ended, locked."""
    query = (
        select(jobs)
        .where(jobs.c.job_id.in_(job_ids), jobs.c.job_finished.is_(None))
        .order_by(jobs.c.job_id)
        .with_for_update()
    )
    return {row["job_id"]: dict(row) for row in connection.execute(query).mappings()}


def _count(
    connection: Connection, locked: Mapping[str, Mapping[str, Any]], canceled: Mapping[str, int], reason: str
) -> None:
    """Count elements that ended, and end jobs whose last one did."""
    rows, over = [], []
    for job_id, job in locked.items():
        total = job["canceled"] + canceled.get(job_id, 0)
        started = job["job_state"] == JobState.ACTIVE
        state = job_state(job["elements"], job["finished"], job["failed"], total, started=started)
        ended = job["finished"] + job["failed"] + total >= job["elements"]
        rows.append({"id": job_id, "total": total, "state": state, "why": reason if ended else job["reason"]})
        over += [job_id] if ended else []
    if not rows:
        return
    connection.execute(
        update(jobs)
        .where(jobs.c.job_id == bindparam("id"))
        .values(
            canceled=bindparam("total"),
            job_state=bindparam("state"),
            reason=bindparam("why"),
            revision=jobs.c.revision + 1,
        ),
        rows,
    )
    if over:
        connection.execute(update(jobs).where(jobs.c.job_id.in_(over)).values(job_finished=func.now()))
        purge_tokens(connection, over)
    notify(connection, JOBS, list(locked))
    notify(connection, WORK)


def _json(elements: Iterable[_Element]) -> str:
    return json.dumps([{"job_id": job_id, "file_index": index} for job_id, index in sorted(elements)])
