"""What the database holds, as plain records; a few of them answer the questions that Authlib asks of its models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from authlib.oauth2.rfc6749 import AuthorizationCodeMixin, ClientMixin, TokenMixin
from authlib.oauth2.rfc8628 import DeviceCredentialMixin

from boathouse.apps.tokens.passwords import Hasher
from boathouse.apps.tokens.protocol import redirects
from boathouse.errors import InputError
from boathouse.wlcg.scopes import CAPABILITY_SET, STORAGE, Scope, format_scopes, narrow, parse
from boathouse.wlcg.urns import DEVICE_GRANT, EXCHANGE_GRANT

CODE = "authorization_code"
REFRESH = "refresh_token"
CLIENT = "client_credentials"
GRANTS = (CODE, REFRESH, CLIENT, DEVICE_GRANT, EXCHANGE_GRANT)
GRANT_NAMES = {"device_code": DEVICE_GRANT, "token_exchange": EXCHANGE_GRANT}
"""Short names that the seed file may use."""

_NOT_BY_DEFAULT = STORAGE | {"offline_access"}


@dataclass(frozen=True)
class User:
    """A person."""

    sub: str
    login: str
    name: str
    email: str
    admin: bool
    groups: tuple[str, ...]
    """All groups, in the order of the VO."""
    optional: frozenset[str]
    """Those of them that a token names only when they are asked for."""

    def get_user_id(self) -> str:
        """The subject, for Authlib."""
        return self.sub


@dataclass(frozen=True)
class Client(ClientMixin):  # type: ignore[misc]
    """A program that is known to the issuer; without a secret it is a public one."""

    client_id: str
    name: str
    secret_hash: bytes | None
    grants: tuple[str, ...]
    scopes: tuple[Scope, ...]
    redirect_uris: tuple[str, ...]
    exchange_from: tuple[str, ...]
    audiences: frozenset[str] | None
    """The audiences that it may ask for; None for any."""
    trusted: bool
    hands_over: bool
    """Whether whoever began a login gets its token, wherever that is; then people are always asked, and told so."""
    bounded_by: str
    """The client whose scopes and audiences bound this one, if it registered itself; empty otherwise."""
    hasher: Hasher = field(compare=False, repr=False)

    @property
    def public(self) -> bool:
        """Whether it cannot keep a secret."""
        return self.secret_hash is None

    @property
    def registered(self) -> bool:
        """Whether it registered itself, so that nobody vouches for its name."""
        return bool(self.bounded_by)

    @property
    def asks_always(self) -> bool:
        """Whether a consent of before is not enough: another program may use the name (RFC 8252, 8.6)."""
        return self.registered or self.hands_over

    def narrow(self, scope: str | None) -> tuple[Scope, ...]:
        """What the client's own list leaves of a request; its harmless scopes if nothing is named.

        Raises:
            InputError: a scope is malformed.
        """
        if not scope:
            return tuple(own for own in self.scopes if own.name not in _NOT_BY_DEFAULT)
        wanted = parse(scope)
        # What a capability set stands for is known when a token is made, and narrowed by the list then.
        sets = [wish for wish in wanted if wish.name == CAPABILITY_SET]
        return narrow([*self.scopes, *sets], wanted)

    def get_client_id(self) -> str:
        """Its name, for Authlib."""
        return self.client_id

    def get_default_redirect_uri(self) -> str | None:
        """The only redirect URI; with several, a request must name one."""
        return self.redirect_uris[0] if len(self.redirect_uris) == 1 else None

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        """Whether the URI is one of the registered ones; see :func:`redirects.same`."""
        return any(redirects.same(registered, redirect_uri) for registered in self.redirect_uris)

    def get_allowed_scope(self, scope: str | None) -> str | None:
        """What the client may ask for, as text; None if it is malformed or nothing is left."""
        try:
            return format_scopes(self.narrow(scope)) or None
        except InputError:
            return None

    def check_client_secret(self, client_secret: str) -> bool:
        """Whether this is the client's secret."""
        return self.secret_hash is not None and self.hasher.matches(client_secret, self.secret_hash)

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        """Whether the client may prove itself in this way."""
        del endpoint
        return (method == "none") == self.public

    def check_response_type(self, response_type: str) -> bool:
        """Whether the client may send people to the authorization page."""
        return response_type == "code" and CODE in self.grants

    def check_grant_type(self, grant_type: str) -> bool:
        """Whether the client may use a grant."""
        return grant_type in self.grants


@dataclass(frozen=True)
class Registration:
    """What is kept of a client that registered itself, beside the client."""

    client_id: str
    token_hash: bytes
    metadata: Mapping[str, Any]
    registered_at: int
    used_at: int | None


@dataclass(frozen=True)
class Code(AuthorizationCodeMixin):  # type: ignore[misc]
    """An authorization code that was given out."""

    hash: bytes
    client_id: str
    sub: str
    redirect_uri: str
    scope: str
    audience: str
    nonce: str
    challenge: str
    auth_time: int
    expires_at: int
    family: str
    used: bool

    code_challenge_method = "S256"

    @property
    def code_challenge(self) -> str | None:
        """The PKCE challenge, for Authlib."""
        return self.challenge or None

    def get_redirect_uri(self) -> str:
        """The redirect URI of the request; empty if it named none."""
        return self.redirect_uri

    def get_scope(self) -> str:
        """The scope that the person consented to."""
        return self.scope


@dataclass(frozen=True)
class Device(DeviceCredentialMixin):  # type: ignore[misc]
    """A device code that was given out."""

    hash: bytes
    user_code: str
    client_id: str
    scope: str
    audience: str
    status: str
    sub: str
    auth_time: int | None
    polled_at: int
    interval_s: int
    expires_at: int
    address: str
    """Where the device asked from."""
    begun_at: int
    now: int

    def get_client_id(self) -> str:
        """The client that asked for it."""
        return self.client_id

    def get_scope(self) -> str:
        """The scope that the client asked for."""
        return self.scope

    def get_user_code(self) -> str:
        """The code that the person types."""
        return self.user_code

    def is_expired(self) -> bool:
        """Whether its time is over."""
        return self.now >= self.expires_at


@dataclass(frozen=True)
class Credential:
    """What a person signs in with."""

    sub: str
    password: str
    """Hash; empty if there is none."""
    suspended: bool


@dataclass(frozen=True)
class RefreshToken(TokenMixin):  # type: ignore[misc]
    """A refresh token; ``scope`` is what the person consented to, policies are applied anew at each use."""

    hash: bytes
    family: str
    client_id: str
    sub: str
    scope: str
    audience: str
    act: Mapping[str, Any] | None
    auth_time: int | None
    issued_at: int
    expires_at: int
    rotated_at: int | None
    revoked: bool

    def check_client(self, client: Client) -> bool:
        """Whether it was given to this client."""
        return self.client_id == client.client_id

    def get_scope(self) -> str:
        """The scope that the person consented to."""
        return self.scope
