"""The web application: how the caches are, eviction, scrubs.

``GET /caches``, ``POST /files``, ``POST /evictions``, ``POST /scrubs``, ``GET /scrubs/<id>`` and ``GET /metrics`` want
a bearer token of the facility's issuer that names one of the caches as audience. ``GET /health`` wants none.
"""

from __future__ import annotations

import contextlib
import json
import logging
import uuid
from collections.abc import AsyncIterator, Sequence
from http import HTTPStatus
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from boathouse.apps.caches.catalogue import Catalogue
from boathouse.apps.caches.collector import Collector
from boathouse.apps.caches.evictor import Evictor
from boathouse.apps.caches.gate import Caller, Gate, ScopeError, checked
from boathouse.apps.caches.ledger import Ledger
from boathouse.apps.caches.overview import CONTENT_TYPE, Overview, Sees
from boathouse.apps.caches.scrubber import Scrubber
from boathouse.apps.caches.settings import Cache, Settings
from boathouse.errors import AuthError, BoathouseError, InputError, ServiceError

MOST_PATHS = 500
"""Paths that one request may name."""
_LONGEST_BODY_BYTES = 1 << 20

log = logging.getLogger(__name__)


class Application:
    """The handlers and what they work with.

    Args:
        settings: of the service.

    Raises:
        BoathouseError: a port is taken, or the counters cannot be read.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._gate = Gate(settings)
        self._ledger = Ledger(
            settings.database,
            settings.prefixes,
            outside=[cache.name for cache in settings.caches if not cache.of_lake],
        )
        self._collector = Collector(settings.caches, self._ledger, settings.doors)
        self._evictor = Evictor(settings, self._ledger)
        self._scrubber = Scrubber(settings.lake_caches, self._ledger, Catalogue(settings), self._evictor)
        self._overview = Overview(settings.caches, self._ledger)

    def create(self) -> Starlette:
        """The application, which begins to listen to the caches when it starts."""
        return Starlette(
            lifespan=self._life,
            routes=[
                Route("/health", _health, methods=["GET"]),
                Route("/caches", self._caches, methods=["GET"]),
                Route("/metrics", self._metrics, methods=["GET"]),
                Route("/files", self._files, methods=["POST"]),
                Route("/evictions", self._evictions, methods=["POST"]),
                Route("/scrubs", self._scrubs, methods=["POST"]),
                Route("/scrubs/{name}", self._scrub, methods=["GET"]),
            ],
            exception_handlers={
                HTTPException: _http_error,
                BoathouseError: _own_error,
                Exception: _unexpected,
            },
        )

    @contextlib.asynccontextmanager
    async def _life(self, _: Starlette) -> AsyncIterator[None]:
        self._collector.start()
        self._scrubber.start()
        try:
            yield
        finally:
            await run_in_threadpool(self._scrubber.stop)
            await run_in_threadpool(self._collector.stop)
            self._ledger.close()

    async def _caller(self, request: Request) -> Caller:
        return await run_in_threadpool(self._gate.caller, request.headers.get("Authorization"))

    def _sees(self, caller: Caller) -> Sees:
        return lambda scope: caller.may_read_scope(scope, self._settings.prefixes)

    async def _caches(self, request: Request) -> Response:
        sees = self._sees(await self._caller(request))
        return JSONResponse(await run_in_threadpool(self._overview.document, sees))

    async def _metrics(self, request: Request) -> Response:
        sees = self._sees(await self._caller(request))
        return Response(await run_in_threadpool(self._overview.metrics, sees), media_type=CONTENT_TYPE)

    async def _files(self, request: Request) -> Response:
        caller, document = await self._caller(request), await _body(request)
        paths, caches = self._paths(document), self._named(document)
        if any(not caller.may_read(path) for path in paths):
            raise ScopeError("the token does not open all of these paths", expected="storage.read of each")
        return JSONResponse(await run_in_threadpool(self._overview.files, caches, paths))

    async def _evictions(self, request: Request) -> Response:
        caller, document = await self._caller(request), await _body(request)
        paths, caches, force = self._paths(document), self._named(document), document.get("force") is True
        for path in paths:
            if not caller.may_write(path):
                raise ScopeError(
                    "who may not write a file may not evict it", expected=f"scope storage.modify:{path}", where=path
                )
        if not caller.operator and any(cache.address not in caller.claims.aud for cache in caches):
            raise ScopeError("the token is not for all of these caches", expected="each as its audience")

        def evict() -> list[dict[str, Any]]:
            outcomes = [
                (cache.name, path, *self._evictor.evict(cache, path, "asked", force=force))
                for cache in caches
                for path in paths
            ]
            names = ("cache", "path", "outcome", "bytes", "detail")
            return [dict(zip(names, outcome, strict=True)) for outcome in outcomes]

        log.info("%s evicts %d paths", caller.claims.sub, len(paths))
        return JSONResponse(await run_in_threadpool(evict))

    async def _scrubs(self, request: Request) -> Response:
        caller, document = await self._caller(request), await _body(request)
        if not caller.operator:
            raise ScopeError("only who looks after the facility may have caches scrubbed")
        name = uuid.uuid4().hex
        report = self._scrubber.ask(name, self._named(document))
        return JSONResponse({"id": name, **report.as_dict()}, HTTPStatus.ACCEPTED)

    async def _scrub(self, request: Request) -> Response:
        caller = await self._caller(request)
        if not caller.operator:
            raise ScopeError("only who looks after the facility may see scrubs")
        report = self._scrubber.report(request.path_params["name"])
        if report is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, "no such scrub since the service began")
        return JSONResponse({"id": request.path_params["name"], **report.as_dict()})

    def _paths(self, document: dict[str, Any]) -> Sequence[str]:
        paths = document.get("paths")
        if not isinstance(paths, list) or not 0 < len(paths) <= MOST_PATHS:
            raise InputError("no paths", expected=f"paths: a list of 1 to {MOST_PATHS}")
        return list(dict.fromkeys(checked(path, self._settings.prefixes) for path in paths))

    def _named(self, document: dict[str, Any]) -> Sequence[Cache]:
        names = document.get("caches")
        known = {cache.name: cache for cache in self._settings.lake_caches}
        if names is None:
            return list(known.values())
        if not isinstance(names, list) or any(name not in known for name in map(str, names)):
            raise InputError("unknown cache", expected=", ".join(known), got=str(names)[:200])
        return [known[str(name)] for name in dict.fromkeys(names)]


async def _health(_: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def _body(request: Request) -> dict[str, Any]:
    content = b""
    async for block in request.stream():
        content += block
        if len(content) > _LONGEST_BODY_BYTES:
            raise InputError("the request is too long", expected=f"{_LONGEST_BODY_BYTES} bytes at most")
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError("the request is no JSON") from error
    if not isinstance(document, dict):
        raise InputError("the request is no JSON object")
    return document


def _answer(status: int, document: dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    return JSONResponse(document, status, headers)


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _answer(error.status_code, {"what": error.detail}, dict(error.headers) if error.headers else None)


async def _own_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, BoathouseError)
    match error:
        case ScopeError():
            status, headers = HTTPStatus.FORBIDDEN, {"WWW-Authenticate": 'Bearer error="insufficient_scope"'}
        case AuthError():
            status, headers = HTTPStatus.UNAUTHORIZED, {"WWW-Authenticate": 'Bearer error="invalid_token"'}
        case InputError():
            status, headers = HTTPStatus.BAD_REQUEST, {}
        case ServiceError():
            status, headers = HTTPStatus.SERVICE_UNAVAILABLE, {"Retry-After": "1"}
        case _:
            status, headers = HTTPStatus.INTERNAL_SERVER_ERROR, {}
    log.info("%s %s: %d %s", request.method, request.url.path, status, error.what)
    return _answer(status, error.as_dict(), headers)


async def _unexpected(request: Request, error: Exception) -> Response:
    log.error("%s %s: internal fault", request.method, request.url.path, exc_info=error)
    return _answer(HTTPStatus.INTERNAL_SERVER_ERROR, {"what": "an internal fault: the log has the details"})
