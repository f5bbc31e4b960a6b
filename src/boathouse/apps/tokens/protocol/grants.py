"""The grants: Authlib checks the protocol, these classes say what is known and what may be given."""

from __future__ import annotations

from typing import Any

from authlib.oauth2.rfc6749 import grants
from authlib.oauth2.rfc6749.errors import InvalidGrantError, InvalidRequestError, InvalidScopeError
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oauth2.rfc8628 import DeviceCodeGrant
from authlib.oidc.core.grants.util import validate_request_prompt

from boathouse.apps.tokens.passwords import fingerprint, random_token
from boathouse.apps.tokens.persistence import records
from boathouse.apps.tokens.persistence.records import Client, Code, Device, RefreshToken, User
from boathouse.apps.tokens.protocol.oauth import Login, Request, Server, permitted, speakable
from boathouse.errors import InputError
from boathouse.wlcg.scopes import Scope, covers, format_scopes, parse
from boathouse.wlcg.urns import DEVICE_GRANT

SECRET = ("client_secret_basic", "client_secret_post")
PUBLIC = "none"
ANY_METHOD = (*SECRET, PUBLIC)
"""Ways in which a client proves itself where public clients are welcome."""


def requested(scope: str | None) -> tuple[Scope, ...]:
    """The scopes of a request.

    Raises:
        InvalidScopeError: one is malformed.
    """
    try:
        return parse(scope or "")
    except InputError as error:
        raise InvalidScopeError(speakable(f"{error.what}; expected {error.expected}")) from error


def client_scopes(client: Client, scope: str | None) -> tuple[Scope, ...]:
    """What a client's own list leaves of a request.

    Raises:
        InvalidScopeError: a scope is malformed, or nothing is left.
    """
    requested(scope)
    left = client.narrow(scope)
    if not left:
        raise InvalidScopeError("The client may ask for none of these scopes")
    return left


class IdToken:
    """Adds an identity token to a reply whose scope has ``openid``."""

    def __call__(self, grant: Any) -> None:
        """Hook into a grant."""
        grant.register_hook("after_create_token_response", self.add)
        grant.register_hook("after_validate_consent_request", validate_request_prompt)

    @staticmethod
    def add(grant: Any, response: tuple[int, dict[str, Any], Any]) -> None:
        """Put the identity token into the reply."""
        request: Request = grant.request
        issued, user, client = request.issued, request.user, request.client
        if issued and user and client and Scope("openid") in issued.scopes:
            response[1]["id_token"] = grant.server.issuer.mint.id_token(
                client, user, issued.scopes, issued.token.text, nonce=issued.nonce, auth_time=issued.auth_time
            )


class Pkce(CodeChallenge):  # type: ignore[misc]
    """Proof key for code exchange (RFC 7636): S256 only, and required of public clients at the first step."""

    SUPPORTED_CODE_CHALLENGE_METHOD = ("S256",)

    def validate_code_challenge(self, grant: Any, redirect_uri: str) -> None:
        """Check the challenge of an authorization request."""
        super().validate_code_challenge(grant, redirect_uri)
        data = grant.request.payload.data
        challenged = "code_challenge" in data
        if challenged and data.get("code_challenge_method") != "S256":
            raise InvalidRequestError("Only code_challenge_method S256 is supported")
        if grant.request.client.public and not challenged:
            raise InvalidRequestError("A public client must send a code_challenge")


class CodeGrant(grants.AuthorizationCodeGrant):  # type: ignore[misc]
    """Authorization code (RFC 6749, 4.1)."""

    TOKEN_ENDPOINT_AUTH_METHODS = ANY_METHOD
    server: Server
    request: Request

    def generate_authorization_code(self) -> str:
        """A code that nobody guesses."""
        return random_token()

    def save_authorization_code(self, code: str, request: Request) -> None:
        """Keep a code with all that the person consented to."""
        assert request.client is not None
        assert request.user is not None
        data = request.payload.data
        store = self.server.store
        store.add_code(
            hash=fingerprint(code),
            client_id=request.client.client_id,
            sub=request.user.sub,
            redirect_uri=data.get("redirect_uri", ""),
            scope=format_scopes(client_scopes(request.client, data.get("scope"))),
            audience=" ".join(permitted(request.client, request.payload.audience())),
            nonce=data.get("nonce", ""),
            challenge=data.get("code_challenge", ""),
            auth_time=request.auth_time or store.now,
            expires_at=store.now + self.server.issuer.settings.code_lifetime_s,
            family=Login.new("").family,
        )

    def query_authorization_code(self, code: str, client: Client) -> Code | None:
        """The code, if it is this client's, alive and unused; a replay revokes what it gave (RFC 6749, 4.1.2)."""
        store = self.server.store
        found = store.code(fingerprint(code))
        if found is None or found.client_id != client.client_id:
            return None
        if found.used:
            store.revoke_stolen(found.family, found.sub, found.client_id)
            self.server.audit("code.replayed", client=client.client_id, sub=found.sub)
            return None
        return found if store.now < found.expires_at else None

    def delete_authorization_code(self, authorization_code: Code) -> None:
        """Mark the code as used, so that a replay is noticed."""
        self.server.store.use_code(authorization_code.hash)

    def authenticate_user(self, authorization_code: Code) -> User | None:
        """The person, unless switched off meanwhile."""
        return self.server.store.user(authorization_code.sub)

    def generate_token(self, *, user: User, scope: str, **_: object) -> dict[str, Any]:
        """The tokens for a code."""
        code: Code = self.request.authorization_code
        login = Login(code.family, scope, tuple(code.audience.split()), code.auth_time, code.nonce)
        return self.server.issue(self.request, records.CODE, parse(scope), login=login, user=user)


