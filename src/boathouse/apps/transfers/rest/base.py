"""What all handlers have: who calls, the body, answers in FTS3's form."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import Any, ParamSpec, TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from boathouse.apps.transfers import views
from boathouse.apps.transfers.archive import Archive
from boathouse.apps.transfers.auth import Gate
from boathouse.apps.transfers.configuration import Configuration
from boathouse.apps.transfers.events import Changes
from boathouse.apps.transfers.metrics import Metrics
from boathouse.apps.transfers.openings import Openings
from boathouse.apps.transfers.overview import Overview
from boathouse.apps.transfers.reach import Reach
from boathouse.apps.transfers.settings import Settings
from boathouse.apps.transfers.steering import Steering
from boathouse.apps.transfers.store import Caller, Row, Store
from boathouse.apps.transfers.worker import Worker
from boathouse.errors import InputError

_WINDOW_H = 87_600
_MOST_IDS = 1000
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_P = ParamSpec("_P")
_T = TypeVar("_T")


@dataclass(frozen=True)
class Services:
    """What the handlers work with."""

    gate: Gate
    """Who may call."""
    store: Store
    """Jobs and files."""
    steering: Steering
    """What the operator decided."""
    configuration: Configuration
    """Limits and shares."""
    archive: Archive
    """Jobs that have ended."""
    worker: Worker
    """This process's worker."""
    changes: Changes
    """Who waits for jobs."""
    metrics: Metrics
    """This process's counters."""
    overview: Overview
    """The queue and the links."""
    openings: Openings
    """What may be done with stores."""
    reach: Reach
    """Where files may be copied from."""
    settings: Settings
    """Limits, and the doors of storage elements."""
    base_id: uuid.UUID
    """Root of deterministic job ids."""


class Handlers:
    """A group of handlers.

    Args:
        services: what they work with.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._store = services.store
        self._steering = services.steering

    async def _caller(self, request: Request) -> Caller:
        """Who calls.

        Raises:
            AuthError: nobody whose token is good (401, 403).
            HTTPException: somebody who is banned (403).
        """
        return await thread(self._known, request.headers.get("authorization"))

    def _known(self, authorization: str | None) -> Caller:
        caller = self._services.gate.caller(authorization)
        if caller.subject in self._steering.decisions().people:
            raise HTTPException(HTTPStatus.FORBIDDEN, "The user has been banned")
        return caller

    async def _operator(self, request: Request) -> Caller:
        """The caller, if it is an operator."""
        caller = await self._caller(request)
        if not caller.operator:
            raise HTTPException(HTTPStatus.FORBIDDEN, "Only an operator may do this")
        return caller

    async def _jobs(self, job_ids: list[str], caller: Caller) -> list[views.Json]:
        """The jobs in the order asked for, each with its own status."""
        rows = await thread(self._store.jobs, job_ids)
        answers: list[views.Json] = []
        for job_id in job_ids:
            row = rows.get(job_id)
            if row is None:
                answers.append(_refusal(job_id, "404 Not Found", f'No job with the id "{job_id}" has been found'))
            elif not caller.may_use(row):
                answers.append(_refusal(job_id, "403 Forbidden", f'Not enough permissions to check the job "{job_id}"'))
            else:
                answers.append({**views.job(row), "http_status": "200 Ok", "http_message": None})
        return answers

    async def _one(self, request: Request) -> views.Json:
        """The job of the path, for the caller."""
        caller = await self._caller(request)
        job = (await self._jobs([request.path_params["id"]], caller))[0]
        if job["http_status"] != "200 Ok":
            raise HTTPException(int(job["http_status"][:3]), job["http_message"])
        return job

    async def _files(
        self, job_ids: list[str], fields: Collection[str] = views.FILE_FIELDS
    ) -> dict[str, list[views.Json]]:
        """The files of jobs, as FTS3 shows them, or some fields of them."""
        return await thread(self._shown, job_ids, fields)

    def _shown(self, job_ids: list[str], fields: Collection[str]) -> dict[str, list[views.Json]]:
        policy = self._steering.decisions().policy

        def held(row: Row) -> bool:
            return bool(policy.bans) and bool(policy.ban(row["source_host"], row["dest_host"], row["vo_name"]))

        found = self._store.files(job_ids, views.file_columns(fields))
        return {job_id: [views.file(row, held=held(row), fields=fields) for row in found[job_id]] for job_id in job_ids}

    async def _body(self, request: Request) -> Any:
        """The body's JSON, read no further than the limit."""
        limit = self._services.settings.limits.body_bytes
        parts, size = [], 0
        async for part in request.stream():
            size += len(part)
            if size > limit:
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {limit} bytes")
            parts.append(part)
        # A large one takes a while, and copies go on meanwhile.
        return await thread(_json, b"".join(parts))

    async def _input(self, request: Request) -> Mapping[str, Any]:
        """An object: of the query, of a form, or of a JSON body."""
        kind = request.headers.get("content-type", "")
        if request.method in ("GET", "DELETE"):
            return dict(request.query_params)
        if kind.startswith("application/x-www-form-urlencoded"):
            return {name: value for name, value in (await request.form()).items() if isinstance(value, str)}
        document = await self._body(request)
        if not isinstance(document, dict):
            raise InputError("the body must be a JSON object")
        return document


