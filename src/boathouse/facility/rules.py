"""Rules between settings: one function each, and all of them are checked before anything is told."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator

from boathouse.facility import caches, distance, federations, protocols, trust
from boathouse.facility.faults import Fault, unknown
from boathouse.facility.model import TRANSFERS_ADDRESS, Cache, Facility, Storage
from boathouse.facility.schema import Location
from boathouse.units import format_bytes
from boathouse.wlcg.directories import scope_directories

UNSET = "unset"
"""Stands for the name of a group that the file lacks; that fault is told already."""

Rule = Callable[[Facility], Iterator[Fault]]

_PAGE_BYTES = 4096
_SMALLEST_MEMORY_BYTES = 2**30
_LOGIN_LENGTH = 20
_PRIVILEGED_ACCOUNTS = ("root", "operator")
_OWN_ATTRIBUTES = (
    "QOS",
    "fts",
    "greedyDeletion",
    "lfn2pfn_algorithm",
    "naming_convention",
    "oidc_base_path",
    "oidc_support",
    "site",
    "supported_checksums",
    "verify_checksum",
)


def check(facility: Facility) -> list[Fault]:
    """Every fault that the rules find."""
    return [fault for rule in RULES for fault in rule(facility)]


def _elements(facility: Facility) -> Iterator[tuple[Location, Storage | Cache]]:
    """Storage elements and caches with their places, in file order, also those that share a name."""
    for name, site in facility.sites.items():
        yield from ((("sites", name, "storage", rse), storage) for rse, storage in site.storage.items())
        yield from ((("sites", name, "caches", cache), settings) for cache, settings in site.caches.items())


def _storage(facility: Facility) -> Iterator[tuple[Location, Storage]]:
    return ((place, element) for place, element in _elements(facility) if isinstance(element, Storage))


def _caches(facility: Facility) -> Iterator[tuple[Location, Cache]]:
    return ((place, element) for place, element in _elements(facility) if isinstance(element, Cache))


def some_storage(facility: Facility) -> Iterator[Fault]:
    """A lake has at least one storage element."""
    if not facility.storage:
        yield Fault(
            ("sites",), "no site has storage", expected="at least one storage element", remedy="add one under storage:"
        )


def element_names(facility: Facility) -> Iterator[Fault]:
    """Storage elements and caches of all sites have names of their own, small and capital letters being one."""
    first: dict[str, Location] = {}
    for location, _ in _elements(facility):
        name = str(location[-1])
        other = first.setdefault(name.lower(), location)
        if other != location:
            yield Fault(
                location,
                f"two storage elements or caches are called {name}",
                expected="a name of its own for each in the whole facility",
                got=f"{name} at {other[1]} and at {location[1]}",
                remedy="rename one",
            )
        if re.search(r"[_-]{2}", name):
            yield Fault(
                location,
                f"'{name}' cannot be an RSE name",
                expected="single '-' or '_' between letters and digits (the catalogue's rule)",
                got=name,
                remedy="rename it",
            )


def site_names(facility: Facility) -> Iterator[Fault]:
    """Sites differ in more than small and capital letters."""
    first: dict[str, str] = {}
    for name in facility.sites:
        other = first.setdefault(name.lower(), name)
        if other != name:
            yield Fault(("sites", name), f"sites {other} and {name} differ in capitals only", remedy="rename one")


def sizes(facility: Facility) -> Iterator[Fault]:
    """Storage and caches hold something; blocks are whole pages; XCache has the memory that it insists on."""
    for location, element in _storage(facility):
        if element.capacity == 0:
            yield Fault(
                (*location, "capacity"),
                f"{location[-1]} has no capacity",
                expected="more than 0",
                got="0",
                remedy="capacity: 20 GB",
            )
    for location, cache in _caches(facility):
        if cache.block_size % _PAGE_BYTES or not cache.block_size:
            yield Fault(
                (*location, "block_size"),
                f"blocks of {location[-1]} are not whole pages",
                expected=f"a multiple of {_PAGE_BYTES} bytes",
                got=str(cache.block_size),
                remedy="block_size: 512 kiB",
            )
        elif cache.size < cache.block_size:
            yield Fault(
                (*location, "size"),
                f"{location[-1]} holds not even one block",
                expected=f"more than {format_bytes(cache.block_size)}",
                got=format_bytes(cache.size),
                remedy="size: 4 GB",
            )
        if cache.memory < _SMALLEST_MEMORY_BYTES:
            yield Fault(
                (*location, "memory"),
                f"too little memory for {location[-1]}",
                expected="1 GiB or more (reserved, not resident)",
                got=format_bytes(cache.memory),
                remedy="memory: 1 GiB",
            )


def prefixes(facility: Facility) -> Iterator[Fault]:
    """One path scope of a token means the same on every storage element."""
    elements = list(_storage(facility))
    for location, element in elements[1:]:
        first_location, first = elements[0]
        if element.prefix != first.prefix:
            yield Fault(
                (*location, "prefix"),
                f"{location[-1]} keeps its files elsewhere than {first_location[-1]}",
                expected=f"{first.prefix}, since one token serves all storage elements",
                got=element.prefix,
                remedy=f"prefix: {first.prefix}",
            )


def attributes(facility: Facility) -> Iterator[Fault]:
    """RSE attributes can be used in RSE expressions, and none is one that Boathouse sets."""
    for location, element in _storage(facility):
        for name, value in element.attributes.items():
            place = (*location, "attributes", name)
            if name in _OWN_ATTRIBUTES:
                yield Fault(
                    place,
                    f"attribute {name} is set by Boathouse",
                    expected=f"another name than {', '.join(_OWN_ATTRIBUTES)}",
                    got=name,
                    remedy="set the label by the key qos" if name == "QOS" else "rename it",
                )
            elif not re.fullmatch(r"[A-Za-z0-9._-]+", name) or not re.fullmatch(r"[A-Za-z0-9._-]+", value):
                yield Fault(
                    place,
                    "an attribute cannot be used in an RSE expression",
                    expected="letters, digits, '.', '_' and '-' in name and value",
                    got=f"{name}={value}",
                    remedy="rename it",
                )


def memberships(facility: Facility) -> Iterator[Fault]:
    """Users belong to groups that exist, each named once."""
    for login, user in facility.users.items():
        for index, group in enumerate(user.groups):
            place = ("users", login, "groups", index)
            if group not in facility.groups:
                yield unknown(place, "group", group, facility.groups)
            elif group in user.groups[:index]:
                yield Fault(place, f"{login} is twice in group {group}", got=group, remedy="remove one")


def scope_groups(facility: Facility) -> Iterator[Fault]:
    """A scope belongs to a group that exists."""
    for name, scope in facility.scopes.items():
        if scope.group not in facility.groups and scope.group != UNSET:
            yield unknown(("scopes", name, "group"), "group", scope.group, facility.groups)


def scope_names(facility: Facility) -> Iterator[Fault]:
    """Scopes are directories on storage: no two may fold into one, and those of users are made for them."""
    first: dict[str, str] = {}
    for name in facility.scopes:
        if name.lower().startswith("user."):
            yield Fault(
                ("scopes", name),
                f"scope {name} is a user's own",
                expected="a name that does not begin with 'user.'",
                got=name,
                remedy="remove it: every user has such a scope",
            )
        other = first.setdefault(name.lower(), name)
        if other != name:
            yield Fault(("scopes", name), f"scopes {other} and {name} differ in capitals only", remedy="rename one")


def scope_places(facility: Facility) -> Iterator[Fault]:
    """No scope lies in the directory of another: who may read the outer one could read the inner one as well."""
    names = (*facility.scopes, *(f"user.{login}" for login in facility.users))
    for outer in facility.scopes:
        inner = next((name for name in names if name != outer and _lies_in(name, outer)), None)
        if inner is not None:
            yield Fault(
                ("scopes", outer),
                f"scope {inner} lies in the directory of scope {outer}",
                expected="directories that do not hold each other (Rucio makes them of the dots in user… and group…)",
                got=f"{scope_directories(inner)[0]} in {scope_directories(outer)[0]}",
                remedy=f"rename {outer}",
            )


def _lies_in(inner: str, outer: str) -> bool:
    return any(
        one == other or one.startswith(f"{other}/")
        for one in scope_directories(inner)
        for other in scope_directories(outer)
    )


def account_names(facility: Facility) -> Iterator[Fault]:
    """Users and groups have accounts in the catalogue: all of different names, and none that services hold."""
    for login in facility.users:
        place = ("users", login)
        if login in facility.groups:
            yield Fault(
                place,
                f"'{login}' is a user and a group",
                expected="different names, since both have an account in the catalogue",
                got=login,
                remedy="rename one",
            )
        if len(login) > _LOGIN_LENGTH:
            yield Fault(
                place,
                f"login {login} is too long",
                expected=f"at most {_LOGIN_LENGTH} characters, so that its scope user.<login> fits",
                got=f"{len(login)} characters",
                remedy="choose a shorter one",
            )
    for kind, names in (("users", facility.users), ("groups", facility.groups)):
        for name in names:
            if name in _PRIVILEGED_ACCOUNTS:
                yield Fault(
                    (kind, name),
                    f"'{name}' is an account of the lake itself",
                    expected=f"another name than {', '.join(_PRIVILEGED_ACCOUNTS)}",
                    got=name,
                    remedy="rename it",
                )


def listening_addresses(facility: Facility) -> Iterator[Fault]:
    """Every storage element and cache has an address of its own, since a token's audience is a host without port."""
    own: dict[str, str] = {TRANSFERS_ADDRESS: "the transfer service", facility.services.address: "the services"}
    yield from _unusable(("services", "address"), facility.services.address)
    for location, element in _elements(facility):
        place = (*location, "address")
        if element.address is None:
            continue
        yield from _unusable(place, element.address)
        holder = own.setdefault(element.address, str(location[-1]))
        if holder != location[-1]:
            yield Fault(
                place,
                f"{location[-1]} has the address of {holder}",
                expected="an address of its own, since tokens name hosts without port",
                got=element.address,
                remedy="leave it out, and it gets one",
            )


