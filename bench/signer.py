"""A server that does only what an issuer cannot do without: TLS, HTTP, and an ES256 signature for each request."""

from __future__ import annotations

import multiprocessing
import os
import socket
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

_CLAIMS_BYTES = 400
"""As long as the claims of a token usually are."""

Message = MutableMapping[str, Any]


class _App:
    """Answers every request with a new signature."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._algorithm = ec.ECDSA(hashes.SHA256())

    async def __call__(
        self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        assert scope["type"] == "http"
        while (await receive()).get("more_body"):
            pass
        claims = os.urandom(_CLAIMS_BYTES)
        signature = self._key.sign(claims, self._algorithm)
        body = b'{"access_token":"%s.%s"}' % (urlsafe_b64encode(claims), urlsafe_b64encode(signature))
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _serve(listener: socket.socket, certificate: Path, key: Path) -> None:
    config = uvicorn.Config(
        _App(),
        ssl_certfile=str(certificate),
        ssl_keyfile=str(key),
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=1,
    )
    uvicorn.Server(config).run(sockets=[listener])


@contextmanager
def signer(processes: int, certificate: Path, key: Path) -> Iterator[tuple[str, int]]:
    """So many processes of it on one port of loopback; its address."""
    context = multiprocessing.get_context("spawn")
    listeners: list[socket.socket] = []
    for _ in range(processes):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(("127.0.0.1", listeners[0].getsockname()[1] if listeners else 0))
        # Who connects from now on waits until the process has started.
        listener.listen(128)
        listeners.append(listener)
    servers = [context.Process(target=_serve, args=(listener, certificate, key)) for listener in listeners]
    try:
        for server in servers:
            server.start()
        yield "localhost", listeners[0].getsockname()[1]
    finally:
        for server in servers:
            server.terminate()
        for server in servers:
            server.join()
        for listener in listeners:
            listener.close()
