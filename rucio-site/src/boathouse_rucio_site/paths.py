"""Which names and paths are safe to be handed to storage: what is compared must be what is opened.

Permissions are given by the beginning of a path. A dot segment, written out or percent-encoded, makes one path of two
spellings, of which one is compared and the other opened (RFC 3986 sections 5.2.4 and 6.2.2).
"""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

SEGMENT = r"(?!\.{1,2}(/|\Z))[A-Za-z0-9.\-_]+"
"""A part of a name between slashes, as a regular expression."""
_DECODINGS = 4
"""So often an escape may be escaped; deeper ones are refused."""


def is_plain(path: str) -> bool:
    """Whether a relative path or a file's name has one spelling only: no escapes, no dot or empty segments."""
    if not path.isprintable() or any(character in path for character in "%\\?#"):
        return False
    return not any(segment in {"", ".", ".."} for segment in path.split("/"))


def is_plain_name(name: str) -> bool:
    """Whether a name of anything has one spelling only.

    Of datasets and containers no path is made: they may begin with a slash, as ``/DoubleMuon/Run2016B-v1/NANOAOD``.
    """
    return is_plain(name.removeprefix("/"))


def has_dot_segments(url: str) -> bool:
    """Whether the path of a URL, decoded or not, has dot segments or backslashes, or is escaped without end."""
    path = urlsplit(url).path
    for _ in range(_DECODINGS):
        if "\\" in path or any(segment in {".", ".."} for segment in path.split("/")):
            return True
        decoded = unquote(path)
        if decoded == path:
            return False
        path = decoded
    return True


def scope_directories(scope: str) -> tuple[str, ...]:
    """Directories below an RSE's prefix where files of a scope may lie, without slashes at their ends.

    Rucio's path algorithms make directories of the dots in scopes that begin with ``user`` or ``group``. The issuer
    gives the members of a scope's group these very directories.
    """
    folded = scope.replace(".", "/") if scope.startswith(("user", "group")) else scope
    return (folded,) if folded == scope else (folded, scope)
