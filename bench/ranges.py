"""A file behind https, read by ranges over one connection, as readers of a part of it do; standard library only."""

from __future__ import annotations

import http.client
import io
import os
import ssl
from typing import Protocol
from urllib.parse import urlsplit

_TIMEOUT_S = 120.0


class _Buffer(Protocol):
    def __len__(self) -> int: ...

    def __setitem__(self, place: slice, value: bytes, /) -> None: ...


class RangeFile(io.RawIOBase):
    """Each read is one request; nothing is kept and nothing is read ahead.

    Args:
        url: the file.
        token: bearer token.
        ca: file with the authorities to trust.

    Raises:
        OSError: the server refuses, or gives something else than was asked for.
    """

    def __init__(self, url: str, token: str, ca: str) -> None:
        parts = urlsplit(url)
        trusting = ssl.create_default_context(cafile=ca)
        self._connection = http.client.HTTPSConnection(
            parts.hostname or "", parts.port, context=trusting, timeout=_TIMEOUT_S
        )
        self._path = parts.path
        self._headers = {"Authorization": f"Bearer {token}"}
        self._position = 0
        self.requests = 0
        self.bytes_read = 0
        self._size = int(self._ask("HEAD", {}, 200)[0]["Content-Length"])

    def _ask(self, method: str, headers: dict[str, str], expected: int) -> tuple[http.client.HTTPMessage, bytes]:
        self._connection.request(method, self._path, headers={**self._headers, **headers})
        answer = self._connection.getresponse()
        body = answer.read()
        self.requests += 1
        self.bytes_read += len(body)
        if answer.status != expected:
            raise OSError(f"{method} {self._path} {headers}: {answer.status}, not {expected}: {body[:200]!r}")
        return answer.headers, body

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = start + offset
        return self._position

    def readinto(self, buffer: _Buffer, /) -> int:  # type: ignore[override] # Python's own stub takes any buffer
        wanted = min(len(buffer), self._size - self._position)
        if wanted <= 0:
            return 0
        last = self._position + wanted - 1
        _, body = self._ask("GET", {"Range": f"bytes={self._position}-{last}"}, 206)
        if len(body) != wanted:
            raise OSError(f"{len(body)} bytes of {self._path}, not {wanted}")
        buffer[:wanted] = body
        self._position += wanted
        return wanted

    def close(self) -> None:
        self._connection.close()
        super().close()
