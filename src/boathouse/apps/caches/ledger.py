"""What was counted, in one SQLite file: what a cache once told is kept when this service or the machine stops.

Sums are kept for ever, by cache and scope; files are remembered one by one for as long as a cache keeps them and
:data:`REMEMBERED_S` longer, so that what is known of a dataset is the sum over its files.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from boathouse.apps.caches.cinfo import Kept, on_storage
from boathouse.apps.caches.gstream import Close, Datagram, lost_between
from boathouse.errors import ServiceError

REMEMBERED_S = 90 * 86400.0
"""How long a file is remembered that no cache keeps and nobody reads."""
_VERSION = 1
_MOST_NAMES = 500


@dataclass(frozen=True)
class Counts:
    """What passed through a cache."""

    uses: int = 0
    """Times that a file was opened by one reader or by several at once, and let go of by all."""
    hits: int = 0
    """Those of them for which nothing was fetched."""
    served_bytes: int = 0
    """What readers got, other caches among them."""
    fetched_bytes: int = 0
    """What crossed the link to the origin, whole blocks and read-ahead included."""
    from_caches_bytes: int = 0
    """That part of it which other caches gave."""
    prefetched_bytes: int = 0
    """That part of it which was read ahead."""
    bypassed_bytes: int = 0
    """That part of it which was not kept."""
    checksum_errors: int = 0
    """Blocks that arrived wrong."""

    @property
    def saved_bytes(self) -> int:
        """What readers got that did not cross the link to the origin; below zero where more was fetched than served."""
        return self.served_bytes - self.fetched_bytes

    @property
    def hit_ratio(self) -> float | None:
        """Part of the served bytes that was not fetched for it; None where nothing was served."""
        return max(0.0, self.saved_bytes / self.served_bytes) if self.served_bytes else None

    def plus(self, other: Counts) -> Counts:
        """Both together."""
        return Counts(*(getattr(self, name) + getattr(other, name) for name in _COUNTED))

    def as_dict(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self) | {"saved_bytes": self.saved_bytes, "hit_ratio": self.hit_ratio}


_COUNTED = tuple(field.name for field in fields(Counts))
_COLUMNS = ", ".join(f"{name} INTEGER NOT NULL DEFAULT 0" for name in _COUNTED)
_SCHEMA = f"""
CREATE TABLE scopes (cache TEXT, scope TEXT, {_COLUMNS}, PRIMARY KEY (cache, scope));
CREATE TABLE files (cache TEXT, path TEXT, {_COLUMNS}, used_at INTEGER NOT NULL, PRIMARY KEY (cache, path));
CREATE TABLE evictions (cache TEXT, scope TEXT, reason TEXT, files INTEGER NOT NULL, bytes INTEGER NOT NULL,
                        PRIMARY KEY (cache, scope, reason));
CREATE TABLE kept (cache TEXT, name TEXT, path TEXT, bytes INTEGER NOT NULL, PRIMARY KEY (cache, name));
CREATE TABLE streams (cache TEXT PRIMARY KEY, began_at INTEGER NOT NULL DEFAULT 0, number INTEGER NOT NULL DEFAULT 0,
                      lost INTEGER NOT NULL DEFAULT 0, refused INTEGER NOT NULL DEFAULT 0,
                      unreadable INTEGER NOT NULL DEFAULT 0);
CREATE TABLE scrubs (cache TEXT PRIMARY KEY, began_at REAL NOT NULL, ended_at REAL NOT NULL, files INTEGER NOT NULL,
                     bytes INTEGER NOT NULL, wrong INTEGER NOT NULL, unknown INTEGER NOT NULL);
