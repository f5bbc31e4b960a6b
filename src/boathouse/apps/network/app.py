"""What the relay tells of itself, over https: whether it runs, and what it has counted."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from boathouse.apps.network.relay import Relay

_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


def create(relay: Relay) -> ASGIApp:
    """The application, which starts and stops the relay with itself."""

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await relay.start()
        try:
            yield
        finally:
            await relay.stop()

    async def health(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def metrics(_: Request) -> Response:
        return PlainTextResponse(relay.metrics(), media_type=_PROMETHEUS)

    return Starlette(lifespan=lifespan, routes=[Route("/health", health), Route("/metrics", metrics)])
