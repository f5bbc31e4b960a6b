"""The endpoints beside the token endpoint: device authorization, revocation, introspection, userinfo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from authlib.consts import default_json_headers
from authlib.oauth2.base import OAuth2Error
from authlib.oauth2.rfc6749.errors import InvalidRequestError, InvalidScopeError, UnauthorizedClientError
from authlib.oauth2.rfc7009 import RevocationEndpoint
from authlib.oauth2.rfc7662 import IntrospectionEndpoint
from authlib.oauth2.rfc8628 import DeviceAuthorizationEndpoint

from boathouse.apps.tokens.issuer import Issuer
from boathouse.apps.tokens.passwords import fingerprint
from boathouse.apps.tokens.persistence.records import Client, RefreshToken
from boathouse.apps.tokens.persistence.store import Store
from boathouse.apps.tokens.protocol.grants import ANY_METHOD, SECRET, client_scopes
from boathouse.apps.tokens.protocol.minting import person_claims
from boathouse.apps.tokens.protocol.oauth import Request, Server, permitted
from boathouse.wlcg.scopes import format_scopes, parse
from boathouse.wlcg.urns import DEVICE_GRANT

_SCOPE_AT_MOST = 4096


class BusyError(OAuth2Error):  # type: ignore[misc]
    """Nothing is wrong with the request, but there is no room for it now."""

    error = "temporarily_unavailable"
    status_code = 503


class DeviceAuthorization(DeviceAuthorizationEndpoint):  # type: ignore[misc]
    """Gives device codes (RFC 8628, 3.1)."""

    CLIENT_AUTH_METHODS = ANY_METHOD
    server: Server

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self.EXPIRES_IN = server.issuer.settings.device_lifetime_s
        self.INTERVAL = server.issuer.settings.device_interval_s

    def create_endpoint_response(self, request: Request) -> Any:
        """A device code, if the client may have one."""
        client = self.authenticate_client(request)
        if not client.check_grant_type(DEVICE_GRANT):
            raise UnauthorizedClientError("The client is not authorized to use device codes")
        everybodys, own = self.server.store.count_devices(client.client_id)
        settings = self.server.issuer.settings
        if everybodys >= settings.device_codes_at_most or own >= settings.device_codes_per_client:
            raise BusyError("Too many device codes wait for an answer; try again in some minutes")
        if len(request.payload.scope or "") > _SCOPE_AT_MOST:
            raise InvalidScopeError("The scope is too long")
        self._scope = format_scopes(client_scopes(client, request.payload.scope))
        self._audience = " ".join(permitted(client, request.payload.audience()))
        return super().create_endpoint_response(request)

    def get_verification_uri(self) -> str:
        """Where the person types the code."""
        return f"{self.server.issuer.settings.issuer}/device"

    def save_device_credential(self, client_id: str, scope: str | None, data: dict[str, Any]) -> None:
        """Keep the code."""
        del scope
        store = self.server.store
        store.add_device(
            hash=fingerprint(data["device_code"]),
            user_code=data["user_code"],
            client_id=client_id,
            scope=self._scope,
            audience=self._audience,
            interval_s=data["interval"],
            address=self.server.address,
            begun_at=store.now,
            expires_at=store.now + data["expires_in"],
        )


@dataclass(frozen=True)
class Found:
    """A token that somebody presents: an access token's claims, or a refresh token."""

    client_id: str
    claims: dict[str, Any] | None
    refresh: RefreshToken | None
    live: bool

    def check_client(self, client: Client) -> bool:
        """Whether it was given to this client."""
        return self.client_id == client.client_id

    def is_expired(self) -> bool:
        """Whether it does not count any more."""
        return not self.live

    def is_revoked(self) -> bool:
        """Told together with :meth:`is_expired`."""
        return False


