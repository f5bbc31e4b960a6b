"""Which XRootD may guard a storage that decides by tokens alone, and what is wrong with the others.

The installer, the drivers and ``boathouse doctor`` ask here; the standard library is enough.
"""

from __future__ import annotations

import re

OLDEST = (5, 9, 3)
"""The first version without the flaws below."""

FLAWS: tuple[tuple[tuple[int, int, int], str], ...] = (
    ((5, 8, 1), "a token for /atlas opens /atlasX as well (seen with 5.5.3)"),
    ((5, 8, 3), "a cache can stand still for ever when it starts (release notes of 5.8.3)"),
    ((5, 9, 0), "a cache can stand still for ever when a file is opened and closed (release notes of 5.9.0)"),
    ((5, 9, 2), "an HTTP request can write beyond a buffer (release notes of 5.9.2)"),
    ((5, 9, 3), "a token is honoured up to a minute after its end (seen with 5.8.1)"),
)
"""The version without a flaw, and the flaw of those before it; ordered."""


def numbers(version: str) -> tuple[int, ...]:
    """``(5, 9, 3)`` of ``v5.9.3``, of ``5.9.3-1+b1`` or of a line that holds such a word; empty if there is none."""
    match = re.search(r"\d+(?:\.\d+)+", version)
    return tuple(int(part) for part in match[0].split(".")) if match else ()


def unsafe(version: str) -> str | None:
    """Why a version may not be used, with every flaw that it has; None if it may."""
    found = numbers(version)
    if not found:
        return "its version cannot be told"
    if found >= OLDEST:
        return None
    flaws = "; ".join(flaw for fixed, flaw in FLAWS if found < fixed)
    return f"{'.'.join(map(str, found))} is older than {'.'.join(map(str, OLDEST))}: {flaws}"
