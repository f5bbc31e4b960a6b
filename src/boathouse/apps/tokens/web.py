"""From HTTP to a function and back: a thread and a transaction for each request, none unbounded, none unlogged."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any
from urllib.parse import parse_qsl

from authlib.oauth2.base import OAuth2Error
from authlib.oauth2.rfc6749.errors import InvalidRequestError
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from boathouse.apps.tokens.issuer import Issuer
from boathouse.apps.tokens.persistence.store import Store
from boathouse.apps.tokens.protocol.oauth import Request, Server
from boathouse.apps.tokens.texts import storable
from boathouse.apps.tokens.trail import audit, tracing
from boathouse.apps.tokens.workers import Workers

_ACCESS = logging.getLogger("boathouse.tokens.access")

BODY_LIMIT_BYTES = 65536
QUERY_LIMIT_BYTES = 16384
_FIELDS_AT_MOST = 100
_FORM = "application/x-www-form-urlencoded"

Pairs = Sequence[tuple[str, str]]

_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)
_CLOSED_CSP = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
_NO_STORE = (b"cache-control", b"no-store")


@dataclass
class Call:
    """One request on its way through a handler."""

    issuer: Issuer
    store: Store
    http: HttpRequest
    query: Pairs
    form: Pairs
    body: bytes = b""
    """Of a request that carries no form."""
    brought: Any = None
    """What the endpoint's errand brought from elsewhere."""
    held: list[audit.Entry] | None = None
    """Audit records that are written for several requests at once; None if the request writes its own."""

    @cached_property
    def server(self) -> Server:
        """Authlib's server for this request."""
        return Server(self.issuer, self.store, self.address, self.held)

    @property
    def address(self) -> str:
        """Where the request comes from."""
        return self.http.client.host if self.http.client else ""

    @property
    def is_post(self) -> bool:
        """Whether something is to be changed."""
        return self.http.method == "POST"

    def value(self, name: str) -> str:
        """A form field, or else a query parameter; empty if absent."""
        return dict(self.form).get(name) or dict(self.query).get(name, "")

    def oauth(self, *, form: Pairs | None = None) -> Request:
        """The request as Authlib sees it.

        Raises:
            InvalidRequestError: a parameter is repeated or malformed.
        """
        uri = f"{self.issuer.settings.issuer}{self.http.url.path}"
        return Request(
            self.http.method, uri, self.http.headers, query=self.query, form=self.form if form is None else form
        )


Handler = Callable[[Call], Response]


@dataclass(frozen=True)
class Work:
    """A request that was read, and what is to be done with it."""

    handler: Handler
    http: HttpRequest
    query: Pairs
    form: Pairs
    body: bytes
    brought: Any = None

    def call(self, issuer: Issuer, store: Store, held: list[audit.Entry] | None = None) -> Call:
        """The call in a transaction."""
        return Call(issuer, store, self.http, self.query, self.form, self.body, self.brought, held)


Errand = Callable[[HttpRequest, Pairs], Any]
"""Asks another server something, of the request and its query, and gives errors back as values."""


def endpoint(
    threads: Workers[Work, Response],
    handler: Handler,
    *,
    kind: Callable[[Pairs], str | None] | None = None,
    errand: Errand | None = None,
) -> Callable[[HttpRequest], Awaitable[Response]]:
    """An asynchronous endpoint around a handler that works in a thread, in a transaction.

    Args:
        threads: where handlers work.
        handler: what is done.
        kind: says of a form which of the kinds its request is of that are worked on together; None for none.
        errand: done before the transaction begins; the handler finds the result in the call.
    """

    async def respond(http: HttpRequest) -> Response:
        try:
            query = _pairs(http.scope["query_string"])
            body = await http.body() if http.method in ("POST", "PUT", "PATCH") else b""
            form = _pairs(body) if http.method == "POST" and _is_form(http) else ()
        except ClientDisconnect:
            return JSONResponse({"error": "invalid_request", "error_description": "The body is too long"}, 413)
        except ValueError as error:
            return refuse(InvalidRequestError(f"The parameters are malformed: {type(error).__name__}"))
        if not all(storable(text) for pair in (*query, *form) for text in pair) or not storable(http.scope["path"]):
            return refuse(InvalidRequestError("A parameter holds a control character"))
        brought = await threads.outside(partial(errand, http, query)) if errand else None
        work = Work(handler, http, query, form, body, brought)
        shared = kind(form) if kind else None
        return await (threads.together(shared, work) if shared else threads.alone(work))

    return respond


def _is_form(http: HttpRequest) -> bool:
    return http.headers.get("content-type", "").partition(";")[0].strip().lower() == _FORM


def _pairs(encoded: bytes) -> Pairs:
    return parse_qsl(encoded.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_FIELDS_AT_MOST)


def refuse(error: OAuth2Error) -> Response:
    """What is answered to a request that cannot be granted."""
    status, body, headers = error()
    return JSONResponse(body, status, dict(headers))


@dataclass
class _Exchange:
    """What the outer middleware learns about one request."""

    started: float = field(default_factory=time.perf_counter)
    status: int = 0


class Guard:
    """Names requests, bounds their size, adds the security headers, and logs one line for each: no query, no body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection of the ASGI server."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange()
        name = (tracing.HEADER, tracing.begin().encode())

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                headers = message.setdefault("headers", [])
                present = {name for name, _ in headers}
                headers.extend(pair for pair in (*_HEADERS, _CLOSED_CSP, _NO_STORE) if pair[0] not in present)
                headers.append(name)
            await send(message)

        try:
            if too_long := self._too_long(scope):
                await too_long(scope, receive, sending)
            else:
                await self._app(scope, _bounded(receive), sending)
        finally:
            elapsed_ms = (time.perf_counter() - exchange.started) * 1000
            client = scope.get("client") or ("", 0)
            # A path may hold an escaped line break: nobody writes lines of his own into the log.
            path = scope["path"][:100].encode("unicode_escape").decode()
            _ACCESS.info("%s %s %s %d %.1f ms", client[0], scope["method"], path, exchange.status, elapsed_ms)

    @staticmethod
    def _too_long(scope: Scope) -> Response | None:
        if len(scope["query_string"]) > QUERY_LIMIT_BYTES:
            return JSONResponse({"error": "invalid_request", "error_description": "The URL is too long"}, 414)
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if not length.isdigit() or int(length) > BODY_LIMIT_BYTES:
            return JSONResponse({"error": "invalid_request", "error_description": "The body is too long"}, 413)
        return None


def _bounded(receive: Receive) -> Receive:
    """A body without a length breaks off where it becomes too long."""
    seen = 0

    async def receiving() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > BODY_LIMIT_BYTES:
            return {"type": "http.disconnect"}
        return message

    return receiving
