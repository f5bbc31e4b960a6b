"""Rules for the protocols of storage elements: which there are, and in which order for what."""

from __future__ import annotations

from collections.abc import Iterator

from boathouse.facility.faults import Fault
from boathouse.facility.model import CAPABLE, Facility, Protocol, Storage
from boathouse.facility.schema import Location

_NEEDED = {
    "read": (Protocol.https, "downloads and audits use it"),
    "delete": (Protocol.davs, "the catalogue deletes by it"),
}
"""Protocols that must stay possible for an activity, and why."""


def protocols(facility: Facility) -> Iterator[Fault]:
    """A storage element speaks what clients, third-party copies and deletions need."""
    for location, element in _elements(facility):
        place = (*location, "protocols")
        given = ", ".join(element.protocols)
        missing = [name for name in (Protocol.https, Protocol.davs) if name not in element.protocols]
        if missing:
            yield Fault(
                place,
                f"{location[-1]} lacks {' and '.join(missing)}",
                expected="https for clients, and davs for third-party copies and deletions",
                got=given or "an empty list",
                remedy=f"add {', '.join(missing)}",
            )
        if len(set(element.protocols)) != len(element.protocols):
            yield Fault(
                place,
                f"a protocol of {location[-1]} stands twice",
                expected="each once",
                got=given,
                remedy="remove one",
            )


def priorities(facility: Facility) -> Iterator[Fault]:
    """Protocols are put in order for what they can do, and what must stay possible does."""
    for location, element in _elements(facility):
        for key in type(element.priorities).model_fields:
            chosen: tuple[Protocol, ...] | None = getattr(element.priorities, key)
            if chosen is not None:
                yield from _order((*location, "priorities", key), key.removeprefix("lan_"), chosen, element.protocols)


def _order(
    place: Location, activity: str, chosen: tuple[Protocol, ...], offered: tuple[Protocol, ...]
) -> Iterator[Fault]:
    rse, got = place[-3], ", ".join(chosen) or "an empty list"
    can = [protocol for protocol in CAPABLE[activity] if protocol in offered]
    wrong = [protocol for protocol in chosen if protocol not in can]
    expected = f"some of {', '.join(can)}"
    if wrong:
        yield Fault(place, f"{wrong[0]} is not for {activity} at {rse}", expected, got, f"remove {wrong[0]}")
    elif len(set(chosen)) != len(chosen):
        yield Fault(place, f"a protocol of {rse} stands twice for {activity}", expected, got, "remove one")
    elif activity in _NEEDED and _NEEDED[activity][0] not in chosen:
        needed, why = _NEEDED[activity]
        yield Fault(place, f"{rse} lacks {needed} for {activity}", f"{needed}: {why}", got, f"add {needed}")


def _elements(facility: Facility) -> Iterator[tuple[Location, Storage]]:
    for site, one in facility.sites.items():
        for rse, element in one.storage.items():
            yield ("sites", site, "storage", rse), element
