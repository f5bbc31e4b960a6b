"""Tokens that count no more although they have not ended: the issuer's list, followed without asking it per request.

A service that checks tokens itself would take one until its end, whatever happens to its owner. So a thread waits at
the issuer for the next entry of the list (``apps/tokens/trail/feed.py`` describes it): what is revoked there is refused
here within moments, and a check is a look into a dictionary.

**While the issuer does not answer, the list that is known stays, and other tokens are taken**: an outage stops nobody,
and what a lost entry would have refused ends by itself, within the life of a token.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import urllib3

from boathouse.errors import AuthError, ServiceError
from boathouse.wlcg import http

ENDPOINT = "boathouse_denials_endpoint"
"""Name of the endpoint in the issuer's metadata; other issuers have none."""

_log = logging.getLogger(__name__)

_WAIT_S = 25
_FIRST_S = 2.0
_RETRY_S = (0.5, 5.0)
_REFUSED_S = 300.0
"""Pause after an answer that another question will not change soon: no such endpoint, or no access to it."""
_KEEP_S = 86400.0
"""How long an entry stays after the last token that it meets has ended: a service that has exchanged such a token for
a longer-lived one still asks for it."""
_ANSWER = urllib3.Timeout(connect=3.0, read=_WAIT_S + 10.0)


class Denials:
    """What is denied; safe to share between threads, and empty until somebody adds to it.

    Args:
        clock: seconds since the epoch.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._denied: dict[tuple[str, str], tuple[int, int]] = {}
        self._first = threading.Event()

    def add(self, entries: object) -> None:
        """Take over entries of the issuer's answer, and forget those that nobody asks for any more."""
        oldest = self._clock() - _KEEP_S
        denied = {entry: times for entry, times in self._denied.items() if times[1] > oldest}
        for entry in entries if isinstance(entries, list) else ():
            denied[str(entry["kind"]), str(entry["key"])] = (int(entry["issued_until"]), int(entry["expires_at"]))
        self._denied = denied

    @property
    def settled(self) -> bool:
        """Whether there was a first answer, or none could be had."""
        return self._first.is_set()

    def settle(self) -> None:
        """Nobody needs to wait for the first answer any more."""
        self._first.set()

    def reason(self, claims: Mapping[str, Any], kid: str = "") -> str | None:
        """Why a token is denied; None if it is not.

        Just after the start this waits, for two seconds at most, for the first answer of the issuer.

        Args:
            claims: of a token whose signature is good.
            kid: the name of its key.
        """
        self._first.wait(_FIRST_S)
        denied = self._denied
        if not denied:
            return None
        sub, client_id = str(claims.get("sub", "")), str(claims.get("client_id", ""))
        stated = claims.get("iat")
        issued_at = stated if isinstance(stated, int | float) else 0
        for what, kind, key in (
            ("it was revoked", "token", str(claims.get("jti", ""))),
            ("its owner was switched off", "subject", sub),
            ("its client was switched off", "client", client_id),
            ("its client was switched off", "client", sub),
            ("its owner revoked it", "grant", f"{sub} {client_id}"),
            ("its key was withdrawn", "key", kid),
        ):
            times = denied.get((kind, key))
            if times is not None and issued_at <= times[0]:
                return what
        return None


class Follower:
    """Follows an issuer's list in a thread of its own.

    Args:
        denials: where entries are added.
        issuer: URL of the issuer.
        client_id: a confidential client there.
        secret: its secret.
        ca_file: CAs in PEM that the issuer's certificate must chain to; those of the host if None.
        heard: called with the kinds of new entries after they were added, in the thread.
    """

    def __init__(
        self,
        denials: Denials,
        issuer: str,
        client_id: str,
        secret: str,
        ca_file: Path | None,
        *,
        heard: Callable[[frozenset[str]], None] = lambda _: None,
    ) -> None:
        self._denials = denials
        self._issuer = issuer
        self._pool = http.pool(ca_file)
        # RFC 6749, 2.3.1: both halves are form-encoded before they are joined.
        self._headers = urllib3.make_headers(basic_auth=f"{quote(client_id, safe='')}:{quote(secret, safe='')}")
        self._heard = heard
        self._endpoint = ""
        self._version = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="denials", daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def stop(self) -> None:
        """Follow no more; a question that is under way is left to its end."""
        self._stopped.set()

    def _run(self) -> None:
        failures = 0
        while not self._stopped.is_set():
            try:
                self._once()
            except (ServiceError, AuthError) as error:
                self._endpoint = ""
                pause_s = _REFUSED_S if isinstance(error, AuthError) else min(_RETRY_S[0] * 2**failures, _RETRY_S[1])
                if not failures:
                    _log.warning("the list of denied tokens stays as it is, next try in %.1f s: %s", pause_s, error)
                failures = min(failures + 1, 10)
                self._denials.settle()
                self._stopped.wait(pause_s)
            else:
                if failures:
                    _log.info("the list of denied tokens is followed again")
                failures = 0
                self._denials.settle()

    def _once(self) -> None:
        if not self._endpoint:
            self._endpoint = str(http.discover(self._pool, self._issuer).get(ENDPOINT, ""))
        if not self._endpoint:
            raise AuthError("the issuer has no list of denied tokens", where=self._issuer)
        # The first answer is wanted at once.
        wait_s = _WAIT_S if self._denials.settled else 0
        url = f"{self._endpoint}?after={self._version}&wait={wait_s}"
        status, document, _ = http.request_json(self._pool, "GET", url, headers=self._headers, timeout=_ANSWER)
        if status in (401, 403, 404):
            raise AuthError("the issuer does not show its list of denied tokens", got=f"status {status}", where=url)
        try:
            if status != 200:
                raise ServiceError("the issuer does not show its list now", got=f"status {status}", where=url)
            self._denials.add(document["denied"])
            self._version = int(document["version"])
        except (KeyError, TypeError, ValueError) as error:
            raise ServiceError("the issuer's list cannot be read", got=repr(error), where=url) from error
        if document["denied"]:
            _log.info("%d more tokens, clients, people or keys are denied", len(document["denied"]))
            self._heard(frozenset(str(entry["kind"]) for entry in document["denied"]))
