"""Servers that failed a short while ago: others are tried before them, so that not every file waits for a dead one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from urllib.parse import urlsplit

REMEMBERED_S = 60.0
"""How long a failure counts; then the server is tried in its turn again, by one reader of a process at first."""
_MOST = 256


class Failing:
    """What one process knows of servers that failed. Nothing is lost by it: they are asked last, not never.

    Times are seconds since the epoch, so that what one process has seen can be told to others.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._until: dict[str, float] = {}

    def failed(self, url: str) -> None:
        """Remember that the server of a URL failed."""
        self.learn({_server(url): self._clock() + REMEMBERED_S})

    def worked(self, url: str) -> None:
        """Forget its failure."""
        self._until.pop(_server(url), None)

    def learn(self, until: Mapping[str, float]) -> None:
        """Take over what another process remembers."""
        for server, end in until.items():
            self._until[server] = max(end, self._until.get(server, end))
        for server in sorted(self._until, key=lambda each: self._until[each])[:-_MOST]:
            del self._until[server]

    @property
    def known(self) -> dict[str, float]:
        """By server (host and port), until when its failure counts."""
        now = self._clock()
        self._until = {server: end for server, end in self._until.items() if end > now}
        return dict(self._until)

    def last(self, urls: Iterable[str]) -> list[str]:
        """URLs in their order, but those of failing servers after all others."""
        known = self.known
        return sorted(urls, key=lambda url: _server(url) in known)


def _server(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2]