class RefreshGrant(grants.RefreshTokenGrant):  # type: ignore[misc]
    """Refresh (RFC 6749, 6) with rotation; a rotated token works for a grace period (WLCG profile 4.3.2)."""

    TOKEN_ENDPOINT_AUTH_METHODS = ANY_METHOD
    INCLUDE_NEW_REFRESH_TOKEN = True
    server: Server
    request: Request

    def authenticate_refresh_token(self, refresh_token: str) -> RefreshToken | None:
        """The refresh token, if alive; one that was rotated long ago is stolen, and its family is revoked."""
        store = self.server.store
        found = store.refresh_token(fingerprint(refresh_token))
        if found is None or found.revoked or store.now >= found.expires_at:
            return None
        grace_s = self.server.issuer.settings.refresh_grace_s
        if found.rotated_at is not None and store.now >= found.rotated_at + grace_s:
            store.revoke_stolen(found.family, found.sub, found.client_id)
            self.server.audit("refresh.replayed", client=found.client_id, sub=found.sub)
            return None
        return found

    def _validate_token_scope(self, token: RefreshToken) -> None:
        granted = parse(token.scope)
        if not all(covers(granted, wish) for wish in requested(self.request.payload.scope)):
            raise InvalidScopeError("A scope was asked for that the refresh token does not cover")

    def authenticate_user(self, refresh_token: RefreshToken) -> User:
        """The person, unless switched off meanwhile."""
        user = self.server.store.user(refresh_token.sub)
        if user is None:
            raise InvalidGrantError("The account is closed")
        return user

    def generate_token(self, *, user: User, scope: str, **_: object) -> dict[str, Any]:
        """The tokens for a refresh token, which may be narrower; the next refresh token is as wide as this one."""
        old: RefreshToken = self.request.refresh_token
        self.request.user = user
        assert self.request.client is not None
        login = Login(old.family, old.scope, tuple(old.audience.split()), old.auth_time, act=old.act)
        scopes = self.request.client.narrow(scope)
        return self.server.issue(self.request, records.REFRESH, scopes, login=login, user=user)

    def revoke_old_credential(self, refresh_token: RefreshToken) -> None:
        """Start the grace period of the old token."""
        self.server.store.rotate_refresh_token(refresh_token.hash)


class ClientGrant(grants.ClientCredentialsGrant):  # type: ignore[misc]
    """Client credentials (RFC 6749, 4.4): the client's own scope list decides."""

    TOKEN_ENDPOINT_AUTH_METHODS = SECRET
    server: Server
    request: Request

    def generate_token(self, *, scope: str | None, **_: object) -> dict[str, Any]:
        """A token for the client itself."""
        assert self.request.client is not None
        scopes = client_scopes(self.request.client, scope)
        return self.server.issue(self.request, records.CLIENT, scopes)


class DeviceGrant(DeviceCodeGrant):  # type: ignore[misc]
    """Device code (RFC 8628, 3.4)."""

    TOKEN_ENDPOINT_AUTH_METHODS = ANY_METHOD
    server: Server
    request: Request

    def query_device_credential(self, device_code: str) -> Device:
        """The device code.

        Raises:
            InvalidGrantError: there is none.
        """
        found = self.server.store.device(fingerprint(device_code))
        if found is None:
            raise InvalidGrantError("Unknown device code")
        return found

    def query_user_grant(self, user_code: str) -> tuple[User, bool] | None:
        """What the person decided; None as long as nothing was."""
        found = self.server.store.device_by_user_code(user_code)
        if found is None or found.status == "pending":
            return None
        user = self.server.store.user(found.sub)
        if user is None:
            raise InvalidGrantError("The account is closed")
        return user, found.status == "approved"

    def should_slow_down(self, credential: Device) -> bool:
        """Whether the client polls too often; its interval grows by 5 s each time (RFC 8628, 3.5)."""
        hasty = self.server.store.now < credential.polled_at + credential.interval_s
        interval_s = credential.interval_s + 5 if hasty else credential.interval_s
        self.server.store.update_device(credential.hash, polled_at=self.server.store.now, interval_s=interval_s)
        return hasty

    def generate_token(self, *, user: User, scope: str, **_: object) -> dict[str, Any]:
        """The tokens for a device code, which is used up."""
        device: Device = self.request.credential
        login = Login.new(scope, audience=tuple(device.audience.split()), auth_time=device.auth_time)
        tokens = self.server.issue(self.request, DEVICE_GRANT, parse(scope), login=login, user=user)
        # Its row is locked since it was read: nobody else uses it meanwhile. A refused request does not use it up.
        self.server.store.delete_device(device.hash)
        return tokens
