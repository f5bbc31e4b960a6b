"""What a client asks for, in words that a person who knows nothing of tokens understands."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from boathouse.wlcg.scopes import GROUPS, PROFILE, STORAGE, Scope

_WORDS = {
    "openid": "know who you are",
    "profile": "see your name and login",
    "email": "see your e-mail address",
    GROUPS: "see your groups",
    "fts": "submit file transfers for you",
    "storage.read": "read files in",
    "storage.create": "write new files in",
    "storage.modify": "write, change and delete files in",
    "storage.stage": "bring files from tape in",
    "storage.poll": "ask where files are in",
    "compute.read": "look at your batch jobs",
    "compute.create": "submit batch jobs for you",
    "compute.modify": "change your batch jobs",
    "compute.cancel": "cancel your batch jobs",
}

# "wlcg" names a format, and for how long a client acts is told apart from what it does.
_UNSAID = frozenset({*PROFILE, "offline_access"})


@dataclass(frozen=True)
class Wish:
    """One thing that a client would do."""

    text: str
    places: tuple[str, ...] = ()
    """Paths or groups that it names."""
    today: tuple[str, ...] | None = None
    """What the policies of today leave of the places, if that is something else."""


def in_words(scopes: Iterable[Scope], allowed: Iterable[Scope] | None = None) -> list[Wish]:
    """What scopes mean, those of one kind together.

    Args:
        scopes: as asked for or consented to.
        allowed: what the policies of today leave of them; None if that is not to be told.
    """
    places: dict[str, list[str]] = {}
    for scope in scopes:
        if scope.name not in _UNSAID:
            places.setdefault(_kind(scope), []).extend([scope.path] if scope.path else [])
    left = None if allowed is None else list(allowed)
    return [Wish(_WORDS.get(kind, kind), tuple(paths), _today(kind, paths, left)) for kind, paths in places.items()]


def _kind(scope: Scope) -> str:
    """Scopes of one kind share a line; those without words stand for themselves."""
    return scope.name if scope.name in _WORDS else str(scope)


def _today(kind: str, paths: Sequence[str], allowed: Iterable[Scope] | None) -> tuple[str, ...] | None:
    if kind not in STORAGE or allowed is None:
        return None
    left = tuple(scope.path for scope in allowed if scope.name == kind and scope.path)
    return None if set(left) == set(paths) else left


def duration(seconds: int) -> str:
    """A duration in its largest whole unit: ``30 days``, ``1 hour``, ``90 seconds``."""
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= size and seconds % size == 0:
            count = seconds // size
            return f"{count} {unit}" if count == 1 else f"{count} {unit}s"
    return f"{seconds} seconds"
