"""Handing a group of files to the transfer service in two transactions instead of two for each file."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable, Sequence
from typing import Any

from rucio.common.config import config_get_list
from rucio.common.exception import DuplicateFileTransferSubmission, TransferToolTimeout, TransferToolWrongAnswer
from rucio.core.transfer import cancel_transfer
from rucio.daemons.conveyor import common
from rucio.db.sqla import models
from rucio.db.sqla.constants import DatabaseOperationType, RequestState
from rucio.db.sqla.session import db_session
from rucio.db.sqla.types import GUID
from sqlalchemy import String, column, update, values

from boathouse_rucio_site.transfertool import JobRefusedError

Logger = Callable[..., None]
_stock_submit_transfer = common.submit_transfer


def submit_transfer(
    transfertool_obj: Any,
    transfers: Sequence[Any],
    job_params: dict[str, str],
    timeout: float | None = None,
    logger: Logger = logging.log,
) -> None:
    """Replaces ``rucio.daemons.conveyor.common.submit_transfer``.

    The order is Rucio's: mark the requests, submit, note the job or the failure. A request that has gone meanwhile is
    left out, where Rucio would leave the whole group marked. If a message broker is fed, Rucio's own way is taken,
    which writes a message for every file.
    """
    if feeds_a_broker():
        _stock_submit_transfer(transfertool_obj, transfers, job_params, timeout=timeout, logger=logger)
        return
    marked = _mark(transfers, transfertool_obj.external_host)
    for transfer in transfers:
        if transfer not in marked:
            logger(logging.WARNING, "%s is no longer queued, and is not submitted", transfer.rws)
    if not marked:
        return
    try:
        _submit(transfertool_obj, marked, job_params, timeout, logger)
    except (DuplicateFileTransferSubmission, JobRefusedError) as error:
        # The files may be of different people: a bad one is not to keep the others.
        logger(logging.WARNING, "the job of %d files was refused, submitting one by one: %s", len(marked), error)
        for transfer in marked:
            _submit(transfertool_obj, [transfer], job_params, timeout, logger)


def feeds_a_broker() -> bool:
    """Whether Rucio writes a message of every event, for which each file must be handled by itself."""
    services = config_get_list("hermes", "services_list", raise_exception=False, default="activemq,email")
    return set(services) != {"email"}


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC).replace(tzinfo=None)


def _mark(transfers: Sequence[Any], host: str) -> list[Any]:
    """Move requests from QUEUED to SUBMITTING; those that were moved."""
    wanted = values(column("id", GUID()), column("dest_url", String(2048)), name="wanted").data(
        [(transfer.rws.request_id, transfer.dest_url) for transfer in transfers]
    )
    request = models.Request
    statement = (
        update(request)
        .where(request.id == wanted.c.id, request.state == RequestState.QUEUED)
        .values(
            state=RequestState.SUBMITTING,
            external_id=None,
            external_host=host,
            dest_url=wanted.c.dest_url,
            submitted_at=_now(),
        )
        .returning(request.id)
        .execution_options(synchronize_session=False)
    )
    with db_session(DatabaseOperationType.WRITE) as session:
        moved = set(session.execute(statement).scalars())
    return [transfer for transfer in transfers if transfer.rws.request_id in moved]


def _submit(
    tool: Any, transfers: Sequence[Any], job_params: dict[str, str], timeout: float | None, logger: Logger
) -> None:
    job_id: str | None = None
    try:
        job_id = tool.submit(transfers, job_params, timeout)
    except DuplicateFileTransferSubmission:
        if len(transfers) > 1:
            raise
        logger(logging.WARNING, "%s is being transferred already", transfers[0].rws)
    except (TransferToolTimeout, TransferToolWrongAnswer) as error:
        if isinstance(error, JobRefusedError) and len(transfers) > 1:
            raise
        logger(logging.ERROR, "the job of %d files was not taken: %s", len(transfers), error)
    lost = _settle(tool, transfers, job_id)
    if job_id is not None:
        logger(logging.INFO, "job %s of %d files submitted to %s", job_id, len(transfers), tool.external_host)
        if lost == len(transfers):
            # All were cancelled while the job was on its way.
            cancel_transfer(tool, job_id)


def _settle(tool: Any, transfers: Sequence[Any], job_id: str | None) -> int:
    """Move requests from SUBMITTING to SUBMITTED, or to SUBMISSION_FAILED if there is no job; how many had gone."""
    wanted = values(column("id", GUID()), column("source_rse_id", GUID()), name="wanted").data(
        [(transfer.rws.request_id, transfer.src.rse.id) for transfer in transfers]
    )
    request = models.Request
    statement = (
        update(request)
        .where(request.id == wanted.c.id, request.state == RequestState.SUBMITTING)
        .values(
            state=RequestState.SUBMISSION_FAILED if job_id is None else RequestState.SUBMITTED,
            external_id=job_id,
            external_host=tool.external_host,
            source_rse_id=wanted.c.source_rse_id,
            submitted_at=_now(),
            transfertool=tool.external_name,
        )
        .returning(request.id)
        .execution_options(synchronize_session=False)
    )
    with db_session(DatabaseOperationType.WRITE) as session:
        return len(transfers) - len(session.execute(statement).scalars().all())
