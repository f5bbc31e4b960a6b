"""Parts of a test: an issuer that signs anything, a source that stops in the middle."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from boathouse.facility.model import TRANSFERS_ADDRESS as TRANSFERS
from boathouse.testing.https import Handler, HttpsServer
from boathouse.testing.issuer import IssuerServer
from boathouse.testing.pki import Authority
from boathouse.testing.scratch import free_port

__all__ = ["DESTINATION", "SOURCE", "TRANSFERS", "Gated", "Issuer", "Reply"]

SOURCE = "127.1.1.11"
DESTINATION = "127.1.1.12"
"""Addresses of copy doors, the first and the second of the facility."""


class Issuer(IssuerServer):
    """The issuer of tokens that no other would give."""

    def token(
        self, audience: str | list[str], scope: str, *, subject: str = "rucio", lifetime_s: int = 3600, **claims: object
    ) -> str:
        content = {"sub": subject, "client_id": subject, "aud": audience, "scope": scope, **claims}
        return self.sign(content, life_s=lifetime_s)


class Gated(HttpsServer):
    """A source that stops in the middle of each file until it is told to go on, or breaks off there.

    Storage that dies or hangs at the right moment cannot be had from a real server.
    """

    def __init__(self, authority: Authority) -> None:
        address = "127.0.1.13"
        tls = authority.certificate("gated", address)
        super().__init__(partial(_GatedFiles, source=self), address, free_port(address), tls)
        self.davs = self.url.replace("https", "davs", 1)
        self.files: dict[str, bytes] = {}
        self.go_on: dict[str, threading.Event] = {}
        self.breaks: set[str] = set()
        self.asked: Counter[str] = Counter()

    def put(self, path: str, data: bytes) -> threading.Event:
        """Offer a file; set the event that is returned to let its second half go."""
        self.files[path] = data
        return self.go_on.setdefault(path, threading.Event())

    def stop(self) -> None:
        for event in self.go_on.values():
            event.set()
        super().stop()


class _GatedFiles(Handler):
    def __init__(self, *args: Any, source: Gated) -> None:
        self._source = source
        super().__init__(*args)

    def respond(self) -> None:
        data = self._source.files.get(self.path, b"")
        self.send_response(200 if self.path in self._source.files else 404)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "HEAD":
            return
        half = len(data) // 2
        self.wfile.write(data[:half])
        self.wfile.flush()
        self._source.asked[self.path] += 1
        if self.path in self._source.breaks:
            self._source.breaks.discard(self.path)
            self.close_connection = True
            return
        self._source.go_on[self.path].wait(300)
        with contextlib.suppress(OSError):
            self.wfile.write(data[half:])


@dataclass
class Reply:
    status: int
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)
