"""What a GET announces is what it sends: nothing more, or the next answer on the connection is lost."""

from __future__ import annotations

import socket
import ssl
from urllib.parse import urlsplit

import pytest

CONTENT = bytes(number * 7 % 251 for number in range(300_000))
RANGES = [(0, 300), (1_000, 70_000), (5, 196_613), (299_900, 300_000), (220_000, 300_000), None]


def conversation(box, url: str, token: str, ranges: list[tuple[int, int] | None]) -> bytes:
    """Everything that the server says to requests for these ranges on one connection, which the last one closes."""
    parts = urlsplit(url)
    tls = ssl.create_default_context(cafile=str(box.context.layout.ca))
    with (
        socket.create_connection((parts.hostname, parts.port), timeout=60) as plain,
        tls.wrap_socket(plain, server_hostname=parts.hostname) as connection,
    ):
        received = bytearray()
        for number, wanted in enumerate(ranges):
            lines = [f"GET {parts.path} HTTP/1.1", f"Host: {parts.netloc}", f"Authorization: Bearer {token}"]
            if wanted:
                lines.append(f"Range: bytes={wanted[0]}-{wanted[1] - 1}")
            lines.append("Connection: " + ("close" if number == len(ranges) - 1 else "keep-alive"))
            connection.sendall("\r\n".join([*lines, "", ""]).encode())
            received += _answer(connection)
        while more := connection.recv(1 << 16):
            received += more
    return bytes(received)


def _answer(connection: ssl.SSLSocket) -> bytes:
    """One answer as announced: head, and as many bytes as its Content-Length says."""
    data = bytearray()
    while b"\r\n\r\n" not in data:
        data += _more(connection)
    head = bytes(data).partition(b"\r\n\r\n")[0]
    (length,) = (int(line.split(b":")[1]) for line in head.splitlines() if line.lower().startswith(b"content-length:"))
    while len(data) < len(head) + 4 + length:
        data += _more(connection)
    return bytes(data)


def _more(connection: ssl.SSLSocket) -> bytes:
    data = connection.recv(1 << 16)
    assert data, "the server closed the connection before the end of its answer"
    return data


@pytest.mark.parametrize("server", ["element", "cache"])
def test_one_connection_answers_range_after_range(box, fresh_path, server) -> None:
    box.put("NORTH-DISK", fresh_path, CONTENT)
    token = box.token("storage.read:/lake/cms", "NORTH-DISK", "NORTH-CACHE")
    url = box.url("NORTH-DISK", fresh_path) if server == "element" else box.through_cache("NORTH-DISK", fresh_path)
    said = conversation(box, url, token, RANGES)
    for wanted in RANGES:
        head, _, said = said.partition(b"\r\n\r\n")
        body = CONTENT[slice(*wanted)] if wanted else CONTENT
        assert head.startswith(b"HTTP/1.1 206" if wanted else b"HTTP/1.1 200"), head
        assert said[: len(body)] == body
        said = said[len(body) :]
    assert said == b""
