"""Authlib's authorization server, one object a request, joined to our store, mint and audit log."""

from __future__ import annotations

import logging
import re
import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from authlib.oauth2 import AuthorizationServer
from authlib.oauth2.base import OAuth2Error
from authlib.oauth2.rfc6749 import OAuth2Payload, OAuth2Request
from authlib.oauth2.rfc6749.errors import InvalidRequestError, InvalidScopeError
from starlette.responses import JSONResponse, Response

from boathouse.apps.tokens.issuer import Issuer
from boathouse.apps.tokens.passwords import fingerprint, random_token
from boathouse.apps.tokens.persistence.records import REFRESH, Client, User
from boathouse.apps.tokens.persistence.store import Store
from boathouse.apps.tokens.protocol.clientauth import client_secret_basic
from boathouse.apps.tokens.protocol.minting import ANY_AUDIENCE, AccessToken
from boathouse.apps.tokens.rights.policies import allowed, expanded
from boathouse.apps.tokens.trail import audit, tracing
from boathouse.wlcg.scopes import HOST, Scope, narrow

# Authlib writes tokens and secrets' owners at debug level.
logging.getLogger("authlib").setLevel(logging.WARNING)

_REPEATABLE = frozenset({"audience", "resource", "aud"})
_AUDIENCE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,255}")
_AUDIENCES_AT_MOST = 64


class InvalidTargetError(OAuth2Error):  # type: ignore[misc]
    """An audience that this issuer does not give (RFC 8707, section 2)."""

    error = "invalid_target"


class Payload(OAuth2Payload):  # type: ignore[misc]
    """Parameters of a request; empty ones count as absent (RFC 6749, 3.1).

    Raises:
        InvalidRequestError: a parameter is repeated or holds what none of ours may hold.
    """

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._lists: defaultdict[str, list[str]] = defaultdict(list)
        for name, value in pairs:
            if not (name + value).isprintable():
                raise InvalidRequestError("A parameter holds a control character")
            if value:
                self._lists[name].append(value)
        for name, values in self._lists.items():
            if len(values) > 1 and name not in _REPEATABLE:
                raise InvalidRequestError(f"Multiple values of parameter {speakable(name)}")
        self._data = {name: values[0] for name, values in self._lists.items()}
        for name in ("grant_type", "response_type", "redirect_uri", "code_challenge_method"):
            # Authlib repeats these in error descriptions, where only some characters may stand.
            if not _AUDIENCE.fullmatch(self._data.get(name, "x")[:255].replace(" ", "_")):
                raise InvalidRequestError(f"Malformed {name}")

    @property
    def data(self) -> dict[str, str]:
        """Value by name."""
        return self._data

    @property
    def datalist(self) -> defaultdict[str, list[str]]:
        """All values by name."""
        return self._lists

    def audience(self) -> tuple[str, ...]:
        """The audiences that are asked for: the first of ``resource``, ``aud``, ``audience`` that is there.

        Raises:
            InvalidTargetError: one of them is malformed, or means everybody.
        """
        given = next((self._lists[name] for name in ("resource", "aud", "audience") if name in self._lists), [])
        names = tuple(dict.fromkeys(name for value in given for name in value.split()))
        if len(names) > _AUDIENCES_AT_MOST or not all(_AUDIENCE.fullmatch(name) for name in names):
            raise InvalidTargetError("Malformed audience")
        if ANY_AUDIENCE in names:
            raise InvalidTargetError("The audience must be named; a token for everybody is not given")
        return names


def permitted(client: Client, audience: tuple[str, ...]) -> tuple[str, ...]:
    """The audiences, if the client may ask for all of them; none, which means the issuer itself, it always may.

    Raises:
        InvalidTargetError: one is not in the client's list; the description names it.
    """
    for name in audience:
        if client.audiences is not None and name not in client.audiences:
            raise InvalidTargetError(f"The client may not ask for tokens for {speakable(name)}")
    return audience


def _agreed(client: Client, asked: tuple[str, ...], login: Login | None) -> tuple[str, ...]:
    """The audiences that are asked for, or else those of the login.

    Nobody vouches for a program that registered itself: it gets what the person read on the page, if anything was
    named there (RFC 8707, 2.2).

    Raises:
        InvalidTargetError: it asks for another one.
    """
    there = login.audience if login else ()
    if client.registered and there:
        for name in asked:
            if name not in there:
                raise InvalidTargetError(f"The person did not agree to tokens for {speakable(name)}")
    return asked or there


