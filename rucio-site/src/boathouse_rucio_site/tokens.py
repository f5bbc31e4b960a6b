"""Rucio's own tokens: for the transfer service, for the copies between storage elements, for deletions."""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import requests
from rucio.common.config import config_get, config_get_int
from rucio.core import oidc

from boathouse_rucio_site.errors import TokenError
from boathouse_rucio_site.issuer import TIMEOUT_S, Issuer, read_secrets
from boathouse_rucio_site.jwt import issuers

KEY_CHECK_S = 30.0
"""A cached token is used only if its key was published so many seconds ago."""
MAX_TOKENS = 2000
"""Tokens kept; the longest unused goes first."""

_log = logging.getLogger(__name__)
_stock_oidc_clients = getattr(oidc, "__get_rucio_oidc_clients")


class TokenSource:
    """Client credentials at one issuer (RFC 6749 section 4.4), with a cache. Thread-safe.

    A cached token is given out while it has enough life left and its signing key is still published: after a
    rotation no storage element would take it.
    """

    def __init__(
        self,
        issuer: Issuer,
        client_id: str,
        client_secret: str,
        min_life_s: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._issuer = issuer
        self._credentials = (client_id, client_secret)
        self._min_life_s = min_life_s
        self._clock = clock
        self._lock = threading.Lock()
        self._tokens: OrderedDict[tuple[str, str], tuple[str, float, str | None]] = OrderedDict()

    def get(self, audience: str, scope: str) -> str:
        """A token for audience and scope, each space-separated.

        Raises:
            TokenError: the issuer is down or refuses.
        """
        # One request at a time: callers that want the same token wait for it instead of asking again.
        with self._lock:
            key = (audience, scope)
            cached = self._tokens.get(key)
            if cached is not None:
                token, good_until, kid = cached
                if self._clock() < good_until and self._issuer.knows(kid, KEY_CHECK_S):
                    self._tokens.move_to_end(key)
                    return token
            token = self._request(audience, scope)
            self._tokens[key] = (token, *self._life(token))
            self._tokens.move_to_end(key)
            while len(self._tokens) > MAX_TOKENS:
                self._tokens.popitem(last=False)
            return token

    def forget(self, token: str) -> None:
        """Drop a token that a service has refused."""
        with self._lock:
            for key in [key for key, (cached, _, _) in self._tokens.items() if cached == token]:
                del self._tokens[key]

    def _life(self, token: str) -> tuple[float, str | None]:
        try:
            expires = float(jwt.decode(token, options={"verify_signature": False})["exp"])
            kid = jwt.get_unverified_header(token).get("kid")
        except (jwt.PyJWTError, KeyError, TypeError, ValueError) as error:
            raise TokenError(f"{self._issuer.url} gave a token that cannot be read: {error}") from error
        now = self._clock()
        # Of a short token, half its life is used.
        return expires - min(self._min_life_s, (expires - now) / 2), kid

    def _request(self, audience: str, scope: str) -> str:
        endpoint = self._issuer.endpoint("token_endpoint")
        form = {"grant_type": "client_credentials", "audience": audience, "scope": scope}
        try:
            response = requests.post(
                endpoint, auth=self._credentials, data=form, timeout=TIMEOUT_S, allow_redirects=False
            )
            document = response.json()
        except requests.RequestException as error:
            raise TokenError(f"POST {endpoint}: {error}") from error
        if response.status_code != 200 or not isinstance(document, dict) or "access_token" not in document:
            raise TokenError(f"POST {endpoint} for audience {audience!r}, scope {scope!r}: {document}")
        return str(document["access_token"])


@functools.cache
def source() -> TokenSource:
    """Rucio's client at ``[oidc] admin_issuer``.

    Raises:
        TokenError: the configuration is incomplete. Nothing is asked of the issuer yet, and a failure is not kept.
    """
    path = Path(config_get("oidc", "idpsecrets"))
    name = config_get("oidc", "admin_issuer")
    try:
        entry = read_secrets(path)[name]
        return TokenSource(
            issuers().get(entry["issuer"]),
            entry["client_id"],
            entry["client_secret"],
            config_get_int("oidc", "token_min_lifetime", raise_exception=False, default=300),
        )
    except KeyError as error:
        raise TokenError(f"{path}: no {error} of {name}") from error


def request_token(audience: str, scope: str, use_cache: bool = True) -> str | None:  # noqa: FBT001, FBT002 - Rucio's
    """Replaces ``rucio.core.oidc.request_token``: as there, ``None`` says that there is no token just now."""
    del use_cache
    try:
        return source().get(audience, scope)
    except TokenError as error:
        _log.warning("no token: %s", error)
        return None


def oidc_clients(keytimeout: int = 300) -> tuple[dict[str, Any], dict[str, Any]]:
    """Replaces ``rucio.core.oidc.__get_rucio_oidc_clients``: keys are kept for five minutes, not twelve hours.

    For the browser login it is the client of the block ``login``, which may have nothing but the catalogue's tokens.
    """
    clients, admin_clients = _stock_oidc_clients(keytimeout=keytimeout)
    for entry in read_secrets(Path(config_get("oidc", "idpsecrets"))).values():
        if (login := entry.get("login")) and entry["issuer"] in clients:
            own = oidc.RegistrationResponse(**login, redirect_uris=entry["redirect_uris"])
            clients[entry["issuer"]].store_registration_info(own)
    return clients, admin_clients
