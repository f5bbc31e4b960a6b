"""Loopback addresses by a name's place in the file."""

from __future__ import annotations

from boathouse.facility.model import Facility

_FIRST = 11

ELEMENTS, COPY_DOORS = "127.0", "127.1"
"""Networks of storage elements and caches, and of the elements' copy doors."""


def numbered(facility: Facility, network: str) -> list[tuple[str, str | None, str]]:
    """Name, address in the file and address by place of every element and cache.

    Names are numbered by their place in the file, so appending a site never moves the others.

    Args:
        facility: which has them.
        network: the first two numbers of the address by place.
    """
    own: list[tuple[str, str | None]] = []
    for site in facility.sites.values():
        own += [(name, element.address) for name, element in site.storage.items()]
        own += [(name, cache.address) for name, cache in site.caches.items()]
    return [
        (name, address, f"{network}.{1 + (number - 1) // 250}.{(number - 1) % 250 + 1}")
        for number, (name, address) in enumerate(own, start=_FIRST)
    ]
