"""What became of claimed files, written back: many outcomes in one transaction, since a commit costs a disk write."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, RowMapping, func, select, text
from sqlalchemy.dialects.postgresql import insert as upsert

from boathouse.apps.transfers.events import JOBS, WORK, notify
from boathouse.apps.transfers.failures import ErrorClass
from boathouse.apps.transfers.settings import Limits
from boathouse.apps.transfers.states import JOB_TERMINAL, FileState, JobState, JobType, job_state
from boathouse.apps.transfers.store import purge_tokens
from boathouse.apps.transfers.tables import endpoints, jobs
from boathouse.apps.transfers.work import Outcome, Task

_MIB = 1024 * 1024
_COUNTED = tuple(
    jobs.c[name]
    for name in ("job_id", "job_type", "job_state", "job_finished", "elements", "finished", "failed", "canceled")
)
"""What is asked of a job: a row of all its columns takes longer to open than to read."""
_RECORD = """
    jsonb_to_recordset(CAST(:rows AS jsonb)) AS r(file_id bigint, attempt int, state text, reason text,
      error_class text, size bigint, seconds float, throughput float, delay float, spend int, clean_in float,
      wrote bool, dest_file jsonb, started timestamptz, ended timestamptz, outcome text, steps jsonb)"""
# A round trip costs as much as what it asks for: files, attempts and the storage that answered are one statement.
_SETTLE = text(
    f"""
    WITH r AS (SELECT * FROM {_RECORD}),
    well AS (DELETE FROM endpoints WHERE host = ANY(:well)),
    settled AS (
    UPDATE files f SET file_state = r.state, reason = r.reason, error_class = r.error_class,
      filesize = CASE WHEN r.state = 'FINISHED' THEN r.size ELSE f.filesize END,
      transferred = CASE WHEN r.state = 'FINISHED' THEN r.size ELSE f.transferred END,
      tx_duration = r.seconds, throughput = r.throughput,
      finish_time = CASE WHEN r.state <> 'SUBMITTED' THEN now() END,
      not_before = now() + make_interval(secs => r.delay), spent = f.spent + r.spend, worker = NULL,
      busy = r.clean_in IS NOT NULL, clean_at = now() + make_interval(secs => r.clean_in),
      clean_until = now() + make_interval(secs => :clean_s), wrote = f.wrote OR r.wrote,
      transient = f.transient AND (f.wrote OR r.wrote OR r.state = 'SUBMITTED'),
      file_metadata = CASE WHEN r.dest_file IS NOT NULL AND jsonb_typeof(f.file_metadata) = 'object'
        THEN f.file_metadata || jsonb_build_object('dst_file', r.dest_file) ELSE f.file_metadata END
    FROM r WHERE f.file_id = r.file_id AND f.attempt = r.attempt AND f.worker = :worker
      AND f.file_state = 'ACTIVE'
    RETURNING f.file_id, f.attempt, f.job_id, f.file_index, f.file_state),
    tried AS (
    INSERT INTO attempts (file_id, attempt, started, ended, outcome, error_class, reason, steps)
      SELECT r.file_id, r.attempt, r.started, r.ended, r.outcome, r.error_class, r.reason, r.steps
      FROM r JOIN settled USING (file_id, attempt))
    SELECT file_id, job_id, file_index, file_state FROM settled"""  # noqa: S608 - made of constants
)
# Files that were canceled while they were copied keep their state; what the copy left is looked after.
_RELEASE = text(
    f"""
    UPDATE files f SET worker = NULL, busy = r.clean_in IS NOT NULL, wrote = f.wrote OR r.wrote,
      clean_at = now() + make_interval(secs => r.clean_in), clean_until = now() + make_interval(secs => :clean_s)
    FROM {_RECORD} WHERE f.file_id = r.file_id AND f.attempt = r.attempt AND f.worker = :worker
      AND f.file_state <> 'ACTIVE'
    RETURNING f.job_id"""  # noqa: S608 - made of constants
)
_COUNT = text("""
    UPDATE jobs j SET finished = r.finished, failed = r.failed, canceled = r.canceled, job_state = r.state,
      revision = j.revision + 1, job_finished = CASE WHEN r.ended THEN now() ELSE j.job_finished END,
      reason = coalesce(r.reason, j.reason)
    FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r(job_id uuid, finished int, failed int, canceled int,
      state text, ended bool, reason text)
    WHERE j.job_id = r.job_id""")
_FAIL_OVER = text("""
    UPDATE files SET file_state = 'SUBMITTED', not_before = now() WHERE file_id IN (
      SELECT DISTINCT ON (n.job_id, n.file_index) n.file_id FROM files n
      JOIN files f ON f.job_id = n.job_id AND f.file_index = n.file_index
      JOIN jobs j ON j.job_id = n.job_id AND j.job_finished IS NULL
      WHERE f.file_id = ANY(:failed) AND n.file_state = 'NOT_USED' ORDER BY n.job_id, n.file_index, n.file_id)
    RETURNING job_id, file_index""")
# The hop after one that has finished; what lies where that one ended is there for it.
_NEXT_HOP = text("""
    UPDATE files n SET file_state = 'SUBMITTED', not_before = now() FROM files f JOIN jobs j USING (job_id)
    WHERE f.file_id = ANY(:finished) AND j.job_type = 'H' AND j.job_finished IS NULL
      AND n.job_id = f.job_id AND n.file_index = f.file_index + 1 AND n.file_state = 'NOT_USED'""")
_CLEANED = text("""
    UPDATE files f SET transient = f.transient AND NOT (r.done OR f.clean_until < now()),
      busy = NOT (r.done OR f.clean_until < now()), worker = NULL,
      clean_at = CASE WHEN r.done OR f.clean_until < now() THEN NULL ELSE now() + make_interval(secs => r.again) END,
      reason = CASE WHEN r.done OR f.clean_until >= now() THEN f.reason
        ELSE concat_ws('; ', f.reason, 'a partial file may remain at the destination: ' || r.why) END
    FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r(file_id bigint, attempt int, done bool, again float, why text)
    WHERE f.file_id = r.file_id AND f.attempt = r.attempt AND f.worker = :worker RETURNING f.job_id""")


class Settlement:
    """Writes outcomes for one worker.

    Args:
        limits: the limits.
        worker: its number.
    """

    def __init__(self, limits: Limits, worker: int) -> None:
        self._limits = limits
        self._worker = worker

    def settle(self, connection: Connection, outcomes: Sequence[Outcome], *, call_others: bool) -> None:
        """Write outcomes, and what follows from them for jobs, other sources, storage elements and tokens.

        An outcome of an attempt that is no longer ours changes nothing.

        Args:
            connection: in a transaction.
            outcomes: what became of files.
            call_others: whether other workers are to look for work: the one that settles may have no room for it.
        """
        copies = [each for each in outcomes if each.work.task is not Task.clean]
        cleaned = [each for each in outcomes if each.work.task is Task.clean]
        job_ids = sorted({each.work.job_id for each in outcomes})
        locked = {
            row["job_id"]: row
            for row in connection.execute(
                select(*_COUNTED).where(jobs.c.job_id.in_(job_ids)).order_by(jobs.c.job_id).with_for_update()
            ).mappings()
        }
        if cleaned:
            self._clean(connection, cleaned)
        ended = {job_id for job_id, row in locked.items() if row["job_finished"] is not None}
        if copies:
            ended |= self._copies(connection, copies, locked)
        if ended:
            purge_tokens(connection, sorted(ended))
        notify(connection, JOBS, job_ids)
        if call_others:
            notify(connection, WORK)

    def _clean(self, connection: Connection, outcomes: Sequence[Outcome]) -> None:
        rows = [
            {
                "file_id": each.work.file_id,
                "attempt": each.work.attempt,
                "done": each.state is FileState.FINISHED,
                "again": each.clean_in_s or 0,
                "why": each.failure.reason if each.failure else "",
            }
            for each in outcomes
        ]
        connection.execute(_CLEANED, {"rows": json.dumps(rows), "worker": self._worker})
        well, ill = _health(outcomes)
        if well:
            connection.execute(endpoints.delete().where(endpoints.c.host.in_(sorted(well))))
        self._pause(connection, ill)

    def _copies(self, connection: Connection, outcomes: Sequence[Outcome], locked: dict[str, RowMapping]) -> set[str]:
        """Write what became of copies. Returns the jobs that have ended thereby."""
        well, ill = _health(outcomes)
        parameters = {
            "rows": json.dumps([_row(each) for each in outcomes]),
            "worker": self._worker,
            "clean_s": self._limits.clean_s,
        }
        settled = connection.execute(_SETTLE, {**parameters, "well": sorted(well)}).mappings().all()
        mine = {row["file_id"] for row in settled}
        if len(mine) < len(outcomes):
            connection.execute(_RELEASE, parameters)
        self._pause(connection, ill)
        over = [each.work.file_id for each in outcomes if each.failover and each.work.file_id in mine]
        promoted = set()
        if over:
            promoted = {(str(row[0]), row[1]) for row in connection.execute(_FAIL_OVER, {"failed": over})}
        counted: dict[str, Counter[FileState]] = {}
        hops: list[int] = []
        for row in settled:
            job_id, state = str(row["job_id"]), FileState(row["file_state"])
            if state is FileState.FINISHED and locked[job_id]["job_type"] == JobType.H:
                hops.append(row["file_id"])
            counts = counted.setdefault(job_id, Counter())
            if state is not FileState.SUBMITTED and (job_id, row["file_index"]) not in promoted:
                counts[state] += 1
        if hops:
            connection.execute(_NEXT_HOP, {"finished": hops})
        changes = [_job_change(locked[job_id], counts) for job_id, counts in sorted(counted.items())]
        if changes:
            connection.execute(_COUNT, {"rows": json.dumps(changes)})
        return {change["job_id"] for change in changes if change["ended"]}

    def _pause(self, connection: Connection, ill: dict[str, str]) -> None:
        """Pause storage elements that could not be reached."""
        for host, reason in sorted(ill.items()):
            pause = func.least(self._limits.pause_s, func.power(2.0, func.least(endpoints.c.failures, 16)))
            connection.execute(
                upsert(endpoints)
                .values(host=host, reason=reason, paused_until=text("now() + interval '1 s'"))
                .on_conflict_do_update(
                    index_elements=[endpoints.c.host],
                    set_={
                        "failures": endpoints.c.failures + 1,
                        "reason": reason,
                        "paused_until": func.now() + func.make_interval(0, 0, 0, 0, 0, 0, pause),
                    },
                    # Copies that failed together are one failure.
                    where=endpoints.c.paused_until < func.now(),
                )
            )


def _health(outcomes: Sequence[Outcome]) -> tuple[set[str], dict[str, str]]:
    """Storage elements that answered, and those that could not be reached, with the reason."""
    well: set[str] = set()
    ill: dict[str, str] = {}
    for each in outcomes:
        if each.failure is not None and each.failure.kind is ErrorClass.network and each.failure.host:
            ill[each.failure.host] = each.failure.public
        elif each.state is FileState.FINISHED:
            # The source of a file that was there already, or was only looked at, has not shown itself.
            well.add(each.work.dest_host)
            if not each.existed and each.work.task is Task.copy:
                well.add(each.work.source_host)
    return well - ill.keys(), ill


def _verdict(outcome: Outcome) -> str:
    """What an attempt came to, in one word."""
    if outcome.state is FileState.SUBMITTED:
        return "RETRY" if outcome.failure else "STOPPED"
    if outcome.state is FileState.FINISHED and outcome.existed:
        return "EXISTED"
    return outcome.state


def _row(outcome: Outcome) -> dict[str, object]:
    finished = outcome.state is FileState.FINISHED
    copied = finished and not outcome.existed and outcome.work.task is Task.copy
    rate = outcome.size_bytes / _MIB / outcome.seconds if copied and outcome.seconds else None
    return {
        "file_id": outcome.work.file_id,
        "attempt": outcome.work.attempt,
        "state": outcome.state,
        "reason": outcome.failure.reason if outcome.failure else None,
        "error_class": outcome.failure.kind if outcome.failure else None,
        "size": outcome.size_bytes,
        "seconds": outcome.seconds,
        "throughput": rate,
        "delay": outcome.delay_s,
        "spend": int(outcome.spend),
        "clean_in": outcome.clean_in_s,
        "wrote": outcome.wrote,
        "dest_file": outcome.dest_file,
        "started": outcome.started.isoformat(),
        "ended": (outcome.started + timedelta(seconds=outcome.seconds)).isoformat(),
        "outcome": _verdict(outcome),
        "steps": [step.as_dict() for step in outcome.steps],
    }


def _job_change(job: RowMapping, counts: Counter[FileState]) -> dict[str, Any]:
    """A job with more files ended."""
    finished = job["finished"] + counts[FileState.FINISHED]
    failed = job["failed"] + counts[FileState.FAILED]
    if failed and job["job_type"] == JobType.H:
        # Nothing comes after a hop that failed.
        failed = job["elements"] - finished - job["canceled"]
    canceled = job["canceled"] + counts[FileState.CANCELED]
    state = JobState(job["job_state"])
    if state not in JOB_TERMINAL:
        state = job_state(job["elements"], finished, failed, canceled, started=True)
        if failed and job["job_type"] == JobType.H:
            state = JobState.FAILED
    ended = state in JOB_TERMINAL and job["job_finished"] is None
    spoilt = ended and state in (JobState.FAILED, JobState.FINISHEDDIRTY)
    return {
        "job_id": job["job_id"],
        "finished": finished,
        "failed": failed,
        "canceled": canceled,
        "state": state,
        "ended": ended,
        "reason": "One or more files failed. Please have a look at the details for more information"
        if spoilt
        else None,
    }
