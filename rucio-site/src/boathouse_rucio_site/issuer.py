"""What is known of the token issuers: their endpoints and keys, fetched when needed and again when they change."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jwt
import requests

from boathouse_rucio_site import keycache
from boathouse_rucio_site.errors import TokenError

REFRESH_S = 300.0
"""Age at which keys are fetched again."""
KEPT_S = 60.0
"""Age at which keys that the keeper vouched for are asked for again."""
RETRY_S = (0.25, 2.0)
"""Shortest time to the next fetch after a good one and after a failed one; made-up names cannot flood the issuer."""
TIMEOUT_S = (5.0, 20.0)
"""To connect and to answer."""

_log = logging.getLogger(__name__)

Fetch = Callable[[str], Mapping[str, Any]]
Kept = Callable[[str], keycache.Kept | None]


def fetch_json(url: str, ca_file: str | None = None) -> Mapping[str, Any]:
    """GET a JSON object over TLS, verified with these CAs, else with those of ``REQUESTS_CA_BUNDLE``.

    Raises:
        TokenError: no answer, an error, or something else than an object.
    """
    try:
        response = requests.get(url, timeout=TIMEOUT_S, allow_redirects=False, verify=ca_file or True)
        response.raise_for_status()
        document = response.json()
    except requests.RequestException as error:
        raise TokenError(f"GET {url}: {error}") from error
    if response.status_code != 200 or not isinstance(document, dict):
        raise TokenError(f"GET {url}: status {response.status_code}, no JSON object")
    return document


class Issuer:
    """One issuer. Thread-safe; nothing is fetched before the first use, and a failed fetch is tried again later.

    While the issuer is down, those that the facility's keeper keeps are used, unless the issuer told newer ones since,
    or else those that are known.
    """

    def __init__(
        self,
        url: str,
        fetch: Fetch = fetch_json,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        kept: Kept = lambda _: None,
    ) -> None:
        self.url = url
        self._fetch = fetch
        self._kept = kept
        self._clock, self._wall = clock, wall
        self._told_at = 0.0
        self._lock = threading.Lock()
        self._metadata: Mapping[str, Any] | None = None
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_at = float("-inf")
        self._not_before = float("-inf")

    def endpoint(self, name: str) -> str:
        """An endpoint from the issuer's metadata (RFC 8414), e.g. ``token_endpoint``.

        Raises:
            TokenError: the issuer does not answer, answers for another issuer, or has no such endpoint.
        """
        found = self.optional_endpoint(name)
        if found is None:
            raise TokenError(f"the metadata of {self.url} has no {name}")
        return found

    def optional_endpoint(self, name: str) -> str | None:
        """An endpoint that an issuer may lack.

        Raises:
            TokenError: the issuer does not answer, or answers for another issuer.
        """
        metadata = self._metadata
        if metadata is None:
            metadata = self._fetch(self.url.rstrip("/") + "/.well-known/openid-configuration")
            if metadata.get("issuer") != self.url:
                raise TokenError(f"the metadata of {self.url} is that of {metadata.get('issuer')}")
            self._metadata = metadata
        return str(metadata[name]) if name in metadata else None

    def key(self, kid: str | None) -> jwt.PyJWK | None:
        """The key of that name (RFC 7517); of an issuer with a single key, that key if the token names none.

        An unknown name makes the keys be fetched at once, so that a new key is known with its first token.
        Who has a key does not wait for another request that is fetching them.
        """
        found = self._find(kid)
        if self._is_due(found) and self._lock.acquire(blocking=found is None):
            try:
                if self._is_due(self._find(kid)):
                    self._refresh()
            finally:
                self._lock.release()
        return self._find(kid)

    def _is_due(self, found: jwt.PyJWK | None) -> bool:
        return found is None or self._clock() - self._fetched_at > REFRESH_S

    def knows(self, kid: str | None, max_age_s: float) -> bool:
        """Whether a key is still published, by a list that is at most so old if the issuer answers."""
        with self._lock:
            if self._clock() - self._fetched_at > max_age_s:
                self._refresh()
            return not self._keys or self._find(kid) is not None

    def refresh(self) -> None:
        """Fetch the keys again: one was withdrawn, so that others stand in its place."""
        with self._lock:
            self._not_before = float("-inf")
            self._refresh()

    def _find(self, kid: str | None) -> jwt.PyJWK | None:
        if kid is None:
            return next(iter(self._keys.values())) if len(self._keys) == 1 else None
        return self._keys.get(kid)

    def _refresh(self) -> None:
        now = self._clock()
        if now < self._not_before:
            return
        try:
            self._keys = _signature_keys(self._fetch(self.endpoint("jwks_uri")))
            self._fetched_at, self._not_before, self._told_at = now, now + RETRY_S[0], self._wall()
        except (TokenError, KeyError, TypeError, jwt.PyJWTError) as error:
            self._not_before = self._clock() + RETRY_S[1]
            # The next discovery may point elsewhere.
            self._metadata = None
            self._take_kept(now)
            _log.warning("keys of %s cannot be fetched, %d serve that are here: %s", self.url, len(self._keys), error)

    def _take_kept(self, now: float) -> None:
        try:
            if kept := self._kept(self.url):
                keys = _signature_keys(kept.jwks)
                # The cache has whole seconds. Keys that have not changed since the issuer told the same are as good.
                if kept.written_at >= int(self._told_at) or keys.keys() == self._keys.keys():
                    self._keys, self._fetched_at = keys, now - REFRESH_S + KEPT_S
        except (KeyError, TypeError, jwt.PyJWTError) as error:
            _log.warning("the keys kept of %s cannot be read: %r", self.url, error)


def _signature_keys(document: Mapping[str, Any]) -> dict[str, jwt.PyJWK]:
    return {
        str(item.get("kid", "")): jwt.PyJWK.from_dict(item)
        for item in document["keys"]
        if item.get("use", "sig") == "sig"
    }


def read_secrets(path: Path) -> dict[str, dict[str, Any]]:
    """``idpsecrets.json``: issuers with Rucio's client at each, by their nicknames.

    Raises:
        TokenError: the file cannot be read.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): dict(entry) for name, entry in document.items()}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise TokenError(f"{path}: {error}") from error


class Issuers:
    """The issuers of ``idpsecrets.json``, and others, by URL.

    Args:
        path: of ``idpsecrets.json``.
        others: CAs by URL of further issuers; None where those of the environment serve.
        kept: the key set of an issuer that somebody keeps for when it is down.
    """

    def __init__(self, path: Path, others: Mapping[str, str | None] | None = None, kept: Kept = lambda _: None) -> None:
        self.path = path
        self._kept = kept
        self._others = others or {}
        self._lock = threading.Lock()
        self._issuers: dict[str, Issuer] = {}

    def get(self, url: str) -> Issuer:
        """An issuer by its URL, byte for byte.

        Raises:
            TokenError: it is not one that this server trusts.
        """
        with self._lock:
            if not self._issuers:
                trusted = {str(entry["issuer"]) for entry in read_secrets(self.path).values()}
                self._issuers = {
                    url: Issuer(url, partial(fetch_json, ca_file=ca_file), kept=self._kept)
                    for url, ca_file in self._others.items()
                } | {name: Issuer(name, kept=self._kept) for name in trusted}
            try:
                return self._issuers[url]
            except KeyError:
                raise TokenError(f"tokens of the issuer {url} are not accepted") from None
