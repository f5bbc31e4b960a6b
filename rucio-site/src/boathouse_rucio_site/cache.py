"""Caches in the process instead of memcached, bounded, and emptied when another process changes the configuration.

Values are kept pickled, as memcached would keep them: callers of Rucio's caches change what they get.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterator, MutableMapping

from dogpile.cache.api import NO_VALUE
from dogpile.cache.region import CacheRegion
from rucio.common.cache import MemcacheRegion

MAX_ENTRIES = 20_000
"""Entries that one cache may hold; the longest unused goes first."""

_stores: weakref.WeakSet[BoundedStore] = weakref.WeakSet()


class BoundedStore(MutableMapping[str, bytes]):
    """A thread-safe dictionary that forgets its least recently used entries."""

    def __init__(self, max_entries: int = MAX_ENTRIES) -> None:
        self._entries: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()
        self._max_entries = max_entries

    # The base class compares by content, which a weak set must not.
    __hash__ = object.__hash__
    __eq__ = object.__eq__

    def __getitem__(self, key: str) -> bytes:
        with self._lock:
            self._entries.move_to_end(key)
            return self._entries[key]

    def __setitem__(self, key: str, value: bytes) -> None:
        with self._lock:
            self._entries[key] = value
            self._entries.move_to_end(key)
            while len(self._entries) > self._max_entries:
                self._entries.popitem(last=False)

    def __delitem__(self, key: str) -> None:
        with self._lock:
            del self._entries[key]

    def __iter__(self) -> Iterator[str]:
        with self._lock:
            return iter(list(self._entries))

    def __len__(self) -> int:
        with self._lock:
            return len(self._entries)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()


def configure_region(self: CacheRegion, expiration_time: int, memcached_expire_time: int | None) -> None:
    """Replaces ``MemcacheRegion._configure_region``: a store of its own for each region."""
    del memcached_expire_time
    store = BoundedStore()
    _stores.add(store)
    self.configure("dogpile.cache.memory_pickle", expiration_time=expiration_time, arguments={"cache_dict": store})


def flush() -> None:
    """Empty every cache of this process."""
    for store in list(_stores):
        store.clear()


class ReaperRegion(MemcacheRegion):
    """The reaper's cache without its memory of idle RSEs: the reaper is woken only when there is work."""

    def get(self, key: str, *args: object, **kwargs: object) -> object:
        """As dogpile's, but an RSE is never paused."""
        if key.startswith("pause_deletion_"):
            return NO_VALUE
        return super().get(key, *args, **kwargs)


MemcacheRegion._configure_region = configure_region  # noqa: SLF001 - the first entry of the table, needed by the next lines
REAPER_REGION = ReaperRegion(expiration_time=30)
TOKEN_REGION = MemcacheRegion(expiration_time=30)
