"""What the transfer service says of submitted files, written down: what was copied in one statement a job."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby, islice
from typing import Any

from rucio.common.constants import FTS_STATE
from rucio.common.exception import TransferToolWrongAnswer
from rucio.core import transfer as transfer_core
from rucio.core.request import TransferStatsManager
from rucio.db.sqla import models
from rucio.db.sqla.constants import DatabaseOperationType, RequestState
from rucio.db.sqla.session import db_session
from rucio.db.sqla.types import GUID
from sqlalchemy import DateTime, Executable, String, column, func, select, update, values

from boathouse_rucio_site.submission import feeds_a_broker
from boathouse_rucio_site.transfertool import BoathouseTransfertool

JOBS = 100
"""Jobs asked for in one request."""

_log = logging.getLogger(__name__)
Request = Mapping[str, Any]


def poll(requests: Sequence[Request], stats: TransferStatsManager, timeout_s: float) -> None:
    """Ask for the jobs of these requests, and move those that have ended.

    Raises:
        TokenError: there is no token for the transfer service.
        TransferToolWrongAnswer: a transfer service does not answer; the others have been asked.
    """
    trouble: TransferToolWrongAnswer | None = None
    ordered = sorted(requests, key=lambda request: (request["external_host"], request["external_id"]))
    for host, of_host in groupby(ordered, key=lambda request: str(request["external_host"])):
        by_job = {
            str(job_id): {request["request_id"]: request for request in of_job}
            for job_id, of_job in groupby(of_host, key=lambda request: request["external_id"])
        }
        try:
            tool = BoathouseTransfertool(host)
            for chunk in _chunks(by_job, JOBS):
                _settle(tool.bulk_query(chunk, timeout=timeout_s), chunk, stats)
        except TransferToolWrongAnswer as error:
            trouble = error
    if trouble is not None:
        raise trouble


def _chunks(items: Mapping[str, Any], size: int) -> Iterable[dict[str, Any]]:
    iterator = iter(items.items())
    while chunk := dict(islice(iterator, size)):
        yield chunk


def _settle(reports: Mapping[str, Any], jobs: Mapping[str, Mapping[str, Request]], stats: TransferStatsManager) -> None:
    lost: list[Request] = []
    others: list[Any] = []
    copied: list[tuple[Request, Mapping[str, Any]]] = []
    in_bulk = not feeds_a_broker()
    for job_id, report in reports.items():
        if report is None:
            _log.warning("the transfer service does not know job %s", job_id)
            lost += jobs[job_id].values()
        elif isinstance(report, Exception):
            _log.warning("%s", report)
        else:
            for request_id, ended in report.items():
                if in_bulk and ended.file_response["file_state"] == FTS_STATE.FINISHED:
                    copied.append((jobs[job_id][request_id], ended.file_response))
                else:
                    others.append(ended)
    if copied:
        _move_to_done(copied, stats)
    for request in lost:
        transfer_core.mark_transfer_lost(request)
    for ended in others:
        transfer_core.update_transfer_state(ended, stats)


def _move_to_done(copied: Sequence[tuple[Request, Mapping[str, Any]]], stats: TransferStatsManager) -> None:
    """One statement for all."""
    with db_session(DatabaseOperationType.WRITE) as session:
        moved = session.execute(_done(copied)).all()
    known = {request["request_id"]: request for request, _ in copied}
    for request_id, source_rse_id, started_at, transferred_at in moved:
        request = known[request_id]
        stats.observe(
            src_rse_id=source_rse_id,
            dst_rse_id=request["dest_rse_id"],
            activity=request["activity"],
            state=RequestState.DONE,
            file_size=request["bytes"],
            submitted_at=request["submitted_at"],
            started_at=started_at,
            transferred_at=transferred_at,
        )
    _log.info("%d files were copied", len(moved))


def _done(copied: Sequence[tuple[Request, Mapping[str, Any]]]) -> Executable:
    """The statement; of several sources, the one that was used is found by its URL."""
    wanted = values(
        column("id", GUID()),
        column("external_id", String(64)),
        column("source_url", String(2048)),
        column("first_source", GUID()),
        column("started_at", DateTime()),
        column("transferred_at", DateTime()),
        name="wanted",
    ).data(
        [
            (
                request["request_id"],
                request["external_id"],
                file["source_surl"],
                file["file_metadata"]["src_rse_id"],
                _time(file["start_time"]),
                _time(file["finish_time"]),
            )
            for request, file in copied
        ]
    )
    row, source = models.Request, models.Source
    used = (
        select(source.rse_id)
        .where(source.request_id == wanted.c.id, source.url == wanted.c.source_url)
        .limit(1)
        .scalar_subquery()
    )
    return (
        update(row)
        .where(row.id == wanted.c.id, row.external_id == wanted.c.external_id, row.state == RequestState.SUBMITTED)
        .values(
            state=RequestState.DONE,
            source_rse_id=func.coalesce(used, wanted.c.first_source, type_=GUID()),
            started_at=wanted.c.started_at,
            transferred_at=wanted.c.transferred_at,
            updated_at=dt.datetime.now(dt.UTC).replace(tzinfo=None),
        )
        .returning(row.id, row.source_rse_id, row.started_at, row.transferred_at)
        .execution_options(synchronize_session=False)
    )


def _time(text: str | None) -> dt.datetime | None:
    """A time as FTS3 writes it: UTC, no zone."""
    return None if text is None else dt.datetime.fromisoformat(text)
