"""FTS3's REST surface, as Rucio's transfer tool and the ``fts3`` client call it, and what we add to it.

Added: ``GET /jobs/<ids>?wait=<seconds>`` answers when a job changes, ``GET /jobs/<id>/why`` tells the causal chain,
``/health`` and ``/metrics``. Tokens need no delegation, so ``/delegation`` only tells how long the caller's lives.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from http import HTTPStatus
from typing import Any, ParamSpec, TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from boathouse.apps.transfers import submission, views
from boathouse.apps.transfers.auth import Gate
from boathouse.apps.transfers.events import Changes
from boathouse.apps.transfers.metrics import CONTENT_TYPE, Metrics
from boathouse.apps.transfers.reach import Reach
from boathouse.apps.transfers.settings import Settings
from boathouse.apps.transfers.states import JOB_TERMINAL, JobState
from boathouse.apps.transfers.store import Caller, Filter, Store
from boathouse.apps.transfers.worker import Worker
from boathouse.errors import InputError, ServiceError

API = {"major": 3, "minor": 14, "patch": 0}
"""The version of FTS3's REST interface that clients are told."""
REVISION = "X-Boathouse-Revision"
_LARGEST_LIST = 500
_MOST_IDS = 1000
_LOOK_UP_S = 10.0
_LOOK_UP_THREADS = 4
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_P = ParamSpec("_P")
_T = TypeVar("_T")