def speakable(text: str) -> str:
    """Text cut down to what an error description may hold (RFC 6749, 5.2)."""
    return re.sub(r"[^\x20\x21\x23-\x5b\x5d-\x7e]", "?", text)[:120]


def _without_host(scopes: Sequence[Scope], client: Client, user: User | None, sub: str) -> Sequence[Scope]:
    """The scopes; the one that says which host a token speaks for only where it does (WLCG profile 2.2.4)."""
    is_host = user is None and not sub and client.client_id.startswith("host:")
    return [scope for scope in scopes if is_host or scope.name != HOST]


class Request(OAuth2Request):  # type: ignore[misc]
    """One request as Authlib sees it."""

    payload: Payload
    client: Client | None
    user: User | None

    def __init__(
        self,
        method: str,
        uri: str,
        headers: Mapping[str, str],
        *,
        query: Iterable[tuple[str, str]] = (),
        form: Iterable[tuple[str, str]] = (),
    ) -> None:
        super().__init__(method, uri, headers=headers)
        form = list(form)
        self._form = Payload(form).data
        self.payload = Payload([*query, *form])
        self.issued: Issued | None = None
        self.auth_time: int | None = None

    @property
    def form(self) -> dict[str, str]:
        """Parameters of the body alone."""
        return self._form


@dataclass(frozen=True)
class Issued:
    """What was given out, for the identity token that follows."""

    token: AccessToken
    scopes: tuple[Scope, ...]
    auth_time: int | None
    nonce: str


@dataclass(frozen=True)
class Login:
    """Where a token comes from: the login and the consent that it and its descendants stem from."""

    family: str
    consented: str
    """Scope that a refresh token will carry; policies are applied at each use of it."""
    audience: tuple[str, ...] = ()
    auth_time: int | None = None
    nonce: str = ""
    act: Mapping[str, Any] | None = None

    @classmethod
    def new(cls, consented: str, **more: Any) -> Login:
        """A login of its own family."""
        return cls(str(uuid.uuid4()), consented, **more)


