"""Checking the bearer token of a request: signature, times, audience and scope; nothing is stored."""

from __future__ import annotations

import datetime as dt
import functools
from pathlib import Path
from typing import Any

import jwt
from rucio.common.config import config_get
from rucio.common.constants import DEFAULT_VO
from rucio.common.exception import CannotAuthenticate, IdentityError
from rucio.common.types import InternalAccount
from rucio.core import oidc
from rucio.core.identity import get_default_account
from rucio.db.sqla.constants import IdentityType

from boathouse_rucio_site import keycache, trust
from boathouse_rucio_site.errors import TokenError
from boathouse_rucio_site.issuer import Issuers

ALGORITHMS = ("ES256", "RS256")
"""Those of the WLCG profile (4.1)."""
LEEWAY_S = 30.0
"""Clocks of issuer and server may differ by so much."""


@functools.cache
def issuers() -> Issuers:
    """The trusted issuers, those of ``[oidc] idpsecrets`` and of ``[boathouse] trusted``."""
    others = {url: issuer.ca_file for url, issuer in trust.trusted().items()}
    kept = functools.partial(keycache.read, Path(config_get("boathouse", "key_cache")))
    return Issuers(Path(config_get("oidc", "idpsecrets")), others, kept)


def verify(token: str, trusted: Issuers, audience: str, scopes: frozenset[str]) -> dict[str, Any]:
    """Claims of a token that is genuine, timely and meant for this service.

    Follows RFC 7519 section 7.2 and RFC 9068 section 4, but for the type header, which WLCG issuers do not set.

    Raises:
        TokenError: it is not; the message says why and quotes no part of the signature.
    """
    try:
        header = jwt.get_unverified_header(token)
        unverified = jwt.decode(token, options={"verify_signature": False})
        issuer = trusted.get(str(unverified.get("iss")))
        key = issuer.key(header.get("kid"))
        if key is None:
            raise TokenError(f"the issuer has no key {header.get('kid')!r}")
        claims: dict[str, Any] = jwt.decode(
            token,
            key.key,
            algorithms=list(ALGORITHMS),
            audience=audience,
            issuer=issuer.url,
            leeway=LEEWAY_S,
            options={"require": ["exp", "sub", "iss", "aud"]},
        )
    except jwt.PyJWTError as error:
        raise TokenError(str(error)) from error
    missing = scopes - set(str(claims.get("scope", "")).split())
    if missing:
        raise TokenError(f"the token lacks the scope {' '.join(sorted(missing))}")
    return claims


def validate_jwt(json_web_token: str, *, session: Any) -> dict[str, Any]:
    """Replaces ``rucio.core.oidc.validate_jwt``: the same answer, but stateless.

    Returns:
        ``account``, ``identity``, ``lifetime`` (naive UTC), ``audience`` and ``authz_scope`` (both space-separated).

    Raises:
        CannotAuthenticate: the token is refused, or its identity belongs to no account.
    """
    try:
        claims = verify(
            json_web_token,
            issuers(),
            oidc.EXPECTED_OIDC_AUDIENCE,
            frozenset(oidc.EXPECTED_OIDC_SCOPE.split()),
        )
    except TokenError as error:
        raise CannotAuthenticate(str(error)) from error
    identity = oidc.oidc_identity_string(claims["sub"], claims["iss"])
    try:
        account = get_default_account(identity, IdentityType.OIDC, oldest_if_none=True, session=session)
    except IdentityError as error:
        account = _by_group(claims)
        if account is None:
            raise CannotAuthenticate(f"no account for {identity}") from error
    audience = claims["aud"]
    return {
        "account": account,
        "identity": identity,
        "lifetime": dt.datetime.fromtimestamp(claims["exp"], dt.UTC).replace(tzinfo=None),
        "audience": audience if isinstance(audience, str) else " ".join(audience),
        "authz_scope": claims.get("scope", ""),
    }


def _by_group(claims: dict[str, Any]) -> InternalAccount | None:
    """The account of somebody whom only a group of another issuer tells."""
    issuer = trust.trusted().get(claims["iss"])
    name = issuer.account(claims) if issuer else None
    return InternalAccount(name, vo=DEFAULT_VO) if name else None
