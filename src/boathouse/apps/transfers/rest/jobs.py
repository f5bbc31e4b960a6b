"""Jobs: submitted, asked for, waited for, changed, ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from boathouse.apps.transfers import diagnosis, submission, views
from boathouse.apps.transfers.rest.base import (
    Handlers,
    Services,
    delegation_id,
    ids,
    multi_status,
    number,
    subset,
    thread,
    window,
)
from boathouse.apps.transfers.states import JOB_TERMINAL, JobState
from boathouse.apps.transfers.store import CANCELED_BY_USER, Caller, Filter
from boathouse.apps.transfers.submission import Submission
from boathouse.errors import InputError

REVISION = "X-Boathouse-Revision"
_FILTERS = frozenset(
    ("dest_se", "dlg_id", "fields", "limit", "source_se", "state_in", "time_window", "user_dn", "vo_name")
)
_OTHER_STATES = frozenset(
    ("ARCHIVING", "DELETE", "NOT_USED", "ON_HOLD", "QOS_REQUEST_SUBMITTED", "QOS_TRANSITION", "STAGING")
)
"""States that FTS3's clients ask for, and that no job is in here."""
_LARGEST_LIST = 500
_LARGEST_ANSWER = 50_000
"""Files of several jobs in one answer; one job may have what it was submitted with."""
_LOOK_UP_S = 10.0
_LOOK_UP_THREADS = 4


