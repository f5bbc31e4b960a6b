"""Who calls, and what they may: the bearer token of a request, verified, and its scopes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from boathouse.apps.caches.cinfo import SUFFIX
from boathouse.apps.caches.settings import Settings
from boathouse.errors import AuthError, InputError
from boathouse.wlcg.directories import scope_directories
from boathouse.wlcg.verify import Claims, Verifier

_PATH = re.compile(r"(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._-]+)+")


class ScopeError(AuthError):
    """The token is good, and does not allow what was asked for."""


@dataclass(frozen=True)
class Caller:
    """Who calls."""

    claims: Claims
    operator: bool
    """Whether they look after the facility."""

    def may_read(self, path: str) -> bool:
        """Whether the token opens a path."""
        return self.operator or self.claims.covers(f"storage.read:{path}")

    def may_read_scope(self, scope: str, prefixes: Iterable[str]) -> bool:
        """Whether the token opens a directory of a Rucio scope; of files without a scope, only operators are told."""
        return self.operator or any(
            self.may_read(f"{prefix}/{directory}")
            for prefix in prefixes
            for directory in scope_directories(scope)
            if scope
        )

    def may_write(self, path: str) -> bool:
        """Whether the token may change what is at a path."""
        return self.operator or self.claims.covers(f"storage.modify:{path}")


class Gate:
    """Lets callers in whose token is good at one of the caches. Shared between threads.

    Args:
        settings: issuer, audiences and operators.
    """

    def __init__(self, settings: Settings) -> None:
        self._operators = frozenset(settings.operators)
        self._verifier = Verifier(
            settings.issuer,
            [cache.address for cache in settings.caches],
            settings.ca_file,
            seeded=settings.service_key_cache,
        )

    def caller(self, authorization: str | None) -> Caller:
        """The caller of a request.

        Args:
            authorization: value of the ``Authorization`` header.

        Raises:
            AuthError: there is no bearer token, or it is not acceptable.
            ServiceError: the issuer's keys cannot be had now.
        """
        kind, _, token = (authorization or "").partition(" ")
        if kind.lower() != "bearer" or not token.strip():
            raise AuthError("no bearer token", expected="a header Authorization: Bearer …")
        claims = self._verifier.verify(token.strip())
        return Caller(claims, operator=claims.sub in self._operators)


def checked(path: object, prefixes: tuple[str, ...]) -> str:
    """A path, if a file of the lake may lie there; the letters are those that the catalogue takes.

    Raises:
        InputError: it is no such path.
    """
    fits = isinstance(path, str) and _PATH.fullmatch(path) and not path.endswith(SUFFIX)
    if not fits or not any(str(path).startswith(f"{prefix}/") for prefix in prefixes):
        raise InputError("not a path of a file", expected=f"{' or '.join(prefixes)}/…", got=repr(path)[:200])
    return str(path)
