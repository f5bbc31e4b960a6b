"""Tokens for services: client credentials (RFC 6749, 4.4)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import urllib3

from boathouse.errors import AuthError, ServiceError
from boathouse.wlcg import http

_MARGIN_S = 60.0
_UNTOLD_S = 300.0
"""Life of a token of which the issuer does not tell it (``expires_in`` is only recommended: RFC 6749, 5.1)."""
_RETRY_S, _LONGEST_RETRY_S = 1.0, 20.0
"""After a failure the issuer is asked again so much later, and twice as late after each further one."""


@dataclass
class _Slot:
    """One cached token and the lock under which it is renewed."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    token: str = ""
    renew_at: float = 0.0
    ends_at: float = 0.0
    failures: int = 0
    """In a row."""
    fault: ServiceError | None = None


class ClientCredentials:
    """A confidential client of an issuer; safe to share between threads.

    Args:
        issuer: URL of the issuer.
        client_id: name of the client.
        secret: its secret.
        ca_file: CAs in PEM that the issuer's certificate must chain to; those of the host if None.
        left: least part of its life that a token has left when it is given, while the issuer answers.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        issuer: str,
        client_id: str,
        secret: str,
        ca_file: Path | None,
        *,
        left: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._issuer = issuer
        self._client_id = client_id
        self._pool = http.pool(ca_file)
        self._left = left
        self._clock = clock
        self._endpoint = ""
        # RFC 6749, 2.3.1: both halves are form-encoded before they are joined.
        self._headers = urllib3.make_headers(basic_auth=f"{quote(client_id, safe='')}:{quote(secret, safe='')}")
        self._slots: dict[tuple[str, str], _Slot] = {}
        self._lock = threading.Lock()

    def token(self, audience: str, scope: str) -> str:
        """An access token, from the cache until a minute, or a third of its life, or ``left`` of it, before its end.

        When it cannot be renewed then, the old one serves to its end. An issuer that is away is asked again after a
        second, then ever more rarely, at least every 20 s; between, callers learn at once what was wrong.

        Args:
            audience: space-separated audiences.
            scope: space-separated scopes.

        Raises:
            AuthError: the issuer refuses.
            ServiceError: the issuer cannot be reached, and no token is at hand.
        """
        with self._lock:
            slot = self._slots.setdefault((audience, scope), _Slot())
        with slot.lock:
            if self._clock() >= slot.renew_at:
                self._renew(slot, audience, scope)
            elif slot.fault and self._clock() >= slot.ends_at:
                raise slot.fault.with_traceback(None)
            return slot.token

    def forget(self, token: str) -> None:
        """Ask for another one in place of a token that is worth nothing any more."""
        with self._lock:
            for slot in self._slots.values():
                if slot.token == token:
                    slot.renew_at = slot.ends_at = 0.0

    def _renew(self, slot: _Slot, audience: str, scope: str) -> None:
        asked_at = self._clock()
        try:
            reply = self._ask({"grant_type": "client_credentials", "audience": audience, "scope": scope})
        except ServiceError as error:
            now = self._clock()
            slot.renew_at = now + min(_RETRY_S * 2**slot.failures, _LONGEST_RETRY_S)
            slot.failures += 1
            slot.fault = error
            if now >= slot.ends_at:
                raise
            return
        slot.failures, slot.fault = 0, None
        life = _life_s(reply)
        slot.token = str(reply["access_token"])
        slot.ends_at = asked_at + life
        slot.renew_at = slot.ends_at - max(min(_MARGIN_S, life / 3), life * self._left)

    def _ask(self, form: Mapping[str, str]) -> dict[str, Any]:
        if not self._endpoint:
            endpoint = http.discover(self._pool, self._issuer).get("token_endpoint")
            if not isinstance(endpoint, str):
                raise ServiceError(
                    "the issuer gives no tokens to clients",
                    expected="token_endpoint in its metadata",
                    got=repr(endpoint),
                    where=self._issuer,
                )
            self._endpoint = endpoint
        status, reply, _ = http.request_json(self._pool, "POST", self._endpoint, form=form, headers=self._headers)
        if status == 200 and isinstance(reply.get("access_token"), str):
            return reply
        reason = f"{reply.get('error', f'status {status}')}: {reply.get('error_description', '')}".rstrip(": ")
        if status in (429, 500, 502, 503, 504):
            raise ServiceError("the issuer cannot give a token now", got=reason, where=self._endpoint)
        raise AuthError(
            f"the issuer refused a token to client {self._client_id}",
            expected=f"scope {form['scope']}, audience {form['audience']}",
            got=reason,
            where=self._endpoint,
        )


def _life_s(reply: Mapping[str, Any]) -> float:
    try:
        told = float(reply["expires_in"])
    except (KeyError, TypeError, ValueError):
        return _UNTOLD_S
    return told if told > 0 else _UNTOLD_S
