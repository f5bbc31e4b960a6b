"""Tokens at rest: sealed with a key that is not in the database, bound to the job and host that they are for.

Who can read the database (a dump, a backup, another role) learns no token. Who can write it cannot make the service
send a token elsewhere: the host that a token may be sent to is authenticated with it.
"""

from __future__ import annotations

import base64
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from boathouse.errors import AuthError

_NONCE_BYTES = 12


class Seal:
    """AES-256-GCM with a random nonce in front of each sealed token.

    Args:
        key: 32 bytes in URL-safe base64.
    """

    def __init__(self, key: str) -> None:
        self._cipher = AESGCM(base64.urlsafe_b64decode(key + "=" * (-len(key) % 4)))

    def close(self, token: str, job_id: str, host: str) -> bytes:
        """The sealed token."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, token.encode(), _bound(job_id, host))

    def open(self, sealed: bytes, job_id: str, host: str) -> str:
        """The token again.

        Raises:
            AuthError: it was sealed with another key, or for another job or host.
        """
        try:
            nonce, text = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
            return self._cipher.decrypt(nonce, text, _bound(job_id, host)).decode()
        except InvalidTag as error:
            raise AuthError(
                "a stored token cannot be used", expected="the key that sealed it", where=f"job {job_id}, host {host}"
            ) from error


def _bound(job_id: str, host: str) -> bytes:
    return f"{job_id}\n{host}".encode()
