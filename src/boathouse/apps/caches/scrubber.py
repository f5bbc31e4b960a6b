"""Reads what caches keep whole and compares it with the catalogue's checksum; what is wrong is evicted."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from boathouse.apps.caches import cinfo
from boathouse.apps.caches.catalogue import Catalogue
from boathouse.apps.caches.cinfo import Kept
from boathouse.apps.caches.evictor import Evictor, Outcome
from boathouse.apps.caches.ledger import Ledger
from boathouse.apps.caches.settings import Cache
from boathouse.checksums import Adler32
from boathouse.errors import BoathouseError

_BATCH = 500
_LOOK_EVERY_S = 10.0
_AGAIN_AFTER_S = 300.0
"""How long after a scrub that failed the next is tried."""
_REMEMBERED = 20
# A full disk, an answer of the catalogue that is none.
_TROUBLE = (OSError, sqlite3.Error, ValueError, KeyError)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wrong:
    """A file whose bytes are not those of the catalogue."""

    cache: str
    path: str
    expected: str
    """The catalogue's adler32."""
    got: str
    """That of the cache's bytes."""
    outcome: str
    """What became of it."""


@dataclass
class Report:
    """A scrub, going on or ended."""

    caches: tuple[str, ...]
    began_at: float
    ended_at: float | None = None
    files: int = 0
    """Files whose bytes were read."""
    size_bytes: int = 0
    of_bytes: int = 0
    """Bytes that are to be read, as far as is known."""
    unknown: int = 0
    """Files that the catalogue does not know (any more); they stay."""
    wrong: list[Wrong] = field(default_factory=list)
    error: str = ""
    """Why it ended early."""

    def as_dict(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)


class Scrubber:
    """Scrubs each cache when its time has come, and all when somebody asks.

    Args:
        caches: what is scrubbed.
        ledger: remembers when that was.
        catalogue: knows the checksums.
        evictor: makes caches forget.
    """

    def __init__(self, caches: Sequence[Cache], ledger: Ledger, catalogue: Catalogue, evictor: Evictor) -> None:
        self._caches, self._ledger, self._catalogue, self._evictor = caches, ledger, catalogue, evictor
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._asked: list[tuple[Report, Sequence[Cache]]] = []
        self._reports: dict[str, Report] = {}
        self._failed_at: dict[str, float] = {}
        self._thread = threading.Thread(target=self._run, name="scrub")

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, in the middle of a scrub if need be: the next one begins anew."""
        self._stop.set()
        self._wake.set()
        self._thread.join()

    def ask(self, name: str, caches: Sequence[Cache]) -> Report:
        """Have caches scrubbed now.

        Args:
            name: by which the report is found again.
            caches: which.
        """
        report = Report(tuple(cache.name for cache in caches), time.time())
        with self._lock:
            self._reports = dict([*self._reports.items(), (name, report)][-_REMEMBERED:])
            self._asked.append((report, caches))
        self._wake.set()
        return report

    def report(self, name: str) -> Report | None:
        """A scrub that was asked for since this process began."""
        with self._lock:
            return self._reports.get(name)

    def _run(self) -> None:
        while not self._stop.is_set():
            with self._lock:
                asked = self._asked.pop(0) if self._asked else None
                if asked is None:
                    self._wake.clear()
            if asked is not None:
                self._scrub(*asked)
                continue
            for cache in self._due():
                self._scrub(Report((cache.name,), time.time()), [cache])
            self._wake.wait(_LOOK_EVERY_S)

    def _due(self) -> list[Cache]:
        try:
            return [cache for cache in self._caches if self.is_due(cache)]
        except _TROUBLE:
            log.exception("scrub")
            return []

    def is_due(self, cache: Cache) -> bool:
        """Whether the time has come to scrub a cache again."""
        now = time.time()
        last = self._ledger.scrub(cache.name)
        due = last is None or now >= last["began_at"] + cache.scrub_interval_s
        return due and now >= self._failed_at.get(cache.name, 0.0) + _AGAIN_AFTER_S

    def _scrub(self, report: Report, caches: Sequence[Cache]) -> None:
        try:
            for cache in caches:
                self._one(cache, report)
        except BoathouseError as error:
            log.warning("scrub: %s", error)
            self._failed(report, str(error))
        except _TROUBLE as error:
            log.exception("scrub")
            self._failed(report, f"{type(error).__name__}: {error}")
        if self._stop.is_set():
            report.error = report.error or "the service stopped"
        report.ended_at = time.time()

    def _failed(self, report: Report, why: str) -> None:
        report.error = why
        self._failed_at |= dict.fromkeys(report.caches, time.time())

    def _one(self, cache: Cache, report: Report) -> None:
        began_at, files, size_bytes, wrong, unknown = (
            time.time(),
            report.files,
            report.size_bytes,
            len(report.wrong),
            report.unknown,
        )
        whole = [each for each in cinfo.kept(cache.data) if each.complete]
        report.of_bytes += sum(each.size_bytes for each in whole)
        for batch in _batches(whole):
            known = self._catalogue.checksums([each.path for each in batch])
            for each in batch:
                if self._stop.is_set():
                    return
                if each.path in known:
                    self._check(cache, each, known[each.path], report)
                else:
                    report.unknown += 1
        self._ledger.scrubbed(
            cache.name,
            began_at,
            files=report.files - files,
            size_bytes=report.size_bytes - size_bytes,
            wrong=len(report.wrong) - wrong,
            unknown=report.unknown - unknown,
        )

    def _check(self, cache: Cache, kept: Kept, expected: str, report: Report) -> None:
        place = cache.data / kept.name.lstrip("/")
        try:
            before = place.stat().st_ino
            got = Adler32.of(place).hexdigest()
            is_same = place.stat().st_ino == before
        except OSError:
            # It has been purged or evicted.
            return
        report.files += 1
        report.size_bytes += kept.size_bytes
        now = cinfo.one(cache.data, kept.name)
        if got == expected or not is_same or now is None or not now.complete:
            return
        outcome, _, said = self._evictor.evict(cache, kept.path, "scrubbed", force=True)
        log.error("%s: %s has adler32 %s, not %s: %s", cache.name, kept.path, got, expected, outcome)
        text = f"{outcome}: {said}" if outcome is Outcome.failed else outcome.value
        report.wrong.append(Wrong(cache.name, kept.path, expected, got, text))


def _batches(items: Sequence[Kept]) -> Iterator[Sequence[Kept]]:
    return (items[start : start + _BATCH] for start in range(0, len(items), _BATCH))
