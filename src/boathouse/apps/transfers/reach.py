"""Where files may be copied from: the internet, the facility itself, and what the facility names besides.

A storage element that fetches what a user names could be sent to servers that trust their network. Addresses that are
not public are therefore refused. The element looks the name up once more by itself, and follows redirects of the
source: this keeps honest people from mistakes and makes an attack harder, it does not replace a firewall.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from pydantic import IPvAnyNetwork

from boathouse.apps.transfers.urls import host_of
from boathouse.errors import InputError


class Reach:
    """Decides about sources. Shared between threads.

    Args:
        doors: copy door by storage element of the facility, each ``host:port``.
        private: networks of private addresses that are allowed.
    """

    def __init__(self, doors: Mapping[str, str], private: Iterable[IPvAnyNetwork]) -> None:
        self._own = {*doors, *doors.values()}
        self._private = tuple(private)

    def check(self, sources: Iterable[str]) -> None:
        """Make sure that all sources may be copied from.

        Raises:
            InputError: one has an address that is not public, and not allowed.
        """
        for host in sorted({host_of(url) for url in sources} - self._own):
            for address in _addresses(host):
                if not address.is_global and not any(address in network for network in self._private):
                    raise InputError(
                        "the source is at a private address",
                        expected="a public address, an element of this facility, or one below services.copy_from",
                        got=str(address),
                        where=host,
                    )


def _addresses(host: str) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """All addresses of a ``host:port``; none if its name is not known, which the copy itself will tell."""
    name = urlsplit(f"//{host}").hostname or ""
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return [_plain(str(sockaddr[0])) for *_, sockaddr in found]


def _plain(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An address; an IPv4 address in IPv6 clothes is that IPv4 address."""
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
