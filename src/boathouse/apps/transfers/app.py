"""The web application: middleware, errors as FTS3 tells them, start and stop of the worker."""

from __future__ import annotations

import contextlib
import logging
import uuid
from collections.abc import AsyncIterator
from http import HTTPStatus

from sqlalchemy import Engine
from sqlalchemy.exc import DataError, SQLAlchemyError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from boathouse.apps.transfers.admission import BannedError
from boathouse.apps.transfers.archive import Archive
from boathouse.apps.transfers.auth import Gate, ScopeError
from boathouse.apps.transfers.configuration import Configuration
from boathouse.apps.transfers.events import JOBS, Changes
from boathouse.apps.transfers.failures import printable
from boathouse.apps.transfers.intake import FullError
from boathouse.apps.transfers.metrics import Metrics
from boathouse.apps.transfers.openings import Openings
from boathouse.apps.transfers.overview import Overview
from boathouse.apps.transfers.reach import Reach
from boathouse.apps.transfers.rest import routes
from boathouse.apps.transfers.rest.base import Services
from boathouse.apps.transfers.seal import Seal
from boathouse.apps.transfers.settings import Settings
from boathouse.apps.transfers.steering import Steering
from boathouse.apps.transfers.store import Store
from boathouse.apps.transfers.worker import Worker
from boathouse.errors import AuthError, BoathouseError, ConflictError, InputError, ServiceError

_FULL_S = "30"
"""When a client that was refused for a full queue should come again, in seconds."""

log = logging.getLogger(__name__)


def create(settings: Settings, engine: Engine) -> ASGIApp:
    """The application over a database that is up to date, which it lets go of at its end."""

    @contextlib.asynccontextmanager
    async def lifespan(application: Starlette) -> AsyncIterator[None]:
        base_id = uuid.uuid5(uuid.NAMESPACE_URL, f"{settings.issuer}/{settings.audience}")
        metrics, changes, gate = Metrics(), Changes(), Gate(settings)
        worker = Worker(settings, engine, metrics, gate)
        store = Store(engine, Seal(settings.store_key), base_id, settings.limits, settings.services)
        worker.hub.on(JOBS, changes.happened)
        steering = Steering(engine, settings)
        openings = Openings(settings)
        services = Services(
            gate=gate,
            store=store,
            steering=steering,
            configuration=Configuration(engine, steering),
            archive=Archive(engine, store),
            worker=worker,
            changes=changes,
            metrics=metrics,
            overview=Overview(engine, store, steering, metrics),
            openings=openings,
            reach=Reach(settings.elements, settings.copy_from, openings.stores.at),
            settings=settings,
            base_id=base_id,
        )
        application.router.routes.extend(routes(services))
        gate.start()
        worker.start()
        log.info("worker=%d listening on https://%s:%d", worker.number, settings.listen_address, settings.port)
        try:
            yield
        finally:
            gate.stop()
            await worker.stop()
            engine.dispose()
            log.info("worker=%d stopped", worker.number)

    application = Starlette(
        lifespan=lifespan,
        exception_handlers={
            HTTPException: _http_error,
            BoathouseError: _own_error,
            SQLAlchemyError: _database_error,
            Exception: _unexpected,
        },
    )
    return _OneSlash(application)


class _OneSlash:
    """The ``fts3`` client joins its endpoint and ``/jobs`` with another slash: ``//jobs`` is ``/jobs``."""

    def __init__(self, application: ASGIApp) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith("//"):
            scope = {**scope, "path": "/" + scope["path"].lstrip("/")}
        await self._application(scope, receive, send)


def _answer(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    body = {"status": f"{status:d} {HTTPStatus(status).phrase}", "message": message}
    return JSONResponse(body, status, headers)


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _answer(error.status_code, str(error.detail), dict(error.headers) if error.headers else None)


async def _own_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, BoathouseError)
    message = printable("; ".join(str(error).replace("\n", ";").split(";  ")))
    match error:
        case ScopeError():
            status, headers = HTTPStatus.FORBIDDEN, {"WWW-Authenticate": 'Bearer error="insufficient_scope"'}
        case BannedError():
            status, headers = HTTPStatus.FORBIDDEN, {}
        case AuthError():
            status, headers = HTTPStatus.UNAUTHORIZED, {"WWW-Authenticate": 'Bearer error="invalid_token"'}
        case InputError():
            status, headers = HTTPStatus.BAD_REQUEST, {}
        case ConflictError():
            status, headers = HTTPStatus.CONFLICT, {}
        case FullError():
            # FTS3's client takes 503 for "try again", Rucio submits again in its next round.
            status, headers = HTTPStatus.SERVICE_UNAVAILABLE, {"Retry-After": _FULL_S}
        case ServiceError():
            status, headers = HTTPStatus.SERVICE_UNAVAILABLE, {"Retry-After": "1"}
        case _:
            status, headers = HTTPStatus.INTERNAL_SERVER_ERROR, {}
    log.info("%s %s: %d %s", request.method, request.url.path, status, message)
    return _answer(status, message, headers)


async def _database_error(request: Request, error: Exception) -> Response:
    log.warning("%s %s: database: %s", request.method, request.url.path, str(error).partition("\n")[0])
    if isinstance(error, DataError):
        return _answer(HTTPStatus.BAD_REQUEST, "a value that cannot be stored")
    return _answer(HTTPStatus.SERVICE_UNAVAILABLE, "the database does not answer", {"Retry-After": "1"})


async def _unexpected(request: Request, error: Exception) -> Response:
    log.error("%s %s: internal fault", request.method, request.url.path, exc_info=error)
    return _answer(HTTPStatus.INTERNAL_SERVER_ERROR, "an internal fault: the log has the details")
