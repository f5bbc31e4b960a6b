"""Redirect URIs: which may be registered, and when two are the same (RFC 6749, 3.1.2; RFC 8252, 7 and 8)."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, unquote, urlsplit

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_ALLOWED = re.compile(r"[A-Za-z0-9\-._~:/?\[\]@!$&'()*+,;=%]{1,2000}")  # RFC 3986, without "#"
_PRIVATE_SCHEME = re.compile(r"[a-z][a-z0-9+\-]*(\.[a-z0-9+\-]+)+")


def fault(uri: str) -> str:
    """Why nobody may register a redirect URI; empty if somebody may.

    Allowed are ``https://host/…``, ``http`` to this very machine (RFC 8252, 7.3), and schemes of a program's own,
    which are domain names written backwards and have no host (7.1): ``edu.kit.data.oidc-agent:/redirect``.
    """
    if not _ALLOWED.fullmatch(uri):
        return "it is empty, too long, has a fragment or holds what no URI may hold"
    try:
        parts = urlsplit(uri)
        zero = parts.port == 0
    except ValueError:
        return "its host or port is malformed"
    if zero or parts.username is not None or parts.password is not None:
        return "it names a user or port 0"
    if any(segment in (".", "..") for segment in unquote(parts.path).split("/")) or "\\" in unquote(uri):
        return "it has a '.' or '..' segment or a backslash"
    return _fault_of_scheme(parts)


def _fault_of_scheme(parts: SplitResult) -> str:
    if parts.scheme == "https":
        return "" if _is_host(parts.hostname) else "it names no host"
    if parts.scheme == "http":
        return "" if parts.hostname in _LOOPBACK else "plain http is for the addresses of one's own machine only"
    if _PRIVATE_SCHEME.fullmatch(parts.scheme):
        return "" if not parts.netloc and parts.path.startswith("/") else "a program's own scheme has a path, no host"
    return "its scheme is neither https nor a domain name written backwards"


def _is_host(host: str | None) -> bool:
    # An IPv6 address comes without its brackets.
    return host is not None and bool(re.fullmatch(r"[a-z0-9]([a-z0-9.\-]*[a-z0-9])?|[0-9a-f:.]*:[0-9a-f:.]*", host))


def same(registered: str, asked: str) -> bool:
    """Whether a request may use a URI: it is the registered one, character by character.

    Of ``http`` URIs to this very machine the port may differ: programs take whatever is free (RFC 8252, 7.3).
    """
    if registered == asked:
        return True
    if not (registered.startswith("http://") and asked.startswith("http://")) or fault(asked):
        return False
    one, other = urlsplit(registered), urlsplit(asked)
    return one.hostname in _LOOPBACK and _without_port(one) == _without_port(other)


def _without_port(parts: SplitResult) -> tuple[str | None, str, str]:
    return parts.hostname, parts.path, parts.query
