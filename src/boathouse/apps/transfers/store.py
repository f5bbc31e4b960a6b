"""The API's side of the database: submit, ask, cancel, change priority. Each call is one transaction."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, func, insert, select, text, update
from sqlalchemy.exc import IntegrityError

from boathouse.apps.transfers import database, jwt, urls
from boathouse.apps.transfers.events import CANCEL, JOBS, WORK, notify
from boathouse.apps.transfers.failures import Side
from boathouse.apps.transfers.seal import Seal
from boathouse.apps.transfers.states import JOB_TERMINAL, FileState, JobState
from boathouse.apps.transfers.submission import Place, Submission, Transfer, deterministic_id
from boathouse.apps.transfers.tables import attempts, endpoints, files, jobs, tokens
from boathouse.errors import ConflictError

CANCELED_BY_USER = "Job canceled by the user"

_TokenIds = Mapping[tuple[Side, str, str | None], int]
"""Ids of stored tokens by side, host and token."""
Row = dict[str, Any]
"""A row by column name."""


@dataclass(frozen=True)
class Caller:
    """Who asks, from a verified token."""

    subject: str
    client_id: str
    vo: str
    expires_at: datetime
    operator: bool

    def may_use(self, job: Mapping[str, Any]) -> bool:
        """Whether the caller may see and change a job."""
        return self.operator or job["owner"] == self.subject


@dataclass(frozen=True)
class Filter:
    """Which jobs ``GET /jobs`` lists. Without states, those that have not ended."""

    states: tuple[str, ...] = ()
    owner: str | None = None
    vo: str | None = None
    source_se: str | None = None
    dest_se: str | None = None
    window: timedelta | None = None
    limit: int = 500


class Store:
    """Jobs and their files, as clients see them.

    Args:
        engine: the database.
        seal: what tokens are sealed with.
        base_id: root of deterministic job ids.
    """

    def __init__(self, engine: Engine, seal: Seal, base_id: uuid.UUID) -> None:
        self._engine = engine
        self._reading = database.reading(engine)
        self._seal = seal
        self._base_id = base_id

    def submit(self, submission: Submission, caller: Caller) -> str:
        """Store a job and wake the workers.

        Returns:
            The job's id.

        Raises:
            ConflictError: a job of this deterministic id exists.
        """
        made = (
            deterministic_id(self._base_id, caller.vo, submission.sid) if submission.sid is not None else uuid.uuid4()
        )
        job_id = str(made)
        try:
            with self._engine.begin() as connection:
                connection.execute(insert(jobs).values(_job_row(job_id, submission, caller)))
                known = self._insert_tokens(connection, job_id, submission)
                rows = [
                    {**row, "vo": caller.vo}
                    for index, transfer in enumerate(submission.transfers)
                    for row in _file_rows(job_id, index, transfer, submission.priority, known)
                ]
                connection.execute(insert(files), rows)
                notify(connection, WORK)
        except IntegrityError as error:
            if submission.sid is None:
                raise
            raise ConflictError("a job of this id was submitted already", got=job_id) from error
        return job_id

    def _insert_tokens(self, connection: Connection, job_id: str, submission: Submission) -> _TokenIds:
        """Store each token once for each side and host: what a destination's is exchanged for, no source may use."""
        places = {
            (side, urls.host_of(place.url), place.token): None
            for transfer in submission.transfers
            for side, each in ((Side.SOURCE, transfer.sources), (Side.DESTINATION, (transfer.destination,)))
            for place in each
            if place.token is not None
        }
        if not places:
            return {}
        rows = [
            {
                "job_id": job_id,
                "host": host,
                "expires_at": jwt.expiry(token or ""),
                "sealed": self._seal.close(token or "", job_id, host),
            }
            for _, host, token in places
        ]
        ids = connection.scalars(insert(tokens).returning(tokens.c.token_id, sort_by_parameter_order=True), rows)
        return dict(zip(places, ids, strict=True))

    def jobs(self, job_ids: Collection[str]) -> dict[str, Row]:
        """Jobs by id; ids that are not known are left out."""
        good = [job_id for job_id in job_ids if _is_uuid(job_id)]
        with self._reading.connect() as connection:
            rows = connection.execute(select(jobs).where(jobs.c.job_id.in_(good))).mappings()
            return {row["job_id"]: dict(row) for row in rows}

    def files(self, job_ids: Collection[str]) -> dict[str, list[Row]]:
        """Files by job id, in the order of submission, with their alternative sources."""
        found: dict[str, list[Row]] = {job_id: [] for job_id in job_ids}
        query = select(files, jobs.c.vo_name).join(jobs).where(files.c.job_id.in_(found)).order_by(files.c.file_id)
        with self._reading.connect() as connection:
            for row in connection.execute(query).mappings():
                found[row["job_id"]].append(dict(row))
        return found

    def revisions(self, job_ids: Collection[str]) -> tuple[int, bool]:
        """The sum of the jobs' revisions, and whether one of them has ended."""
        query = select(func.coalesce(func.sum(jobs.c.revision), 0), func.count(jobs.c.job_finished))
        with self._reading.connect() as connection:
            total, ended = connection.execute(query.where(jobs.c.job_id.in_(job_ids))).one()
        return int(total), bool(ended)

    def search(self, wanted: Filter, caller: Caller) -> list[Row]:
        """Jobs that match, newest first; only the caller's own, unless the caller is an operator."""
        conditions = [] if caller.operator else [jobs.c.owner == caller.subject]
        if wanted.states:
            conditions.append(jobs.c.job_state.in_(wanted.states))
        if wanted.window is not None:
            conditions.append(jobs.c.job_finished >= func.now() - wanted.window)
        elif not wanted.states:
            conditions.append(jobs.c.job_finished.is_(None))
        for column, value in (
            (jobs.c.owner, wanted.owner),
            (jobs.c.vo_name, wanted.vo),
            (jobs.c.source_se, wanted.source_se),
            (jobs.c.dest_se, wanted.dest_se),
        ):
            if value is not None:
                conditions.append(column == value)
        query = select(jobs).where(*conditions).order_by(jobs.c.submit_time.desc()).limit(wanted.limit)
        with self._reading.connect() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def cancel(self, job_ids: Collection[str]) -> None:
        """End jobs; those that have ended stay as they are. Copies that run are stopped by their workers."""
        with self._engine.begin() as connection:
            open_ids = _lock_open(connection, job_ids)
            if not open_ids:
                return
            connection.execute(
                update(files)
                .where(files.c.job_id.in_(open_ids), files.c.file_state.in_((FileState.SUBMITTED, FileState.ACTIVE)))
                .values(file_state=FileState.CANCELED, reason=CANCELED_BY_USER, finish_time=func.now())
            )
            connection.execute(
                update(jobs)
                .where(jobs.c.job_id.in_(open_ids))
                .values(
                    job_state=JobState.CANCELED,
                    job_finished=func.now(),
                    reason=CANCELED_BY_USER,
                    canceled=jobs.c.elements - jobs.c.finished - jobs.c.failed,
                    revision=jobs.c.revision + 1,
                )
            )
            purge_tokens(connection, open_ids)
            notify(connection, CANCEL, open_ids)
            notify(connection, JOBS, open_ids)

    def set_priority(self, job_ids: Collection[str], priority: int) -> None:
        """Change the priority of jobs that have not ended."""
        with self._engine.begin() as connection:
            open_ids = _lock_open(connection, job_ids)
            connection.execute(update(jobs).where(jobs.c.job_id.in_(open_ids)).values(priority=priority))
            connection.execute(
                update(files)
                .where(files.c.job_id.in_(open_ids), files.c.file_state.in_((FileState.SUBMITTED, FileState.NOT_USED)))
                .values(priority=priority)
            )
            notify(connection, WORK)

    def attempts(self, job_id: str) -> dict[int, list[Row]]:
        """What was tried, by file id, in order."""
        query = (
            select(attempts)
            .join(files, files.c.file_id == attempts.c.file_id)
            .where(files.c.job_id == job_id)
            .order_by(attempts.c.file_id, attempts.c.attempt)
        )
        found: dict[int, list[Row]] = {}
        with self._reading.connect() as connection:
            for row in connection.execute(query).mappings():
                found.setdefault(row["file_id"], []).append(dict(row))
        return found

    def unreachable(self) -> dict[str, Row]:
        """Storage elements that could not be reached, by host."""
        with self._reading.connect() as connection:
            return {row["host"]: dict(row) for row in connection.execute(select(endpoints)).mappings()}

    def gauges(self) -> list[Row]:
        """Files by link and state that wait, run, or left something to be removed."""
        query = text("""
            SELECT source_host, dest_host, CASE WHEN file_state IN ('SUBMITTED', 'ACTIVE') THEN file_state
                   ELSE 'UNCLEAN' END AS file_state, count(*) AS count
            FROM files WHERE file_state IN ('SUBMITTED', 'ACTIVE') OR busy GROUP BY 1, 2, 3""")
        with self._reading.connect() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def ping(self) -> None:
        """Ask the database for a sign of life.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: it gives none.
        """
        with self._reading.connect() as connection:
            connection.execute(text("SELECT 1"))