class Api:
    """The handlers.

    Args:
        gate: who may call.
        store: jobs and files.
        worker: this process's worker.
        changes: who waits for jobs.
        metrics: this process's counters.
        reach: where files may be copied from.
        settings: limits, and the doors of storage elements.
        base_id: root of deterministic job ids.
    """

    def __init__(
        self,
        *,
        gate: Gate,
        store: Store,
        worker: Worker,
        changes: Changes,
        metrics: Metrics,
        reach: Reach,
        settings: Settings,
        base_id: uuid.UUID,
    ) -> None:
        self._gate = gate
        self._store = store
        self._worker = worker
        self._changes = changes
        self._metrics = metrics
        self._reach = reach
        self._look_ups = ThreadPoolExecutor(_LOOK_UP_THREADS, thread_name_prefix="look-up")
        self._doors = settings.doors
        self._limits = settings.limits
        self._base_id = base_id

    @property
    def routes(self) -> list[Route]:
        """All routes of the service."""
        return [
            Route("/", self.version, methods=["GET"]),
            Route("/health", self.health, methods=["GET"]),
            Route("/metrics", self.show_metrics, methods=["GET"]),
            Route("/whoami", self.whoami, methods=["GET"]),
            Route("/delegation/{id}", self.delegation, methods=["GET"]),
            Route("/delegation/{id}/{what}", self.no_delegation, methods=["GET", "PUT", "POST", "DELETE"]),
            Route("/jobs", self.submit, methods=["POST", "PUT"]),
            Route("/jobs", self.search, methods=["GET"]),
            Route("/jobs/{ids}", self.status, methods=["GET"]),
            Route("/jobs/{ids}", self.cancel, methods=["DELETE"]),
            Route("/jobs/{ids}", self.modify, methods=["POST"]),
            Route("/jobs/{id}/files", self.files, methods=["GET"]),
            Route("/jobs/{id}/dm", self.data_management, methods=["GET"]),
            Route("/jobs/{id}/why", self.why, methods=["GET"]),
            Route("/jobs/{id}/{field}", self.field, methods=["GET"]),
        ]

    async def _caller(self, request: Request) -> Caller:
        return await _thread(self._gate.caller, request.headers.get("authorization"))

    async def version(self, request: Request) -> Response:
        """Versions, as FTS3 tells them; asked by every client first."""
        await self._caller(request)
        return JSONResponse(
            {"api": API, "core": API, "schema": API, "delegation": {"major": 1, "minor": 0, "patch": 0}}
        )

    async def health(self, _: Request) -> Response:
        """Whether the service can work; needs no token and tells no more than that."""
        await _thread(self._store.ping)
        if not self._worker.hub.connected.is_set():
            raise ServiceError("the worker has no database connection")
        return JSONResponse({"status": "ok"})

    async def show_metrics(self, request: Request) -> Response:
        """Prometheus metrics; wants a token like everything else."""
        await self._caller(request)
        gauges = await _thread(self._store.gauges)
        unreachable = await _thread(self._store.unreachable)
        return PlainTextResponse(
            self._metrics.text(gauges, unreachable, self._worker.running), headers={"Content-Type": CONTENT_TYPE}
        )

    async def whoami(self, request: Request) -> Response:
        """The caller, as FTS3 describes one."""
        caller = await self._caller(request)
        return JSONResponse(
            {
                "user_dn": caller.subject,
                "dn": [caller.subject],
                "delegation_id": _delegation_id(caller),
                "vos": [caller.vo],
                "vos_id": [str(uuid.uuid5(self._base_id, caller.vo))],
                "base_id": str(self._base_id),
                "roles": [],
                "level": {"transfer": "all" if caller.operator else "private"},
                "voms_cred": [],
                "is_root": caller.operator,
                "method": "oauth2",
            }
        )

    async def delegation(self, request: Request) -> Response:
        """How long the caller's credential lives: there is nothing to delegate beside the token itself."""
        caller = await self._caller(request)
        if request.path_params["id"] != _delegation_id(caller):
            raise HTTPException(HTTPStatus.FORBIDDEN, "The requested ID and the credentials ID do not match")
        return JSONResponse({"termination_time": views.timestamp(caller.expires_at), "voms_attrs": []})

    async def no_delegation(self, request: Request) -> Response:
        """Proxies are not taken."""
        await self._caller(request)
        raise HTTPException(HTTPStatus.BAD_REQUEST, "This service works with tokens: there is nothing to delegate")

    async def submit(self, request: Request) -> Response:
        """Submit a job."""
        caller = await self._caller(request)
        body = await self._body(request)
        parsed = submission.parse(body, files_per_job=self._limits.files_per_job, doors=self._doors)
        self._reach.check_destinations(each.destination.url for each in parsed.transfers)
        await self._look_up(self._reach.unknown(place.url for each in parsed.transfers for place in each.sources))
        return JSONResponse({"job_id": await _thread(self._store.submit, parsed, caller)})

    async def _look_up(self, hosts: frozenset[str]) -> None:
        """Check hosts in threads of their own: a name server that does not answer must not stop the service."""
        if not hosts:
            return
        check = asyncio.get_running_loop().run_in_executor(self._look_ups, self._reach.check_hosts, hosts)
        try:
            await asyncio.wait_for(check, _LOOK_UP_S)
        except TimeoutError as error:
            raise InputError("the sources' hosts cannot be looked up in time", got=", ".join(sorted(hosts))) from error

    async def search(self, request: Request) -> Response:
        """Jobs that match the filters: the caller's, those that have not ended unless states are given."""
        caller = await self._caller(request)
        query = request.query_params
        if query.get("dlg_id") not in (None, _delegation_id(caller)):
            raise HTTPException(HTTPStatus.FORBIDDEN, "The provided delegation id does not match your delegation id")
        if query.get("user_dn") not in (None, caller.subject):
            raise HTTPException(HTTPStatus.FORBIDDEN, "Only your own jobs can be listed")
        limit = _number(query.get("limit"), _LARGEST_LIST, "limit")
        if not 0 <= limit <= _LARGEST_LIST:
            raise HTTPException(HTTPStatus.BAD_REQUEST, f"The limit must be at most {_LARGEST_LIST}")
        wanted = Filter(
            states=tuple(filter(None, query.get("state_in", "").split(","))),
            vo=query.get("vo_name"),
            source_se=query.get("source_se"),
            dest_se=query.get("dest_se"),
            window=_window(query.get("time_window")),
            limit=limit,
        )
        jobs = [views.job(row) for row in await _thread(self._store.search, wanted, caller)]
        if fields := query.get("fields"):
            jobs = [_subset(job, fields) for job in jobs]
        return JSONResponse(jobs)

    async def status(self, request: Request) -> Response:
        """One job, or several: with their files if asked, at once or when one of them changes."""
        caller = await self._caller(request)
        job_ids = _ids(request)
        headers = {}
        if "wait" in request.query_params:
            mine = [job["job_id"] for job in await self._jobs(job_ids, caller) if job["http_status"] == "200 Ok"]
            headers[REVISION] = str(await self._wait(request, mine, may_wait=len(mine) == len(job_ids)))
        answers = await self._jobs(job_ids, caller)
        if fields := request.query_params.get("files"):
            found = [job["job_id"] for job in answers if job["http_status"] == "200 Ok"]
            files = await _thread(self._store.files, found)
            for job in answers:
                if job["job_id"] in files:
                    job["files"] = [_subset(views.file(row), fields) for row in files[job["job_id"]]]
        return _multi_status(answers, several="," in request.path_params["ids"], headers=headers)

    async def _wait(self, request: Request, job_ids: list[str], *, may_wait: bool) -> int:
        """Wait for a change, and return the revision that the answer will at least have.

        Without ``known``, an ended job is answered at once. With ``known=<revision of the last answer>`` the call
        returns as soon as the jobs are past that revision, so that no change is missed between two calls.
        """
        query = request.query_params
        seconds = min(_number(query.get("wait"), 0, "wait"), self._limits.wait_s)
        known = query.get("known")
        async with self._changes.watch(job_ids) as event:
            revision, ended = await _thread(self._store.revisions, job_ids)
            if (ended if known is None else str(revision) != known) or seconds <= 0 or not may_wait:
                return revision
            try:
                async with asyncio.timeout(seconds):
                    await event.wait()
            except TimeoutError:
                return revision
        return (await _thread(self._store.revisions, job_ids))[0]

    async def _jobs(self, job_ids: list[str], caller: Caller) -> list[views.Json]:
        """The jobs in the order asked for, each with its own status."""
        rows = await _thread(self._store.jobs, job_ids)
        answers: list[views.Json] = []
        for job_id in job_ids:
            row = rows.get(job_id)
            if row is None:
                answers.append(_refusal(job_id, "404 Not Found", f'No job with the id "{job_id}" has been found'))
            elif not caller.may_use(row):
                answers.append(_refusal(job_id, "403 Forbidden", f'Not enough permissions for the job "{job_id}"'))
            else:
                answers.append({**views.job(row), "http_status": "200 Ok", "http_message": None})
        return answers

    async def cancel(self, request: Request) -> Response:
        """End jobs."""
        caller = await self._caller(request)

        async def cancel(job_ids: list[str]) -> None:
            await _thread(self._store.cancel, job_ids)

        return await self._change(request, caller, cancel)

    async def modify(self, request: Request) -> Response:
        """Change the priority of jobs."""
        caller = await self._caller(request)
        body = await self._body(request)
        params = body.get("params") if isinstance(body, dict) else None
        if not isinstance(params, dict):
            raise InputError("the body must hold params")
        priority = submission.priority(params.get("priority")) if "priority" in params else None

        async def modify(job_ids: list[str]) -> None:
            if priority is not None:
                await _thread(self._store.set_priority, job_ids, priority)

        return await self._change(request, caller, modify)

    async def _change(self, request: Request, caller: Caller, change: Callable[[list[str]], Any]) -> Response:
        """Change jobs that have not ended, and answer with each job as it is then."""
        job_ids = _ids(request)
        before = {job["job_id"]: job for job in await self._jobs(job_ids, caller)}
        mine = [job_id for job_id, job in before.items() if job["http_status"] == "200 Ok"]
        open_ids = [job_id for job_id in mine if JobState(before[job_id]["job_state"]) not in JOB_TERMINAL]
        if open_ids:
            await change(open_ids)
        answers = await self._jobs(job_ids, caller)
        for job in answers:
            if job["job_id"] in mine and job["job_id"] not in open_ids:
                job |= {"http_status": "304 Not Modified", "http_message": "The job is in a terminal state"}
        return _multi_status(answers, several="," in request.path_params["ids"])

    async def _one(self, request: Request) -> views.Json:
        caller = await self._caller(request)
        job = (await self._jobs([request.path_params["id"]], caller))[0]
        if job["http_status"] != "200 Ok":
            raise HTTPException(int(job["http_status"][:3]), job["http_message"])
        return job

    async def files(self, request: Request) -> Response:
        """All files of a job."""
        job_id = (await self._one(request))["job_id"]
        return JSONResponse([views.file(row) for row in (await _thread(self._store.files, [job_id]))[job_id]])

    async def data_management(self, request: Request) -> Response:
        """Deletions of a job: there are none, clients ask nevertheless."""
        await self._one(request)
        return JSONResponse([])

    async def field(self, request: Request) -> Response:
        """One field of a job."""
        job = await self._one(request)
        name = request.path_params["field"]
        if name not in job:
            raise HTTPException(HTTPStatus.NOT_FOUND, "No such field")
        return JSONResponse(job[name])

    async def why(self, request: Request) -> Response:
        """What was tried, what each side answered, what is awaited."""
        job = await self._one(request)
        job_id = job["job_id"]
        rows = (await _thread(self._store.files, [job_id]))[job_id]
        tries = await _thread(self._store.attempts, job_id)
        unreachable = await _thread(self._store.unreachable)
        return JSONResponse(views.why(job, rows, tries, unreachable))

    async def _body(self, request: Request) -> Any:
        """The body's JSON, read no further than the limit."""
        parts, size = [], 0
        async for part in request.stream():
            size += len(part)
            if size > self._limits.body_bytes:
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {self._limits.body_bytes} bytes")
            parts.append(part)
        return _json(b"".join(parts))


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