class Jobs(Handlers):
    """``/jobs``."""

    def __init__(self, services: Services) -> None:
        super().__init__(services)
        self._look_ups = ThreadPoolExecutor(_LOOK_UP_THREADS, thread_name_prefix="look-up")

    @property
    def routes(self) -> list[Route]:
        """Its routes."""
        return [
            Route("/jobs", self.submit, methods=["POST", "PUT"]),
            Route("/jobs", self.search, methods=["GET"]),
            Route("/jobs/all", self.cancel_all, methods=["DELETE"]),
            Route("/jobs/vo/{vo}", self.cancel_all, methods=["DELETE"]),
            Route("/jobs/{ids}", self.status, methods=["GET"]),
            Route("/jobs/{ids}", self.cancel, methods=["DELETE"]),
            Route("/jobs/{ids}", self.modify, methods=["POST"]),
            Route("/jobs/{id}/dm", self.data_management, methods=["GET"]),
            Route("/jobs/{id}/why", self.why, methods=["GET"]),
            Route("/jobs/{id}/{field}", self.field, methods=["GET"]),
        ]

    async def submit(self, request: Request) -> Response:
        """Submit a job."""
        caller = await self._caller(request)
        body = await self._body(request)
        settings, reach = self._services.settings, self._services.reach
        # Thousands of files take a while, and copies go on meanwhile.
        parsed = await thread(
            submission.parse,
            body,
            files_per_job=settings.limits.files_per_job,
            doors=settings.doors,
            https_of=settings.https_of,
            stores=self._services.openings.stores.hosts,
        )
        parsed = await thread(self._services.openings.admit, parsed, caller)
        reach.check_destinations(each.destination.url for each in parsed.transfers)
        await self._look_up(reach.unknown(place.url for each in parsed.transfers for place in each.sources))
        return JSONResponse({"job_id": await thread(self._take, parsed, request.headers.get("authorization"))})

    def _take(self, parsed: Submission, authorization: str | None) -> str:
        """Store a job. The token is looked at again: names may have been looked up for long, and it be revoked."""
        caller = self._known(authorization)
        return self._store.submit(self._by_policy(parsed, caller), caller)

    def _by_policy(self, parsed: Submission, caller: Caller) -> Submission:
        """The submission with the operator's defaults for what it does not say."""
        default = self._steering.decisions().policy.default(caller.vo)
        if parsed.attempts is None and default.retry:
            parsed = replace(parsed, attempts=submission.attempts(default.retry))
        if parsed.queue_s is None and default.max_time_queue:
            parsed = replace(parsed, queue_s=min(default.max_time_queue * 3600.0, submission.LONGEST_QUEUE_S))
        return parsed

    async def _look_up(self, hosts: frozenset[str]) -> None:
        """Check hosts in threads of their own: a name server that does not answer must not stop the service."""
        if not hosts:
            return
        check = asyncio.get_running_loop().run_in_executor(self._look_ups, self._services.reach.check_hosts, hosts)
        try:
            await asyncio.wait_for(check, _LOOK_UP_S)
        except TimeoutError as error:
            raise InputError("the sources' hosts cannot be looked up in time", got=", ".join(sorted(hosts))) from error

    async def search(self, request: Request) -> Response:
        """Jobs that match the filters: the caller's, those that have not ended unless states are given."""
        caller = await self._caller(request)
        query = request.query_params
        states = tuple(filter(None, query.get("state_in", "").split(",")))
        for what, unknown in (
            ("filter", set(query) - _FILTERS),
            ("state", set(states) - set(JobState) - _OTHER_STATES),
        ):
            if unknown:
                raise HTTPException(HTTPStatus.BAD_REQUEST, f"Unknown {what}: {', '.join(sorted(unknown))[:200]}")
        if query.get("dlg_id") not in (None, delegation_id(caller)):
            raise HTTPException(HTTPStatus.FORBIDDEN, "The provided delegation id does not match your delegation id")
        if query.get("user_dn") not in (None, caller.subject) and not caller.operator:
            raise HTTPException(
                HTTPStatus.BAD_REQUEST, "The provided DN and delegation id do not correspond to the same user"
            )
        limit = number(query.get("limit"), _LARGEST_LIST, "limit")
        if not 0 <= limit <= _LARGEST_LIST:
            raise HTTPException(HTTPStatus.BAD_REQUEST, f"The limit must be at most {_LARGEST_LIST}")
        wanted = Filter(
            states=states,
            owner=query.get("user_dn"),
            vo=query.get("vo_name"),
            source_se=query.get("source_se"),
            dest_se=query.get("dest_se"),
            window=window(query.get("time_window")),
            limit=limit,
        )
        jobs = [views.job(row) for row in await thread(self._store.search, wanted, caller)]
        if fields := query.get("fields"):
            jobs = [subset(job, fields) for job in jobs]
        return JSONResponse(jobs)

    async def status(self, request: Request) -> Response:
        """One job, or several: with their files if asked, at once or when one of them changes."""
        caller = await self._caller(request)
        job_ids = ids(request)
        headers = {}
        if "wait" in request.query_params:
            mine = [job["job_id"] for job in await self._jobs(job_ids, caller) if job["http_status"] == "200 Ok"]
            headers[REVISION] = str(await self._wait(request, mine, may_wait=len(mine) == len(job_ids)))
        answers = await self._jobs(job_ids, caller)
        if fields := request.query_params.get("files"):
            found = [job["job_id"] for job in answers if job["http_status"] == "200 Ok"]
            total = sum(job["elements"] for job in answers if job["http_status"] == "200 Ok")
            if len(found) > 1 and total > _LARGEST_ANSWER:
                raise HTTPException(
                    HTTPStatus.BAD_REQUEST,
                    f"These jobs have {total} files: ask for fewer, with at most {_LARGEST_ANSWER} together",
                )
            files = await self._files(found, [name for name in views.FILE_FIELDS if name in fields.split(",")])
            for job in answers:
                if job["job_id"] in files:
                    job["files"] = files[job["job_id"]]
        return multi_status(answers, several="," in request.path_params["ids"], headers=headers)

    async def _wait(self, request: Request, job_ids: list[str], *, may_wait: bool) -> int:
        """Wait for a change, and return the revision that the answer will at least have.

        Without ``known``, an ended job is answered at once. With ``known=<revision of the last answer>`` the call
        returns as soon as the jobs are past that revision, so that no change is missed between two calls.
        """
        query = request.query_params
        seconds = min(number(query.get("wait"), 0, "wait"), self._services.settings.limits.wait_s)
        known = query.get("known")
        async with self._services.changes.watch(job_ids) as event:
            revision, ended = await thread(self._store.revisions, job_ids)
            if (ended if known is None else str(revision) != known) or seconds <= 0 or not may_wait:
                return revision
            try:
                async with asyncio.timeout(seconds):
                    await event.wait()
            except TimeoutError:
                return revision
        return (await thread(self._store.revisions, job_ids))[0]

    async def cancel(self, request: Request) -> Response:
        """End jobs."""
        caller = await self._caller(request)

        async def cancel(job_ids: list[str]) -> None:
            await thread(self._store.cancel, job_ids)

        return await self._change(request, caller, cancel)

    async def cancel_all(self, request: Request) -> Response:
        """End everybody's jobs, or those of a VO; for operators."""
        await self._operator(request)
        vo = request.path_params.get("vo")
        affected, job_ids = await thread(self._steering.cancellation.everything, vo=vo, reason=CANCELED_BY_USER)
        return JSONResponse({"affected_files": affected, "affected_dm": 0, "affected_jobs": len(job_ids)})

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
                await thread(self._store.set_priority, job_ids, priority)

        return await self._change(request, caller, modify)

    async def _change(self, request: Request, caller: Caller, change: Callable[[list[str]], Any]) -> Response:
        """Change jobs that have not ended, and answer with each job as it is then."""
        job_ids = ids(request)
        before = {job["job_id"]: job for job in await self._jobs(job_ids, caller)}
        mine = [job_id for job_id, job in before.items() if job["http_status"] == "200 Ok"]
        open_ids = [job_id for job_id in mine if JobState(before[job_id]["job_state"]) not in JOB_TERMINAL]
        if open_ids:
            await change(open_ids)
        answers = await self._jobs(job_ids, caller)
        for job in answers:
            if job["job_id"] in mine and job["job_id"] not in open_ids:
                job |= {"http_status": "304 Not Modified", "http_message": "The job is in a terminal state"}
        return multi_status(answers, several="," in request.path_params["ids"])

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
        rows = (await thread(self._store.files, [job_id]))[job_id]
        tries = await thread(self._store.attempts, job_id)
        unreachable = await thread(self._store.unreachable)
        return JSONResponse(diagnosis.why(job, rows, tries, unreachable, self._steering.decisions().policy))
