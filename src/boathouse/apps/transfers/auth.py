"""Who calls: the bearer token of a request, verified, with the scope of this service."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from datetime import UTC, datetime

from boathouse.apps.transfers.jwt import key_name, payload
from boathouse.apps.transfers.settings import Settings, TrustedIssuer
from boathouse.apps.transfers.store import Caller
from boathouse.errors import AuthError
from boathouse.wlcg.denials import Denials, Follower
from boathouse.wlcg.verify import Claims, Verifier

SCOPE = "fts"
_REMEMBERED = 1024
_REMEMBER_S = 300.0
"""How long a verified token is taken without another look at its signature; no longer than it lives."""


class ScopeError(AuthError):
    """The token is good, and does not allow what was asked for."""


def subject_of(issuer: TrustedIssuer, subject: str) -> str:
    """How somebody of another issuer is called here, and in the tokens that the facility's issuer gives for theirs."""
    return f"{issuer.name}:{subject}"


def _vo(claims: Claims) -> str:
    """The VO of the first group, ``/vo/subgroup``; empty if there is none."""
    return claims.groups[0].strip("/").partition("/")[0] if claims.groups else ""


class Gate:
    """Lets callers in. Shared between threads.

    Args:
        settings: issuer, audience, VO and operators.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._denials = Denials()
        self._verifier = Verifier(
            settings.issuer, settings.audience, settings.ca_file, denials=self._denials, seeded=settings.key_cache
        )
        self._follower = Follower(
            self._denials,
            settings.issuer,
            settings.client_id,
            settings.client_secret,
            settings.ca_file,
            heard=self._heard,
        )
        self._trusted = {one.url: one for one in settings.trusted if one.url != settings.issuer}
        self._verifiers = {
            url: Verifier(url, settings.audience, one.ca_file, seeded=settings.key_cache)
            for url, one in self._trusted.items()
        }
        self._known: OrderedDict[bytes, tuple[float, Claims]] = OrderedDict()
        self._lock = threading.Lock()

    def start(self) -> None:
        """Follow the issuer's list of tokens that count no more."""
        self._follower.start()

    def stop(self) -> None:
        """Follow it no more."""
        self._follower.stop()

    def _heard(self, kinds: frozenset[str]) -> None:
        if "key" in kinds:
            self._verifier.refresh()

    @property
    def informed(self) -> bool:
        """Whether the issuer's list of tokens that count no more has come, or none could be had."""
        return self._denials.settled

    def denied(self, token: str) -> str | None:
        """Why a token that is carried for somebody counts no more at the facility's issuer; None if it does.

        Storage checks tokens by itself, and knows nothing of that list. Just after the start this may wait for it.
        """
        claims = payload(token)
        return self._denials.reason(claims, key_name(token)) if claims.get("iss") == self._settings.issuer else None

    def caller(self, authorization: str | None) -> Caller:
        """The caller of a request.

        Args:
            authorization: value of the ``Authorization`` header.

        Raises:
            AuthError: there is no bearer token, or it is not acceptable (401).
            ScopeError: it lacks the scope ``fts`` (403).
            ServiceError: the issuer's keys cannot be had now (503).
        """
        kind, _, token = (authorization or "").partition(" ")
        if kind.lower() != "bearer" or not token.strip():
            raise AuthError("no bearer token", expected="a header Authorization: Bearer …")
        claims = self._claims(token.strip())
        other = self._trusted.get(claims.iss)
        if not claims.covers(SCOPE):
            raise ScopeError(
                "the token does not allow transfers", expected=f"scope {SCOPE}", got=" ".join(claims.scope)
            )
        if other is not None:
            # Its subjects are its own: none of them is one of ours, nor an operator.
            return Caller(
                subject=subject_of(other, claims.sub),
                client_id=claims.client_id,
                vo=other.vo,
                expires_at=datetime.fromtimestamp(claims.exp, UTC),
                operator=False,
            )
        return Caller(
            subject=claims.sub,
            client_id=claims.client_id,
            vo=_vo(claims) or self._settings.vo,
            expires_at=datetime.fromtimestamp(claims.exp, UTC),
            operator=claims.sub in self._settings.operators,
            groups=claims.groups,
        )

    def _claims(self, token: str) -> Claims:
        key = hashlib.sha256(token.encode()).digest()
        now = time.time()
        with self._lock:
            until, claims = self._known.get(key, (0.0, None))
        if claims is not None and now < until:
            if claims.iss not in self._trusted:
                self._verifier.check_denials(claims)
            return claims
        issuer = payload(token).get("iss")
        verifier = self._verifiers.get(issuer, self._verifier) if isinstance(issuer, str) else self._verifier
        claims = verifier.verify(token)
        with self._lock:
            self._known[key] = (min(now + _REMEMBER_S, claims.exp), claims)
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return claims