def _unusable(place: Location, address: str) -> Iterator[Fault]:
    parsed = ipaddress.ip_address(address)
    if parsed.version != 4 or parsed.is_unspecified or parsed.is_multicast:
        yield Fault(
            place,
            "not an address that a server can be reached by",
            expected="one IPv4 address, since it stands in certificates and in tokens",
            got=address,
            remedy="name the address of one interface",
        )


def service_ports(facility: Facility) -> Iterator[Fault]:
    """Services at one address have different ports."""
    first: dict[int, str] = {}
    services = facility.services
    for name in ("issuer_port", "catalogue_port", "transfers_port"):
        port = getattr(services, name)
        if port is None:
            continue
        other = first.setdefault(port, name)
        if other != name:
            yield Fault(
                ("services", name),
                f"{other} and {name} are the same",
                expected="a port for each service",
                got=str(port),
                remedy="change one, or leave it out",
            )


def lifetimes(facility: Facility) -> Iterator[Fault]:
    """Tokens and certificates live long enough to be used and renewed."""
    services = facility.services
    for name, least_s, most_s, words in (
        ("token_lifetime", 60, 6 * 3600, "1 min to 6 h (WLCG profile 4.3.1)"),
        # With the hour by which it is backdated, less than half an hour is the last third of its life from the start.
        ("certificate_lifetime", 1860, 825 * 86400, "31 min to 825 d"),
    ):
        value = getattr(services, name)
        if not least_s <= value <= most_s:
            yield Fault(
                ("services", name),
                f"{name} is out of bounds",
                expected=words,
                got=f"{value:g} s",
                remedy="leave it out",
            )


