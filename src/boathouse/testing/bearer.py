"""A way to storage for programs that can send no token, or do not look at certificates: it does both for them."""

from __future__ import annotations

from pathlib import Path

from boathouse.testing.proxy import HEAD_END, Loop, Proxy


class Bearer(Proxy):
    """Speaks plain HTTP on loopback with a client, and TLS with one server, which it verifies and shows a token.

    URLs of the server in heads, as in ``Destination`` (RFC 4918 section 10.3), are its own for the client.

    Args:
        loop: where it runs.
        port: where it listens, on 127.0.0.1.
        upstream: host and port of the real server.
        ca: what the real server's certificate is verified with.
        token: what is sent with each request.
    """

    def __init__(self, loop: Loop, port: int, *, upstream: tuple[str, int], ca: Path, token: str) -> None:
        super().__init__(loop, "127.0.0.1", port, tls=None, upstream=upstream, ca=ca)
        self.url = f"http://{self.host}"
        host = ":".join(map(str, upstream))
        self._real = f"https://{host}".encode()
        self._shown = (f"Host: {host}".encode(), f"Authorization: Bearer {token}".encode())

    def _asked(self, head: bytes) -> bytes:
        first, *fields = head.removesuffix(HEAD_END).replace(self.url.encode(), self._real).split(b"\r\n")
        kept = [each for each in fields if not each.lower().startswith((b"host:", b"authorization:"))]
        return b"\r\n".join((first, *self._shown, *kept)) + HEAD_END

    def _told(self, method: str, head: bytes) -> bytes:
        del method
        return head.replace(self._real, self.url.encode())
