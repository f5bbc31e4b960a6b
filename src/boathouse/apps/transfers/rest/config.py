"""``/config``: limits, shares and defaults. For operators."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from boathouse.apps.transfers.rest.base import Handlers, Services, thread

_Handler = Callable[[Request], Awaitable[Response]]
_IN_THE_FACILITY_FILE = {
    "cloud_storage": "stores, their keys and who may use them stand in the facility file, under stores",
    "authorize": "operators stand in the facility file, as users with admin: true",
}
"""What FTS3 keeps in its database and asks operators for, and a facility says in its file."""


class Config(Handlers):
    """``/config``."""

    def __init__(self, services: Services) -> None:
        super().__init__(services)
        self._config = services.configuration

    @property
    def routes(self) -> list[Route]:
        """Its routes."""
        return [
            Route("/config/audit", self.audit, methods=["GET"]),
            *self._routes("/config/global", self.defaults, self.set_defaults, self.delete_defaults),
            *self._routes("/config/se", self.storage, self.set_storage, self.delete_storage),
            *self._routes("/config/shares", self.shares, self.set_share, self.delete_share),
            Route("/config/links", self.links, methods=["GET"]),
            Route("/config/links", self.set_link, methods=["POST"]),
            Route("/config/links/{name}", self.link, methods=["GET"]),
            Route("/config/links/{name}", self.delete_link, methods=["DELETE"]),
            Route("/config/activity_shares", self.activities, methods=["GET"]),
            Route("/config/activity_shares", self.set_activities, methods=["POST"]),
            Route("/config/activity_shares/{vo}", self.activities_of, methods=["GET"]),
            Route("/config/activity_shares/{vo}", self.delete_activities, methods=["DELETE"]),
            *(
                Route(f"/config/{name}{more}", self.in_the_facility_file, methods=["GET", "POST", "DELETE"])
                for name in _IN_THE_FACILITY_FILE
                for more in ("", "/{rest:path}")
            ),
        ]

    @staticmethod
    def _routes(path: str, get: _Handler, post: _Handler, delete: _Handler) -> list[Route]:
        return [
            Route(path, get, methods=["GET"]),
            Route(path, post, methods=["POST"]),
            Route(path, delete, methods=["DELETE"]),
        ]

    async def in_the_facility_file(self, request: Request) -> Response:
        """Say where it is decided instead."""
        await self._operator(request)
        name = request.url.path.split("/")[2]
        raise HTTPException(HTTPStatus.NOT_FOUND, f"There is no {name} here: {_IN_THE_FACILITY_FILE[name]}")

    async def audit(self, request: Request) -> Response:
        """The last changes, and who made them."""
        await self._operator(request)
        return JSONResponse(await thread(self._steering.audit))

    async def defaults(self, request: Request) -> Response:
        """Defaults of jobs by VO."""
        await self._operator(request)
        return JSONResponse(await thread(self._config.defaults))

    async def set_defaults(self, request: Request) -> Response:
        """Change the defaults of a VO's jobs."""
        caller = await self._operator(request)
        return JSONResponse(await thread(self._config.set_defaults, await self._input(request), caller.subject))

    async def delete_defaults(self, request: Request) -> Response:
        """Drop the defaults of a VO's jobs."""
        caller = await self._operator(request)
        await thread(self._config.delete_defaults, str((await self._input(request)).get("vo_name", "")), caller.subject)
        return _done()

    async def storage(self, request: Request) -> Response:
        """Limits of one storage element, or all."""
        await self._operator(request)
        return JSONResponse(await thread(self._config.storage, request.query_params.get("se") or None))

    async def set_storage(self, request: Request) -> Response:
        """Change limits of storage elements."""
        caller = await self._operator(request)
        return JSONResponse(await thread(self._config.set_storage, await self._input(request), caller.subject))

    async def delete_storage(self, request: Request) -> Response:
        """Drop the limits of a storage element."""
        caller = await self._operator(request)
        se = request.query_params.get("se")
        if not se:
            raise HTTPException(HTTPStatus.BAD_REQUEST, "Missing storage (se)")
        await thread(self._config.delete_storage, se, caller.subject)
        return _done()

    async def shares(self, request: Request) -> Response:
        """Weights of VOs on links."""
        await self._operator(request)
        return JSONResponse(await thread(self._config.shares))

    async def set_share(self, request: Request) -> Response:
        """Change the weight of a VO on a link."""
        caller = await self._operator(request)
        return JSONResponse(await thread(self._config.set_share, await self._input(request), caller.subject))

    async def delete_share(self, request: Request) -> Response:
        """Drop the weight of a VO on a link."""
        caller = await self._operator(request)
        source, destination, vo = (request.query_params.get(name, "") for name in ("source", "destination", "vo"))
        await thread(self._config.delete_share, source, destination, vo, caller.subject)
        return _done()

    async def links(self, request: Request) -> Response:
        """Limits of all links that have some."""
        await self._operator(request)
        return JSONResponse(await thread(self._config.links))

    async def set_link(self, request: Request) -> Response:
        """Change the limits of a link."""
        caller = await self._operator(request)
        link = await thread(self._config.set_link, await self._input(request), caller.subject)
        return JSONResponse(link, HTTPStatus.CREATED)

    async def link(self, request: Request) -> Response:
        """Limits of one link, by its name."""
        await self._operator(request)
        name = unquote(request.path_params["name"])
        found = await thread(self._config.links, name)
        if not found:
            raise HTTPException(HTTPStatus.NOT_FOUND, f"Link {name} does not exist")
        return JSONResponse(found[0])

    async def delete_link(self, request: Request) -> Response:
        """Drop the limits of a link."""
        caller = await self._operator(request)
        await thread(self._config.delete_link, unquote(request.path_params["name"]), caller.subject)
        return _done()

    async def activities(self, request: Request) -> Response:
        """Weights of activities by VO."""
        await self._operator(request)
        return JSONResponse(await thread(self._config.activities))

    async def set_activities(self, request: Request) -> Response:
        """Change the weights of a VO's activities."""
        caller = await self._operator(request)
        return JSONResponse(await thread(self._config.set_activities, await self._input(request), caller.subject))

    async def activities_of(self, request: Request) -> Response:
        """Weights of one VO's activities."""
        await self._operator(request)
        return JSONResponse(await self._activities(request.path_params["vo"]))

    async def delete_activities(self, request: Request) -> Response:
        """Drop the weights of a VO's activities."""
        caller = await self._operator(request)
        await self._activities(request.path_params["vo"])
        await thread(self._config.delete_activities, request.path_params["vo"], caller.subject)
        return _done()

    async def _activities(self, vo: str) -> Any:
        found = (await thread(self._config.activities)).get(vo)
        if found is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, f"No activity shares for {vo}")
        return found


def _done() -> Response:
    return Response(status_code=HTTPStatus.NO_CONTENT)
