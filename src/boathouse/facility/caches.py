"""Rules for caches: what they stand in front of, and what caches of a group may give."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator

from boathouse.facility.faults import Fault, unknown
from boathouse.facility.model import Cache, CacheLevel, CacheMode, Facility
from boathouse.facility.schema import Location
from boathouse.wlcg.directories import scope_directories

_ORDER = tuple(CacheLevel)
_MOST_ADDRESSES = 2**16


def group_paths(facility: Facility, cache: Cache) -> tuple[str, ...]:
    """Directories below storage elements' prefixes that a cache of mode ``group`` gives, without slashes at their ends.

    They are the scopes that the group may read: those not embargoed, and its own. What is embargoed never goes to who
    shows no token: where networks are let in, it is not among them. Users' own scopes never are.
    """
    open_to_all = {name for name, group in facility.groups.items() if not group.embargoed}
    owners = open_to_all | ({cache.group} if cache.group and not cache.networks else set())
    return tuple(
        path for name, scope in facility.scopes.items() if scope.group in owners for path in scope_directories(name)
    )


def _caches(facility: Facility) -> Iterator[tuple[Location, str, Cache]]:
    for site, settings in facility.sites.items():
        for name, cache in settings.caches.items():
            yield ("sites", site, "caches", name), name, cache


def upstreams(facility: Facility) -> Iterator[Fault]:
    """A cache stands in front of storage elements that exist, each named once, or of one other cache."""
    known = (*facility.storage, *facility.caches)
    for location, cache_name, cache in _caches(facility):
        if cache.upstreams == "lake":
            continue
        place = (*location, "upstreams")
        if not cache.upstreams:
            yield Fault(
                place,
                f"cache {cache_name} has no upstream",
                expected="RSE names, or lake, or another cache",
                got="an empty list",
                remedy="upstreams: lake",
            )
        for index, name in enumerate(cache.upstreams):
            if name not in known:
                yield unknown((*place, index), "storage element or cache", name, known)
            elif name in cache.upstreams[:index]:
                yield Fault((*place, index), f"{name} stands twice in upstreams", got=name, remedy="remove one")
        behind = [name for name in cache.upstreams if name in facility.caches]
        if behind and len(cache.upstreams) > 1:
            yield Fault(
                place,
                f"{cache_name} has a cache and something else behind it",
                expected="one other cache alone, or storage elements alone",
                got=", ".join(cache.upstreams),
                remedy=f"upstreams: [{behind[0]}]",
            )


def chains(facility: Facility) -> Iterator[Fault]:
    """Chains of caches lead to storage elements, and from readers away."""
    for location, name, cache in _caches(facility):
        if len(cache.upstreams) != 1 or cache.upstreams[0] not in facility.caches:
            continue
        place = (*location, "upstreams")
        parent = cache.upstreams[0]
        chain = facility.chain_of(name)
        again = facility.caches[chain[-1]].upstreams
        if len(again) == 1 and again[0] == name:
            yield Fault(
                place,
                f"cache {name} stands behind itself",
                expected="a chain that ends at storage elements",
                got=" → ".join((*chain, name)),
                remedy="upstreams: lake",
            )
        level = facility.caches[parent].level
        # A node's cache serves the readers of its machine only.
        higher = _ORDER[max(_ORDER.index(cache.level), _ORDER.index(CacheLevel.site)) :]
        if level not in higher:
            yield Fault(
                place,
                f"{name}, of level {cache.level.value}, reads from {parent}, of level {level.value}",
                expected=f"a cache of level {' or '.join(higher)}",
                got=level.value,
                remedy="turn the chain round, or change a level",
            )


def modes(facility: Facility) -> Iterator[Fault]:
    """A cache has what its mode wants, and nothing that only another mode looks at."""
    for location, name, cache in _caches(facility):
        if cache.mode is not CacheMode.group and (cache.group or cache.networks):
            yield Fault(
                (*location, "mode"),
                f"{name} is no cache of a group",
                expected="mode: group, where group or networks is set",
                got=cache.mode.value,
                remedy="mode: group",
            )
        if cache.mode is not CacheMode.translating and cache.federation:
            yield Fault(
                (*location, "mode"),
                f"{name} would read from {cache.federation} with nobody's rights",
                expected="mode: translating, where federation is set",
                got=cache.mode.value,
                remedy="mode: translating",
            )
        if cache.mode is CacheMode.group:
            yield from _of_group(facility, location, name, cache)
        if cache.mode is CacheMode.translating:
            yield from _translating(facility, location, name, cache)


def _of_group(facility: Facility, location: Location, name: str, cache: Cache) -> Iterator[Fault]:
    """A cache of a group has a group, and gives away nothing that is embargoed."""
    if cache.group is None:
        yield Fault(
            (*location, "mode"),
            f"{name} is the cache of no group",
            expected="a group, whose rights it has",
            got="none",
            remedy="group: NAME",
        )
    elif cache.group not in facility.groups:
        yield unknown((*location, "group"), "group", cache.group, facility.groups)
    elif cache.networks and facility.groups[cache.group].embargoed:
        yield Fault(
            (*location, "networks"),
            f"{name} would open the embargoed data of {cache.group} to a network",
            expected="a token of each reader for what is embargoed",
            got=", ".join(cache.networks),
            remedy="leave networks out",
        )
    elif not group_paths(facility, cache):
        yield Fault(
            (*location, "group"),
            f"there is nothing that {name} may give",
            expected="a scope that the group may read",
            got=cache.group,
            remedy="add a scope, or use mode: user",
        )


def _translating(facility: Facility, location: Location, name: str, cache: Cache) -> Iterator[Fault]:
    """A cache that translates rights stands before one federation, and before no storage of the facility's."""
    if cache.federation is None:
        yield Fault(
            (*location, "mode"),
            f"{name} stands before no federation",
            expected="one of federations, whose table of rights it follows",
            got="none",
            remedy="federation: NAME",
        )
    elif cache.federation not in facility.federations:
        yield unknown((*location, "federation"), "federation", cache.federation, facility.federations)
    if cache.upstreams != "lake":
        yield Fault(
            (*location, "upstreams"),
            f"{name} would stand before a federation and this facility's storage",
            expected="no upstreams in mode translating",
            got=", ".join(cache.upstreams) or "an empty list",
            remedy="leave upstreams out",
        )


