"""``/signed``: where elements come with a ticket for a file that takes signed requests only."""

from __future__ import annotations

from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from boathouse.apps.transfers.failures import CopyError
from boathouse.apps.transfers.rest.base import Handlers
from boathouse.apps.transfers.tickets import PATH


class Signed(Handlers):
    """``/signed``."""

    @property
    def routes(self) -> list[Route]:
        """Its routes."""
        return [Route(f"{PATH}/{{number}}", self.go, methods=["GET", "HEAD", "PUT"])]

    async def go(self, request: Request) -> Response:
        """Tell the size of the file, or the way to it."""
        storage = self._services.worker.storage
        ticket = storage.tickets.find(request.headers.get("authorization"))
        if ticket is None or request.method not in ("HEAD", ticket.method):
            raise HTTPException(HTTPStatus.UNAUTHORIZED, "No good ticket: it ends with the copy that it is for")
        if request.method != "HEAD":
            headers = {"Location": storage.signed(ticket), "Cache-Control": "no-store"}
            return Response(status_code=HTTPStatus.TEMPORARY_REDIRECT, headers=headers)
        try:
            status, found = await storage.head(ticket.url, ticket.credential)
        except CopyError as error:
            raise HTTPException(HTTPStatus.BAD_GATEWAY, error.failure.reason) from error
        if found is None:
            return Response(status_code=status)
        if found.size_bytes is None:
            raise HTTPException(HTTPStatus.BAD_GATEWAY, "The store does not tell the size of the file")
        return Response(headers={"Content-Length": str(found.size_bytes)})
