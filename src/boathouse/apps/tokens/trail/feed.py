"""The list of tokens that count no more, for services that check tokens themselves: they wait here for its next entry.

``GET /denials?after=NUMBER&wait=SECONDS`` with a confidential client's HTTP Basic credentials answers

    {"version": 17, "denied": [{"kind": "subject", "key": "…", "issued_until": 1800000000, "expires_at": 1800021600}]}

with all entries after a number, at once if there are some, else when there are or after the wait. ``version`` is the
number to go on from. A token is denied by an entry of the kind

``token``    that names its ``jti``,
``subject``  that names its ``sub``,
``client``   that names its ``client_id``, or its ``sub`` where a client speaks for itself,
``grant``    that names its ``sub`` and its ``client_id``, with a space between,
``key``      that names the ``kid`` of its header,

if its ``iat`` is not after ``issued_until``. After ``expires_at`` none of these tokens is alive.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import psycopg
from authlib.oauth2.base import OAuth2Error
from authlib.oauth2.rfc6749.errors import InvalidClientError, InvalidRequestError
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from boathouse.apps.tokens.issuer import Issuer
from boathouse.apps.tokens.persistence.database import transaction
from boathouse.apps.tokens.persistence.store import Store
from boathouse.apps.tokens.protocol.clientauth import client_secret_basic

_LOG = logging.getLogger(__name__)
_WAIT_AT_MOST_S = 60.0
_DEAF_S = 1.0
"""How long anybody waits while the database does not notify this process."""
_RECONNECT_S = (0.5, 10.0)
_CHECK_S = 5.0
_NO_STORE = {"Cache-Control": "no-store"}


class News:
    """Tells the requests of one process that the list has grown. Made and used in the event loop.

    Args:
        engine: the issuer's database, which notifies.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._loop = asyncio.get_running_loop()
        self._next = asyncio.Event()
        self._hears = False
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="denials", daemon=True)
        self._thread.start()

    def ticket(self) -> asyncio.Event:
        """What is set at the next news; take it before the list is read."""
        return self._next

    async def wait(self, ticket: asyncio.Event, wait_s: float) -> None:
        """Wait for news since the ticket was taken, no longer than that; not at all once closed."""
        if self._closed.is_set():
            return
        try:
            async with asyncio.timeout(wait_s if self._hears else min(wait_s, _DEAF_S)):
                await ticket.wait()
        except TimeoutError:
            pass

    def close(self) -> None:
        """Let everybody go who waits; the thread ends within seconds, or with the process."""
        self._closed.set()
        self._wake()

    def _wake(self) -> None:
        woken, self._next = self._next, asyncio.Event()
        woken.set()

    def _run(self) -> None:
        pause_s = _RECONNECT_S[0]
        while not self._closed.is_set():
            try:
                self._listen()
                pause_s = _RECONNECT_S[0]
            except psycopg.Error as error:
                self._hears = False
                _LOG.warning("the database does not notify, next try in %.1f s: %s", pause_s, type(error).__name__)
                self._closed.wait(pause_s)
                pause_s = min(2 * pause_s, _RECONNECT_S[1])

    def _listen(self) -> None:
        arguments, options = self._engine.dialect.create_connect_args(self._engine.url)
        named = {**options, "application_name": "boathouse-tokens-denials", "connect_timeout": 5, "autocommit": True}
        with psycopg.connect(*arguments, **named) as connection:
            connection.execute("LISTEN denials")
            self._hears = True
            # What happened before is in the list, but nobody was woken for it.
            self._loop.call_soon_threadsafe(self._wake)
            while not self._closed.is_set():
                for _ in connection.notifies(timeout=_CHECK_S, stop_after=1):
                    self._loop.call_soon_threadsafe(self._wake)


def denials(issuer: Issuer, http: HttpRequest, after: int) -> dict[str, Any]:
    """The part of the list after a number.

    Raises:
        InvalidClientError: the caller is no confidential client.
    """

    def read(connection: Connection) -> dict[str, Any]:
        store = Store(connection, issuer.hasher)
        if client_secret_basic(store.client, http) is None:
            raise InvalidClientError(status_code=401)
        version, denied = store.denials(after)
        return {"version": version, "denied": denied}

    return transaction(issuer.engine, read)


async def respond(issuer: Issuer, news: News, http: HttpRequest) -> Response:
    """The endpoint: waits in the event loop, so that those who wait cost no thread."""
    try:
        after, wait_s = _number(http, "after"), min(_number(http, "wait"), _WAIT_AT_MOST_S)
        ticket = news.ticket()
        document = await run_in_threadpool(denials, issuer, http, after)
        if not document["denied"] and wait_s > 0:
            await news.wait(ticket, wait_s)
            document = await run_in_threadpool(denials, issuer, http, after)
    except OAuth2Error as error:
        status, body, headers = error()
        return JSONResponse(body, status, dict(headers))
    except SQLAlchemyError as error:
        _LOG.error("the list of denied tokens cannot be read: %s", type(error).__name__)
        return JSONResponse({"error": "temporarily_unavailable"}, 503, {"Retry-After": "1"})
    return JSONResponse(document, headers=_NO_STORE)


def _number(http: HttpRequest, name: str) -> int:
    text = http.query_params.get(name, "0")
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise InvalidRequestError(f"Malformed {name}")
    return int(text)
