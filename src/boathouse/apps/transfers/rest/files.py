"""The files of a job: what was tried, and the end of some of them."""

from __future__ import annotations

from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from boathouse.apps.transfers import views
from boathouse.apps.transfers.rest.base import Handlers, thread
from boathouse.apps.transfers.states import JobType


class Files(Handlers):
    """``/jobs/<id>/files`` and ``/unclean``."""

    @property
    def routes(self) -> list[Route]:
        """Its routes."""
        return [
            Route("/unclean", self.unclean, methods=["GET"]),
            Route("/jobs/{id}/files", self.files, methods=["GET"]),
            Route("/jobs/{id}/files/{file_ids}", self.cancel, methods=["DELETE"]),
            Route("/jobs/{id}/files/{file_id}/retries", self.retries, methods=["GET"]),
        ]

    async def files(self, request: Request) -> Response:
        """All files of a job."""
        job_id = (await self._one(request))["job_id"]
        return JSONResponse((await self._files([job_id]))[job_id])

    async def unclean(self, request: Request) -> Response:
        """Files that have ended and whose destination may hold something partial: the caller's, or everybody's."""
        caller = await self._caller(request)
        return JSONResponse([views.unclean(row) for row in await thread(self._store.unclean, caller)])

    async def cancel(self, request: Request) -> Response:
        """End some files of a job; the state of each, in the order asked for."""
        job = await self._one(request)
        if job["job_type"] != JobType.N:
            raise HTTPException(
                HTTPStatus.BAD_REQUEST,
                f"The files of a job of several sources or hops end together ({job['job_type']})",
            )
        wanted = [text for text in request.path_params["file_ids"].split(",") if text]
        numbers = [int(text) if text.isascii() and text.isdigit() and len(text) < 19 else -1 for text in wanted]
        known = {row["file_id"] for row in (await thread(self._store.files, [job["job_id"]]))[job["job_id"]]}
        await thread(self._steering.cancellation.files, job["job_id"], [each for each in numbers if each in known])
        after = {row["file_id"]: row["file_state"] for row in (await self._files([job["job_id"]]))[job["job_id"]]}
        states = [after.get(each, "File does not belong to the job") for each in numbers]
        if not states:
            raise HTTPException(HTTPStatus.BAD_REQUEST, "No file id")
        return JSONResponse(states if len(states) > 1 else states[0])

    async def retries(self, request: Request) -> Response:
        """The attempts of a file after which it was tried again."""
        job_id = (await self._one(request))["job_id"]
        file_id = request.path_params["file_id"]
        tries = {str(known): each for known, each in (await thread(self._store.attempts, job_id)).items()}
        rows = (await thread(self._store.files, [job_id]))[job_id]
        if file_id not in {str(row["file_id"]) for row in rows}:
            raise HTTPException(HTTPStatus.NOT_FOUND, f'No file with the id "{file_id}" has been found')
        return JSONResponse([views.retry(row) for row in tries.get(file_id, []) if row["outcome"] == "RETRY"])
