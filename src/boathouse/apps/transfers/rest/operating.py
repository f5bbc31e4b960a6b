"""Bans: of a storage element, of a person. For operators."""

from __future__ import annotations

from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from boathouse.apps.transfers.policy import BanStatus
from boathouse.apps.transfers.rest.base import Handlers, thread

_LONGEST_MESSAGE = 256


class Operating(Handlers):
    """``/ban``."""

    @property
    def routes(self) -> list[Route]:
        """Its routes."""
        return [
            Route("/ban/se", self.ban_element, methods=["POST"]),
            Route("/ban/se", self.unban_element, methods=["DELETE"]),
            Route("/ban/se", self.banned_elements, methods=["GET"]),
            Route("/ban/dn", self.ban_person, methods=["POST"]),
            Route("/ban/dn", self.unban_person, methods=["DELETE"]),
            Route("/ban/dn", self.banned_people, methods=["GET"]),
        ]

    async def ban_element(self, request: Request) -> Response:
        """Ban a storage element for the operator's VO, or ``vo_name``; the ids of the jobs that it concerns."""
        caller = await self._operator(request)
        wanted = await self._input(request)
        storage, status = wanted.get("storage"), str(wanted.get("status", "cancel")).upper()
        if not storage or not isinstance(storage, str):
            raise HTTPException(HTTPStatus.BAD_REQUEST, "Missing storage parameter")
        if status not in (BanStatus.CANCEL, BanStatus.WAIT):
            raise HTTPException(HTTPStatus.BAD_REQUEST, "status can only be cancel or wait")
        if wanted.get("allow_submit"):
            if status == BanStatus.CANCEL:
                raise HTTPException(HTTPStatus.BAD_REQUEST, "allow_submit and status = CANCEL can not be combined")
            status = BanStatus.WAIT_AS
        vo, message = str(wanted.get("vo_name") or caller.vo), str(wanted.get("message") or "")[:_LONGEST_MESSAGE]
        affected = await thread(self._steering.ban, storage, vo, BanStatus(status), message, caller.subject)
        return JSONResponse(affected)

    async def unban_element(self, request: Request) -> Response:
        """End the ban of a storage element."""
        caller = await self._operator(request)
        wanted = await self._input(request)
        if not wanted.get("storage"):
            raise HTTPException(HTTPStatus.BAD_REQUEST, "Missing storage parameter")
        vo = str(wanted.get("vo_name") or caller.vo)
        await thread(self._steering.unban, str(wanted["storage"]), vo, caller.subject)
        return Response(status_code=HTTPStatus.NO_CONTENT)

    async def banned_elements(self, request: Request) -> Response:
        """All storage elements that are banned."""
        await self._operator(request)
        return JSONResponse(await thread(self._steering.bans))

    async def ban_person(self, request: Request) -> Response:
        """Ban a person, and end all that they submitted; the ids of their jobs."""
        caller = await self._operator(request)
        wanted = await self._input(request)
        subject = wanted.get("user_dn")
        if not subject or not isinstance(subject, str):
            raise HTTPException(HTTPStatus.BAD_REQUEST, "Missing dn parameter")
        if subject == caller.subject:
            raise HTTPException(HTTPStatus.CONFLICT, "The user tried to ban (her|his)self")
        message = str(wanted.get("message") or "")[:_LONGEST_MESSAGE]
        return JSONResponse(await thread(self._steering.ban_person, subject, message, caller.subject))

    async def unban_person(self, request: Request) -> Response:
        """Let a person in again."""
        caller = await self._operator(request)
        subject = (await self._input(request)).get("user_dn")
        if not subject:
            raise HTTPException(HTTPStatus.BAD_REQUEST, "Missing user_dn parameter")
        await thread(self._steering.unban_person, str(subject), caller.subject)
        return Response(status_code=HTTPStatus.NO_CONTENT)

    async def banned_people(self, request: Request) -> Response:
        """All people who are banned."""
        await self._operator(request)
        return JSONResponse(await thread(self._steering.banned_people))