def networks(facility: Facility) -> Iterator[Fault]:
    """Networks of a cache are such as it can tell its clients by: XRootD is told every address."""
    for location, name, cache in _caches(facility):
        parsed = [ipaddress.ip_network(network) for network in cache.networks]
        for index, network in enumerate(parsed):
            if network.version != 4:
                yield Fault(
                    (*location, "networks", index),
                    f"{name} has an IPv4 address only",
                    expected="a network of IPv4 addresses",
                    got=str(network),
                    remedy="remove it",
                )
        if sum(network.num_addresses for network in parsed if network.version == 4) > _MOST_ADDRESSES:
            yield Fault(
                (*location, "networks"),
                f"{name} would have to know too many addresses",
                expected=f"at most {_MOST_ADDRESSES} in all, as many as a /16 has",
                got=", ".join(cache.networks),
                remedy="name the networks of its readers alone",
            )


def group_behind(facility: Facility) -> Iterator[Fault]:
    """Nothing reads through a cache with rights of its own: they would stand for those of other caches' readers."""
    for location, name, _ in _caches(facility):
        for parent in facility.chain_of(name)[1:2]:
            mode = facility.caches[parent].mode
            if mode is not CacheMode.user:
                what = "one group may read" if mode is CacheMode.group else "its federation's table says"
                yield Fault(
                    (*location, "upstreams"),
                    f"{name} reads from {parent}, which gives what {what}",
                    expected="storage elements, or a cache of mode user",
                    got=parent,
                    remedy=f"turn the chain round, or give {parent} the mode user",
                )


RULES: tuple[Callable[[Facility], Iterator[Fault]], ...] = (upstreams, chains, modes, networks, group_behind)
