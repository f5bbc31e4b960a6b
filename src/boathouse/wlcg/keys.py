"""Public keys of an issuer, cached as WLCG profile 4.3.1 asks, so that its outage stops nobody for days."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from joserfc import jwk
from joserfc.errors import JoseError

from boathouse.errors import AuthError, ServiceError
from boathouse.wlcg import http, keycache

Key = jwk.RSAKey | jwk.ECKey
Fetch = Callable[[], tuple[Mapping[str, object], float]]

_EXPIRY_S = 2 * 86400.0
_REFRESH_BOUNDS_S = (60.0, 6 * 3600.0)
_REFRESH_DEFAULT_S = 3600.0
_RETRY_S = 5.0


class KeyCache:
    """Signature keys by ``kid``; safe to share between threads.

    Keys are read at the first need and again when they are older than the server's ``Cache-Control`` says. When
    that fails, those in the key cache that the facility's keeper fills take their place, unless the issuer told newer
    ones since; if there are none, the ones at hand serve for two days. A need for an unknown key reads them at once,
    but never more than once in ``retry_s``, so that forged tokens cannot make us hammer the issuer.

    Args:
        issuer: URL, byte for byte as in its tokens.
        ca_file: CAs in PEM that the issuer's certificate must chain to; those of the host if None.
        seeded: directory of a key cache that somebody else fills (:mod:`boathouse.wlcg.keycache`); none if None.
        fetch: reads the key set (RFC 7517) and says for how many seconds it is good; over HTTPS if None.
        clock: seconds, monotonic.
        wall: seconds since the epoch, by which keys of the keeper are older or newer than the issuer's answer.
        retry_s: least time between two requests, in seconds.
    """

    def __init__(
        self,
        issuer: str,
        ca_file: Path | None,
        *,
        seeded: Path | None = None,
        fetch: Fetch | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        retry_s: float = _RETRY_S,
    ) -> None:
        self._issuer = issuer
        self._seeded = seeded
        self._jwks_url = ""
        self._clock, self._wall = clock, wall
        self._retry_s = retry_s
        self._pool = http.pool(ca_file)
        self._fetch = fetch or self._over_https
        self._lock = threading.Lock()
        self._keys: Mapping[str, Key] = {}
        self._read_at: float | None = None
        self._told_at = 0.0
        """When the issuer itself told its keys, by the wall clock."""
        self._tried_at: float | None = None
        self._refresh_s = _REFRESH_DEFAULT_S
        self._failure = "never tried"

    def get(self, kid: str) -> Key:
        """The key of that name.

        Raises:
            AuthError: the issuer has no such key.
            ServiceError: there are no keys at hand, and the issuer does not answer.
        """
        if kid not in self._keys or self._age() > self._refresh_s:
            self.refresh(wait=kid not in self._keys)
        if self._age() > _EXPIRY_S:
            raise ServiceError("no key of the issuer is at hand", got=self._failure, where=self._issuer)
        try:
            return self._keys[kid]
        except KeyError:
            raise AuthError(
                "the token was refused", expected="a key of the issuer", got=f"unknown kid {kid!r}"
            ) from None

    def refresh(self, *, wait: bool = True) -> bool:
        """Read the keys again unless that was tried a moment ago.

        Args:
            wait: whether to wait for another thread that is reading them now.

        Returns:
            Whether the keys were read or seeded ones taken, by this thread or by the one that was waited for.
        """
        before = self._tried_at
        if not self._lock.acquire(blocking=wait):
            return False
        try:
            if self._tried_at != before:
                return self._read_at == self._tried_at
            now = self._clock()
            if self._tried_at is not None and now - self._tried_at < self._retry_s:
                return False
            self._tried_at = now
            try:
                keys, good_for_s = self._read()
            except ServiceError as error:
                self._failure = str(error)
                keys, good_for_s = self._kept(), 0.0
                if not keys:
                    return False
            self._keys, self._read_at = keys, now
            self._refresh_s = min(max(good_for_s, _REFRESH_BOUNDS_S[0]), _REFRESH_BOUNDS_S[1])
            return True
        finally:
            self._lock.release()

    def _age(self) -> float:
        return self._clock() - self._read_at if self._read_at is not None else float("inf")

    def _read(self) -> tuple[Mapping[str, Key], float]:
        document, good_for_s = self._fetch()
        keys = _signature_keys(document)
        if not keys:
            raise ServiceError("the issuer gave no keys for signatures", where=self._issuer)
        self._told_at = self._wall()
        return keys, good_for_s

    def _kept(self) -> Mapping[str, Key]:
        """Those of the keeper; they are as good as the issuer's word of a minute ago, and so for a minute."""
        kept = keycache.read(self._seeded, self._issuer) if self._seeded is not None else None
        keys = _signature_keys(kept.jwks) if kept is not None else {}
        # The cache has whole seconds. Keys that have not changed since the issuer told the same are as good as new.
        is_older = kept is not None and kept.written_at < int(self._told_at) and keys.keys() != self._keys.keys()
        return {} if is_older else keys

    def _over_https(self) -> tuple[Mapping[str, object], float]:
        if not self._jwks_url:
            self._jwks_url = str(http.discover(self._pool, self._issuer)["jwks_uri"])
        status, document, headers = http.request_json(self._pool, "GET", self._jwks_url)
        if status != 200:
            raise ServiceError("the issuer gave no keys", got=f"status {status}", where=self._jwks_url)
        match = re.search(r"max-age=(\d+)", headers.get("Cache-Control", ""))
        return document, float(match[1]) if match else _REFRESH_DEFAULT_S


def _signature_keys(document: Mapping[str, object]) -> dict[str, Key]:
    """The RSA and elliptic keys of a key set that may verify signatures; others are passed over (RFC 7517, 5)."""
    keys: dict[str, Key] = {}
    listed = document.get("keys")
    for entry in listed if isinstance(listed, list) else []:
        if not isinstance(entry, dict) or entry.get("use", "sig") != "sig" or not isinstance(entry.get("kid"), str):
            continue
        try:
            key = jwk.import_key(entry)
        except (JoseError, ValueError):
            continue
        if isinstance(key, jwk.RSAKey | jwk.ECKey):
            keys[entry["kid"]] = key
    return keys
