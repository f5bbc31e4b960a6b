"""Scopes of the WLCG Common JWT Profile 1.3, section 2.2.1: names, paths, and what covers what.

A capability with a path opens the whole tree below that path, segment by segment: ``/foo/bar`` opens itself and
``/foo/bar/qux``, never ``/foo/bargain``; with a trailing slash it opens the directory only, not a file of that name.
``storage.modify`` is a superset of ``storage.create``; nothing else implies anything (``stage`` does not imply
``read``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote, unquote

from boathouse.errors import InputError

STORAGE = frozenset({"storage.read", "storage.create", "storage.modify", "storage.stage", "storage.poll"})
"""Capabilities that must carry a path; a token that names one without a path must be rejected."""
COMPUTE = frozenset({"compute.read", "compute.create", "compute.modify", "compute.cancel"})
"""Capabilities on computing resources; they carry no path."""
GROUPS = "wlcg.groups"
HOST = "host.auth"
"""Says that the subject is a host, ``host:`` and its name (section 2.2.4)."""
PROFILE = ("wlcg", "wlcg:1.0")
"""Scopes that ask for tokens of this profile (section 3.4)."""
CAPABILITY_SET = "wlcg.capabilityset"

_IMPLIED = {"storage.modify": "storage.create"}
_SCOPE_TOKEN = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")  # RFC 6749 section 3.3
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_GROUP = re.compile(r"(/[a-zA-Z0-9][a-zA-Z0-9_.-]*)+")  # profile section 2.1.1
_SEGMENT_SAFE = "-._~!$&'()*+,;=:@"  # pchar of RFC 3986 section 3.3


def normalise_path(path: str) -> str:
    """The one spelling of a path that is used for comparison and in tokens (RFC 3986 section 6).

    Escapes are decoded and encoded again in one way, so that no two spellings of a path differ; repeated slashes
    count as one, as they do for every storage server. What different servers may read differently is refused,
    not repaired: dot segments, escaped slashes, control characters, bytes that are not UTF-8.

    Raises:
        InputError: the path is relative or ambiguous.
    """

    def refuse(why: str) -> InputError:
        return InputError("not a path that a scope can carry", expected=why, got=repr(path))

    if not path.startswith("/"):
        raise refuse("an absolute path")
    if _BAD_ESCAPE.search(path):
        raise refuse("% followed by two hexadecimal digits")
    segments = []
    for raw in path.split("/"):
        try:
            segment = unquote(raw, errors="strict")
        except UnicodeDecodeError as error:
            raise refuse("UTF-8 after decoding") from error
        if segment in (".", ".."):
            raise refuse("no '.' or '..' segment")
        if "/" in segment or "\\" in segment or not (segment.isprintable() or not segment):
            raise refuse("no escaped slash, backslash or control character")
        if segment:
            segments.append(quote(segment, safe=_SEGMENT_SAFE))
    if not segments:
        return "/"
    return "/" + "/".join(segments) + ("/" if path.endswith("/") else "")


def path_contains(outer: str, inner: str) -> bool:
    """Whether the tree at ``outer`` holds all that the tree at ``inner`` holds; both normalised."""
    if outer.endswith("/"):
        return inner.startswith(outer)
    return inner == outer or inner.startswith(outer + "/")


def path_intersection(one: str, other: str) -> str | None:
    """The path whose tree is common to both; None if they are apart. Trees are nested or apart, never crossed."""
    if path_contains(one, other):
        return other
    return one if path_contains(other, one) else None


@dataclass(frozen=True, slots=True)
class Scope:
    """One scope: its name, and the path of a storage capability or the group of a group scope, normalised."""

    name: str
    path: str | None = None

    @classmethod
    def parse(cls, text: str) -> Scope:
        """A scope from its text form.

        Raises:
            InputError: the text is no scope token, a storage capability lacks its path or has an ambiguous one,
                a capability on computing carries a path, or a group breaks the grammar.
        """
        name, colon, value = text.partition(":")
        if name in STORAGE:
            if not value:
                wanted = f"{name}:/path (WLCG profile 2.2.1)"
                raise InputError("a storage scope without a path", expected=wanted, got=text)
            return cls(name, normalise_path(value))
        if not _SCOPE_TOKEN.fullmatch(text):
            raise InputError("not a scope", expected="printable ASCII without space, quote, backslash", got=repr(text))
        if name in COMPUTE and colon:
            raise InputError("a compute scope with a path", expected=name, got=text)
        if name in (GROUPS, CAPABILITY_SET) and (colon or name == CAPABILITY_SET):
            return cls(name, group_name(value))
        return cls(text)

    @property
    def is_storage(self) -> bool:
        """Whether this is a capability on storage, which has a path."""
        return self.name in STORAGE

    def covers(self, wanted: Scope) -> bool:
        """Whether who holds this scope may do all that ``wanted`` allows."""
        return self.intersection(wanted) == wanted

    def intersection(self, other: Scope) -> Scope | None:
        """The most that both allow; None if they have nothing in common."""
        if self == other:
            return self
        if self.is_storage and other.is_storage:
            name = _weaker(self.name, other.name)
            path = path_intersection(self.path or "/", other.path or "/")
            return Scope(name, path) if name and path else None
        if self.name == other.name == GROUPS and not (self.path and other.path):
            return other if self.path is None else self
        return None

    def __str__(self) -> str:
        return self.name if self.path is None else f"{self.name}:{self.path}"


def _weaker(one: str, other: str) -> str | None:
    """The capability that both include."""
    if one == other or _IMPLIED.get(other) == one:
        return one
    return other if _IMPLIED.get(one) == other else None


def group_name(text: str) -> str:
    """A group name that fits the grammar of the profile (section 2.1.1), unchanged.

    Raises:
        InputError: it does not.
    """
    if not _GROUP.fullmatch(text):
        raise InputError("not a group", expected="/vo/group of letters, digits, '_', '.', '-'", got=repr(text))
    return text


def parse(text: str) -> tuple[Scope, ...]:
    """Scopes of a space-separated list, in order, without repetitions.

    Raises:
        InputError: one of them is malformed.
    """
    return tuple(dict.fromkeys(Scope.parse(item) for item in text.split(" ") if item))


def format_scopes(scopes: Iterable[Scope]) -> str:
    """The space-separated list that requests, replies and tokens carry."""
    return " ".join(map(str, scopes))


def covers(granted: Iterable[Scope], wanted: Scope) -> bool:
    """Whether one of the granted scopes covers the wanted one."""
    return any(scope.covers(wanted) for scope in granted)


def narrow(granted: Iterable[Scope], wanted: Iterable[Scope]) -> tuple[Scope, ...]:
    """The most of what is wanted that is granted, in the order of the wish.

    A wanted scope that is covered stays as it is written; any other is replaced by its parts that are granted, so
    that ``storage.read:/`` becomes the prefixes that its owner may read.
    """
    granted = tuple(granted)
    result: dict[Scope, None] = {}
    for wish in wanted:
        if covers(granted, wish):
            result[wish] = None
            continue
        parts = [part for scope in granted if (part := scope.intersection(wish))]
        result.update(dict.fromkeys(_maximal(parts)))
    return tuple(result)


def _maximal(scopes: list[Scope]) -> list[Scope]:
    """Those that no other one covers, without repetitions."""
    unique = list(dict.fromkeys(scopes))
    return [one for one in unique if not any(other is not one and other.covers(one) for other in unique)]
