"""Jobs that ended: ``/archive`` tells of them after the queue has forgotten them."""

from __future__ import annotations

from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from boathouse.apps.transfers import views
from boathouse.apps.transfers.rest.base import Handlers, thread


class Archive(Handlers):
    """``/archive``."""

    @property
    def routes(self) -> list[Route]:
        """Its routes."""
        return [
            Route("/archive", self.index, methods=["GET"]),
            Route("/archive/{id}", self.job, methods=["GET"]),
            Route("/archive/{id}/{field}", self.field, methods=["GET"]),
        ]

    async def index(self, request: Request) -> Response:
        """What can be asked."""
        await self._caller(request)
        job = {"href": "/archive/{id}", "title": "Archived job information", "templated": True}
        curies = [{"name": "fts", "href": "https://gitlab.cern.ch/fts/fts3"}]
        return JSONResponse({"_links": {"curies": curies, "fts:archivedJob": job}})

    async def _archived(self, request: Request) -> views.Json:
        caller = await self._caller(request)
        job_id = request.path_params["id"]
        found = await thread(self._services.archive.find, job_id)
        if found is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, f'No job with the id "{job_id}" has been found in the archive')
        job, files = found
        if not caller.may_use(job):
            raise HTTPException(HTTPStatus.FORBIDDEN, f'Not enough permissions to check the job "{job_id}"')
        return {**views.job(job), "files": [views.file(row) for row in files]}

    async def job(self, request: Request) -> Response:
        """A job with its files."""
        return JSONResponse(await self._archived(request))

    async def field(self, request: Request) -> Response:
        """One field of a job."""
        job = await self._archived(request)
        name = request.path_params["field"]
        if name not in job:
            raise HTTPException(HTTPStatus.NOT_FOUND, "No such field")
        return JSONResponse(job[name])
