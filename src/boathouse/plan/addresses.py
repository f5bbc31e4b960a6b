"""Loopback addresses of storage elements and caches: one each, since a token's audience is a host without port.

A storage element has a second one: its copy door, through which services alone copy and delete. It must not share an
audience with the door for people.

Where the facility file puts a distance between two sites, each sees the other's elements and caches at further
addresses, of the network's relay: 127.(10+i).x.y as the i-th site of the file sees it, from 0, for an element that has
127.0.x.y by its place in the file. The ports are the element's own, and so is the audience of tokens.
"""

from __future__ import annotations

from boathouse.facility.addresses import COPY_DOORS, ELEMENTS, numbered
from boathouse.facility.distance import FIRST_NETWORK
from boathouse.facility.model import Facility


def addresses(facility: Facility) -> dict[str, str]:
    """Address by name of storage element or cache: the file's own, or 127.0.1.N in file order."""
    return {name: address or by_place for name, address, by_place in numbered(facility, ELEMENTS)}


def copy_addresses(facility: Facility) -> dict[str, str]:
    """Address of each storage element's copy door: 127.1.1.N in file order, whatever the file says of the element."""
    return {name: by_place for name, _, by_place in numbered(facility, COPY_DOORS) if name in facility.storage}


def far_addresses(facility: Facility) -> dict[tuple[str, str], str]:
    """Address by site and by name of element or cache, for all that the site sees over a distance."""
    return {
        (site, name): by_place
        for place, site in enumerate(facility.sites, start=FIRST_NETWORK)
        for name, _, by_place in numbered(facility, f"127.{place}")
        if facility.distance(site, facility.site_of(name))
    }


def far_key(site: str, name: str) -> str:
    """What stands before ``.https`` and ``.root`` in the port keys of an element or cache as a far site sees it."""
    return f"{site}>{name}"
