"""A process that asks over the XRootD protocol, one JSON object a line; see :class:`.roots.Roots`.

The client library reads the token from the environment when it connects, so requests with tokens of their own come
under users of their own: these do not share a connection.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

from XRootD import client
from XRootD.client.flags import OpenFlags, PrepareFlags, QueryCode


def _read(url: str, path: str, wanted: dict[str, Any]) -> tuple[Any, str]:
    file = client.File()
    status, _ = file.open(f"{url}/{path}")
    if not status.ok:
        return status, ""
    status, data = file.read(wanted.get("offset", 0), wanted.get("size", 64))
    file.close()
    return status, bytes(data or b"").decode("latin-1")


_ACTIONS: dict[str, Callable[[client.FileSystem, str], tuple[Any, Any]]] = {
    "checksum": lambda server, path: server.query(QueryCode.CHECKSUM, path),
    "get_xattr": lambda server, path: server.get_xattr(path, ["user"]),
    "locate": lambda server, path: server.locate(path, OpenFlags.NONE),
    "ls": lambda server, path: server.dirlist(path),
    "prepare": lambda server, path: server.prepare([path], PrepareFlags.STAGE),
}
"""Those that are not a method of that name with the path and what else is given."""


def _ask(wanted: dict[str, Any]) -> tuple[Any, str]:
    """The status of an answer, and the bytes of a file, a letter each."""
    url, path, do = wanted["url"], wanted["path"], wanted["do"]
    if do == "read":
        return _read(url, path, wanted)
    server = client.FileSystem(url)
    if do in _ACTIONS:
        return _ACTIONS[do](server, path)[0], ""
    return getattr(server, do)(path, *wanted["more"])[0], ""


def main() -> None:
    """Answer until the input ends."""
    for line in sys.stdin:
        wanted = json.loads(line)
        os.environ.pop("BEARER_TOKEN", None)
        if wanted["token"]:
            os.environ["BEARER_TOKEN"] = wanted["token"]
        status, data = _ask(wanted)
        answer = {"ok": status.ok, "code": status.code, "errno": status.errno, "message": status.message, "data": data}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