class Server(AuthorizationServer):  # type: ignore[misc]
    """The authorization server for one request, in one transaction.

    Args:
        issuer: the parts that all requests share.
        store: the database in this request's transaction.
        address: of the caller, for the audit log.
        held: where records are put that whoever calls will write before an answer leaves; None to write them at once.
    """

    def __init__(self, issuer: Issuer, store: Store, address: str, held: list[audit.Entry] | None = None) -> None:
        super().__init__()
        # Authlib's own fails on a header that holds less than it expects.
        self.register_client_auth_method("client_secret_basic", client_secret_basic)
        self.issuer = issuer
        self.store = store
        self.address = address
        self._held = held
        self._records: list[Future[None]] = []

    # What Authlib asks for

    def query_client(self, client_id: str) -> Client | None:
        """An active client by name."""
        return self.store.client(client_id)

    def create_oauth2_request(self, request: Request) -> Request:
        """The request, which is in Authlib's form already."""
        return request

    def save_token(self, token: object, request: object) -> None:
        """Nothing: access tokens are not kept, refresh tokens are when they are made."""

    def send_signal(self, name: str, *args: object, **kwargs: object) -> None:
        """Nothing: nobody listens."""

    def handle_response(self, status: int, body: Any, headers: Iterable[tuple[str, str]]) -> Response:
        """A response of the web framework."""
        kept = {name: value for name, value in headers if name.lower() != "content-type"}
        if isinstance(body, dict):
            return JSONResponse(body, status, kept)
        return Response(body, status, kept)

    def handle_error_response(self, request: Request, error: OAuth2Error) -> Response:
        """The error as a response, with a line in the audit log."""
        payload = request.payload.data
        client = request.client
        detail = {
            "client": (client.client_id if client else payload.get("client_id", ""))[:255],
            "grant": payload.get("grant_type", "")[:255],
            "scope": payload.get("scope", "")[:2000],
            "reason": f"{error.error}: {error.get_error_description() or ''}".rstrip(": "),
        }
        if client is None or client.public:
            self.sample("token.refused", **detail)
        else:
            self.audit("token.refused", wait=False, **detail)
        response: Response = super().handle_error_response(request, error)
        return response

    # Ours

    def audit(self, event: str, *, wait: bool = True, **detail: str | int) -> None:
        """Write a record; with ``wait``, :meth:`settle` waits for it."""
        told = {**detail, **self._whence}
        if wait and self._held is not None:
            self._held.append(audit.entry(event, told))
            return
        future = self.issuer.audit.record(event, told)
        if wait:
            self._records.append(future)

    def sample(self, event: str, **detail: str) -> None:
        """Write a record of what a caller did who proved nothing; of many such only some are written."""
        self.issuer.audit.sample(event, {**detail, **self._whence})

    @property
    def _whence(self) -> dict[str, str]:
        return {"address": self.address, "request": tracing.current()}

    def settle(self) -> None:
        """Wait until the records of this request are on disk.

        Raises:
            SQLAlchemyError: they could not be written; nothing may leave the issuer.
        """
        for record in self._records:
            record.result()

    def issue(
        self,
        request: Request,
        grant: str,
        scopes: Sequence[Scope],
        *,
        login: Login | None = None,
        user: User | None = None,
        sub: str = "",
        act: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Make the token that a grant decided on, with a refresh token where one is due.

        Args:
            request: with its client authenticated.
            grant: name of the grant, for the audit log.
            scopes: what the client and the former consent allow.
            login: the login it stems from; None for tokens of clients.
            user: the person it speaks for, whose policies are applied; None for tokens of clients.
            sub: the client it speaks for, if not the caller.
            act: who acts for the subject.

        Raises:
            InvalidScopeError: nothing is left of the scopes.
            InvalidTargetError: an audience is wrong.
        """
        client = request.client
        assert client is not None
        scopes = self._granted(client, _without_host(scopes, client, user, sub), user)
        act = act or (login.act if login else None)
        # What a refresh token or a code carries is checked anew: the list may have changed since.
        audience = permitted(client, _agreed(client, request.payload.audience(), login))
        token = self.issuer.mint.access_token(client, user, scopes, audience, sub=sub, act=act)
        reply: dict[str, Any] = {
            "access_token": token.text,
            "token_type": "Bearer",
            "expires_in": token.lifetime_s,
            "scope": token.scope,
        }
        if login and user and "offline_access" in login.consented.split() and client.check_grant_type(REFRESH):
            reply["refresh_token"] = self._refresh_token(client, user, login, audience, act)
        if client.registered:
            self.store.use_registration(client.client_id, self.store.now + self.issuer.settings.registration_idle_s)
        request.issued = Issued(token, tuple(scopes), login.auth_time if login else None, login.nonce if login else "")
        self._audit_issue(request, grant, token, user, act)
        return reply

    def _granted(self, client: Client, scopes: Sequence[Scope], user: User | None) -> Sequence[Scope]:
        """What the policies of now leave to a person; all to a client.

        Raises:
            InvalidScopeError: nothing is left.
        """
        policies = self.store.policies(user) if user else ()
        groups = user.groups if user else ()
        wanted = expanded(scopes, groups=groups, policies=policies)
        if wanted != tuple(scopes):
            wanted = narrow(client.scopes, wanted)
        if user is not None:
            wanted = allowed(wanted, account=user.login, groups=groups, admin=user.admin, policies=policies)
        scopes = wanted
        if not scopes:
            raise InvalidScopeError("None of the requested scopes may be granted")
        return scopes

    def _audit_issue(
        self, request: Request, grant: str, token: AccessToken, user: User | None, act: Mapping[str, Any] | None
    ) -> None:
        assert request.client is not None
        self.audit(
            "token.issued",
            grant=grant,
            client=request.client.client_id,
            sub=token.sub,
            login=user.login if user else "",
            jti=token.jti,
            audience=" ".join(token.audience),
            scope=token.scope,
            exp=token.expires_at,
            requested=request.payload.data.get("scope", "")[:2000],
            actor=str(act["sub"]) if act else "",
        )

    def _refresh_token(
        self, client: Client, user: User, login: Login, audience: Sequence[str], act: Mapping[str, Any] | None
    ) -> str:
        text = random_token()
        now = self.store.now
        self.store.add_refresh_token(
            hash=fingerprint(text),
            family=login.family,
            client_id=client.client_id,
            sub=user.sub,
            scope=login.consented,
            # A program that registered itself is bound to what stood on the page, and by nothing if nothing did.
            audience=" ".join(login.audience if client.registered else login.audience or audience),
            act=act,
            auth_time=login.auth_time,
            issued_at=now,
            expires_at=now + self.issuer.settings.refresh_lifetime_s,
        )
        return text
