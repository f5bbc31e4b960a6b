"""Every way to the bytes of the boxes: each element, its copy door, and each cache with an element behind it."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass

from boathouse.facility.model import Facility

from .conftest import FACILITY, LAYERS, Box

_FACILITY = Facility.model_validate(FACILITY)


@dataclass(frozen=True)
class Door:
    """A server, and the element whose bytes are asked for there."""

    server: str
    """What stands before ``.https`` and ``.root`` in its ports' keys."""
    element: str
    kind: str
    """As the tables of ``docs/topics/storage.md`` call it."""

    def __str__(self) -> str:
        return self.server

    def path(self, box: Box, path: str) -> str:
        """What a path of the element is called here."""
        if self.kind != "cache":
            return path
        return "//" + box.context.url(f"{self.element}.root", "roots") + "/" + path


ELEMENTS = tuple(Door(rse, rse, "element") for rse in _FACILITY.storage)
COPY_DOORS = tuple(Door(f"{rse}.copy", rse, "copy door") for rse in _FACILITY.storage)
CACHES = tuple(
    Door(name, _FACILITY.upstreams_of(name)[0], "cache")
    for name, cache in _FACILITY.caches.items()
    if getattr(cache, "mode", "user") == "user"
)
"""Those that decide by the reader's rights; one that is added is asked as the others are."""
DOORS = (*ELEMENTS, *COPY_DOORS, *CACHES)
CHAIN = tuple(Door(name, "NORTH-DISK", "cache") for name in LAYERS)
"""Those of the other box, ``layered``, that stand behind each other, from the reader's side."""
SERVERS = tuple(door.server for door in DOORS)


def servers(box: Box) -> tuple[str, ...]:
    """All of a box that a token may be for."""
    facility = box.context.facility
    return (*facility.storage, *(f"{rse}.copy" for rse in facility.storage), *facility.caches)


@dataclass(frozen=True)
class Answer:
    """What a server says to one request, to the last byte."""

    raw: bytes

    @property
    def outcome(self) -> str:
        """The status, or ``closed`` if the server closed the connection without a word of HTTP."""
        return self.raw.split()[1].decode() if self.raw.startswith(b"HTTP/1.1 ") else "closed"

    @property
    def head(self) -> bytes:
        return self.raw.partition(b"\r\n\r\n")[0]

    @property
    def body(self) -> bytes:
        return self.raw.partition(b"\r\n\r\n")[2]


def say(box: Box, door: Door, request: bytes, *, tls: bool = True) -> Answer:
    """Send a request as it is, which clients would tidy up, and listen until its answer has ended."""
    host, port = box.context.addresses[f"{door.server}.https"], box.context.ports[f"{door.server}.https"]
    connection = socket.create_connection((host, port), timeout=60)
    if tls:
        connection = box.connections.connection_pool_kw["ssl_context"].wrap_socket(connection, server_hostname=host)
    received = b""
    with connection:
        try:
            connection.sendall(request)
            while not _is_whole(received) and (more := connection.recv(1 << 16)):
                received += more
        except TimeoutError:
            raise
        except OSError:
            # It refuses what is still being sent, and resets the connection; TLS has no end then.
            pass
    return Answer(received)


def _is_whole(received: bytes) -> bool:
    """Whether all is there that the head announces; without a length, the end of the connection is the answer's."""
    head, end, body = received.partition(b"\r\n\r\n")
    length = re.search(rb"\r\ncontent-length: *([0-9]+)", head, re.IGNORECASE)
    return bool(end and length and len(body) >= int(length[1]))
