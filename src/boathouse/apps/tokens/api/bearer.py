"""Who calls the API, what its token allows, and its JSON (RFC 6750)."""

from __future__ import annotations

from typing import Any

from authlib.oauth2.base import OAuth2Error

from boathouse.apps.tokens.admin.desk import Actor, Desk
from boathouse.apps.tokens.protocol.endpoints import subject_is_live
from boathouse.apps.tokens.texts import json_object
from boathouse.apps.tokens.web import Call
from boathouse.errors import InputError
from boathouse.wlcg.scopes import parse

IAM = "iam:admin"
"""Scopes ``iam:admin.read`` and ``iam:admin.write``."""
SCIM = "scim"
"""Scopes ``scim:read`` and ``scim:write``."""
_JSON = ("application/json", "application/scim+json")


class InvalidTokenError(OAuth2Error):  # type: ignore[misc]
    """No token, or one that does not count here (RFC 6750, 3.1)."""

    error = "invalid_token"
    status_code = 401

    def get_headers(self) -> list[tuple[str, str]]:
        """With the challenge."""
        return [*super().get_headers(), ("WWW-Authenticate", 'Bearer error="invalid_token"')]


def desk(call: Call, family: str) -> Desk:
    """Where a call is worked on, for whom its token speaks.

    Args:
        call: with a live access token whose audience is this issuer.
        family: which scopes count, :data:`IAM` or :data:`SCIM`. A token with ``openid`` lets people look after what is
            their own; the rights of managers are not given to tokens, which travel with jobs, but on the pages.

    Raises:
        InvalidTokenError: there is no such token.
    """
    kind, _, token = call.http.headers.get("authorization", "").partition(" ")
    claims = call.issuer.mint.read(token.strip()) if kind.lower() == "bearer" else None
    if claims is None or not subject_is_live(call.store, claims):
        raise _refused(call, "A live access token of this issuer is needed")
    audience = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
    if call.issuer.settings.issuer not in audience:
        raise _refused(call, "The token is not for this issuer")
    scopes = {str(scope) for scope in parse(claims["scope"])}
    user = call.store.user(claims["sub"])
    # People lose what their token says with their rights.
    trusted = user is None or user.admin
    # INDIGO IAM spells one family with a full stop, the other with a colon.
    separator = "." if family == IAM else ":"
    writes = trusted and f"{family}{separator}write" in scopes
    actor = Actor(
        name=user.login if user else claims["sub"],
        user=user if "openid" in scopes else None,
        reads=writes or (trusted and f"{family}{separator}read" in scopes),
        writes=writes,
    )
    return Desk(call.store, actor, reason=dict(call.query).get("reason", ""), address=call.address)


def _refused(call: Call, why: str) -> InvalidTokenError:
    call.server.sample("administration.refused", path=call.http.url.path, reason=why)
    return InvalidTokenError(why)


def document(call: Call) -> dict[str, Any]:
    """The JSON object of a request.

    Raises:
        InputError: there is none.
    """
    return json_object(call.body, call.http.headers.get("content-type", ""), _JSON)


def text(values: dict[str, Any], name: str, default: str | None = None) -> str:
    """A text of a JSON object.

    Raises:
        InputError: it is missing, or no text.
    """
    found = values.get(name, default)
    if not isinstance(found, str):
        raise InputError(f"{name} is wrong", expected="a text", got=type(found).__name__)
    return found


def texts(values: dict[str, Any], name: str) -> list[str]:
    """A list of texts of a JSON object.

    Raises:
        InputError: it is missing, or no such list.
    """
    found = values.get(name)
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise InputError(f"{name} is wrong", expected="a list of texts")
    return list(found)


def flag(values: dict[str, Any], name: str, *, default: bool) -> bool:
    """A truth value of a JSON object.

    Raises:
        InputError: it is something else.
    """
    found = values.get(name, default)
    if not isinstance(found, bool):
        raise InputError(f"{name} is wrong", expected="true or false", got=type(found).__name__)
    return found


def number(value: object, name: str, *, least: int = 0) -> int:
    """A whole number, from JSON or a query.

    Raises:
        InputError: it is none, or out of range.
    """
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 16:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 1 << 53:
        raise InputError(f"{name} is wrong", expected=f"a whole number from {least}", got=repr(value)[:80])
    return value


def page(call: Call, *, at_most: int = 1000) -> tuple[int, int]:
    """Which part of a list is asked for: how many to leave out, how many to give (RFC 7644, 3.4.2.4).

    A start below 1 means 1, a count above the limit the limit.
    """
    start = call.value("startIndex").strip() or "1"
    first = 1 if start.startswith("-") and start[1:].isdecimal() else max(1, number(start, "startIndex"))
    count = number(call.value("count").strip() or "100", "count")
    return first - 1, min(count, at_most)


def listing(call: Call, everything: list[Any]) -> dict[str, Any]:
    """A page of a list, as SCIM and INDIGO IAM give it."""
    start, count = page(call)
    part = everything[start : start + count]
    return {"totalResults": len(everything), "itemsPerPage": len(part), "startIndex": start + 1, "Resources": part}
