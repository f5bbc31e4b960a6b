"""A fault of a facility file, before it is known on which line it stands, and the nearest name to a misspelt one."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from boathouse.facility.schema import Location


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong, with the keys that lead to it."""

    location: Location
    what: str
    expected: str | None = None
    got: str | None = None
    remedy: str | None = None


def dotted(location: Location) -> str:
    """A place in the file as people write it: ``sites.CNAF.storage.CNAF-STORM.qos``."""
    return ".".join(str(key) for key in location)


def hidden(text: str | None) -> str | None:
    """A value as it may be shown: without the user and password of URLs in it."""
    return None if text is None else re.sub(r"(?<=://)[^/\s]*@", "…@", text)


def unknown(location: Location, kind: str, name: str, known: Iterable[str]) -> Fault:
    """The fault of a name that nothing in the file answers to."""
    known = list(known)
    meant = nearest(name, known)
    return Fault(
        location,
        f"there is no {kind} '{name}'",
        expected=f"one of {', '.join(known)}" if known else f"a {kind}, of which the file has none",
        got=name,
        remedy=f"did you mean '{meant}'?" if meant else f"add the {kind}, or remove it here",
    )


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known name that a misspelt one most likely stands for, or None if none is near.

    Near means few edits for its length, or a beginning of it (``prot`` for ``protocols``).
    """
    lowered = word.lower()
    distance = {name: _edits(lowered, name.lower()) for name in known}
    best = min(distance, key=lambda name: distance[name], default=None)
    if best is not None and distance[best] <= max(1, len(best) // 3):
        return best
    beginnings = [name for name in distance if len(lowered) > 1 and name.lower().startswith(lowered)]
    return beginnings[0] if beginnings else None


def _edits(one: str, other: str) -> int:
    """Insertions, deletions, replacements and swaps of neighbours between two words (optimal string alignment)."""
    before: list[int] = []
    above = list(range(len(other) + 1))
    for row, letter in enumerate(one, start=1):
        current = [row]
        for column, other_letter in enumerate(other, start=1):
            replaced = above[column - 1] + (letter != other_letter)
            cost = min(above[column] + 1, current[column - 1] + 1, replaced)
            if row > 1 and column > 1 and (letter, one[row - 2]) == (other[column - 2], other_letter):
                cost = min(cost, before[column - 2] + 1)
            current.append(cost)
        before, above = above, current
    return above[-1]
