"""Keys of other issuers that the facility trusts: asked for, kept for an outage, given to the storage servers."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boathouse.errors import BoathouseError, ServiceError
from boathouse.run.local.account import Account
from boathouse.run.local.state import write_atomically
from boathouse.wlcg import http, keycache

_log = logging.getLogger("keeper")

EXPIRY_S = 4 * 86400.0
"""How long keys are used without a word from their issuer (WLCG profile 4.3.1: 1 to 4 d)."""
_RETRY_S = 5.0


@dataclass(frozen=True)
class TrustedIssuer:
    """An issuer and what the keeper does with its keys."""

    url: str
    ca_file: Path | None
    refresh_s: float
    kept: Path
    """Where the last good answer lies, with the time of it."""

    @classmethod
    def load(cls, raw: Mapping[str, Any]) -> TrustedIssuer:
        """From the keeper's configuration."""
        ca_file = raw["ca_file"]
        return cls(raw["url"], Path(ca_file) if ca_file else None, float(raw["refresh_s"]), Path(raw["kept"]))


class TrustedKeys:
    """The keys of one issuer for all key caches.

    Keys are replaced as a whole by each good answer: what the issuer no longer publishes is gone. While it is silent
    the last ones stay, across restarts too, until they expire.

    Args:
        issuer: whose keys.
        key_caches: ``XDG_CACHE_HOME`` of each storage server.
        account: who owns the files.
        fetch: asks for the key set (RFC 7517); over HTTPS if None.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        issuer: TrustedIssuer,
        key_caches: Sequence[Path],
        account: Account,
        *,
        fetch: Callable[[], dict[str, Any]] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._issuer = issuer
        self._key_caches = key_caches
        self._account = account
        self._fetch = fetch or self._over_https
        self._clock = clock
        self._seeded: tuple[Mapping[str, Any], float] | None = None
        self._ask_at = 0.0

    def keep(self) -> None:
        """Do what is due now; called once a second.

        Raises:
            OSError: a key cache cannot be written.
        """
        now = self._clock()
        if now >= self._ask_at:
            self._ask(now)
        if self._seeded is None and self._issuer.kept.exists():
            kept = json.loads(self._issuer.kept.read_text(encoding="utf-8"))
            if kept["expires"] > now:
                self._seed(kept["jwks"], kept["expires"])

    def _ask(self, now: float) -> None:
        try:
            keys = self._fetch()
        except BoathouseError as error:
            self._ask_at = now + min(_RETRY_S, self._issuer.refresh_s)
            # Not a fault of this facility: its own people work on, and the others on the keys that there are.
            _log.warning("keys of %s: %s", self._issuer.url, error)
            return
        self._ask_at = now + self._issuer.refresh_s
        document = {"jwks": keys, "expires": now + EXPIRY_S}
        write_atomically(self._issuer.kept, json.dumps(document), self._account, mode=0o600)
        self._seed(keys, now + EXPIRY_S)

    def _over_https(self) -> dict[str, Any]:
        connections = http.pool(self._issuer.ca_file)
        url = str(http.discover(connections, self._issuer.url).get("jwks_uri", ""))
        status, document, _ = http.request_json(connections, "GET", url)
        if status != 200 or not isinstance(document.get("keys"), list) or not document["keys"]:
            raise ServiceError("the issuer gave no keys", got=f"status {status}", where=url)
        return document

    def _seed(self, keys: Mapping[str, Any], expires: float) -> None:
        # The end of the keys moves with each answer; it is written anew when it has moved by an hour.
        if self._seeded is not None and self._seeded[0] == keys and expires - self._seeded[1] < 3600:
            return
        for directory in self._key_caches:
            keycache.seed(directory, self._issuer.url, keys, expires=expires)
        _log.info("gave %d keys of %s to %d key caches", len(keys["keys"]), self._issuer.url, len(self._key_caches))
        self._seeded = keys, expires
