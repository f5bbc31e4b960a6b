"""Loopback addresses of storage elements and caches: one each, since a token's audience is a host without port.

A storage element has a second one: its copy door, through which services alone copy and delete. It must not share an
audience with the door for people.

Where the facility file puts a distance between two sites, each sees the other's elements and caches at further
addresses, of the network's relay: 127.(10+i).x.y as the i-th site of the file sees it, from 0, for an element that has
127.0.x.y by its place in the file. The ports are the element's own, and so is the audience of tokens.
"""

from __future__ import annotations

from boathouse.facility.distance import FIRST_NETWORK
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


def far_addresses(facility: Facility) -> dict[tuple[str, str], str]:
    """Address by site and by name of element or cache, for all that the site sees over a distance."""
    return {
        (site, name): numbered
        for place, site in enumerate(facility.sites, start=FIRST_NETWORK)
        for name, _, numbered in _numbered(facility, f"127.{place}")
        if facility.distance(site, facility.site_of(name))
    }


def far_key(site: str, name: str) -> str:
    """What stands before ``.https`` and ``.root`` in the port keys of an element or cache as a far site sees it."""
    return f"{site}>{name}"


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