def stores(facility: Facility) -> Iterator[Fault]:
    """A store is one place that can be opened, and is lent to groups that exist."""
    first: dict[str, str] = {}
    for name, store in facility.stores.items():
        place = ("stores", name)
        for index, group in enumerate(store.groups):
            if group not in facility.groups:
                yield unknown((*place, "groups", index), "group", group, facility.groups)
        address = store.url.rstrip("/").partition("://")[2]
        other = first.setdefault(address, name)
        if other != name:
            yield Fault(
                (*place, "url"),
                f"{other} and {name} are one place",
                expected="one entry for it",
                got=store.url,
                remedy="remove one",
            )
        is_s3 = store.url.startswith("s3s://")
        if is_s3 and "/" not in address:
            yield Fault(
                (*place, "url"),
                f"{name} has no bucket",
                expected="the bucket after the host",
                got=store.url,
                remedy=f"url: {store.url.rstrip('/')}/BUCKET",
            )
        if (is_s3 or store.user) and bool(store.user) != bool(store.secret_file):
            missing, given = ("user", "secret_file") if store.secret_file else ("secret_file", "user")
            yield Fault(
                place,
                f"nobody can get into {name} with half of a credential",
                expected="user and secret_file, or neither",
                got=f"{given} alone",
                remedy=f"stores.{name}.{missing}: …",
            )
        if store.groups and not store.secret_file:
            yield Fault(
                (*place, "groups"),
                f"{name} has no secret to lend to groups",
                expected="secret_file",
                got=", ".join(store.groups),
                remedy=f"stores.{name}.secret_file: /path, or leave groups out",
            )


RULES: tuple[Rule, ...] = (
    *trust.RULES,
    *distance.RULES,
    some_storage,
    element_names,
    site_names,
    *caches.RULES,
    *federations.RULES,
    protocols.protocols,
    protocols.priorities,
    sizes,
    prefixes,
    attributes,
    memberships,
    scope_groups,
    scope_names,
    scope_places,
    account_names,
    listening_addresses,
    service_ports,
    lifetimes,
    stores,
)