async def _thread(call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    return await run_in_threadpool(call, *args, **kwargs)


def _refusal(job_id: str, status: str, message: str) -> views.Json:
    return {"job_id": job_id, "http_status": status, "http_message": message}


def _multi_status(answers: list[views.Json], *, several: bool, headers: dict[str, str] | None = None) -> Response:
    """FTS3's rule: one job is an object with its own status; several are a list, with 207 if one of them failed."""
    if not several:
        status = answers[0]["http_status"]
        return JSONResponse(answers[0], int(status[:3]) if status[0] in "45" else 200, headers)
    failed = any(not job["http_status"].startswith("2") for job in answers)
    return JSONResponse(answers, HTTPStatus.MULTI_STATUS if failed else HTTPStatus.OK, headers)


def _ids(request: Request) -> list[str]:
    job_ids = [job_id for job_id in request.path_params["ids"].split(",") if job_id]
    if not 0 < len(job_ids) <= _MOST_IDS:
        raise HTTPException(HTTPStatus.BAD_REQUEST, f"From one to {_MOST_IDS} job ids")
    return job_ids


def _subset(document: views.Json, fields: str) -> views.Json:
    return {name: document[name] for name in fields.split(",") if name in document}


def _delegation_id(caller: Caller) -> str:
    return hashlib.sha256(caller.subject.encode()).hexdigest()[:16]


def _number(text: str | None, otherwise: int, name: str) -> int:
    if text is None:
        return otherwise
    if not (text.isascii() and text.isdigit()):
        raise HTTPException(HTTPStatus.BAD_REQUEST, f"{name} must be a whole number")
    return int(text)


def _window(text: str | None) -> timedelta | None:
    """FTS3's ``time_window``: hours, or hours:minutes."""
    if text is None:
        return None
    hours, _, minutes = text.partition(":")
    return timedelta(hours=_number(hours, 0, "time_window"), minutes=_number(minutes or "0", 0, "time_window"))
