"""The care of caches, and what a test does with it and with a cache."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boathouse.run.local import files
from boathouse.services import trust
from boathouse.testing.wait import wait_for
from boathouse.wlcg import keycache

CACHE = "NORTH-CACHE"
WRITE = "storage.read:/lake/cms storage.modify:/lake/cms"

# Opens a file and keeps it open: reads once when told to, and says how that went.
READER = """
import sys
from XRootD import client
file = client.File()
status, _ = file.open(sys.argv[1])
print("open" if status.ok else status.message, flush=True)
for line in sys.stdin:
    status, data = file.read(int(line), 1000)
    print(data.hex() if status.ok else "error", flush=True)
file.close()
"""


@dataclass
class Care:
    box: Any

    def ask(self, method: str, path: str, token: str | None = None, document: Any = None) -> Any:
        body = None if document is None else json.dumps(document).encode()
        return self.box.http(method, self.box.context.url("caches") + path, token, body)

    def read(self, path: str, *, cache: str = CACHE) -> bytes:
        token = self.box.token("storage.read:/lake/cms", "NORTH-DISK", "SOUTH-DISK", *self.box.context.facility.caches)
        answer = self.box.http("GET", self.box.through_cache("NORTH-DISK", path, cache=cache), token)
        assert answer.status == 200, answer.text
        return answer.body

    def counted(self, path: str) -> dict[str, Any]:
        return self.counted_at(path, CACHE)[CACHE]

    def counted_at(self, path: str, *caches: str) -> dict[str, dict[str, Any]]:
        answer = self.ask("POST", "/files", self.box.token(WRITE, *caches), {"paths": [path], "caches": caches})
        assert answer.status == 200, answer.text
        return {found["cache"]: found for found in json.loads(answer.body)}

    def wait_served(self, path: str, size_bytes: int) -> dict[str, Any]:
        wait_for(f"{size_bytes} bytes counted", lambda: self.counted(path)["served_bytes"] == size_bytes, timeout_s=120)
        return self.counted(path)

    def wait_heard(self, cache: str = CACHE) -> None:
        """Read until something is counted: what a cache sends first after it sent something in vain is lost."""
        path = f"/lake/cms/{uuid.uuid4().hex[:12]}"
        self.box.put("NORTH-DISK", path, b"heard")

        def counted_after_a_read() -> int:
            self.read(path, cache=cache)
            return int(self.counted_at(path, cache)[cache]["served_bytes"])

        wait_for(f"{cache} is heard", counted_after_a_read, timeout_s=120)

    def evict(self, path: str, scope: str = WRITE, **more: Any) -> Any:
        document = {"paths": [path], "caches": [CACHE], **more}
        return self.ask("POST", "/evictions", self.box.token(scope, CACHE), document)

    def evicted(self, path: str, **more: Any) -> dict[str, Any]:
        answer = self.evict(path, **more)
        assert answer.status == 200, answer.text
        (result,) = json.loads(answer.body)
        return result

    def status(self) -> dict[str, Any]:
        answer = self.ask("GET", "/caches", self.box.token(WRITE, CACHE))
        return next(cache for cache in json.loads(answer.body)["caches"] if cache["name"] == CACHE)

    def kept(self, path: str) -> Path:
        return self.box.data("cache-north-cache") / path.lstrip("/")

    def open(self, path: str) -> subprocess.Popen[str]:
        token = self.box.token("storage.read:/lake/cms", "NORTH-DISK", "SOUTH-DISK", CACHE)
        env = {
            "PATH": os.environ["PATH"],
            "X509_CERT_DIR": str(self.box.context.layout.ca_directory),
            "XrdSecPROTOCOL": "ztn",
            "BEARER_TOKEN": token,
            "XRD_STREAMERRORWINDOW": "0",
            "XRD_REQUESTTIMEOUT": "30",
        }
        url = self.box.through_cache("NORTH-DISK", path, "root")
        return subprocess.Popen(
            [sys.executable, "-c", READER, url], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )


@contextmanager
def caring(box: Any, *caches: str) -> Iterator[Care]:
    """Run the care of the caches of a box; these have been heard."""
    directory = trust.key_cache(box.context)
    files.make_directory(directory, box.state.account)
    with box.state.account.acting():
        keycache.seed(directory, box.issuer.url, box.issuer.jwks)
    box.start("caches")
    try:
        made = Care(box)
        for cache in caches:
            made.wait_heard(cache)
        yield made
    finally:
        box.stop("caches")
