"""What is told of the caches: each by itself, all together without counting a byte twice, and for Prometheus.

A cache's ``saved_bytes`` is what it served less what it fetched. What a cache fetched from another one was served by
that one: so the sum of ``saved_bytes`` over all caches is what readers got less what elements gave, however the caches
stand behind each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from boathouse.apps.caches import cinfo
from boathouse.apps.caches.ledger import Counts, Ledger
from boathouse.apps.caches.settings import Cache

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Sees = Callable[[str], bool]
"""Whether the caller may know of a scope."""

_METRICS = {
    "uses_total": ("uses", "Times that a file was opened by readers and let go of by all."),
    "hits_total": ("hits", "Those of them for which nothing was fetched."),
    "served_bytes_total": ("served_bytes", "Bytes that readers got, other caches among them."),
    "fetched_bytes_total": ("fetched_bytes", "Bytes that crossed the link to the origin."),
    "fetched_from_caches_bytes_total": ("from_caches_bytes", "Those of them that other caches gave."),
    "prefetched_bytes_total": ("prefetched_bytes", "Those of them that were read ahead."),
    "checksum_errors_total": ("checksum_errors", "Blocks that arrived wrong."),
}


class Overview:
    """Tells how the caches are.

    Args:
        caches: of which it tells.
        ledger: what was counted.
    """

    def __init__(self, caches: Sequence[Cache], ledger: Ledger) -> None:
        self._caches, self._ledger = caches, ledger

    def document(self, sees: Sees) -> dict[str, Any]:
        """All caches and what they come to together, as JSON.

        Args:
            sees: which scopes the caller is told of by name; the sums are of all.
        """
        described = [self._cache(cache, sees) for cache in self._caches]
        total = _sum(counts for cache in self._caches for counts in self._ledger.scopes(cache.name).values())
        from_elements = total.fetched_bytes - total.from_caches_bytes
        to_readers = total.served_bytes - total.from_caches_bytes
        return {
            "caches": described,
            "total": {
                "to_readers_bytes": to_readers,
                "from_elements_bytes": from_elements,
                "saved_bytes": to_readers - from_elements,
                "hit_ratio": max(0.0, 1 - from_elements / to_readers) if to_readers > 0 else None,
            },
        }

    def _cache(self, cache: Cache, sees: Sees) -> dict[str, Any]:
        scopes = self._ledger.scopes(cache.name)
        evictions = self._ledger.evictions(cache.name)
        found = list(cinfo.kept(cache.data))
        reasons: dict[str, dict[str, int]] = {}
        for by_reason in evictions.values():
            for reason, (files, size_bytes) in by_reason.items():
                entry = reasons.setdefault(reason, {"files": 0, "bytes": 0})
                entry["files"] += files
                entry["bytes"] += size_bytes
        return {
            "name": cache.name,
            "site": cache.site,
            "level": cache.level,
            "size_bytes": cache.size_bytes,
            "kept_bytes": sum(each.disk_bytes for each in found),
            "kept_files": len(found),
            "complete_files": sum(each.complete for each in found),
            "oldest": min((each.kept_since for each in found), default=None),
            "newest": max((each.kept_since for each in found), default=None),
            "least_recently_used": min((each.used_at for each in found), default=None),
            **_sum(scopes.values()).as_dict(),
            "evictions": reasons,
            "datagrams": self._ledger.stream(cache.name),
            "last_scrub": self._ledger.scrub(cache.name),
            "scrub_interval_s": cache.scrub_interval_s,
            "scopes": {scope: counts.as_dict() for scope, counts in scopes.items() if sees(scope)},
        }

    def files(self, caches: Sequence[Cache], paths: Sequence[str]) -> list[dict[str, Any]]:
        """What each cache keeps of files, and what was counted of them."""
        found = []
        for cache in caches:
            counted = self._ledger.files(cache.name, paths)
            for path in paths:
                kept = cinfo.of(cache.data, path)
                about = {
                    "cache": cache.name,
                    "path": path,
                    "complete": any(each.complete for each in kept),
                    "kept_bytes": sum(each.disk_bytes for each in kept),
                    "kept_since": min((each.kept_since for each in kept), default=None),
                }
                found.append(about | counted.get(path, Counts()).as_dict())
        return found

    def metrics(self, sees: Sees) -> str:
        """Prometheus's text format: counters since the facility was made, gauges of now."""
        return "\n".join(self._lines(sees)) + "\n"

    def _lines(self, sees: Sees) -> Iterator[str]:
        scopes = {cache.name: self._ledger.scopes(cache.name) for cache in self._caches}
        for metric, (name, text) in _METRICS.items():
            yield from _head(metric, "counter", text)
            for cache, counted in scopes.items():
                for scope, counts in counted.items():
                    if sees(scope):
                        yield _line(metric, getattr(counts, name), cache=cache, scope=scope)
        evictions = {cache.name: self._ledger.evictions(cache.name) for cache in self._caches}
        for metric, place, text in (
            ("evicted_files_total", 0, "Files that left the cache."),
            ("evicted_bytes_total", 1, "Disk that they took."),
        ):
            yield from _head(metric, "counter", text)
            for cache, by_scope in evictions.items():
                for scope, by_reason in by_scope.items():
                    for reason, numbers in by_reason.items():
                        if sees(scope):
                            yield _line(metric, numbers[place], cache=cache, scope=scope, reason=reason)
        yield from _head("lost_datagrams_total", "counter", "Datagrams with counts that did not arrive.")
        for one in self._caches:
            yield _line("lost_datagrams_total", self._ledger.stream(one.name)["lost"], cache=one.name)
        yield from _head("refused_datagrams_total", "counter", "Datagrams that did not come from the cache.")
        for one in self._caches:
            yield _line("refused_datagrams_total", self._ledger.stream(one.name)["refused"], cache=one.name)
        yield from self._gauges()

    def _gauges(self) -> Iterator[str]:
        found = {cache.name: list(cinfo.kept(cache.data)) for cache in self._caches}
        yield from _head("kept_bytes", "gauge", "Disk that is taken.")
        for name, kept in found.items():
            yield _line("kept_bytes", sum(each.disk_bytes for each in kept), cache=name)
        yield from _head("kept_files", "gauge", "Files of which blocks are kept.")
        for name, kept in found.items():
            yield _line("kept_files", len(kept), cache=name)
        yield from _head("size_bytes", "gauge", "Disk that may be taken.")
        for cache in self._caches:
            yield _line("size_bytes", cache.size_bytes, cache=cache.name)
        yield from _head("oldest_timestamp_seconds", "gauge", "Since when the file is kept that has been kept longest.")
        for name, kept in found.items():
            if kept:
                yield _line("oldest_timestamp_seconds", min(each.kept_since for each in kept), cache=name)


def _sum(all_counts: Iterable[Counts]) -> Counts:
    total = Counts()
    for counts in all_counts:
        total = total.plus(counts)
    return total


def _head(name: str, kind: str, text: str) -> tuple[str, str]:
    return f"# HELP boathouse_cache_{name} {text}", f"# TYPE boathouse_cache_{name} {kind}"


def _line(metric: str, value: float, **labels: str) -> str:
    inside = ",".join(f'{name}="{_quoted(text)}"' for name, text in labels.items())
    return f"boathouse_cache_{metric}{{{inside}}} {value}"


def _quoted(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
