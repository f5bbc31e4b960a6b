"""Signature keys: made on the first start, published before they sign, kept until their last token has died.

``keyring.json`` in the key directory holds the private keys (mode 0600); ``jwks.json`` beside it the public ones,
for whoever seeds the key caches of storage servers. Every process reads the ring again when the file changes.
"""

from __future__ import annotations

import fcntl
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from joserfc import jwk, jwt

from boathouse.apps.tokens.files import write_atomically
from boathouse.errors import StateError

_MARGIN_S = 300
_LOOK_AGAIN_S = 1.0
_TYPES: dict[str, type[jwk.ECKey | jwk.RSAKey]] = {"ES256": jwk.ECKey, "RS256": jwk.RSAKey}


@dataclass(frozen=True)
class SigningKey:
    """One key and its times, in seconds since the epoch."""

    kid: str
    algorithm: str
    private: jwk.ECKey | jwk.RSAKey
    signs_from: int
    gone_at: int | None
    """When its last token has died; None while no younger key has taken over."""
    withdrawn: bool = False
    """Whether it was withdrawn, and the services have not been told to refuse what it signed."""

    def sign(self, claims: dict[str, Any], typ: str = "JWT") -> str:
        """A compact JSON web signature over the claims."""
        header = {"alg": self.algorithm, "typ": typ, "kid": self.kid}
        return jwt.encode(header, claims, self.private, algorithms=[self.algorithm])


