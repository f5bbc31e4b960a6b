"""Keys of issuers that the facility's keeper keeps for all its services (``boathouse.wlcg.keycache`` writes them)."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

_FILE = Path("scitokens", "scitokens_cpp.sqllite")


_LIFE_S = 10 * 365 * 86400
"""How much later than it was written the keeper's rows are to be renewed."""


class Kept(NamedTuple):
    """Keys in the cache."""

    jwks: Mapping[str, Any]
    """The key set (RFC 7517, section 5)."""
    written_at: float
    """When they were put there, or last changed; seconds since the epoch."""


def read(directory: Path, issuer: str) -> Kept | None:
    """An issuer's keys, if there are some that have not expired."""
    try:
        with closing(sqlite3.connect(f"{(directory / _FILE).as_uri()}?mode=ro", uri=True)) as connection:
            row = connection.execute("SELECT keys FROM keycache WHERE issuer = ?", (issuer,)).fetchone()
        entry = json.loads(row[0]) if row else {}
        if not entry or entry["expires"] <= time.time():
            return None
        return Kept(dict(entry["jwks"]), float(entry["next_update"]) - _LIFE_S)
    except (sqlite3.Error, ValueError, KeyError, TypeError):
        return None