PRAGMA user_version = {_VERSION};
"""


class Ledger:
    """The counters. Shared between threads; each call is one transaction.

    Args:
        path: the file; it is made if it is missing.
        prefixes: directories below which scopes begin.
        outside: caches whose files are not the lake's, and have no scopes.

    Raises:
        ServiceError: the file is another program's, or a newer Boathouse's.
    """

    def __init__(self, path: Path, prefixes: Sequence[str], *, outside: Iterable[str] = ()) -> None:
        self._prefixes, self._outside = prefixes, frozenset(outside)
        self._lock = threading.Lock()
        self._left: dict[str, set[str]] = {}
        """What was evicted from a cache since its directories were last begun to be read."""
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._connection.row_factory = sqlite3.Row
        try:
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            (version,) = self._connection.execute("PRAGMA user_version").fetchone()
            if version == 0:
                self._connection.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
        except sqlite3.DatabaseError as error:
            raise ServiceError("the counters of the caches cannot be read", got=str(error), where=str(path)) from error
        if version not in {0, _VERSION}:
            raise ServiceError(
                "the counters of the caches have an unknown version",
                expected=str(_VERSION),
                got=str(version),
                where=str(path),
                remedy="run the Boathouse that wrote it, or a newer one",
            )

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._connection.close()

    # -- writing -----------------------------------------------------------------------------------------------

    def add(self, cache: str, datagram: Datagram, doors: frozenset[str]) -> None:
        """Count what a cache told, once.

        Args:
            cache: its name.
            datagram: what it told.
            doors: ``host:port`` of all caches, to tell them from elements.
        """
        with self._transaction() as database:
            database.execute("INSERT OR IGNORE INTO streams (cache) VALUES (?)", (cache,))
            (before,) = database.execute("SELECT * FROM streams WHERE cache = ?", (cache,))
            last = before["number"] if before["began_at"] == datagram.began_at else 0
            lost = lost_between(last, datagram.number)
            database.execute(
                "UPDATE streams SET began_at = ?, number = ?, lost = lost + ?, unreadable = unreadable + ? "
                "WHERE cache = ?",
                (datagram.began_at, datagram.number, lost, datagram.unreadable, cache),
            )
            for close in datagram.closes:
                counts = _counts(close, doors)
                path = on_storage(close.name)
                _increase(database, "scopes", {"cache": cache, "scope": self._scope(cache, path)}, counts)
                _increase(database, "files", {"cache": cache, "path": path}, counts, used_at=close.closed_at)

    def refuse(self, cache: str, *, unreadable: bool = False) -> None:
        """Count a datagram that is not believed, or makes no sense."""
        column = "unreadable" if unreadable else "refused"
        with self._transaction() as database:
            database.execute("INSERT OR IGNORE INTO streams (cache) VALUES (?)", (cache,))
            database.execute(f"UPDATE streams SET {column} = {column} + 1 WHERE cache = ?", (cache,))  # noqa: S608

    def evicted(self, cache: str, name: str, size_bytes: int, reason: str) -> None:
        """Count what left a cache, and forget that it is kept.

        Args:
            cache: its name.
            name: the path by which it kept the file.
            size_bytes: what that took on disk.
            reason: under which it is counted.
        """
        with self._transaction() as database:
            self._left.setdefault(cache, set()).add(name)
            self._evicted(database, cache, name, size_bytes, reason)

    def keeps(self, cache: str, found: Iterable[Kept]) -> None:
        """Take over what a cache keeps now: what has gone since the last time was purged.

        Args:
            cache: its name.
            found: all that it keeps, read while this runs.
        """
        with self._lock:
            left = self._left[cache] = set()
        now = {each.name: each for each in found}
        with self._transaction() as database:
            # What was evicted while the directories were read may have been seen before.
            now = {name: each for name, each in now.items() if name not in left}
            before = {row["name"]: row["bytes"] for row in database.execute(_KEPT, (cache,))}
            for name in before.keys() - now.keys():
                self._evicted(database, cache, name, before[name], "purged")
            database.executemany(
                "INSERT OR REPLACE INTO kept VALUES (?, ?, ?, ?)",
                [
                    (cache, name, each.path, each.disk_bytes)
                    for name, each in now.items()
                    if before.get(name) != each.disk_bytes
                ],
            )
            database.execute(
                "DELETE FROM files WHERE cache = ? AND used_at < ? AND path NOT IN (SELECT path FROM kept "
                "WHERE kept.cache = files.cache)",
                (cache, int(time.time() - REMEMBERED_S)),
            )

    def scrubbed(self, cache: str, began_at: float, *, files: int, size_bytes: int, wrong: int, unknown: int) -> None:
        """Remember the last scrub of a cache."""
        with self._transaction() as database:
            database.execute(
                "INSERT OR REPLACE INTO scrubs VALUES (?, ?, ?, ?, ?, ?, ?)",
                (cache, began_at, time.time(), files, size_bytes, wrong, unknown),
            )

    # -- reading -----------------------------------------------------------------------------------------------

    def scopes(self, cache: str) -> dict[str, Counts]:
        """Counts of a cache by scope."""
        with self._transaction() as database:
            rows = database.execute("SELECT * FROM scopes WHERE cache = ? ORDER BY scope", (cache,)).fetchall()
        return {row["scope"]: _of(row) for row in rows}

    def evictions(self, cache: str) -> dict[str, dict[str, tuple[int, int]]]:
        """Files and bytes that left a cache, by scope and reason."""
        with self._transaction() as database:
            rows = database.execute("SELECT * FROM evictions WHERE cache = ?", (cache,)).fetchall()
        found: dict[str, dict[str, tuple[int, int]]] = {}
        for row in rows:
            found.setdefault(row["scope"], {})[row["reason"]] = (row["files"], row["bytes"])
        return found

    def files(self, cache: str, paths: Sequence[str]) -> dict[str, Counts]:
        """Counts of files of a cache; those that nothing is known of are left out."""
        found: dict[str, Counts] = {}
        with self._transaction() as database:
            for start in range(0, len(paths), _MOST_NAMES):
                some = paths[start : start + _MOST_NAMES]
                marks = ", ".join("?" * len(some))
                rows = database.execute(f"SELECT * FROM files WHERE cache = ? AND path IN ({marks})", (cache, *some))  # noqa: S608
                found |= {row["path"]: _of(row) for row in rows}
        return found

    def stream(self, cache: str) -> dict[str, int]:
        """Datagrams of a cache that did not arrive, were not believed, or made no sense."""
        with self._transaction() as database:
            row = database.execute("SELECT * FROM streams WHERE cache = ?", (cache,)).fetchone()
        return {name: row[name] if row else 0 for name in ("lost", "refused", "unreadable")}

    def scrub(self, cache: str) -> dict[str, Any] | None:
        """The last scrub of a cache; None if there was none."""
        with self._transaction() as database:
            row = database.execute("SELECT * FROM scrubs WHERE cache = ?", (cache,)).fetchone()
        return {name: row[name] for name in row.keys() if name != "cache"} if row else None  # noqa: SIM118

    def scope_of(self, path: str) -> str:
        """The scope that a path belongs to: the first directory below the prefix; for people and groups the first two.

        Rucio makes directories of the dots in scopes that begin with ``user`` or ``group``.
        """
        for prefix in self._prefixes:
            if path.startswith(f"{prefix}/"):
                first, *others = path.removeprefix(f"{prefix}/").split("/")
                return f"{first}.{others[0]}" if first in {"user", "group"} and len(others) > 1 else first
        return ""

    def _scope(self, cache: str, path: str) -> str:
        return "" if cache in self._outside else self.scope_of(path)

    def _evicted(self, database: sqlite3.Connection, cache: str, name: str, size_bytes: int, reason: str) -> None:
        database.execute("DELETE FROM kept WHERE cache = ? AND name = ?", (cache, name))
        database.execute(
            "INSERT INTO evictions VALUES (?, ?, ?, 1, ?) ON CONFLICT DO UPDATE "
            "SET files = files + 1, bytes = bytes + excluded.bytes",
            (cache, self._scope(cache, on_storage(name)), reason, size_bytes),
        )

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                # After some errors, such as a full disk, SQLite has done so itself.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise


_KEPT = "SELECT name, bytes FROM kept WHERE cache = ?"


def _counts(close: Close, doors: frozenset[str]) -> Counts:
    is_from_cache = bool(close.origins) and all(origin in doors for origin in close.origins)
    return Counts(
        uses=1,
        hits=int(not close.fetched_bytes),
        served_bytes=close.served_bytes,
        fetched_bytes=close.fetched_bytes,
        from_caches_bytes=close.fetched_bytes if is_from_cache else 0,
        prefetched_bytes=close.prefetched_bytes,
        bypassed_bytes=close.bypassed_bytes,
        checksum_errors=close.checksum_errors,
    )


def _increase(database: sqlite3.Connection, table: str, keys: Mapping[str, str], counts: Counts, **also: int) -> None:
    values: Mapping[str, str | int] = {**keys, **{name: getattr(counts, name) for name in _COUNTED}, **also}
    updates = [f"{name} = {name} + excluded.{name}" for name in _COUNTED]
    updates += [f"{name} = excluded.{name}" for name in also]
    # All names are this module's own.
    database.execute(
        f"INSERT INTO {table} ({', '.join(values)}) VALUES ({', '.join('?' * len(values))}) "  # noqa: S608
        f"ON CONFLICT DO UPDATE SET {', '.join(updates)}",
        tuple(values.values()),
    )


def _of(row: sqlite3.Row) -> Counts:
    return Counts(*(row[name] for name in _COUNTED))
