"""Rules about the distance between sites."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from boathouse.facility.faults import Fault, unknown
from boathouse.facility.model import Distance, Facility
from boathouse.facility.schema import Location
from boathouse.units import format_bytes, format_seconds

FIRST_NETWORK = 10
"""Each site sees what is far in a network of its own, the first one in 127.10.0.0/16."""
UNSET_SITE = "Unset"
"""Stands for the ends of a link that has none; that fault is told already."""

_MOST_SITES = 256 - FIRST_NETWORK

_LONGEST_RTT_S = 1.0
_LEAST_BANDWIDTH = 1_000_000
_LEAST_WINDOW_BYTES, _MOST_WINDOW_BYTES = 65_536, 2**30


def link_ends(facility: Facility) -> Iterator[Fault]:
    """A link stands between two sites that exist, and two sites have one link."""
    first: dict[frozenset[str], str] = {}
    for name, link in facility.network.links.items() if facility.network else ():
        place: Location = ("network", "links", name, "between")
        if UNSET_SITE in link.between:
            continue
        strangers = [index for index, site in enumerate(link.between) if site not in facility.sites]
        for index in strangers:
            yield unknown((*place, index), "site", link.between[index], facility.sites)
        ends = frozenset(link.between)
        if len(link.between) != 2 or (len(ends) != 2 and not strangers):
            yield Fault(
                place,
                f"link {name} does not stand between two sites",
                expected="two different sites, as [NORTH, SOUTH]",
                got=", ".join(link.between) or "none",
                remedy="name one at each end",
            )
        elif (other := first.setdefault(ends, name)) != name:
            yield Fault(
                place,
                f"links {other} and {name} stand between the same sites",
                expected="one link for two sites; it counts for both directions",
                got=", ".join(link.between),
                remedy="remove one",
            )


def bounds(facility: Facility) -> Iterator[Fault]:
    """Distances are such that connections come about, and windows such that bytes flow."""
    network = facility.network
    if network is None:
        return
    yield from _distance(("network", "default"), network.default)
    for name, link in network.links.items():
        yield from _distance(("network", "links", name), link)
    if not _LEAST_WINDOW_BYTES <= network.window <= _MOST_WINDOW_BYTES:
        yield Fault(
            ("network", "window"),
            "the window is out of bounds",
            expected="64 KiB to 1 GiB",
            got=format_bytes(network.window),
            remedy="window: 4 MB",
        )
    if len(facility.sites) > _MOST_SITES:
        yield Fault(
            ("network",),
            "too many sites to be told apart by their addresses",
            expected=f"at most {_MOST_SITES} with a network",
            got=str(len(facility.sites)),
            remedy="remove the network, or some sites",
        )


def _distance(place: Location, distance: Distance) -> Iterator[Fault]:
    if distance.rtt > _LONGEST_RTT_S:
        yield Fault(
            (*place, "rtt"),
            "a round trip takes too long: clients would give up before they are connected",
            expected=f"at most {format_seconds(_LONGEST_RTT_S)}",
            got=format_seconds(distance.rtt),
            remedy="rtt: 200 ms",
        )
    if distance.bandwidth is not None and distance.bandwidth < _LEAST_BANDWIDTH:
        yield Fault(
            (*place, "bandwidth"),
            "too little bandwidth",
            expected="1 Mbit/s or more, or none for no limit",
            got=f"{distance.bandwidth} bit/s",
            remedy="bandwidth: 1 Gbit/s",
        )


def far_addresses(facility: Facility) -> Iterator[Fault]:
    """No server has an address where what is far is seen."""
    if facility.network is None:
        return
    given: list[tuple[Location, str | None]] = [(("services", "address"), facility.services.address)]
    for name, site in facility.sites.items():
        given += [(("sites", name, "storage", rse, "address"), each.address) for rse, each in site.storage.items()]
        given += [(("sites", name, "caches", cache, "address"), each.address) for cache, each in site.caches.items()]
    last = FIRST_NETWORK + len(facility.sites) - 1
    for place, address in given:
        octets = ipaddress.ip_address(address).packed if address else b""
        if octets[:1] == b"\x7f" and FIRST_NETWORK <= octets[1] <= last:
            yield Fault(
                place,
                "an address of the network between the sites",
                expected=f"none in 127.{FIRST_NETWORK}.0.0 to 127.{last}.255.255",
                got=address,
                remedy="leave it out, or choose another",
            )


RULES = (link_ends, bounds, far_addresses)
