"""The web application: routes, and what runs beside the requests."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial

import anyio.to_thread
from authlib.common.urls import add_params_to_uri
from sqlalchemy.exc import SQLAlchemyError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from boathouse.apps.tokens.api import routes as api
from boathouse.apps.tokens.issuer import Issuer
from boathouse.apps.tokens.pages import (
    account,
    auditing,
    consent,
    device,
    federated,
    groups,
    people,
    programs,
    rules,
    signin,
)
from boathouse.apps.tokens.pages.render import STYLE
from boathouse.apps.tokens.persistence import sweeping
from boathouse.apps.tokens.protocol import endpoints, openapi, registration
from boathouse.apps.tokens.protocol.exchange import ExchangeGrant
from boathouse.apps.tokens.protocol.grants import ClientGrant, CodeGrant, DeviceGrant, IdToken, Pkce, RefreshGrant
from boathouse.apps.tokens.protocol.metadata import metadata
from boathouse.apps.tokens.signing import rotation
from boathouse.apps.tokens.trail import feed
from boathouse.apps.tokens.transactions import kind, workers
from boathouse.apps.tokens.web import Call, Errand, Guard, Handler, Pairs, endpoint
from boathouse.errors import StateError

_LOG = logging.getLogger(__name__)
_PUBLIC = {"Cache-Control": "public, max-age=21600"}  # WLCG profile 4.3.1: keys are read anew every 6 h


def token(call: Call) -> Response:
    """The token endpoint."""
    server = call.server
    for grant in (ClientGrant, ExchangeGrant):
        server.register_grant(grant)
    server.register_grant(RefreshGrant, [IdToken()])
    server.register_grant(DeviceGrant, [IdToken()])
    server.register_grant(CodeGrant, [IdToken(), Pkce(required=True)])
    response: Response = server.create_token_response(call.oauth())
    return response


def authorize(call: Call) -> Response:
    """The authorization endpoint."""
    call.server.register_grant(CodeGrant, [IdToken(), Pkce(required=True)])
    response = consent.authorize(call)
    location = response.headers.get("location", "/")
    if not location.startswith("/"):
        # RFC 9207: the client sees which issuer answers, errors included.
        response.headers["location"] = add_params_to_uri(location, [("iss", call.issuer.settings.issuer)])
    return response


def _oauth_endpoint(kind: type) -> Handler:
    def respond(call: Call) -> Response:
        call.server.register_endpoint(kind)
        response: Response = call.server.create_endpoint_response(kind.ENDPOINT_NAME, call.oauth())  # type: ignore[attr-defined]
        return response

    return respond


def userinfo(call: Call) -> Response:
    """The userinfo endpoint."""
    status, body, headers = endpoints.userinfo(call.issuer, call.store, call.http.headers.get("authorization", ""))
    return JSONResponse(body, status, headers)


def health(call: Call) -> Response:
    """Whether tokens can be issued now."""
    call.issuer.keys.active()
    call.store.ping()
    return JSONResponse({"status": "ok"})


def build(issuer: Issuer, on_start: Callable[[asyncio.AbstractEventLoop], None] | None = None) -> Starlette:
    """The application.

    Args:
        issuer: the parts it works with; closed when the application stops.
        on_start: called with the running event loop before the first request.
    """
    threads = workers(issuer)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = issuer.settings.threads
        if on_start:
            on_start(asyncio.get_running_loop())
        app.state.news = feed.News(issuer.engine)
        keeper = asyncio.create_task(_keep_house(issuer))
        yield
        app.state.news.close()
        keeper.cancel()
        with suppress(asyncio.CancelledError):
            await keeper
        await run_in_threadpool(threads.close)
        await run_in_threadpool(issuer.close)

    def route(
        path: str,
        handler: Handler,
        *methods: str,
        shared: Callable[[Pairs], str | None] | None = None,
        errand: Errand | None = None,
    ) -> Route:
        answer = endpoint(threads, handler, kind=shared, errand=errand)
        return Route(path, answer, methods=list(methods or ("GET",)))

    settings = issuer.settings
    discovery = _constant(
        metadata(settings.issuer, registration=registration.PATH if settings.registration_bound else None)
    )
    routes = [
        # The first that fits is taken, so the busiest stands first.
        route("/token", token, "POST", shared=kind),
        Route("/", _home),
        Route("/.well-known/openid-configuration", discovery),
        Route("/.well-known/oauth-authorization-server", discovery),
        Route("/jwk", _jwks(issuer)),
        Route("/static/style.css", _style),
        route("/health", health),
        route("/devicecode", _oauth_endpoint(endpoints.DeviceAuthorization), "POST"),
        route("/revoke", _oauth_endpoint(endpoints.Revocation), "POST"),
        route("/introspect", _oauth_endpoint(endpoints.Introspection), "POST"),
        Route("/denials", _denials(issuer)),
        route(registration.PATH, registration.register, "POST"),
        route(f"{registration.PATH}/{{client_id}}", registration.manage, "GET", "PUT", "DELETE"),
        route("/userinfo", userinfo, "GET", "POST"),
        route("/authorize", authorize, "GET", "POST"),
        route("/login", signin.login, "GET", "POST"),
        route("/login/with/{provider}", federated.begin, errand=partial(federated.forth, issuer)),
        route("/login/with/{provider}/callback", federated.callback, errand=partial(federated.back, issuer)),
        route("/logout", signin.logout, "POST"),
        route("/device", device.device, "GET", "POST"),
        route("/account", account.account, "GET", "POST"),
        route("/admin/people", people.people, "GET", "POST"),
        route("/admin/person", people.person, "GET", "POST"),
        route("/admin/groups", groups.all_groups, "GET", "POST"),
        route("/admin/group", groups.group, "GET", "POST"),
        route("/admin/policies", rules.rules, "GET", "POST"),
        route("/admin/clients", programs.programs, "GET", "POST"),
        route("/admin/client", programs.program, "GET", "POST"),
        route("/admin/audit", auditing.auditing, "GET", "POST"),
        *(route(path, handler, *methods) for path, handler, methods in api.routes()),
    ]
    described = [*routes, Route(openapi.PATH, _home)]
    routes.append(Route(openapi.PATH, _constant(openapi.document(described, settings.issuer))))
    return Starlette(lifespan=lifespan, middleware=[Middleware(Guard)], routes=routes)


async def _home(http: HttpRequest) -> Response:
    del http
    return RedirectResponse("/account", 303)


def _constant(document: dict[str, object]) -> Callable[[HttpRequest], Awaitable[Response]]:
    async def respond(http: HttpRequest) -> Response:
        del http
        return JSONResponse(document, headers=_PUBLIC)

    return respond


def _jwks(issuer: Issuer) -> Callable[[HttpRequest], Awaitable[Response]]:
    async def respond(http: HttpRequest) -> Response:
        del http
        return JSONResponse(issuer.keys.jwks(), headers=_PUBLIC)

    return respond


def _denials(issuer: Issuer) -> Callable[[HttpRequest], Awaitable[Response]]:
    async def respond(http: HttpRequest) -> Response:
        return await feed.respond(issuer, http.app.state.news, http)

    return respond


async def _style(http: HttpRequest) -> Response:
    del http
    return Response(STYLE, media_type="text/css", headers={"Cache-Control": "public, max-age=3600"})


async def _keep_house(issuer: Issuer) -> None:
    """Look after the keys every second, and delete what has expired now and then."""
    for second in itertools.count(1):
        await asyncio.sleep(1)
        await run_in_threadpool(_tend_keys, issuer)
        if second % issuer.settings.sweep_s == 0:
            await run_in_threadpool(_sweep, issuer)


def _tend_keys(issuer: Issuer) -> None:
    try:
        deny = rotation.denier(issuer.engine, issuer.hasher)
        rotation.tend(issuer.keys, issuer.settings, issuer.audit, deny)
    except (StateError, OSError, SQLAlchemyError) as error:
        _LOG.warning("the keys cannot be looked after, will be tried again: %s", error)


def _sweep(issuer: Issuer) -> None:
    issuer.audit.end_window()
    try:
        sweeping.sweep(issuer.engine)
    except SQLAlchemyError as error:
        _LOG.warning("housekeeping failed, will be tried again: %s", error)
