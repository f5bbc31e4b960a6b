"""How the service is: versions, health, metrics, hosts, what the optimizer decided."""

from __future__ import annotations

from collections.abc import Callable, Collection
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from boathouse.apps.transfers import views
from boathouse.apps.transfers.metrics import CONTENT_TYPE, Link
from boathouse.apps.transfers.rest.base import Handlers, thread
from boathouse.errors import ServiceError

_Ask = Callable[[str | None, str | None, "Collection[Link] | None"], list[views.Json]]
API = {"major": 3, "minor": 14, "patch": 0}
"""The version of FTS3's REST interface that clients are told."""
_LINKS = {
    "curies": [{"name": "fts", "href": "https://gitlab.cern.ch/fts/fts3"}],
    "fts:whoami": {"href": "/whoami", "title": "Check user credentials"},
    "fts:joblist": {
        "href": "/jobs{?vo_name,user_dn,dlg_id,state_in}",
        "title": "List of active jobs",
        "templated": True,
    },
    "fts:job": {
        "href": "/jobs/{id}",
        "title": "Job information",
        "templated": True,
        "hints": {"allow": ["GET", "DELETE"]},
    },
    "fts:configaudit": {"href": "/config/audit", "title": "Configuration"},
    "fts:jobsubmit": {"href": "/jobs", "hints": {"allow": ["POST"]}},
    "fts:optimizer": {"href": "/optimizer/", "title": "Optimizer"},
    "fts:archive": {"href": "/archive/", "title": "Archive"},
}


class State(Handlers):
    """What tells of the service itself."""

    @property
    def routes(self) -> list[Route]:
        """Its routes."""
        return [
            Route("/", self.version, methods=["GET"]),
            Route("/health", self.health, methods=["GET"]),
            Route("/metrics", self.metrics, methods=["GET"]),
            Route("/status/hosts", self.hosts, methods=["GET"]),
            Route("/optimizer", self.optimizer, methods=["GET"]),
            Route("/optimizer/current", self.current, methods=["GET"]),
            Route("/optimizer/current", self.set_current, methods=["POST"]),
            Route("/optimizer/evolution", self.evolution, methods=["GET"]),
        ]

    async def version(self, request: Request) -> Response:
        """Versions, as FTS3 tells them; asked by every client first. A browser goes on to the pages."""
        if self._services.settings.pages and _is_browser(request):
            return RedirectResponse("/pages", HTTPStatus.SEE_OTHER)
        await self._caller(request)
        return JSONResponse(
            {
                "api": API,
                "core": API,
                "schema": {**API, "message": ""},
                "delegation": {"major": 1, "minor": 0, "patch": 0},
                "_links": _LINKS,
            }
        )

    async def health(self, _: Request) -> Response:
        """Whether the service can work; needs no token and tells no more than that."""
        await thread(self._store.ping)
        if not self._services.worker.hub.connected.is_set():
            raise ServiceError("the worker has no database connection")
        return JSONResponse({"status": "ok"})

    async def metrics(self, request: Request) -> Response:
        """Prometheus metrics: all for operators, the VO's own for others."""
        caller = await self._caller(request)
        gauges = await thread(self._services.overview.gauges, caller.sees)
        running = self._services.worker.running if caller.operator else None
        text = self._services.metrics.text(gauges, running, caller.sees)
        return PlainTextResponse(text, headers={"Content-Type": CONTENT_TYPE})

    async def hosts(self, request: Request) -> Response:
        """How many copies the workers of each machine run."""
        await self._operator(request)
        return JSONResponse({host: {"active": count} for host, count in await thread(self._steering.hosts)})

    async def optimizer(self, request: Request) -> Response:
        """Whether there is an optimizer."""
        await self._caller(request)
        return JSONResponse(content=True)

    async def current(self, request: Request) -> Response:
        """How many copies each link may run now."""
        return await self._of_links(request, self._steering.optimizer)

    async def evolution(self, request: Request) -> Response:
        """The last decisions, and why."""
        return await self._of_links(request, self._steering.evolution)

    async def _of_links(self, request: Request, ask: _Ask) -> Response:
        """What is told of links: of all for operators, of those of the VO for others."""
        caller = await self._caller(request)
        query = request.query_params
        links = None if caller.sees is None else await thread(self._services.overview.of_vo, caller.sees)
        return JSONResponse(await thread(ask, query.get("source_se") or None, query.get("dest_se") or None, links))

    async def set_current(self, request: Request) -> Response:
        """Start a link over from another number of copies."""
        caller = await self._operator(request)
        wanted = await self._input(request)
        source, destination = wanted.get("source_se"), wanted.get("dest_se")
        if not source or not destination:
            raise HTTPException(HTTPStatus.BAD_REQUEST, "Missing source and/or destination")
        active = wanted.get("active", 2)
        if isinstance(active, bool) or not str(active).isdecimal() or int(active) < 1:
            raise HTTPException(HTTPStatus.BAD_REQUEST, f"Active must be a positive integer ({active})")
        row = await thread(self._steering.set_optimizer, str(source), str(destination), int(active), caller.subject)
        return JSONResponse([row, row])


def _is_browser(request: Request) -> bool:
    return "authorization" not in request.headers and "text/html" in request.headers.get("accept", "")
