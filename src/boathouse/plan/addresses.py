"""Loopback addresses of storage elements and caches: one each, since a token's audience is a host without port.

A storage element has a second one: its copy door, through which services alone copy and delete. It must not share an
audience with the door for people.
"""

from __future__ import annotations

from boathouse.facility.model import Facility

_FIRST = 11


def addresses(facility: Facility) -> dict[str, str]:
    """Address by name of storage element or cache: the file's own, or 127.0.1.N in file order.

    Names are numbered by their place in the file, so appending a site never moves the others.
    """
    return {name: address or numbered for name, address, numbered in _numbered(facility, "127.0")}


def copy_addresses(facility: Facility) -> dict[str, str]:
    """Address of each storage element's copy door: 127.1.1.N in file order, whatever the file says of the element."""
    return {name: numbered for name, _, numbered in _numbered(facility, "127.1") if name in facility.storage}


def _numbered(facility: Facility, network: str) -> list[tuple[str, str | None, str]]:
    """Name, address in the file and address by place of every element and cache."""
    own: list[tuple[str, str | None]] = []
    for site in facility.sites.values():
        own += [(name, element.address) for name, element in site.storage.items()]
        own += [(name, cache.address) for name, cache in site.caches.items()]
    return [
        (name, address, f"{network}.{1 + (number - 1) // 250}.{(number - 1) % 250 + 1}")
        for number, (name, address) in enumerate(own, start=_FIRST)
    ]