def find(issuer: Issuer, store: Store, token: str) -> Found | None:
    """A token of ours, access or refresh; None if there is no such token."""
    claims = issuer.mint.read(token)
    if claims is not None:
        return Found(claims["client_id"], claims, None, live=subject_is_live(store, claims))
    refresh = store.refresh_token(fingerprint(token))
    if refresh is None:
        return None
    live = not refresh.revoked and store.now < refresh.expires_at and store.user(refresh.sub) is not None
    return Found(refresh.client_id, None, refresh, live=live)


def subject_is_live(store: Store, claims: dict[str, Any]) -> bool:
    """Whether an access token still counts: not revoked, its client and its subject not switched off."""
    if store.is_denied(claims) or store.client(claims["client_id"]) is None:
        return False
    return store.user(claims["sub"]) is not None or store.client(claims["sub"]) is not None


class _AboutToken:
    """What revocation and introspection share: a request about one token of ours."""

    server: Server

    def check_params(self, request: Request, client: Client) -> None:
        """A token must be there; hints are not needed."""
        del client
        if "token" not in request.form:
            raise InvalidRequestError("Missing token")

    def query_token(self, token_string: str, token_type_hint: str | None) -> Found | None:
        """The token, whatever the hint says."""
        del token_type_hint
        return find(self.server.issuer, self.server.store, token_string)


class Revocation(_AboutToken, RevocationEndpoint):  # type: ignore[misc]
    """Revokes tokens (RFC 7009); a refresh token takes all of its family with it."""

    CLIENT_AUTH_METHODS = ANY_METHOD

    def revoke_token(self, token: Found, request: Request) -> None:
        """Revoke it."""
        del request
        if token.refresh is not None:
            self.server.store.revoke_family(token.refresh.family)
            self.server.audit("refresh.revoked", client=token.client_id, sub=token.refresh.sub)
        elif token.claims is not None:
            self.server.store.revoke_access_token(token.claims["jti"], token.claims["exp"])
            self.server.audit("token.revoked", client=token.client_id, sub=token.claims["sub"], jti=token.claims["jti"])


class Introspection(_AboutToken, IntrospectionEndpoint):  # type: ignore[misc]
    """Tells confidential clients about tokens (RFC 7662); of refresh tokens only their own."""

    CLIENT_AUTH_METHODS = SECRET

    def check_permission(self, token: Found, client: Client, request: Request) -> bool:
        """Whether the client may know."""
        del request
        return token.refresh is None or token.check_client(client)

    def introspect_token(self, token: Found) -> dict[str, Any]:
        """What is told of a live token."""
        if token.claims is not None:
            known = {key: value for key, value in token.claims.items() if key != "nbf"}
            user = self.server.store.user(token.claims["sub"])
            return {"active": True, "token_type": "Bearer", **known} | ({"username": user.login} if user else {})
        assert token.refresh is not None
        return {
            "active": True,
            "client_id": token.client_id,
            "sub": token.refresh.sub,
            "scope": token.refresh.scope,
            "exp": token.refresh.expires_at,
            "iat": token.refresh.issued_at,
        }


def userinfo(issuer: Issuer, store: Store, authorization: str) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Claims about the person behind an access token (OpenID Connect Core, 5.3).

    Returns:
        Status, body, headers.
    """
    kind, _, token = authorization.partition(" ")
    claims = issuer.mint.read(token.strip()) if kind.lower() == "bearer" else None
    if claims is None or not subject_is_live(store, claims):
        challenge = 'Bearer error="invalid_token"' if token else "Bearer"
        return 401, {"error": "invalid_token"}, {"WWW-Authenticate": challenge}
    scopes = parse(claims["scope"])
    user = store.user(claims["sub"])
    if user is None or all(scope.name != "openid" for scope in scopes):
        challenge = 'Bearer error="insufficient_scope", scope="openid"'
        return 403, {"error": "insufficient_scope"}, {"WWW-Authenticate": challenge}
    return 200, person_claims(user, scopes), dict(default_json_headers)
