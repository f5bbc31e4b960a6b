"""A cache that is read all the time, and must make room meanwhile."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import cycle
from pathlib import Path

from boathouse.plan.service import Programs
from boathouse.services.xcache import unit_name
from boathouse.testing.scratch import scratch
from boathouse.testing.wait import wait_for

from .conftest import Box

ELEMENT, CACHE = "SE", "BUSY"
SIZE_BYTES = 12_000_000
FACILITY = {
    "name": "busy",
    "vo": "escape",
    "sites": {"A": {"storage": {ELEMENT: {"qos": "FAST"}}, "caches": {CACHE: {"size": "12 MB"}}}},
}
_READERS, _FILE_BYTES, _OLD, _NEW = 2, 1_500_000, 7, 6


class Busy:
    """Readers of files that do not fit beside those which their cache has from its life before.

    XCache looks once a minute after its start at what it keeps, and lets go of nothing that somebody has opened since
    the last look.
    """

    def __init__(self, box: Box) -> None:
        self._box = box
        self._token = box.token("storage.read:/lake", ELEMENT, CACHE, life_s=3600)
        self.old, self.new = (self._files(number) for number in (_OLD, _NEW))
        for path in self.old:
            self.read(path, self.old)
        wait_for("they are kept", lambda: self.kept_bytes() >= _OLD * _FILE_BYTES)
        box.stop(unit_name(CACHE))
        box.start(unit_name(CACHE))
        self._end = threading.Event()
        self._threads = ThreadPoolExecutor(_READERS)
        self._readers = [self._threads.submit(self._go_on) for _ in range(_READERS)]

    def wait_grown(self) -> None:
        """Wait until the cache has grown beyond its size, which is long before it looks."""
        wait_for("it has grown", lambda: self.kept_bytes() > SIZE_BYTES or not self.goes_on())

    def _files(self, number: int) -> dict[str, bytes]:
        made = {f"/lake/cms/{uuid.uuid4().hex}": os.urandom(_FILE_BYTES) for _ in range(number)}
        for path, body in made.items():
            self._box.put(ELEMENT, path, body)
        return made

    def _go_on(self) -> None:
        for path in cycle(self.new):
            if self._end.wait(0.2):
                return
            self.read(path, self.new)

    def read(self, path: str, of: Mapping[str, bytes]) -> None:
        """Read a file, which must come whole and right."""
        answer = self._box.http("GET", self._box.through_cache(ELEMENT, path, cache=CACHE), self._token)
        assert answer.status == 200, answer.text
        assert answer.body == of[path], path

    def place(self, path: str) -> Path:
        """Where the cache keeps a file."""
        return self._box.data(unit_name(CACHE)) / path.lstrip("/")

    def kept_bytes(self) -> int:
        """Disk that the files in the cache take."""
        found = 0
        for path in (*self.old, *self.new):
            with suppress(FileNotFoundError):
                found += self.place(path).stat().st_blocks * 512
        return found

    def goes_on(self) -> bool:
        """Whether all readers still read: none of them met anything wrong."""
        return not any(reader.done() for reader in self._readers)

    def end(self) -> None:
        """Have the readers stop.

        Raises:
            AssertionError: one of them got what it should not.
        """
        self._end.set()
        self._threads.shutdown()
        for reader in self._readers:
            reader.result()


@contextmanager
def busy(programs: Programs) -> Iterator[Busy]:
    """Run the servers and the readers."""
    with scratch() as directory, Box(FACILITY, programs, directory) as box:
        for name in box.servers:
            box.trust(name, box.issuer.url, box.issuer.jwks)
        box.write_service_tokens()
        box.start("se-se", unit_name(CACHE))
        made = Busy(box)
        try:
            made.wait_grown()
            yield made
        finally:
            made.end()
