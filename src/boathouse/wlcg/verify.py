"""The check of an access token, the same in every daemon of ours (WLCG profile sections 4.2 and 4.3.3)."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from joserfc import jws
from joserfc.errors import BadSignatureError, JoseError

from boathouse.errors import AuthError, InputError
from boathouse.wlcg import scopes
from boathouse.wlcg.denials import Denials
from boathouse.wlcg.keys import Key, KeyCache

ALGORITHMS = ("RS256", "ES256")
"""The signature algorithms of the profile (4.3.3); symmetric ones and ``none`` are never accepted."""

_LIMIT_BYTES = 16384
_NOT_BEFORE_LEEWAY_S = 60.0


@dataclass(frozen=True)
class Claims:
    """What a verified token says."""

    iss: str
    sub: str
    aud: tuple[str, ...]
    scope: tuple[str, ...]
    groups: tuple[str, ...]
    exp: int
    """End of life, seconds since the epoch."""
    client_id: str
    """The client that it was issued to; empty if the issuer does not say."""
    jti: str
    raw: Mapping[str, Any]
    """All claims, as they are in the token."""
    kid: str = ""
    """Name of the key that signed it."""

    @cached_property
    def scopes(self) -> tuple[scopes.Scope, ...]:
        """The scopes, parsed; valid in every verified token."""
        return tuple(map(scopes.Scope.parse, self.scope))

    def covers(self, scope: str) -> bool:
        """Whether the token's scopes cover the given one, ``storage.read:/lake/cms/f`` or ``fts``.

        Raises:
            InputError: the given scope is malformed.
        """
        return scopes.covers(self.scopes, scopes.Scope.parse(scope))


def refused(why: str, *, expected: str | None = None) -> AuthError:
    """The error for a token that is not accepted, with its exact reason."""
    return AuthError("the token was refused", expected=expected, got=why)


class Verifier:
    """Verifies access tokens of one issuer; make one a process and share it between threads.

    Args:
        issuer: URL, byte for byte as in ``iss``.
        audience: the audience, or several, one of which the token must name. The profile's value for "any
            audience" is not taken for one of them.
        ca_file: CAs in PEM that the issuer's certificate must chain to; those of the host if None.
        clock: seconds since the epoch.
        keys: the key cache, if it is to be shared or set up otherwise.
        denials: tokens that are refused although they are genuine and alive.
        seeded: key cache to turn to while the issuer does not answer, if ``keys`` is not given.
    """

    def __init__(
        self,
        issuer: str,
        audience: str | Iterable[str],
        ca_file: Path | None,
        *,
        clock: Callable[[], float] = time.time,
        keys: KeyCache | None = None,
        denials: Denials | None = None,
        seeded: Path | None = None,
    ) -> None:
        self._issuer = issuer
        self._audiences = frozenset((audience,) if isinstance(audience, str) else audience)
        self._clock = clock
        self._keys = keys or KeyCache(issuer, ca_file, seeded=seeded)
        self._denials = denials

    def verify(self, token: str) -> Claims:
        """The claims of a token that is genuine, alive, and meant for us.

        Raises:
            AuthError: it is not; the reason is in ``got``.
            ServiceError: the issuer's keys are not at hand and cannot be had.
        """
        if len(token) > _LIMIT_BYTES:
            raise refused(f"{len(token)} bytes", expected=f"{_LIMIT_BYTES} bytes at most")
        header = _header(token)
        if header.get("alg") not in ALGORITHMS:
            raise refused(f"algorithm {header.get('alg')!r}", expected=" or ".join(ALGORITHMS))
        kid = header.get("kid")
        if not isinstance(kid, str):
            raise refused("no kid in the header")
        claims = self._signed_claims(token, kid)
        self._check(claims)
        verified = _claims(claims, kid)
        self.check_denials(verified)
        return verified

    def check_denials(self, claims: Claims) -> None:
        """Check again that a verified token was not denied meanwhile.

        Raises:
            AuthError: it was.
        """
        if self._denials is not None and (why := self._denials.reason(claims.raw, claims.kid)):
            raise refused(why)

    def refresh(self) -> None:
        """Read the issuer's keys again: one of them was withdrawn, or its successor signs already."""
        self._keys.refresh()

    def _signed_claims(self, token: str, kid: str) -> dict[str, Any]:
        key = self._keys.get(kid)
        try:
            payload = _open(token, key)
        except BadSignatureError:
            # A facility that was made anew may use an old name for a new key.
            if not self._keys.refresh() or (fresh := self._keys.get(kid)) == key:
                raise refused("bad signature") from None
            try:
                payload = _open(token, fresh)
            except JoseError:
                raise refused("bad signature") from None
        except (JoseError, ValueError) as error:
            raise refused(f"malformed: {error}") from error
        return _json_object(payload)

    def _check(self, claims: Mapping[str, Any]) -> None:
        now = self._clock()
        if claims.get("iss") != self._issuer:
            raise refused(f"issuer {claims.get('iss')!r}", expected=self._issuer)
        end = _number(claims, "exp")
        if end is None or now >= end:
            raise refused("no exp" if end is None else f"expired {now - end:.0f} s ago")
        start = _number(claims, "nbf")
        if start is not None and now + _NOT_BEFORE_LEEWAY_S < start:
            raise refused(f"not valid for another {start - now:.0f} s")
        if self._audiences.isdisjoint(audience := _strings(claims.get("aud"))):
            raise refused(f"audience {' '.join(audience) or 'none'}", expected=" or ".join(sorted(self._audiences)))
        version = claims.get("wlcg.ver")
        if not isinstance(version, str) or version.partition(".")[0] != "1":
            raise refused(f"wlcg.ver {version!r}", expected="1.x")
        if not isinstance(claims.get("sub"), str) or not claims["sub"]:
            raise refused("no sub")


