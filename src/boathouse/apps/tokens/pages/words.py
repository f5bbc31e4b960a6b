"""What a client asks for, in words."""

from __future__ import annotations

from collections.abc import Iterable

from boathouse.wlcg.scopes import Scope

_WORDS = {
    "openid": "know who you are",
    "profile": "see your name and login",
    "email": "see your e-mail address",
    "offline_access": "keep doing this while you are away, until you withdraw it",
    "wlcg": "get tokens of the WLCG profile",
    "wlcg.groups": "see your groups",
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


def in_words(scopes: Iterable[Scope]) -> list[str]:
    """What scopes mean, for people."""
    return [
        f"{_WORDS[scope.name]} {scope.path}"
        if scope.path and scope.name in _WORDS
        else _WORDS.get(scope.name, str(scope))
        for scope in scopes
    ]