def purge_tokens(connection: Connection, job_ids: Collection[str]) -> None:
    """Delete the tokens of jobs that have ended and whose destinations need no more care."""
    connection.execute(
        text("""
            DELETE FROM tokens t USING jobs j
            WHERE t.job_id = j.job_id AND j.job_id = ANY(CAST(:job_ids AS uuid[])) AND j.job_finished IS NOT NULL
              AND NOT EXISTS (SELECT 1 FROM files f WHERE f.job_id = j.job_id AND f.busy)"""),
        {"job_ids": list(job_ids)},
    )


def _lock_open(connection: Connection, job_ids: Collection[str]) -> list[str]:
    query = (
        select(jobs.c.job_id)
        .where(jobs.c.job_id.in_([job_id for job_id in job_ids if _is_uuid(job_id)]))
        .where(jobs.c.job_state.not_in(JOB_TERMINAL))
        .order_by(jobs.c.job_id)
        .with_for_update()
    )
    return list(connection.scalars(query))


def _job_row(job_id: str, submission: Submission, caller: Caller) -> dict[str, Any]:
    sources = {urls.storage_element(place.surl) for each in submission.transfers for place in each.sources}
    destinations = {urls.storage_element(each.destination.surl) for each in submission.transfers}
    expires = None if submission.queue_s is None else func.now() + timedelta(seconds=submission.queue_s)
    return {
        "job_id": job_id,
        "owner": caller.subject,
        "client_id": caller.client_id,
        "vo_name": caller.vo,
        "job_state": JobState.SUBMITTED,
        "job_type": submission.job_type,
        "priority": submission.priority,
        "overwrite_flag": submission.overwrite,
        "verify_checksum": submission.verify,
        "attempts": submission.attempts,
        # FTS3 leaves these empty when the files of a job have several.
        "source_se": sources.pop() if len(sources) == 1 else "",
        "dest_se": destinations.pop() if len(destinations) == 1 else "",
        "job_metadata": submission.metadata,
        "params": dict(submission.params),
        "expires_at": expires,
        "elements": len(submission.transfers),
    }


def _file_rows(job_id: str, index: int, transfer: Transfer, priority: int, known: _TokenIds) -> list[dict[str, Any]]:
    def token(side: Side, place: Place) -> int | None:
        return known.get((side, urls.host_of(place.url), place.token))

    return [
        {
            "job_id": job_id,
            "file_index": index,
            "file_state": FileState.NOT_USED if number else FileState.SUBMITTED,
            "source_surl": source.surl,
            "dest_surl": transfer.destination.surl,
            "source_url": source.url,
            "dest_url": transfer.destination.url,
            "source_host": urls.host_of(source.url),
            "dest_host": urls.host_of(transfer.destination.url),
            "source_token": token(Side.SOURCE, source),
            "dest_token": token(Side.DESTINATION, transfer.destination),
            "checksum": transfer.checksum,
            "user_filesize": transfer.size_bytes,
            "file_metadata": transfer.metadata,
            "activity": transfer.activity,
            "selection_strategy": transfer.strategy,
            "priority": priority,
        }
        for number, source in enumerate(transfer.sources)
    ]


def _is_uuid(value: str) -> bool:
    try:
        return str(uuid.UUID(value)) == value.lower()
    except ValueError:
        return False