def kid_of(token: str) -> str | None:
    """Name of the key that a token says it was signed with; None if it says nothing.

    Raises:
        AuthError: it is no JSON web token.
    """
    kid = _header(token).get("kid")
    return kid if isinstance(kid, str) else None


def issuer_of(token: str) -> str:
    """The issuer that a token names, unverified: whose keys are to be asked. Empty if it names none."""
    try:
        name = _payload(token).get("iss")
    except AuthError:
        return ""
    return name if isinstance(name, str) else ""


def life_of(token: str) -> float:
    """How long a token lives from when it was issued, unverified, in seconds; 0 if it does not say."""
    claims = _payload(token)
    begin, end = claims.get("iat"), claims.get("exp")
    return float(end - begin) if isinstance(begin, int | float) and isinstance(end, int | float) else 0.0


def _payload(token: str) -> dict[str, Any]:
    return _header(token.partition(".")[2])


def _open(token: str, key: Key) -> bytes:
    return jws.deserialize_compact(token, key, algorithms=ALGORITHMS).payload


def _header(token: str) -> dict[str, Any]:
    part = token.partition(".")[0]
    try:
        return _json_object(base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True))
    except ValueError as error:
        raise refused("not a JSON web token") from error


def _json_object(text: bytes) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise refused("not a JSON web token") from error
    if not isinstance(document, dict):
        raise refused("not a JSON web token")
    return document


def _number(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise refused(f"{name} is not a number")
    return float(value)


def _strings(value: object) -> tuple[str, ...]:
    """A claim that is one string or an array of strings; anything else counts as absent."""
    if isinstance(value, str):
        return (value,)
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def _claims(raw: dict[str, Any], kid: str) -> Claims:
    scope = raw.get("scope", "")
    if not isinstance(scope, str):
        raise refused("scope is not a string")
    try:
        parsed = scopes.parse(scope)
    except InputError as error:
        raise refused(f"{error.what} {error.got}", expected=error.expected) from error
    return Claims(
        iss=raw["iss"],
        sub=raw["sub"],
        aud=_strings(raw.get("aud")),
        scope=tuple(map(str, parsed)),
        groups=_strings(raw.get("wlcg.groups")),
        exp=int(raw["exp"]),
        client_id=str(raw.get("client_id", "")),
        jti=str(raw.get("jti", "")),
        raw=raw,
        kid=kid,
    )
