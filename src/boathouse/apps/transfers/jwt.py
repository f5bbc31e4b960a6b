"""A look into tokens that are carried for others. They are not verified here: storage does that."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any


def payload(token: str) -> Mapping[str, Any]:
    """The unverified claims; empty if the token is opaque."""
    return _part(token, 1)


def key_name(token: str) -> str:
    """The name of the key that signed it, as it says itself; empty if it does not."""
    return str(_part(token, 0).get("kid", ""))


@lru_cache(maxsize=512)
def _part(token: str, number: int) -> Mapping[str, Any]:
    # Many files share a token: it is not opened for each of them.
    parts = token.split(".")
    if len(parts) != 3:
        return {}
    try:
        found = json.loads(base64.urlsafe_b64decode(parts[number] + "=" * (-len(parts[number]) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def audiences(claims: Mapping[str, Any]) -> list[str]:
    """Whom a token is for (RFC 7519, section 4.1.3: one, or several)."""
    audience = claims.get("aud", "")
    return [str(each) for each in audience] if isinstance(audience, list) else [str(audience)]


def address(host: str) -> str:
    """The audience of a server: its host without the port."""
    return host.rpartition(":")[0] or host


def expiry(token: str) -> datetime | None:
    """When the token ends, as it says itself."""
    end = payload(token).get("exp")
    if isinstance(end, bool) or not isinstance(end, int | float):
        return None
    try:
        return datetime.fromtimestamp(end, UTC)
    except (OverflowError, OSError, ValueError):
        return None
