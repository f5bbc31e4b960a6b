"""The issuer as a client of another OpenID provider: code, PKCE, state and nonce, and the identity token's checks.

OpenID Connect Core 1.0, 3.1; mix-up defence: RFC 9207 and one redirect URI a provider (RFC 9700, 4.4.2). Authlib makes
the request, joserfc judges the claims; keys, TLS and bounds are those of :mod:`boathouse.wlcg`.
"""

from __future__ import annotations

import hmac
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import urllib3
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from authlib.oidc.core.grants.util import create_half_hash
from joserfc import jws, jwt
from joserfc.errors import JoseError

from boathouse.apps.tokens.passwords import random_token
from boathouse.apps.tokens.upstream.providers import Provider
from boathouse.errors import AuthError, ServiceError
from boathouse.wlcg import http
from boathouse.wlcg.keys import KeyCache
from boathouse.wlcg.verify import ALGORITHMS

_LEEWAY_S = 60
_AT_ONCE = 4
"""Sign-ins that wait for one provider at once: a slow one must not take all threads of this issuer."""


class RefusedError(AuthError):
    """The sign-in failed; ``what`` is for the person, ``got`` for the log."""


@dataclass(frozen=True)
class Flow:
    """One sign-in under way; the browser keeps it."""

    provider: str
    state: str
    nonce: str
    verifier: str
    there: str
    """The local page that it goes on to."""
    expires_at: int


def new_flow(provider: str, there: str, expires_at: int) -> Flow:
    """A sign-in with fresh random values."""
    return Flow(provider, random_token(), random_token(), random_token(), there, expires_at)


