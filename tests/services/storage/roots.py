"""Requests over the XRootD protocol, many a second: a process that keeps the client library to itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from .conftest import Box
from .doors import Door

NOT_AUTHORIZED, NOT_FOUND = 3010, 3011
"""``kXR_NotAuthorized`` and ``kXR_NotFound`` of the protocol."""


@dataclass(frozen=True)
class Reply:
    """What came of a request."""

    ok: bool
    code: int
    errno: int
    message: str
    data: str

    @property
    def outcome(self) -> str:
        """``ok``, the protocol's error number, or ``login`` if the server did not let the client in."""
        if self.ok:
            return "ok"
        return str(self.errno) if self.errno else "login"


class Roots:
    """Asks the servers of a box; the library's settings and connections are those of its own process."""

    def __init__(self, box: Box) -> None:
        self._box = box
        env = {
            "PATH": os.environ["PATH"],
            "X509_CERT_DIR": str(box.context.layout.ca_directory),
            "XrdSecPROTOCOL": "ztn",
            "XRD_CONNECTIONWINDOW": "20",
            "XRD_CONNECTIONRETRY": "1",
            "XRD_STREAMERRORWINDOW": "0",
        }
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("rootclient.py"))],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()

    def ask(self, door: Door, do: str, path: str, token: str | None, *, user: str = "", **more: Any) -> Reply:
        """Do something at a path of the element behind a door.

        Args:
            door: where.
            do: ``read``, ``checksum``, ``ls`` or the name of a method of the library's ``FileSystem``.
            path: as the element knows it; what follows ``?`` is kept.
            token: what the client logs in with.
            user: whose connection it uses; one of its own if there is no name.
            more: further arguments.
        """
        host = self._box.context.url(f"{door.server}.root", "x").removeprefix("x://")
        wanted = {
            "do": do,
            "url": f"root://{user or uuid.uuid4().hex[:8]}@{host}",
            "path": door.path(self._box, path),
            "token": token,
            "more": [],
            **more,
        }
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(wanted) + "\n")
        self._process.stdin.flush()
        return Reply(**json.loads(self._process.stdout.readline()))