class KeyRing:
    """The keys in a directory; safe to share between threads.

    Args:
        directory: where they are; made with mode 0700 if it is not there.
        algorithm: of keys that are made from now on, ``ES256`` or ``RS256``.
        clock: seconds since the epoch.
        look_again_s: how long the file is believed not to have changed.
    """

    def __init__(
        self,
        directory: Path,
        algorithm: str,
        *,
        clock: Callable[[], float] = time.time,
        look_again_s: float = _LOOK_AGAIN_S,
    ) -> None:
        self._directory = directory
        self._algorithm = algorithm
        self._clock = clock
        self._look_again_s = look_again_s
        self._lock = threading.Lock()
        self._looked_at = 0.0
        self._stamp: tuple[int, int] = (0, 0)
        self._keys: tuple[SigningKey, ...] = ()
        self._published: list[str] = []
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._exclusive():
            if not self._ring.exists():
                self._write((self._make(int(clock())),))
        self.keys()

    @property
    def _ring(self) -> Path:
        return self._directory / "keyring.json"

    @property
    def jwks_path(self) -> Path:
        """The public keys as a file."""
        return self._directory / "jwks.json"

    def keys(self) -> tuple[SigningKey, ...]:
        """All keys that are published now, oldest first."""
        now = self._clock()
        return tuple(key for key in self._look() if key.gone_at is None or now < key.gone_at)

    def _look(self) -> tuple[SigningKey, ...]:
        """What is in the ring, read again if it has changed."""
        with self._lock:
            if time.monotonic() - self._looked_at >= self._look_again_s:
                self._looked_at = time.monotonic()
                status = self._ring.stat()
                stamp = (status.st_mtime_ns, status.st_ino)
                if stamp != self._stamp:
                    self._keys = self._read()
                    self._stamp = stamp
            return self._keys

    def active(self) -> SigningKey:
        """The key that signs now: the youngest whose time has come."""
        now = self._clock()
        keys = self.keys()
        return max((key for key in keys if key.signs_from <= now), key=lambda key: key.signs_from, default=keys[0])

    def jwks(self) -> dict[str, Any]:
        """The public keys as a JSON Web Key Set (RFC 7517)."""
        return {"keys": [_public(key) for key in self.keys()]}

    def key_set(self) -> jwk.KeySet:
        """The keys for verification of our own tokens."""
        return jwk.KeySet([key.private for key in self.keys()])

    def rotate(self, activation_s: int, token_lifetime_s: int) -> SigningKey:
        """Publish a new key that signs in ``activation_s``; the older ones go when their last token has died.

        Keys that are gone are dropped from the ring.
        """
        with self._exclusive():
            return self._rotate(activation_s, token_lifetime_s + _MARGIN_S)

    def rotate_if_due(self, key_lifetime_s: int, activation_s: int, token_lifetime_s: int) -> SigningKey | None:
        """Rotate if it is time: a key signs for ``key_lifetime_s``, and another algorithm wants another key.

        Of several processes that ask at the same time one rotates.

        Returns:
            The new key, if one was made.
        """
        if not self._is_due(self.keys(), key_lifetime_s - activation_s):
            return None
        with self._exclusive():
            if not self._is_due(self._read(), key_lifetime_s - activation_s):
                return None
            return self._rotate(activation_s, token_lifetime_s + _MARGIN_S)

    def withdraw(self, activation_s: int) -> tuple[SigningKey, tuple[SigningKey, ...]]:
        """Withdraw all keys and put a new one in their place, both in ``activation_s``: what they signed is void then.

        The ring remembers the withdrawn ones until :meth:`settle` has dealt with them, whoever calls that.

        Returns:
            The new key, and those that go.
        """
        with self._exclusive():
            now = self._clock()
            old = tuple(key for key in self._read() if key.gone_at is None or now < key.gone_at)
            return self._rotate(activation_s, 0, withdraw=True), old

    def settle(self, after_s: float, deny: Callable[[tuple[SigningKey, ...]], None]) -> tuple[SigningKey, ...]:
        """Deny what withdrawn keys have signed, and only then forget them; once, whichever process comes first.

        Args:
            after_s: how long they must have been gone, so that no process signs with them any more.
            deny: called with them; if it raises, they stay to be dealt with.

        Returns:
            Those that were dealt with here.
        """
        if not self._withdrawn(self._look(), after_s):
            return ()
        with self._exclusive():
            keys = self._read()
            due = self._withdrawn(keys, after_s)
            if due:
                deny(due)
                self._write(tuple(key for key in keys if key not in due))
            return due

    def _withdrawn(self, keys: tuple[SigningKey, ...], after_s: float) -> tuple[SigningKey, ...]:
        now = self._clock()
        return tuple(key for key in keys if key.withdrawn and key.gone_at is not None and now >= key.gone_at + after_s)

    def _is_due(self, keys: tuple[SigningKey, ...], age_s: int) -> bool:
        youngest = max(keys, key=lambda key: key.signs_from)
        return youngest.algorithm != self._algorithm or self._clock() >= youngest.signs_from + age_s

    def _rotate(self, activation_s: int, remain_s: int, *, withdraw: bool = False) -> SigningKey:
        """With the ring locked: a new key that signs in ``activation_s``; others go ``remain_s`` after that."""
        now = int(self._clock())
        new = self._make(now + activation_s)
        gone_at = new.signs_from + remain_s
        old = [key for key in self._read() if key.withdrawn or key.gone_at is None or now < key.gone_at]
        # A key that was to go later goes with the others when they are withdrawn, one that was to go earlier does.
        going = (
            replace(key, gone_at=min(key.gone_at or gone_at, gone_at), withdrawn=key.withdrawn or withdraw)
            for key in old
        )
        self._write((*going, new))
        with self._lock:
            self._looked_at = 0.0
        return new

    def publish(self) -> bool:
        """Write ``jwks.json`` again if it is out of date.

        Returns:
            Whether it was.
        """
        kids = [key.kid for key in self.keys()]
        if kids == self._published and self.jwks_path.exists():
            return False
        content = json.dumps(self.jwks(), indent=1).encode()
        stale = not self.jwks_path.exists() or self.jwks_path.read_bytes() != content
        if stale:
            write_atomically(self.jwks_path, content, 0o644)
        self._published = kids
        return stale

    def _make(self, signs_from: int) -> SigningKey:
        private: jwk.ECKey | jwk.RSAKey
        if self._algorithm == "ES256":
            private = jwk.ECKey.generate_key("P-256", private=True)
        else:
            private = jwk.RSAKey.generate_key(2048, private=True)
        private.ensure_kid()
        return SigningKey(str(private.kid), self._algorithm, private, signs_from, None)

    def _read(self) -> tuple[SigningKey, ...]:
        try:
            entries = json.loads(self._ring.read_text(encoding="utf-8"))["keys"]
            return tuple(
                SigningKey(
                    entry["jwk"]["kid"],
                    entry["algorithm"],
                    _TYPES[entry["algorithm"]].import_key(entry["jwk"]),
                    entry["signs_from"],
                    entry["gone_at"],
                    entry.get("withdrawn", False),
                )
                for entry in entries
            )
        except (ValueError, KeyError, TypeError) as error:
            raise StateError("the issuer's key ring is damaged", got=repr(error), where=str(self._ring)) from error

    def _write(self, keys: tuple[SigningKey, ...]) -> None:
        entries = [
            {
                "algorithm": key.algorithm,
                "signs_from": key.signs_from,
                "gone_at": key.gone_at,
                "withdrawn": key.withdrawn,
                "jwk": key.private.as_dict(private=True),
            }
            for key in keys
        ]
        write_atomically(self._ring, json.dumps({"version": 1, "keys": entries}).encode())

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        with (self._directory / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _public(key: SigningKey) -> dict[str, Any]:
    return {**key.private.as_dict(private=False), "use": "sig", "alg": key.algorithm}
