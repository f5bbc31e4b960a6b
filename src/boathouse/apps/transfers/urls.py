"""URLs of files: what is accepted, and what is asked of a server for it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from boathouse.errors import InputError

_SCHEMES = {"https": "https", "davs": "https", "s3s": "https"}
_XROOTD = frozenset({"root", "roots", "xroot", "xroots"})
_XROOTD_PORT = 1094
_LONGEST = 2048
_UNSAFE = re.compile(r"[\x00-\x20\x7f]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_LONGEST_REQUEST = 2000
"""Bytes of a URL as it is asked for: what servers take, and what an index of the database can hold."""
_AMBIGUOUS = re.compile(r"%(?:2F|3F)", re.IGNORECASE)
_PATH_SAFE = ":@!$&'()*+,;=~-._"
# Most paths are these, and are their only form already.
_USUAL_PATH = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9:@!$&'()*+,;=~._-]+)+")
_READ_APART = frozenset("?#%")
_PORT_OF = re.compile(r":[0-9]+\Z")
_HOST_OF = re.compile(r"[^:/?#]*://([^/?#]*)")
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_\-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:.]+\]")


def request_url(text: object) -> str:
    """The https URL to ask a server for a file that a client named.

    ``davs://`` is https with WebDAV verbs, ``s3s://`` S3 over https; host and path stay. Plain http is refused: a
    token would go over it.

    Raises:
        InputError: the scheme is another one, or the text is not a URL of a file, or it could smuggle in a header.
    """
    if not isinstance(text, str) or len(text) > _LONGEST or _UNSAFE.search(text):
        raise InputError("not a URL", expected=f"at most {_LONGEST} characters without blanks", got=repr(text)[:200])
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise InputError(f"not a URL: {error}", got=text[:200]) from error
    scheme = _SCHEMES.get(parts.scheme.lower())
    if scheme is None:
        raise InputError("unknown URL scheme", expected=" or ".join(_SCHEMES), got=text[:200])
    bare = parts.netloc.removesuffix(f":{port}") if port else parts.netloc.removesuffix(":")
    if not _HOST.fullmatch(bare) or parts.fragment or len(parts.path) < 2:
        raise InputError("not the URL of a file", expected="davs://host:port/path", got=text[:200])
    path = _one_spelling(parts.path, text)
    query = quote(parts.query, safe="%:@!$&'()*+,;=~-._/?")
    url = urlunsplit((scheme, f"{bare.lower()}:{port}" if port and port != 443 else bare.lower(), path, query, ""))
    if len(url) > _LONGEST_REQUEST:
        raise InputError("the URL is too long", expected=f"at most {_LONGEST_REQUEST} bytes", got=f"{len(url)} bytes")
    return url


def over_https(text: object, https_of: Mapping[str, str]) -> object:
    """The ``davs://`` URL of a file that a client named by the XRootD protocol; anything else as it is.

    Only for elements that are known: nothing in a ``root://`` URL tells where, and whether, its server speaks https.

    Args:
        text: what a client gave.
        https_of: ``host:port`` for https of an element, by that for the XRootD protocol.

    Raises:
        InputError: the element is not known, or the path does not read the same in both protocols.
    """
    scheme, found, rest = text.partition("://") if isinstance(text, str) else ("", "", "")
    if not found or scheme.lower() not in _XROOTD:
        return text
    netloc, _, path = rest.partition("/")
    root = netloc.lower() if _PORT_OF.search(netloc) else f"{netloc.lower()}:{_XROOTD_PORT}"
    https = https_of.get(root)
    if https is None:
        raise InputError(
            f"no element of this facility that also speaks https is at this {scheme.lower()}:// address",
            expected="root://host:port//path of one of `boathouse endpoints`, or a davs:// URL",
            got=re.split(r"[?#]", root)[0][:200],
        )
    # XRootD does not unescape a path, its https does; what follows a question mark there may be a token.
    if not path.startswith("/") or not _READ_APART.isdisjoint(path):
        raise InputError(
            "not the plain URL of a file",
            expected=f"{scheme.lower()}://host:port//path without ? # %",
            got=re.split(r"[?#]", path)[0][:200],
        )
    return f"davs://{https}{path}"


def plain(url: str) -> str:
    """The URL itself, if it is the only one of its file.

    Servers cut a decoded path at ``?`` and take an escaped slash for a slash: one file would have several names.

    Raises:
        InputError: it has a query, or an escaped slash or question mark.
    """
    parts = urlsplit(url)
    if parts.query or _AMBIGUOUS.search(parts.path):
        raise InputError(
            "not the plain URL of a file", expected="no query, no escaped slash or question mark", got=url[:200]
        )
    return url


def _one_spelling(path: str, text: str) -> str:
    """A path in its only form: one destination under two names could be written twice at once.

    Segments are compared as servers do, after decoding; a slash inside a segment stays encoded.
    """
    if _USUAL_PATH.fullmatch(path):
        return path
    segments = [unquote(segment, errors="surrogateescape") for segment in path.split("/") if segment]
    plain = _decoded(path)
    if not segments or not {".", ".."}.isdisjoint(plain.split("/")) or _CONTROL.search(plain):
        raise InputError("not the path of a file", expected="no dots and no control characters", got=text[:200])
    return "".join("/" + quote(segment, safe=_PATH_SAFE, errors="surrogateescape") for segment in segments)


def _decoded(path: str) -> str:
    """A path without escapes, however many times it was escaped: a server may decode more than once."""
    while (plain := unquote(path, errors="surrogateescape")) != path:
        path = plain
    return path


def host_of(url: str) -> str:
    """``host`` or ``host:port`` of a URL: the storage element that limits and pauses are kept for."""
    found = _HOST_OF.match(url)
    return found[1].lower() if found else ""


def at_door(url: str, doors: Mapping[str, str]) -> str:
    """The URL at which copies into a storage element are asked for: its copy door's, if it has one."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=doors.get(parts.netloc, parts.netloc)))


def storage_element(text: str) -> str:
    """``scheme://host:port`` of a client's URL, as FTS3 names a storage element."""
    parts = urlsplit(text)
    return f"{parts.scheme}://{parts.netloc}"
