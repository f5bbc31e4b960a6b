"""Key caches that are filled before anybody needs them: one format for all that check tokens.

It is that of XRootD's token library, which leaves no choice, and our own services read it, too.

libscitokens reads an issuer's keys over HTTPS at the first token, and remembers a failure for ten minutes: one token
seen while the issuer is down would lock an endpoint that long. It looks into its cache first, the SQLite file
``<XDG_CACHE_HOME>/scitokens/scitokens_cpp.sqllite``, so the keys are put there. Then storage needs neither the issuer
nor its CA, and a new row counts from the next token on. The table's shape is that of ``scitokens_cache.cpp``.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_FILE = Path("scitokens", "scitokens_cpp.sqllite")
# Whoever seeds also replaces the keys when they change: the library is never to fetch them by itself.
_LIFE_S = 10 * 365 * 86400
_RENEW_S = 365 * 86400
_BUSY_S = 5.0

_TABLE = "CREATE TABLE IF NOT EXISTS keycache (issuer text UNIQUE PRIMARY KEY NOT NULL, keys text NOT NULL)"


def database(cache_directory: Path) -> Path:
    """Path of the key cache for a server whose ``XDG_CACHE_HOME`` is ``cache_directory``."""
    return cache_directory / _FILE


def seed(cache_directory: Path, issuer: str, jwks: Mapping[str, object], *, expires: float | None = None) -> bool:
    """Put an issuer's keys into a server's key cache.

    One transaction: a server that reads at the same time sees the old keys or the new ones. A file that SQLite
    cannot read, as a crash of the machine may leave, is made anew.

    Args:
        cache_directory: the server's ``XDG_CACHE_HOME``.
        issuer: URL, byte for byte as in its tokens.
        jwks: the issuer's key set (RFC 7517, section 5).
        expires: when the keys end unless they are seeded again, seconds since the epoch; never if None.

    Returns:
        Whether something was written: nothing is if the keys are there already.

    Raises:
        OSError: the file cannot be written, or the server held it for longer than five seconds.
    """
    path = database(cache_directory)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        return _write(path, issuer, jwks, expires)
    except sqlite3.OperationalError as error:
        raise OSError(str(error), str(path)) from error
    except sqlite3.DatabaseError:
        path.unlink()
        return _write(path, issuer, jwks, expires)


@dataclass(frozen=True)
class Kept:
    """Keys in a key cache."""

    jwks: Mapping[str, Any]
    """The key set (RFC 7517, section 5)."""
    written_at: float
    """When they were put there, or last changed; seconds since the epoch."""


def read(cache_directory: Path, issuer: str) -> Kept | None:
    """An issuer's keys as they were last seeded; None if there are none that can be used.

    Args:
        cache_directory: what :func:`seed` was told.
        issuer: URL, byte for byte as in its tokens.
    """
    try:
        with closing(sqlite3.connect(f"{database(cache_directory).as_uri()}?mode=ro", uri=True)) as connection:
            row = connection.execute("SELECT keys FROM keycache WHERE issuer = ?", (issuer,)).fetchone()
        entry = json.loads(row[0]) if row else {}
        if not entry or entry["expires"] <= time.time():
            return None
        return Kept(dict(entry["jwks"]), float(entry["next_update"]) - _LIFE_S)
    except (sqlite3.Error, ValueError, KeyError, TypeError):
        return None


def _write(path: Path, issuer: str, jwks: Mapping[str, object], expires: float | None) -> bool:
    now = int(time.time())
    with closing(sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)) as connection:
        connection.execute(_TABLE)
        row = connection.execute("SELECT keys FROM keycache WHERE issuer = ?", (issuer,)).fetchone()
        if expires is None and row is not None and _is_current(row[0], jwks, now):
            return False
        entry = {"jwks": jwks, "expires": int(expires or now + _LIFE_S), "next_update": now + _LIFE_S}
        connection.execute("INSERT OR REPLACE INTO keycache VALUES (?, ?)", (issuer, json.dumps(entry)))
    return True


def _is_current(text: str, jwks: Mapping[str, object], now: int) -> bool:
    try:
        entry = json.loads(text)
        return bool(entry["jwks"] == jwks and min(entry["expires"], entry["next_update"]) > now + _RENEW_S)
    except (ValueError, KeyError, TypeError):
        return False
