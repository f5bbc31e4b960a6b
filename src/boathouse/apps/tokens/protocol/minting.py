"""Tokens: what goes into them, and their signature (WLCG profile 2.1)."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from authlib.oidc.core.grants.util import create_half_hash
from joserfc import jwt
from joserfc.errors import JoseError

from boathouse.apps.tokens.persistence.records import Client, User
from boathouse.apps.tokens.rights import groups
from boathouse.apps.tokens.signing.keys import KeyRing
from boathouse.wlcg.scopes import Scope, format_scopes
from boathouse.wlcg.verify import ALGORITHMS

ANY_AUDIENCE = "https://wlcg.cern.ch/jwt/v1/any"
"""The profile's value for "every relying party"; this issuer never gives it."""

_VERSION = "1.0"  # The profile wants this value kept until all verifiers know later ones (2.1.1).
_BACKDATED_S = 60  # 4.3.1


@dataclass(frozen=True)
class AccessToken:
    """A signed access token and what the reply and the audit log say of it."""

    text: str
    jti: str
    sub: str
    audience: tuple[str, ...]
    scope: str
    expires_at: int
    """Seconds since the epoch."""
    lifetime_s: int


class Mint:
    """Makes tokens.

    Args:
        issuer: URL, as it will stand in ``iss``.
        keys: the signature keys.
        lifetime_s: life of access and identity tokens, in seconds.
        clock: seconds since the epoch.
    """

    def __init__(self, issuer: str, keys: KeyRing, lifetime_s: int, *, clock: Callable[[], float] = time.time) -> None:
        self._issuer = issuer
        self._keys = keys
        self._lifetime_s = lifetime_s
        self._clock = clock

    def access_token(
        self,
        client: Client,
        user: User | None,
        scopes: Sequence[Scope],
        audience: Sequence[str],
        *,
        sub: str = "",
        act: Mapping[str, Any] | None = None,
    ) -> AccessToken:
        """An access token.

        Args:
            client: whom it is given to.
            user: whom it speaks for; None if it speaks for a client.
            scopes: what it allows, already decided.
            audience: whom it is for; the issuer itself if empty, never everybody.
            sub: the client that it speaks for, if that is another one.
            act: who acts for the subject (RFC 8693, 4.1).
        """
        now = int(self._clock())
        audience = tuple(audience) or (self._issuer,)
        claims: dict[str, Any] = {
            "wlcg.ver": _VERSION,
            "iss": self._issuer,
            "sub": user.sub if user else sub or client.client_id,
            "aud": audience[0] if len(audience) == 1 else list(audience),
            "iat": now,
            "nbf": now - _BACKDATED_S,
            "exp": now + self._lifetime_s,
            "jti": str(uuid.uuid4()),
            "client_id": client.client_id,
            "scope": format_scopes(scopes),
        }
        if act:
            claims["act"] = act
        if user and (named := groups.select(scopes, user.groups, user.optional)):
            claims["wlcg.groups"] = list(named)
        text = self._keys.active().sign(claims)
        return AccessToken(
            text, claims["jti"], claims["sub"], audience, claims["scope"], claims["exp"], self._lifetime_s
        )

    def id_token(
        self,
        client: Client,
        user: User,
        scopes: Sequence[Scope],
        access_token: str,
        *,
        nonce: str = "",
        auth_time: int | None = None,
    ) -> str:
        """An identity token for the client (OpenID Connect Core 2; WLCG profile 2.1.2)."""
        now = int(self._clock())
        key = self._keys.active()
        claims: dict[str, Any] = {
            "wlcg.ver": _VERSION,
            "iss": self._issuer,
            "aud": client.client_id,
            "iat": now,
            "nbf": now - _BACKDATED_S,
            "exp": now + self._lifetime_s,
            "jti": str(uuid.uuid4()),
            "at_hash": create_half_hash(access_token, key.algorithm).decode(),
            **person_claims(user, scopes),
        }
        if nonce:
            claims["nonce"] = nonce
        if auth_time is not None:
            claims["auth_time"] = auth_time
        return key.sign(claims)

    def read(self, token: str) -> dict[str, Any] | None:
        """The claims of an access token of ours that is alive; None for anything else."""
        try:
            claims = jwt.decode(token, self._keys.key_set(), algorithms=list(ALGORITHMS)).claims
        except (JoseError, ValueError):
            return None
        # Identity tokens bear the same signature; only access tokens have a client and a scope.
        alive = claims.get("iss") == self._issuer and claims.get("exp", 0) > self._clock()
        return claims if alive and "client_id" in claims and "scope" in claims else None


def person_claims(user: User, scopes: Iterable[Scope]) -> dict[str, Any]:
    """What the scopes reveal of a person (OpenID Connect Core 5.4; WLCG profile 2.1.1)."""
    scopes = tuple(scopes)
    names = {scope.name for scope in scopes}
    claims: dict[str, Any] = {"sub": user.sub}
    if "profile" in names:
        given, _, family = user.name.partition(" ")
        claims |= {
            "name": user.name,
            "given_name": given,
            "family_name": family,
            "preferred_username": user.login,
        }
    if "email" in names and user.email:
        claims |= {"email": user.email, "email_verified": True}
    if named := groups.select(scopes, user.groups, user.optional):
        claims["wlcg.groups"] = list(named)
    return claims
