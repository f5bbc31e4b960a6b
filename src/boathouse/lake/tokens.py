"""Tokens from an OpenID Connect issuer: device code, refresh, client credentials, revocation.

OAuth 2.0: RFC 6749; device code: RFC 8628; revocation: RFC 7009; metadata: OpenID Connect
Discovery 1.0. The parameter ``audience`` is that of the WLCG profile 1.3: names separated by spaces.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from urllib3 import BaseHTTPResponse

from boathouse.errors import AuthError, ServiceError
from boathouse.lake.http import CONNECT_ONLY, ONCE, PATIENT, Http
from boathouse.plan.model import Endpoints
from boathouse.wlcg.urns import DEVICE_GRANT

LOGIN_SCOPE = "openid profile offline_access wlcg.groups fts storage.read:/ storage.modify:/ storage.create:/"
"""What people ask for; the issuer narrows the paths to what they may, and says so."""

OPERATOR_SCOPE = "openid profile fts storage.read:/ storage.modify:/ storage.create:/"

_LOGIN = "boathouse login"
_RETRY_S = (1.0, 20.0)
"""After a failure an issuer that is away is asked again so much later, and twice as late after each further one."""


@dataclass(frozen=True)
class Tokens:
    """What a token endpoint gave."""

    access: str
    expires_at: float
    """Seconds since the epoch."""
    scope: str
    refresh: str | None = None


@dataclass(frozen=True)
class DeviceCode:
    """A login that waits for its user."""

    user_code: str
    verification_uri: str
    verification_uri_complete: str
    device_code: str
    interval_s: float
    expires_at: float


class Issuer:
    """An OpenID Connect issuer as its clients see it.

    Args:
        url: byte for byte the ``iss`` of its tokens.
        http: connections.
        patient: whether to wait for an issuer that is coming back, half a minute at most.
    """

    def __init__(self, url: str, http: Http, *, patient: bool = True) -> None:
        self.url = url
        self.http = http
        self._patient = patient

    @cached_property
    def metadata(self) -> Mapping[str, Any]:
        """The discovery document.

        Raises:
            ServiceError: the issuer does not answer, or is another one.
        """
        url = self.url.rstrip("/") + "/.well-known/openid-configuration"
        retry, timeout_s = (PATIENT, 60.0) if self._patient else (ONCE, 5.0)
        response = self._request("GET", url, retry=retry, timeout_s=timeout_s)
        if response.status != 200:
            raise ServiceError("the issuer failed", got=f"HTTP status {response.status}", where=url)
        document: dict[str, Any] = json.loads(response.data)
        if document.get("issuer") != self.url:
            raise ServiceError("another issuer answers", expected=self.url, got=str(document.get("issuer")), where=url)
        return document

    def device_code(self, client_id: str, *, scope: str, audience: Iterable[str]) -> DeviceCode:
        """Begin a login by device code."""
        fields = {"client_id": client_id, "scope": scope, "audience": " ".join(audience)}
        document = self._post("device_authorization_endpoint", fields)
        return DeviceCode(
            user_code=document["user_code"],
            verification_uri=document["verification_uri"],
            verification_uri_complete=document.get("verification_uri_complete", document["verification_uri"]),
            device_code=document["device_code"],
            interval_s=float(document.get("interval", 5)),
            expires_at=time.time() + float(document["expires_in"]),
        )

    def wait_for_device(self, client_id: str, code: DeviceCode) -> Tokens:
        """Wait until the user has approved.

        Raises:
            AuthError: the user refused, or the code expired.
        """
        interval_s = code.interval_s
        fields = {"grant_type": DEVICE_GRANT, "client_id": client_id, "device_code": code.device_code}
        while time.time() < code.expires_at:
            try:
                return self._tokens(fields)
            except AuthError as error:
                if error.got == "slow_down":
                    interval_s += 5
                elif error.got != "authorization_pending":
                    raise
            time.sleep(interval_s)
        raise AuthError("nobody approved the login in time", remedy=_LOGIN)

    def refresh(
        self, client_id: str, refresh_token: str, *, audience: Iterable[str] = (), scope: str | None = None
    ) -> Tokens:
        """New tokens for a refresh token; ``scope`` and ``audience`` can only narrow.

        Raises:
            AuthError: the refresh token is dead (``got`` is ``invalid_grant``), or the request goes too far.
            ServiceError: the issuer does not answer.
        """
        fields = {"grant_type": "refresh_token", "client_id": client_id, "refresh_token": refresh_token}
        if names := " ".join(audience):
            fields["audience"] = names
        if scope is not None:
            fields["scope"] = scope
        return self._tokens(fields)

    def revoke(self, client_id: str, refresh_token: str) -> None:
        """Make a refresh token worthless."""
        fields = {"token": refresh_token, "token_type_hint": "refresh_token", "client_id": client_id}
        self._post("revocation_endpoint", fields)

    def userinfo(self, token: str) -> Mapping[str, Any]:
        """The claims about the person behind an access token (OpenID Connect Core 1.0, 5.3).

        Raises:
            AuthError: the token is dead, or lacks the scope ``openid``.
        """
        url = str(self.metadata["userinfo_endpoint"])
        response = self._request("GET", url, headers={"Authorization": f"Bearer {token}"}, timeout_s=30.0)
        if response.status != 200:
            got = f"HTTP status {response.status}"
            raise AuthError("the issuer does not say who this is", got=got, where=url, remedy=_LOGIN)
        return dict(json.loads(response.data))

    def publishes(self, kid: str) -> bool:
        """Whether the issuer still publishes a key; asked once, without patience.

        Raises:
            ServiceError: it does not answer as it should.
        """
        url = str(self.metadata["jwks_uri"])
        response = self._request("GET", url, retry=ONCE, timeout_s=5.0)
        try:
            keys = json.loads(response.data)["keys"]
            return any(key["kid"] == kid for key in keys)
        except (ValueError, KeyError, TypeError) as error:
            raise ServiceError("the issuer's keys cannot be read", got=f"HTTP {response.status}", where=url) from error

    def client(
        self, client_id: str, secret: Path, *, audiences: Iterable[str], scope: str = OPERATOR_SCOPE
    ) -> Callable[[], str]:
        """A confidential client's own token, renewed when a third of its life is left.

        While the issuer is away the token serves to its end, and the issuer is asked ever more rarely.

        Raises:
            AuthError: the secret's file cannot be read.
        """
        try:
            value = secret.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise AuthError(
                "the client's secret cannot be read",
                got=error.strerror or str(error),
                where=str(secret),
                remedy="run this as the user who runs the facility",
            ) from error
        fields = {"grant_type": "client_credentials", "scope": scope, "audience": " ".join(audiences)}
        hasty = Issuer(self.url, self.http, patient=False)
        return _Renewing(
            lambda: self._tokens(fields, basic=(client_id, value)),
            lambda: hasty._tokens(fields, basic=(client_id, value)),
        )

    def _request(self, method: str, url: str, *, timeout_s: float = 30.0, **how: Any) -> BaseHTTPResponse:
        """As :meth:`Http.request`; that nobody answers is told as what it means for tokens."""
        try:
            return self.http.request(method, url, timeout_s=timeout_s, **how)
        except ServiceError as error:
            raise ServiceError(
                "the token issuer cannot be reached; tokens at hand serve to their end, and renewals go on trying",
                got=f"{error.what}: {error.got}",
                where=self.url,
                remedy=error.remedy,
            ) from error

    def _tokens(self, fields: Mapping[str, str], *, basic: tuple[str, str] | None = None) -> Tokens:
        document = self._post("token_endpoint", fields, basic=basic)
        return Tokens(
            access=document["access_token"],
            expires_at=time.time() + float(document.get("expires_in", 300)),
            scope=str(document.get("scope", fields.get("scope", ""))),
            refresh=document.get("refresh_token"),
        )

    def _post(
        self, endpoint: str, fields: Mapping[str, str], *, basic: tuple[str, str] | None = None
    ) -> dict[str, Any]:
        url = self.metadata.get(endpoint)
        if not isinstance(url, str):
            raise ServiceError(f"the issuer has no {endpoint}", where=self.url)
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        if basic is not None:
            # RFC 6749 2.3.1: both parts are form-encoded first.
            pair = ":".join(quote(part, safe="") for part in basic)
            headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        # A token request may spend a refresh token: it is repeated only while it cannot have arrived.
        retry = CONNECT_ONLY if self._patient else ONCE
        response = self._request("POST", url, headers=headers, body=urlencode(fields).encode(), retry=retry)
        try:
            document = json.loads(response.data) if response.data else {}
        except ValueError:
            document = {}
        if response.status >= 500:
            raise ServiceError("the issuer failed", got=f"HTTP status {response.status}", where=url)
        if response.status >= 400:
            reason = str(document.get("error", f"HTTP status {response.status}"))
            text = str(document.get("error_description") or "the issuer refused")
            raise AuthError(text, got=reason, where=url, remedy=_LOGIN)
        return dict(document)


class _Renewing:
    """A token that is asked for again when it gets old, and serves to its end if that fails. Shared by threads.

    Args:
        ask: asks for it, and waits for an issuer that is coming back.
        ask_again: asks without patience, while there is a token that serves.
    """

    def __init__(self, ask: Callable[[], Tokens], ask_again: Callable[[], Tokens]) -> None:
        self._ask, self._ask_again = ask, ask_again
        self._lock = threading.Lock()
        self._tokens: Tokens | None = None
        self._renew_at = 0.0
        self._pause_s = _RETRY_S[0]

    def __call__(self) -> str:
        with self._lock:
            now = time.time()
            if self._tokens is None or now >= self._tokens.expires_at:
                return self._keep(self._ask(), now)
            if now >= self._renew_at:
                try:
                    return self._keep(self._ask_again(), now)
                except ServiceError:
                    self._renew_at = now + self._pause_s
                    self._pause_s = min(2 * self._pause_s, _RETRY_S[1])
            return self._tokens.access

    def _keep(self, tokens: Tokens, now: float) -> str:
        self._tokens = tokens
        self._renew_at = now + (tokens.expires_at - now) * 2 / 3
        self._pause_s = _RETRY_S[0]
        return tokens.access


def audiences(endpoints: Endpoints) -> tuple[str, ...]:
    """Audiences of everything that a client talks to: catalogue, transfer service, storage, caches."""
    names = (
        endpoints.catalogue_audience,
        endpoints.transfers_audience,
        *(storage.audience for storage in endpoints.storage),
        *(cache.audience for cache in endpoints.caches),
    )
    return tuple(dict.fromkeys(filter(None, names)))
