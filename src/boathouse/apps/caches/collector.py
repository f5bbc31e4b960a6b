"""Listens to the caches and looks at what they keep."""

from __future__ import annotations

import logging
import socket
import sqlite3
import threading
from collections.abc import Sequence

from boathouse.apps.caches import cinfo
from boathouse.apps.caches.gstream import Sender, parse
from boathouse.apps.caches.ledger import Ledger
from boathouse.apps.caches.settings import Cache
from boathouse.errors import ServiceError

_LONGEST_BYTES = 65_536
_BUFFER_BYTES = 4 << 20
_LOOK_EVERY_S = 30.0
_HEAR_S = 0.5
_TROUBLE = (OSError, sqlite3.Error)

log = logging.getLogger(__name__)


class Collector:
    """One thread a cache for its datagrams, and one that looks at all directories every half a minute.

    Args:
        caches: whom to listen to.
        ledger: where it is counted.
        doors: ``host:port`` of all caches.

    Raises:
        ServiceError: a port is another program's.
    """

    def __init__(self, caches: Sequence[Cache], ledger: Ledger, doors: frozenset[str]) -> None:
        self._caches, self._ledger, self._doors = caches, ledger, doors
        self._stop = threading.Event()
        self._sockets = {cache.name: _listen(cache) for cache in caches}
        self._threads = [threading.Thread(target=self._hear, args=(cache,), name=cache.name) for cache in caches]
        self._threads.append(threading.Thread(target=self._look, name="look"))
        self._looking = threading.Lock()

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End; what has arrived is counted first."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        for each in self._sockets.values():
            each.close()

    def look(self) -> None:
        """Take over what the caches keep now."""
        with self._looking:
            for cache in self._caches:
                self._ledger.keeps(cache.name, cinfo.kept(cache.data))

    def _hear(self, cache: Cache) -> None:
        heard, sender = self._sockets[cache.name], Sender(cache.address, cache.root_port)
        while True:
            try:
                content, (_, port, *_) = heard.recvfrom(_LONGEST_BYTES)
            except TimeoutError:
                if self._stop.is_set():
                    return
                continue
            try:
                self._take(cache, content, is_cache=sender.is_cache(port))
            except _TROUBLE:
                # As on a full disk: what follows may be counted again, and the gap in the numbers tells of this one.
                log.exception("%s: a datagram was not counted", cache.name)

    def _take(self, cache: Cache, content: bytes, *, is_cache: bool) -> None:
        if not is_cache:
            log.warning("%s: a datagram of %d bytes did not come from the cache", cache.name, len(content))
            self._ledger.refuse(cache.name)
            return
        try:
            datagram = parse(content)
        except (ValueError, KeyError, TypeError) as error:
            log.warning("%s: a datagram cannot be understood: %s", cache.name, error)
            self._ledger.refuse(cache.name, unreadable=True)
            return
        if datagram is not None:
            self._ledger.add(cache.name, datagram, self._doors)

    def _look(self) -> None:
        while not self._stop.is_set():
            try:
                self.look()
            except _TROUBLE:
                log.exception("what the caches keep was not looked at")
            self._stop.wait(_LOOK_EVERY_S)


def _listen(cache: Cache) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
    made.settimeout(_HEAR_S)
    try:
        # Loopback: the kernel lets nothing in that comes from elsewhere.
        made.bind(("127.0.0.1", cache.stream_port))
    except OSError as error:
        made.close()
        raise ServiceError(
            "another program has the port for a cache's datagrams", got=str(error), where=f"UDP {cache.stream_port}"
        ) from error
    return made
