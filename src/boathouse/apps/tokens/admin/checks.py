"""What names and texts of administration look like; one place for the API, the pages and the seed file."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

from boathouse.apps.tokens.persistence.records import GRANT_NAMES, GRANTS
from boathouse.apps.tokens.protocol import redirects
from boathouse.errors import InputError
from boathouse.wlcg.scopes import (
    CAPABILITY_SET,
    COMPUTE,
    GROUPS,
    HOST,
    PROFILE,
    STORAGE,
    format_scopes,
    group_name,
    parse,
)

LOGIN = r"[a-z][a-z0-9_.\-]{0,63}"
PRINTABLE = r"[\x21-\x7e]{1,255}"
_KNOWN = frozenset(
    {*STORAGE, *COMPUTE, *PROFILE, GROUPS, CAPABILITY_SET, HOST, "openid", "profile", "email", "offline_access", "fts"}
)
_PASSWORD_LEAST, PASSWORD_AT_MOST = 8, 1024
__all__ = ("LOGIN", "PASSWORD_AT_MOST", "PRINTABLE", "group_name")


def plain(value: str, what: str, *, at_most: int = 255) -> str:
    """A text for people, in one line.

    Raises:
        InputError: it is too long or holds control characters.
    """
    if len(value) > at_most or not (value.isprintable() or not value):
        raise InputError(f"not a {what}", expected=f"at most {at_most} printable characters", got=repr(value[:80]))
    return value


def login(value: str) -> str:
    """A login.

    Raises:
        InputError: it is none.
    """
    if not re.fullmatch(LOGIN, value):
        raise InputError("not a login", expected="a-z, then a-z 0-9 _ . -, at most 64", got=repr(value[:80]))
    return value


def name(value: str, what: str) -> str:
    """A name without spaces: a client, an audience.

    Raises:
        InputError: it is none.
    """
    if not re.fullmatch(PRINTABLE, value):
        raise InputError(f"not a {what}", expected="1 to 255 ASCII characters without spaces", got=repr(value[:80]))
    return value


def password(value: str) -> str:
    """A new password.

    Raises:
        InputError: it is too short or too long; it is not repeated in the error.
    """
    if not _PASSWORD_LEAST <= len(value) <= PASSWORD_AT_MOST:
        raise InputError(
            "not a password",
            expected=f"{_PASSWORD_LEAST} to {PASSWORD_AT_MOST} characters",
            got=f"{len(value)} characters",
        )
    return value


def scopes(value: str) -> str:
    """Scopes in their one spelling, separated by spaces.

    Raises:
        InputError: one is malformed, or there is none.
    """
    found = parse(value)
    if not found:
        raise InputError("no scope", expected="scopes separated by spaces", got=repr(value[:80]))
    return format_scopes(found)


def known_scopes(value: str) -> str:
    """Scopes as :func:`scopes`, of which none is misspelt: a policy on one that nobody asks for would do nothing.

    Raises:
        InputError: one is malformed or unknown, or there is none.
    """
    for scope in parse(value):
        if scope.name not in _KNOWN:
            meant = get_close_matches(scope.name, _KNOWN, 1)
            raise InputError(
                "no policy speaks of this scope",
                expected=f"one of {', '.join(sorted(_KNOWN))}",
                got=str(scope)[:80],
                remedy=f"did you mean {meant[0]}?" if meant else None,
            )
    return scopes(value)


def grants(values: Iterable[str]) -> list[str]:
    """Grants by their full names; ``device_code`` and ``token_exchange`` are short for theirs.

    Raises:
        InputError: one is unknown.
    """
    full = list(dict.fromkeys(GRANT_NAMES.get(value, value) for value in values))
    if unknown := [value for value in full if value not in GRANTS]:
        raise InputError("not a grant", expected=", ".join([*GRANTS[:3], *GRANT_NAMES]), got=repr(unknown[0][:80]))
    return full


def redirect_uris(values: Iterable[str]) -> list[str]:
    """Redirect URIs that may be registered.

    Raises:
        InputError: one may not.
    """
    result = list(dict.fromkeys(values))
    for value in result:
        if why := redirects.fault(value):
            raise InputError("not a redirect URI", expected="one that may be registered", got=f"{value[:80]!r}: {why}")
    return result


def until(value: int | None, now: int) -> int | None:
    """When a membership ends, in seconds since the epoch; None for never.

    Raises:
        InputError: that is not in the future.
    """
    if value is not None and not now < value < 1 << 40:
        raise InputError(
            "a membership cannot end then", expected=f"seconds since the epoch after {now}", got=str(value)
        )
    return value
