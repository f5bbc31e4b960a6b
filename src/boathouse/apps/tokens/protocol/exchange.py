"""Token exchange (RFC 8693): other audiences, never more scopes, and a record of who acts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from authlib.oauth2.rfc6749 import BaseGrant, TokenEndpointMixin
from authlib.oauth2.rfc6749.errors import (
    InvalidGrantError,
    InvalidRequestError,
    InvalidScopeError,
    UnauthorizedClientError,
)

from boathouse.apps.tokens.persistence.records import Client, User
from boathouse.apps.tokens.protocol.endpoints import BusyError
from boathouse.apps.tokens.protocol.grants import SECRET, requested
from boathouse.apps.tokens.protocol.oauth import Login, Request, Server
from boathouse.errors import ServiceError
from boathouse.wlcg.scopes import Scope, format_scopes, narrow, parse
from boathouse.wlcg.urns import ACCESS_TOKEN, EXCHANGE_GRANT, JWT


class ExchangeGrant(BaseGrant, TokenEndpointMixin):  # type: ignore[misc]
    """A client gets a fresh token on behalf of the subject of a token that it was handed.

    What it gets is covered by the subject token, by the client's own list, and (for people) by the policies of
    now. Whose tokens it may exchange is in its registration. With ``offline_access`` in both, a refresh token is
    given, so that a transfer can outlive the token that it was submitted with.
    """

    GRANT_TYPE = EXCHANGE_GRANT
    TOKEN_ENDPOINT_AUTH_METHODS = SECRET
    server: Server
    request: Request

    def validate_token_request(self) -> None:
        """Check the client and the subject token."""
        client: Client = self.authenticate_token_endpoint_client()
        self.request.client = client
        if not client.check_grant_type(self.GRANT_TYPE):
            raise UnauthorizedClientError("The client is not authorized to exchange tokens")
        form = self.request.form
        if form.get("subject_token_type") not in (ACCESS_TOKEN, JWT):
            raise InvalidRequestError("Only access tokens can be exchanged")
        if form.get("requested_token_type", ACCESS_TOKEN) not in (ACCESS_TOKEN, JWT):
            raise InvalidRequestError("Only access tokens are given")
        if "actor_token" in form:
            raise InvalidRequestError("The actor is the client; actor_token is not supported")
        claims = self._read(form.get("subject_token", ""))
        if claims is None:
            raise InvalidGrantError("The subject token is not a live token of this issuer")
        if claims["client_id"] != client.client_id and claims["client_id"] not in client.exchange_from:
            raise UnauthorizedClientError("The client may not exchange tokens of the client that this one is for")
        self._subject = claims

    def _read(self, token: str) -> Mapping[str, Any] | None:
        """The subject token's claims; those of other issuers that the facility trusts are translated.

        Raises:
            BusyError: the keys of another issuer cannot be had.
        """
        issuer = self.server.issuer
        claims = issuer.mint.read(token)
        self._other = claims is None
        if claims is not None:
            return None if self.server.store.is_denied(claims) else claims
        try:
            return issuer.trusted.read(token)
        except ServiceError as error:
            raise BusyError("The other issuer does not answer, and its keys are not known") from error

    def create_token_response(self) -> tuple[int, dict[str, Any], Any]:
        """The new token."""
        client = self.request.client
        assert client is not None
        wanted = requested(self.request.payload.scope) or parse(self._subject["scope"])
        scopes = narrow(client.scopes, narrow(parse(self._subject["scope"]), wanted))
        if not scopes:
            raise InvalidScopeError("None of the scopes is covered by the subject token and the client")
        user = self._person()
        act: dict[str, Any] = {"sub": client.client_id}
        if before := self._subject.get("act"):
            act["act"] = before
        login = None
        if user is not None and Scope("offline_access") in scopes:
            login = Login.new(format_scopes(scopes), act=act)
        reply = self.server.issue(
            self.request, self.GRANT_TYPE, scopes, login=login, user=user, sub=self._subject["sub"], act=act
        )
        return 200, reply | {"issued_token_type": ACCESS_TOKEN}, self.TOKEN_RESPONSE_HEADER

    def _person(self) -> User | None:
        """Who the subject is; None for a client.

        Raises:
            InvalidGrantError: the account is closed, or the client is switched off.
        """
        if self._other:
            return None
        subject = self._subject["sub"]
        user = self.server.store.user(subject)
        if user is None and self.server.store.client(subject) is None:
            raise InvalidGrantError("The subject is closed")
        return user
