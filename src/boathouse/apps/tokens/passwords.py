"""Hashes: argon2 for what people type, a keyed hash for what machines made."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from boathouse.apps.tokens.files import create_once

# RFC 9106's second choice: 64 MiB a hash.
_ARGON2 = PasswordHasher()
# Guesses must not be able to take all memory or all threads: so many hashes at once, so many more may wait.
_AT_ONCE = threading.BoundedSemaphore(2)
_WAITING = threading.BoundedSemaphore(6)
# A well-formed hash of nothing, so that an unknown login takes as long as a wrong password.
_DUMMY = "$argon2id$v=19$m=65536,t=3,p=4$EDmCGxSk1ZHLPHs1Eq94Qg$MJaKYtKtPpJjY0FsLuySwGAWElrmhZi8Jt/RclK7vr8"


def hash_password(password: str) -> str:
    """An argon2id hash, however long it has to wait: for the facility file's passwords."""
    with _AT_ONCE:
        return _ARGON2.hash(password)


class TooBusyError(Exception):
    """More passwords are being checked than can be."""


def hash_typed(password: str) -> str:
    """An argon2id hash of what somebody typed.

    Raises:
        TooBusyError: too many others wait.
    """
    with _place():
        return _ARGON2.hash(password)


def check_password(password: str, stored: str | None) -> bool:
    """Whether the password is the one that was hashed; takes as long when there is none.

    Raises:
        TooBusyError: too many others wait.
    """
    try:
        with _place():
            _ARGON2.verify(stored or _DUMMY, password)
    except (VerificationError, InvalidHashError):
        return False
    return bool(stored)


@contextmanager
def _place() -> Iterator[None]:
    if not _WAITING.acquire(blocking=False):
        raise TooBusyError
    try:
        with _AT_ONCE:
            yield
    finally:
        _WAITING.release()


def random_token() -> str:
    """384 random bits that no one guesses, for codes, refresh tokens and sessions."""
    return secrets.token_urlsafe(48)


def fingerprint(token: str) -> bytes:
    """SHA-256 of a random token: what the database keeps of it."""
    return hashlib.sha256(token.encode()).digest()


class Hasher:
    """Keyed hashes of client secrets; the key lies beside the signature keys, not in the database."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    @classmethod
    def load(cls, path: Path) -> Hasher:
        """The hasher with the key in a file, which is made if it is not there."""
        return cls(create_once(path, secrets.token_bytes(32)))

    def hash(self, secret: str) -> bytes:
        """HMAC-SHA-256 of a secret."""
        return hmac.digest(self._key, secret.encode(), "sha256")

    def matches(self, secret: str, stored: bytes) -> bool:
        """Whether the secret has this hash, in constant time."""
        return hmac.compare_digest(self.hash(secret), stored)
