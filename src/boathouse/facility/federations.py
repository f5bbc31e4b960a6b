"""Rules for lakes of others' that caches stand before: one credential, and a table of rights that leaks no embargo."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from urllib.parse import urlsplit

from boathouse.facility.addresses import COPY_DOORS, ELEMENTS, numbered
from boathouse.facility.distance import FIRST_NETWORK
from boathouse.facility.faults import Fault, unknown
from boathouse.facility.model import Facility, Federation
from boathouse.facility.schema import Location

_PORTS = range(1, 65536)
_USUAL_PORT = 1094


def readers(facility: Facility, federation: Federation) -> dict[str, tuple[str, ...]]:
    """The table of rights: directories of a federation by the group, as tokens name it, whose members may read them."""
    groups = {facility.group_path(group): paths for group, paths in federation.rights.items()}
    table = {f"/{facility.vo}": federation.everybody, **groups}
    return {group: tuple(dict.fromkeys(paths)) for group, paths in table.items() if paths}


def credentials(facility: Facility) -> Iterator[Fault]:
    """A federation is shown one credential, and that is none of this facility's own tokens."""
    external = facility.services.issuer
    for name, federation in facility.federations.items():
        if external and federation.client and federation.client.issuer == external.url:
            yield Fault(
                ("federations", name, "client", "issuer"),
                f"{name} would be shown tokens of this facility",
                expected="another issuer than services.issuer",
                got=external.url,
                remedy="name the issuer that the federation trusts",
            )
        given = [key for key in ("client", "token_file", "proxy_file") if getattr(federation, key) is not None]
        if len(given) != 1:
            yield Fault(
                ("federations", name),
                f"it is not clear which credential {name} is shown",
                expected="one of client, token_file and proxy_file",
                got=" and ".join(given) or "none",
                remedy=f"remove federations.{name}.{given[-1]}" if given else f"federations.{name}.token_file: /path",
            )


def authorities(facility: Facility) -> Iterator[Fault]:
    """A federation's servers are verified, by one set of CAs, and tokens are shown over TLS."""
    for name, federation in facility.federations.items():
        if federation.ca_file and federation.ca_directory:
            yield Fault(
                ("federations", name, "ca_directory"),
                f"it is not clear whose certificates {name} has",
                expected="either ca_file or ca_directory",
                got="both",
                remedy="remove one",
            )
        if federation.proxy_file and not federation.ca_directory:
            yield Fault(
                ("federations", name, "proxy_file"),
                f"nobody could verify the servers of {name}",
                expected="ca_directory: X.509 in XRootD knows CAs by their hash names",
                got="none",
                remedy=f"federations.{name}.ca_directory: /etc/grid-security/certificates",
            )
        if federation.url.startswith("root:") and not federation.proxy_file:
            yield Fault(
                ("federations", name, "url"),
                f"{name} would be shown a token without TLS",
                expected="roots://",
                got=federation.url,
                remedy=federation.url.replace("root:", "roots:"),
            )


def places(facility: Facility) -> Iterator[Fault]:
    """A federation is somebody else's: a credential of the facility's would open its own lake to the wrong people."""
    own = {facility.services.address: "the services"}
    far = range(FIRST_NETWORK, FIRST_NETWORK + len(facility.sites)) if facility.network else ()
    for network in (ELEMENTS, COPY_DOORS, *(f"127.{place}" for place in far)):
        for name, address, by_place in numbered(facility, network):
            own |= {each: name for each in (address, by_place) if each}
    for name, federation in facility.federations.items():
        host, port = _server(federation)
        if host in own:
            yield Fault(
                ("federations", name, "url"),
                f"{name} is this facility's own: {own[host]}",
                expected="somebody else's lake; in front of its own storage a cache has the mode user or group",
                got=federation.url,
                remedy="mode: user",
            )
        elif port not in _PORTS:
            yield Fault(
                ("federations", name, "url"),
                "there is no such port",
                expected="1 to 65535",
                got=str(port),
                remedy=f"name the port of its XRootD server, usually {_USUAL_PORT}",
            )


def rights(facility: Facility) -> Iterator[Fault]:
    """Rights are those of groups that exist, and what an embargoed group may read, no other may."""
    for name, federation in facility.federations.items():
        place: Location = ("federations", name, "rights")
        for group, paths in federation.rights.items():
            if group not in facility.groups:
                yield unknown((*place, group), "group", group, facility.groups)
            if not paths:
                yield Fault(
                    (*place, group),
                    f"{group} may read nothing of {name}",
                    expected="directories",
                    got="an empty list",
                    remedy=f"leave {group} out",
                )
        if not federation.rights and not federation.everybody:
            yield Fault(
                ("federations", name, "everybody"),
                f"nobody may read anything of {name}",
                expected="directories for a group, or for everybody",
                got="none",
                remedy=f"federations.{name}.rights: {{GROUP: [/store]}}",
            )
        yield from _leaks(facility, name, federation)


def _leaks(facility: Facility, name: str, federation: Federation) -> Iterator[Fault]:
    """Of all federations at this one's address, for the same server may have two names."""
    here = [(key, each) for key, each in facility.federations.items() if _server(each) == _server(federation)]
    embargoed = [group for group in federation.rights if group in facility.groups and facility.groups[group].embargoed]
    for group in embargoed:
        for index, path in enumerate(federation.rights[group]):
            others = [
                (f"{whose}: {who}, {other}" if whose != name else f"{who}, {other}")
                for whose, each in here
                for who, paths in (*_but(each.rights, group), ("everybody", each.everybody))
                for other in paths
                if _overlap(path, other)
            ]
            found = next(iter(others), None)
            if found:
                yield Fault(
                    ("federations", name, "rights", group, index),
                    f"what {group} may read of {name} is embargoed, and others may read it too",
                    expected=f"no directory in or around {path} for anybody else",
                    got=found,
                    remedy="name narrower directories",
                )


def _but(rights: Mapping[str, tuple[str, ...]], group: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The lines of all other groups."""
    return ((who, paths) for who, paths in rights.items() if who != group)


def _server(federation: Federation) -> tuple[str, int]:
    """Host and port, which may be none that there is."""
    parts = urlsplit(federation.url)
    port = parts.netloc.rpartition(":")[2] if ":" in parts.netloc else ""
    return parts.hostname or "", int(port or _USUAL_PORT)


def _overlap(one: str, other: str) -> bool:
    return one == other or one.startswith(f"{other}/") or other.startswith(f"{one}/")


RULES: tuple[Callable[[Facility], Iterator[Fault]], ...] = (credentials, authorities, places, rights)
