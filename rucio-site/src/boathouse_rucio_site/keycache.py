"""Keys of issuers that the facility's keeper keeps for all its services (``boathouse.wlcg.keycache`` writes them)."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

_FILE = Path("scitokens", "scitokens_cpp.sqllite")


def read(directory: Path, issuer: str) -> Mapping[str, Any] | None:
    """An issuer's key set (RFC 7517, section 5), if there is one that has not expired."""
    try:
        with closing(sqlite3.connect(f"{(directory / _FILE).as_uri()}?mode=ro", uri=True)) as connection:
            row = connection.execute("SELECT keys FROM keycache WHERE issuer = ?", (issuer,)).fetchone()
        entry = json.loads(row[0]) if row else {}
        return dict(entry["jwks"]) if entry and entry["expires"] > time.time() else None
    except (sqlite3.Error, ValueError, KeyError, TypeError):
        return None
