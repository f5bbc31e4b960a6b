"""Load for an HTTPS server of ours from one thread: connections that stay open, requests made in advance."""

from __future__ import annotations

import selectors
import socket
import ssl
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

_BLOCK = 65536
_END_OF_HEAD = b"\r\n\r\n"


@dataclass(frozen=True)
class Load:
    """What came of it."""

    requests: int
    seconds: float
    latencies_s: tuple[float, ...]
    """Of each request, from its first byte to the last of its answer; sorted."""
    answered: int
    """Requests, with those before the measurement."""
    cpu_s: float
    """What all of these cost the client itself."""

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds

    def quantile(self, share: float) -> float:
        """The latency that this share of the requests does not exceed."""
        return self.latencies_s[min(len(self.latencies_s) - 1, int(share * len(self.latencies_s)))]


class _Connection:
    """A TLS connection with one request on it at a time."""

    def __init__(self, address: tuple[str, int], context: ssl.SSLContext, request: Callable[[bytes], bytes]) -> None:
        self.socket = context.wrap_socket(socket.create_connection(address), server_hostname=address[0])
        self.socket.settimeout(0)
        self._request = request
        self._answer = b""
        self._began = 0.0

    def send(self, before: bytes) -> None:
        """Send the request that follows on an answer."""
        self._answer = b""
        self._began = time.perf_counter()
        # A few hundred bytes always fit into the socket's buffer.
        self.socket.send(self._request(before))

    def receive(self) -> bytes | None:
        """The body of the answer once it is whole.

        Raises:
            AssertionError: it is no success.
        """
        try:
            # Records that are decrypted already would not wake the selector.
            while block := self.socket.recv(_BLOCK):
                self._answer += block
        except ssl.SSLWantReadError:
            pass
        head, found, body = self._answer.partition(_END_OF_HEAD)
        if not found:
            return None
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
        if len(body) < length:
            return None
        assert head.startswith((b"HTTP/1.1 200", b"HTTP/1.1 206")), self._answer
        return body

    def latency_s(self) -> float:
        """Seconds since the request was sent."""
        return time.perf_counter() - self._began


def drive(
    address: tuple[str, int], ca: Path, requests: Iterable[Callable[[bytes], bytes]], *, seconds: float, warm_s: float
) -> Load:
    """Keep connections busy, each with the next request as soon as the last one is answered.

    Args:
        address: host and port.
        ca: what the server's certificate must chain to.
        requests: one for each connection: makes the next request from the body of the last answer, at first from
            nothing.
        seconds: how long it is measured.
        warm_s: how long before that.
    """
    context = ssl.create_default_context(cafile=ca)
    connections = [_Connection(address, context, request) for request in requests]
    latencies: list[float] = []
    answered, cpu_s = 0, time.process_time()
    with selectors.DefaultSelector() as selector:
        for connection in connections:
            selector.register(connection.socket, selectors.EVENT_READ, connection)
            connection.send(b"")
        began = time.perf_counter() + warm_s
        end = began + seconds
        while (now := time.perf_counter()) < end:
            for key, _ in selector.select(1.0):
                connection = key.data
                body = connection.receive()
                if body is not None:
                    answered += 1
                    if now >= began:
                        latencies.append(connection.latency_s())
                    connection.send(body)
    cpu_s = time.process_time() - cpu_s
    for connection in connections:
        connection.socket.close()
    return Load(len(latencies), seconds, tuple(sorted(latencies)), answered, cpu_s)
