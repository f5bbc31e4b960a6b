"""What a setting means, what it is in a facility, and where that comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from boathouse.errors import InputError
from boathouse.facility.faults import dotted, nearest
from boathouse.facility.load import Document
from boathouse.facility.schema import Location, as_written, children, find, settings


@dataclass(frozen=True)
class Explanation:
    """One setting of one facility."""

    key: str
    value: str
    """As one would write it in the file."""
    source: str
    """``file:line:column``, or ``default``."""
    kind: str
    default: str | None
    doc: str
    below: tuple[str, ...]
    """Keys that may stand or do stand below it."""


def explain(document: Document, key: str) -> Explanation:
    """Explain a setting by its key: ``services.token_lifetime``, ``CNAF-STORM.qos``, ``users.alice``.

    Raises:
        InputError: the facility has no such key; the nearest one is named.
    """
    location, value = _resolve(document, key)
    setting = find(location)
    written = location in document.source.places
    return Explanation(
        key=dotted(location),
        value=as_written(value, setting.kind if setting else None),
        source=document.source.where(location) if written else "default",
        kind=setting.kind if setting else "",
        default=setting.default if setting else None,
        doc=setting.doc if setting else "",
        below=tuple(_names(value, location)),
    )


def _resolve(document: Document, key: str) -> tuple[Location, Any]:
    """Follow a dotted key. Names may hold dots, so the longest name that there is wins."""
    words = key.split(".")
    facility = document.facility
    location: Location = ()
    value: Any = facility
    if words[0] in facility.storage or words[0] in facility.caches:
        kind = "storage" if words[0] in facility.storage else "caches"
        location = ("sites", facility.site_of(words[0]), kind)
        value = getattr(facility.sites[str(location[1])], kind)
    while words:
        names = _names(value, location)
        for count in range(len(words), 0, -1):
            name = ".".join(words[:count])
            if name in names:
                location, value, words = (*location, name), names[name], words[count:]
                break
        else:
            raise _no_such_key(key, location, words[0], names)
    return location, value


def _names(value: Any, location: Location) -> Mapping[str, Any]:
    if isinstance(value, BaseModel):
        return {name: getattr(value, name) for name in children(location)}
    return value if isinstance(value, dict) else {}


def _elsewhere(word: str) -> str | None:
    """Where in the file a key of this name may stand."""
    keys = [setting.key for setting in settings() if setting.path[-1] == word]
    return f"'{word}' stands in {' or '.join(keys)}" if keys else None


def _no_such_key(key: str, above: Location, word: str, names: Mapping[str, Any]) -> InputError:
    meant = nearest(word, names)
    place = dotted(above) or "the facility"
    return InputError(
        f"there is no key '{word}' in {place}",
        expected=f"one of {', '.join(names)}" if names else f"nothing: {place} has no keys below it",
        got=key,
        remedy=f"did you mean '{dotted((*above, meant))}'?" if meant else _elsewhere(word),
    )