class RelyingParty:
    """The issuer as one provider knows it; shared between threads.

    Args:
        provider: its settings.
        redirect_uri: where it sends people back to.
    """

    def __init__(self, provider: Provider, redirect_uri: str) -> None:
        self.provider = provider
        self._redirect_uri = redirect_uri
        self._pool = http.pool(provider.ca_file)
        self._keys = KeyCache(provider.issuer, provider.ca_file)
        self._metadata: Mapping[str, Any] | None = None
        self._places = threading.BoundedSemaphore(_AT_ONCE)

    def authorization_url(self, flow: Flow) -> str:
        """Where the browser goes.

        Raises:
            ServiceError: the provider does not answer, or too many wait for it.
        """
        with self._place():
            endpoint = self._endpoint("authorization_endpoint")
        url: str = prepare_grant_uri(
            endpoint,
            self.provider.client_id,
            "code",
            redirect_uri=self._redirect_uri,
            scope=self.provider.scope,
            state=flow.state,
            nonce=flow.nonce,
            code_challenge=create_s256_code_challenge(flow.verifier),
            code_challenge_method="S256",
        )
        return url

    def claims(self, flow: Flow, answer: Mapping[str, str]) -> dict[str, Any]:
        """Who signed in, from the parameters of the redirect back.

        Raises:
            RefusedError: the provider or one of the checks refuses.
            ServiceError: the provider does not answer, or too many wait for it.
        """
        if not hmac.compare_digest(answer.get("state", "").encode(), flow.state.encode()):
            raise RefusedError(STALE, got="state")
        with self._place():
            self._same_issuer(answer)
            if "error" in answer:
                raise RefusedError(_in_words(answer["error"]), got=f"error {answer['error'][:100]}")
            if not answer.get("code"):
                raise RefusedError(_BROKEN, got="no code")
            tokens = self._tokens(answer["code"], flow)
            claims = self._identity(tokens, flow)
            return claims | self._userinfo(tokens, claims["sub"])

    @contextmanager
    def _place(self) -> Iterator[None]:
        if not self._places.acquire(blocking=False):
            raise ServiceError("too many people sign in there just now", where=self.provider.issuer)
        try:
            yield
        finally:
            self._places.release()

    def _discovered(self) -> Mapping[str, Any]:
        if self._metadata is None:
            self._metadata = http.discover(self._pool, self.provider.issuer)
        return self._metadata

    def _endpoint(self, name: str) -> str:
        value = self._discovered().get(name)
        if not isinstance(value, str) or not value.startswith("https://"):
            raise ServiceError(f"the provider has no {name}", got=str(value), where=self.provider.issuer)
        return value

    def _same_issuer(self, answer: Mapping[str, str]) -> None:
        """RFC 9207, 2.4: the answer must come from the provider that was asked."""
        promised = self._discovered().get("authorization_response_iss_parameter_supported") is True
        said = answer.get("iss")
        if said != self.provider.issuer and (promised or said is not None):
            raise RefusedError("The answer came from another provider than the one that was asked.", got=f"iss {said}")

    def _tokens(self, code: str, flow: Flow) -> dict[str, Any]:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._redirect_uri,
            "code_verifier": flow.verifier,
        }
        headers: dict[str, str] = {}
        if self.provider.client_secret is None:
            form["client_id"] = self.provider.client_id
        else:
            basic = f"{self.provider.client_id}:{self.provider.client_secret.get_secret_value()}"
            headers = dict(urllib3.make_headers(basic_auth=basic))
        endpoint = self._endpoint("token_endpoint")
        status, document, _ = http.request_json(self._pool, "POST", endpoint, form=form, headers=headers)
        if status != 200 or not isinstance(document.get("id_token"), str):
            raise RefusedError(_BROKEN, got=f"token endpoint: status {status}, {str(document.get('error'))[:100]}")
        return document

    def _identity(self, tokens: Mapping[str, Any], flow: Flow) -> dict[str, Any]:
        """The identity token's claims (OpenID Connect Core 3.1.3.7)."""
        text = tokens["id_token"]
        try:
            header = jws.extract_compact(text.encode()).headers()
            key = self._keys.get(str(header.get("kid")))
            token = jwt.decode(text, key, algorithms=list(ALGORITHMS))
            claims = dict(token.claims)
            self._registry(flow).validate(claims)
        except (JoseError, ValueError, AuthError) as error:
            raise RefusedError(_NOT_PROVED, got=f"id_token: {error}") from error
        if fault := self._fault(claims, token.header, tokens):
            raise RefusedError(_NOT_PROVED, got=f"id_token: {fault}")
        return claims

    def _registry(self, flow: Flow) -> jwt.JWTClaimsRegistry:
        return jwt.JWTClaimsRegistry(
            leeway=_LEEWAY_S,
            iss={"essential": True, "value": self.provider.issuer},
            aud={"essential": True, "value": self.provider.client_id},
            sub={"essential": True},
            exp={"essential": True},
            iat={"essential": True},
            nonce={"essential": True, "value": flow.nonce},
        )

    def _fault(self, claims: Mapping[str, Any], header: Mapping[str, Any], tokens: Mapping[str, Any]) -> str:
        """What the registry does not look at: authorized party, hash of the access token, length of the subject."""
        audience, party = claims["aud"], claims.get("azp")
        if party not in (None, self.provider.client_id) or (
            isinstance(audience, list) and len(audience) > 1 and not party
        ):
            return "azp"
        half = claims.get("at_hash")
        if half is not None and half != create_half_hash(str(tokens.get("access_token", "")), header["alg"]).decode():
            return "at_hash"
        subject = claims["sub"]
        return "" if isinstance(subject, str) and len(subject) <= 255 else "sub"

    def _userinfo(self, tokens: Mapping[str, Any], sub: str) -> dict[str, Any]:
        """What only the userinfo endpoint says, if there is one.

        Rights may hang on it: without its answer nobody is signed in, lest groups vanish unseen.

        Raises:
            RefusedError: the answer is about somebody else.
            ServiceError: there is no good answer.
        """
        endpoint = self._discovered().get("userinfo_endpoint")
        if not isinstance(endpoint, str) or not isinstance(tokens.get("access_token"), str):
            return {}
        headers = {"Authorization": f"Bearer {tokens['access_token']}"}
        status, document, _ = http.request_json(self._pool, "GET", endpoint, headers=headers)
        if status != 200:
            raise ServiceError("the userinfo endpoint gives no answer", got=f"status {status}", where=endpoint)
        # OpenID Connect Core 5.3.2: the subject must be the same.
        if document.get("sub") != sub:
            raise RefusedError(_NOT_PROVED, got="userinfo: sub")
        return {name: value for name, value in document.items() if name not in _FROM_THE_TOKEN}


_FROM_THE_TOKEN = frozenset({"iss", "sub", "aud", "exp", "iat", "nonce"})
STALE = "This sign-in is out of date, or was begun in another window. Please begin again."
_NOT_PROVED = "The proof of who you are was not good."
_BROKEN = "The sign-in could not be completed there. Please begin again."
_WORDS: Mapping[str, str] = {
    "access_denied": "The sign-in was refused there, or you did not agree.",
    "login_required": "You are not signed in there.",
    "consent_required": "You have not agreed there.",
    "interaction_required": "The sign-in there needs something from you first.",
    "temporarily_unavailable": "The provider is out of service just now. Please try again later.",
    "server_error": "The provider had a fault. Please try again later.",
}


def _in_words(error: str) -> str:
    return _WORDS.get(error, "The provider refuses this facility's request. Please tell the operators.")
