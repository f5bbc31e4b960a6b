"""Where files may be copied from and to.

*To* the facility's own elements, and those and the stores that its settings name: the destination sees the source's
token, and is asked, with the service's own connections, to do as a user says.

*From* there, the internet, and private networks that the settings name. A storage element that fetches what a user
names could be sent to servers that trust their network. The element looks the name up once more by itself, and follows
redirects of the source: this keeps honest people from mistakes and makes an attack harder, it does not replace a
firewall.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

from pydantic import IPvAnyNetwork

from boathouse.apps.transfers.urls import host_of
from boathouse.errors import InputError

_MOST_HOSTS = 16
_PRIVATE_TOO = tuple(map(ipaddress.ip_network, ("64:ff9b::/96", "64:ff9b:1::/48", "fec0::/10", "192.88.99.0/24")))
"""Translated, relayed (RFC 7526) and site-local addresses, which Python counts as global."""


class Reach:
    """Decides about sources and destinations. Shared between threads.

    Args:
        elements: all storage elements that the service knows, and their copy doors, ``host:port``.
        private: networks of private addresses that may be copied from.
        answered_for: whether the facility file answers for a URL, whatever is at its host besides.
    """

    def __init__(
        self,
        elements: Iterable[str],
        private: Iterable[IPvAnyNetwork],
        answered_for: Callable[[str], object] = lambda _: None,
    ) -> None:
        self._known = frozenset(elements)
        self._private = tuple(private)
        self._answered_for = answered_for

    def _strange(self, urls: Iterable[str]) -> frozenset[str]:
        """Hosts of which nothing is known."""
        return frozenset(host_of(url) for url in urls if not self._answered_for(url)) - self._known

    def check_destinations(self, destinations: Iterable[str]) -> None:
        """Make sure that all destinations are storage elements that the service knows.

        Raises:
            InputError: one is not.
        """
        if unknown := self._strange(destinations):
            raise InputError(
                "the destination is no storage element of this facility",
                expected="one of `boathouse endpoints`",
                got=", ".join(sorted(unknown)[:5]),
            )

    def unknown(self, sources: Iterable[str]) -> frozenset[str]:
        """Hosts of sources that :meth:`check_hosts` must look at.

        Raises:
            InputError: there are too many.
        """
        hosts = self._strange(sources)
        if len(hosts) > _MOST_HOSTS:
            raise InputError("too many hosts in one job", expected=f"at most {_MOST_HOSTS}", got=str(len(hosts)))
        return hosts

    def check_hosts(self, hosts: Iterable[str]) -> None:
        """Make sure that hosts may be copied from. It asks name servers, and may take long.

        Raises:
            InputError: one has an address that is not public, and not allowed, or no address.
        """
        for host in sorted(hosts):
            for address in _addresses(host):
                if _is_private(address) and not any(address in network for network in self._private):
                    raise InputError(
                        "the source is at a private address",
                        expected="a public address, an element of this facility, or one below services.copy_from",
                        got=str(address),
                        where=host,
                    )


def _is_private(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return not address.is_global or address.is_multicast or any(address in network for network in _PRIVATE_TOO)


def _addresses(host: str) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """All addresses of a ``host:port``.

    Raises:
        InputError: its name is not known here; the storage element might know it as something private.
    """
    name = urlsplit(f"//{host}").hostname or ""
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise InputError("the source's host has no address", got=str(error), where=host) from error
    return [_plain(str(sockaddr[0])) for *_, sockaddr in found]


def _plain(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An address; an IPv4 address in IPv6 clothes is that IPv4 address."""
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
