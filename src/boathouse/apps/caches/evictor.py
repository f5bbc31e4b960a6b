"""Makes a cache forget files, by its own command: ``cache evict`` and ``cache fevict`` of the XRootD protocol.

Who only removed the files would leave a running cache with what it has in memory: readers that come while another
has the file open would get the old bytes, and the cache would go on counting the space. XCache grants the command to
whoever may read the path as it keeps it, ``/lake/…``, and no token of the facility's issuer does, since a cache takes
their paths below those of its elements. So this service is an issuer of its own to the caches, for these paths and
with a key that nobody else has; nothing can be read by such a path.

A cache of a group takes no tokens for paths. What it refuses to forget is removed from its directory, if it does not
have it open: that is safe, and only leaves it with too high an idea of its own size until it restarts.
"""

from __future__ import annotations

import contextlib
import logging
import subprocess
import time
import uuid
from enum import StrEnum
from pathlib import Path

from joserfc import jwt
from joserfc.jwk import ECKey

from boathouse.apps.caches import cinfo
from boathouse.apps.caches.cinfo import Kept
from boathouse.apps.caches.ledger import Ledger
from boathouse.apps.caches.settings import Cache, Settings
from boathouse.wlcg import keycache

_LIFE_S = 300
_PATIENCE_S = 60.0
_DEEPEST_BASE = 8
_IN_USE = "in use"
# ``kXR_NotAuthorized``, and what the client says that could not even log in.
_REFUSED = ("[3010]", "Auth failed")

log = logging.getLogger(__name__)


class Outcome(StrEnum):
    """What became of a file in a cache."""

    evicted = "evicted"
    absent = "absent"
    """The cache did not keep it."""
    in_use = "in use"
    """Somebody reads it, and that was to be respected."""
    failed = "failed"


class Evictor:
    """Makes caches forget. Shared between threads.

    Args:
        settings: of the service.
        ledger: where evictions are counted.

    Raises:
        OSError: the key caches of the caches cannot be written.
    """

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        self._settings, self._ledger = settings, ledger
        self._key = ECKey.generate_key("P-256", {"kid": uuid.uuid4().hex})
        public = {"keys": [{**self._key.as_dict(private=False), "alg": "ES256", "use": "sig"}]}
        for cache in settings.caches:
            keycache.seed(cache.key_cache, settings.url, public)

    def evict(self, cache: Cache, path: str, reason: str, *, force: bool) -> tuple[Outcome, int, str]:
        """Make a cache forget a file.

        Args:
            cache: which.
            path: of the file on storage.
            reason: what the eviction is counted under.
            force: also if somebody reads it, who then gets an error and has to open it again.

        Returns:
            What became of it, the bytes of disk that it took, and for a failure what the cache said.
        """
        kept = cinfo.of(cache.data, path)
        done = [self._forget(cache, each, reason, force=force) for each in kept]
        outcomes = [outcome for outcome, _ in done]
        worst = next((each for each in (Outcome.failed, Outcome.in_use, Outcome.evicted) if each in outcomes), None)
        freed = sum(each.disk_bytes for each, outcome in zip(kept, outcomes, strict=True) if outcome is Outcome.evicted)
        return worst or Outcome.absent, freed, "; ".join(said for _, said in done if said)

    def _forget(self, cache: Cache, kept: Kept, reason: str, *, force: bool) -> tuple[Outcome, str]:
        said = self._ask(cache, "fevict" if force else "evict", kept)
        if any(word in said for word in _REFUSED):
            if _is_open((cache.data / kept.name.lstrip("/")).resolve()):
                return Outcome.in_use, ""
            _remove(cache.data, kept.name)
        if cinfo.one(cache.data, kept.name) is None:
            self._ledger.evicted(cache.name, kept.name, kept.disk_bytes, reason)
            log.info("%s: evicted %s (%s)", cache.name, kept.name, reason)
            return Outcome.evicted, ""
        if _IN_USE in said:
            return Outcome.in_use, ""
        log.warning("%s: cannot evict %s: %s", cache.name, kept.name, said)
        return Outcome.failed, said or "the cache keeps it all the same"

    def _ask(self, cache: Cache, command: str, kept: Kept) -> str:
        """Have the client say it; returns what it answered if that was an error."""
        server = f"roots://{cache.address}:{cache.root_port}"
        try:
            done = subprocess.run(
                [str(self._settings.xrdfs), server, "cache", command, kept.name],
                env={
                    "BEARER_TOKEN": self._token(cache, kept),
                    "XrdSecPROTOCOL": "ztn",
                    "X509_CERT_DIR": str(self._settings.cache_ca_directory),
                    "XRD_CONNECTIONWINDOW": "5",
                    "XRD_CONNECTIONRETRY": "1",
                    "PATH": "/usr/bin:/bin",
                },
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_PATIENCE_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"the cache did not answer within {_PATIENCE_S:.0f} s"
        return (done.stderr + done.stdout).strip() if done.returncode else ""

    def _token(self, cache: Cache, kept: Kept) -> str:
        now = int(time.time())
        # The cache puts one of several directories before it; how many of the path's names that has is its own affair.
        names = kept.path.strip("/").split("/")
        paths = ("/" + "/".join(names[first:]) for first in range(min(len(names), _DEEPEST_BASE)))
        claims = {
            "iss": self._settings.url,
            "sub": "caches",
            "aud": cache.address,
            "scope": " ".join(f"storage.read:{path}" for path in paths),
            "wlcg.ver": "1.0",
            "iat": now,
            "nbf": now - 5,
            "exp": now + _LIFE_S,
            "jti": uuid.uuid4().hex,
        }
        return jwt.encode({"alg": "ES256", "kid": self._key.kid}, claims, self._key, algorithms=["ES256"])


def _is_open(place: Path) -> bool:
    """Whether a process of ours has a file open, as the cache has while somebody reads it."""
    for process in Path("/proc").glob("[0-9]*"):
        # What is somebody else's cannot be looked into; what ends meanwhile has nothing open.
        with contextlib.suppress(OSError):
            for descriptor in (process / "fd").iterdir():
                with contextlib.suppress(FileNotFoundError):
                    if descriptor.readlink() == place:
                        return True
    return False


def _remove(data: Path, name: str) -> None:
    """Remove what a cache keeps by a path, and the checksums of its pages."""
    for each in (f"{name}{cinfo.SUFFIX}", name):
        (data / each.lstrip("/")).unlink(missing_ok=True)
        (data / f".xrdt{each}.xrdt").unlink(missing_ok=True)