async def thread(call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Make a call that waits for the database or the network without stopping the others."""
    return await run_in_threadpool(call, *args, **kwargs)


def _json(raw: bytes) -> Any:
    """A document that PostgreSQL takes as well: no NUL, no half of a surrogate pair, no NaN.

    Raises:
        InputError: it is not one.
    """

    def refuse(name: str) -> None:
        msg = f"{name} is not JSON"
        raise ValueError(msg)

    try:
        document = json.loads(raw, parse_constant=refuse)
        if b"\\u" in raw and _NUL.search(json.dumps(document, ensure_ascii=False).encode()):
            refuse("a NUL in a text")
    except (ValueError, RecursionError) as error:
        raise InputError("the body is not JSON", got=str(error)) from error
    return document


def _refusal(job_id: str, status: str, message: str) -> views.Json:
    return {"job_id": job_id, "http_status": status, "http_message": message}


def multi_status(answers: list[views.Json], *, several: bool, headers: dict[str, str] | None = None) -> Response:
    """FTS3's rule: one job is an object with its own status; several are a list, with 207 if one of them failed."""
    if not several:
        status = answers[0]["http_status"]
        return JSONResponse(answers[0], int(status[:3]) if status[0] in "45" else 200, headers)
    failed = any(not job["http_status"].startswith("2") for job in answers)
    return JSONResponse(answers, HTTPStatus.MULTI_STATUS if failed else HTTPStatus.OK, headers)


def ids(request: Request) -> list[str]:
    """The job ids of a path."""
    job_ids = [job_id for job_id in request.path_params["ids"].split(",") if job_id]
    if not 0 < len(job_ids) <= _MOST_IDS:
        raise HTTPException(HTTPStatus.BAD_REQUEST, f"From one to {_MOST_IDS} job ids")
    return job_ids


def subset(document: views.Json, fields: str) -> views.Json:
    """Some fields of a document; those that it has not are left out."""
    return {name: document[name] for name in fields.split(",") if name in document}


def delegation_id(caller: Caller) -> str:
    """What FTS3's clients know a caller's credential by."""
    return hashlib.sha256(caller.subject.encode()).hexdigest()[:16]


def number(text: str | None, otherwise: int, name: str) -> int:
    """A whole number of a query."""
    if text is None:
        return otherwise
    if not (text.isascii() and text.isdigit()):
        raise HTTPException(HTTPStatus.BAD_REQUEST, f"{name} must be a whole number")
    return int(text)


def window(text: str | None) -> timedelta | None:
    """FTS3's ``time_window``: hours, or hours:minutes."""
    if text is None:
        return None
    hours, _, minutes = text.partition(":")
    if number(hours, 0, "time_window") > _WINDOW_H or number(minutes or "0", 0, "time_window") > 60 * _WINDOW_H:
        raise HTTPException(HTTPStatus.BAD_REQUEST, f"time_window must be at most {_WINDOW_H} hours")
    return timedelta(hours=number(hours, 0, "time_window"), minutes=number(minutes or "0", 0, "time_window"))
