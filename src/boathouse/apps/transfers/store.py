"""The API's side of the database: submit, ask, cancel, change priority. Each call is one transaction."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, func, select, text, update
from sqlalchemy.exc import IntegrityError

from boathouse.apps.transfers import admission, database, intake
from boathouse.apps.transfers.events import CANCEL, JOBS, WORK, notify
from boathouse.apps.transfers.intake import Who
from boathouse.apps.transfers.seal import Seal
from boathouse.apps.transfers.settings import Limits
from boathouse.apps.transfers.states import JOB_TERMINAL, FileState, JobState
from boathouse.apps.transfers.submission import Submission, deterministic_id
from boathouse.apps.transfers.tables import attempts, endpoints, files, jobs
from boathouse.errors import ConflictError

_MOST_UNCLEAN = 500
CANCELED_BY_USER = "Job canceled by the user"

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
    groups: tuple[str, ...] = ()
    """``/vo/group``."""

    @property
    def sees(self) -> str | None:
        """The VO whose part of the whole the caller sees; None for all."""
        return None if self.operator else self.vo

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
        limits: how many files may wait.
        services: subjects of the facility's services, which have more room than people.
    """

    def __init__(
        self, engine: Engine, seal: Seal, base_id: uuid.UUID, limits: Limits, services: Collection[str] = ()
    ) -> None:
        self._engine = engine
        self._reading = database.reading(engine)
        self._seal = seal
        self._base_id = base_id
        self._limits = limits
        self._services = frozenset(services)

    def submit(self, submission: Submission, caller: Caller) -> str:
        """Store a job and wake the workers.

        Returns:
            The job's id.

        Raises:
            BannedError: the caller, or a storage element of it, is banned.
            ConflictError: a job of this deterministic id exists.
            FullError: too many files wait already, of all or of the caller.
        """
        made = (
            deterministic_id(self._base_id, caller.vo, submission.sid) if submission.sid is not None else uuid.uuid4()
        )
        job_id = str(made)
        who = Who(caller.subject, caller.client_id, caller.vo, service=caller.subject in self._services)
        try:
            with self._engine.begin() as connection:
                admission.require_welcome(connection, submission, owner=caller.subject, vo=caller.vo)
                intake.require_room(connection, submission, who, self._limits)
                intake.store(connection, self._seal, job_id, submission, who)
                notify(connection, WORK)
        except IntegrityError as error:
            if submission.sid is None:
                raise
            raise ConflictError("a job of this id was submitted already", got=job_id) from error
        return job_id

    def jobs(self, job_ids: Collection[str]) -> dict[str, Row]:
        """Jobs by id; ids that are not known are left out."""
        good = [job_id for job_id in job_ids if _is_uuid(job_id)]
        with self._reading.connect() as connection:
            rows = connection.execute(select(jobs).where(jobs.c.job_id.in_(good))).mappings()
            return {row["job_id"]: dict(row) for row in rows}

    def files(self, job_ids: Collection[str], columns: Collection[str] | None = None) -> dict[str, list[Row]]:
        """Files by job id, in the order of submission, with their alternative sources.

        Args:
            job_ids: the jobs; one that is not known has no files.
            columns: those of ``files`` and the job's ``vo_name`` that are wanted; all if not given. Most of the time
                of a long answer goes into columns that nobody asked for.
        """
        found: dict[str, list[Row]] = {job_id: [] for job_id in job_ids}
        known = [*files.c, jobs.c.vo_name]
        wanted = [column for column in known if columns is None or column.name in columns or column is files.c.job_id]
        names = [column.name for column in wanted]
        at = names.index("job_id")
        query = select(*wanted).join_from(files, jobs).where(files.c.job_id.in_(found)).order_by(files.c.file_id)
        with self._reading.connect() as connection:
            for row in connection.execute(query).all():
                found[row[at]].append(dict(zip(names, row, strict=True)))
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
            if JOB_TERMINAL.isdisjoint(wanted.states):
                # The index of open jobs does: those that ended in a week may be many.
                conditions.append(jobs.c.job_finished.is_(None))
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

    def unclean(self, caller: Caller) -> list[Row]:
        """Files that have ended and whose destination may hold something partial, the longest first.

        Those of jobs that the caller may see.
        """
        query = select(files, jobs.c.vo_name).join(jobs, jobs.c.job_id == files.c.job_id)
        query = query.where(files.c.busy, files.c.file_state.not_in((FileState.ACTIVE, FileState.SUBMITTED)))
        if not caller.operator:
            query = query.where(files.c.owner == caller.subject)
        with self._reading.connect() as connection:
            rows = connection.execute(query.order_by(files.c.finish_time, files.c.file_id).limit(_MOST_UNCLEAN))
            return [dict(row) for row in rows.mappings()]

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
              AND NOT EXISTS (SELECT 1 FROM files f WHERE f.job_id = j.job_id AND (f.busy OR f.transient))"""),
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


def _is_uuid(value: str) -> bool:
    try:
        return str(uuid.UUID(value)) == value.lower()
    except ValueError:
        return False
