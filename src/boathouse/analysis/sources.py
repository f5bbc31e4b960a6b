"""Byte ranges of remote files for uproot, over ``root://`` and ``https://``, with a token that may change.

uproot comes with readers of its own. These differ in what a facility with short-lived tokens needs: the token is read
from its file at every login and request; all ranges of a chunk are asked for at once and handed on as they arrive; TLS
is verified against the facility's CA; and what went wrong is an error of ours with the URL and the reason alone.
"""

from __future__ import annotations

import hashlib
import queue
import re
import ssl
import textwrap
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

import urllib3
from uproot.source.chunk import Chunk, Source

from boathouse.errors import AuthError, BoathouseError, StorageError
from boathouse.lake.http import broken

_TIMEOUT_S = 60
# XrdCl's own limits of a vector read; servers have the same.
_MAX_PIECE_BYTES = 2_097_136
_MAX_PIECES = 1024
# Several requests rather than one: decompression of the first begins while the last is under way.
_REQUEST_BYTES = 4_000_000
_GAP_BYTES = 32_768
_CONNECTIONS = 4
_AHEAD_BYTES = 131_072
_AHEAD_BLOCKS = 4

# kXR_NotAuthorized and kXR_NotFound of the protocol, errAuthFailed of the client.
_NOT_AUTHORIZED, _NOT_FOUND, _AUTH_FAILED = 3010, 3011, 204
_WRAPPING = re.compile(r"\[(?:ERROR|FATAL|\d{4})\] |Server responded with an error: |Unable to \w+ .+?; ")
_REASON_CHARACTERS = 120
_FAILED = "boathouse status"
_MISSING = "the storage has no such file"
WRONG_SIZE = "a replica of the wrong size"

Range = tuple[int, int]
"""First byte, and the one after the last."""


@dataclass(frozen=True)
class Access:
    """What a reader must show and trust."""

    token_file: str
    """File of mode 0600 with the current bearer token."""
    ca_bundle: str
    """Certificates that verify storage elements and caches."""

    def token(self) -> str:
        """The current token."""
        return Path(self.token_file).read_text(encoding="ascii").strip()

    def environment(self) -> dict[str, str]:
        """Variables with which the XRootD client finds the same; to be set before it is loaded."""
        return {
            "BEARER_TOKEN_FILE": self.token_file,
            # It would win over the file (WLCG bearer token discovery, section 1), and cannot be renewed.
            "BEARER_TOKEN": "",
            "X509_CERT_FILE": self.ca_bundle,
            "XrdSecPROTOCOL": "ztn",
            # A dead server must not hold a job for minutes: there may be another replica.
            "XRD_CONNECTIONWINDOW": "10",
            "XRD_CONNECTIONRETRY": "1",
            "XRD_REQUESTTIMEOUT": str(_TIMEOUT_S),
            "XRD_STREAMERRORWINDOW": "5",
        }


class RemoteSource(Source):  # type: ignore[misc] # uproot ships no types
    """What both protocols share: bookkeeping, and chunks that are filled as bytes arrive."""

    def __init__(self, file_path: str, **options: Any) -> None:
        super().__init__()
        self._file_path = file_path
        self._access: Access = options["access"]
        self._num_bytes = 0
        self._ahead: list[tuple[int, bytes]] = []
        self._coming: dict[Range, Future[bytes]] = {}

    @property
    def coming_bytes(self) -> int:
        """Bytes asked for ahead of their use, and not used yet."""
        return sum(stop - start for start, stop in self._coming)

    def ask_ahead(self, ranges: Sequence[Range]) -> None:
        """Ask for ranges that :meth:`chunks` will be called for soon.

        What goes wrong is told there, since nobody waits for it here.
        """
        futures: dict[Range, Future[bytes]] = {each: Future() for each in ranges if each not in self._coming}
        self._coming |= futures
        try:
            self._request(futures)
        except BoathouseError as error:
            for future in futures.values():
                if not future.done():
                    future.set_exception(error)

    def chunk(self, start: int, stop: int) -> Chunk:
        """One range, at once.

        Opening a file asks for its header, its directory, a tree's description, one small range after another: some
        are read ahead, since each would cost a round trip.
        """
        for first, ahead in self._ahead:
            if first <= start and stop <= first + len(ahead):
                return _filled(self, start, stop, ahead[start - first : stop - first])
        end = min(max(stop, start + _AHEAD_BYTES), self._num_bytes)
        block = bytes(self.chunks([(start, max(end, stop))], queue.Queue())[0].raw_data)
        self._ahead = [*self._ahead[1 - _AHEAD_BLOCKS :], (start, block)]
        return _filled(self, start, stop, block[: stop - start])

    def chunks(self, ranges: list[Range], notifications: queue.Queue[Chunk]) -> list[Chunk]:
        """All ranges, asked for at once; each chunk is put on the queue when its bytes are there."""
        self._num_requests += 1
        self._num_requested_chunks += len(ranges)
        self._num_requested_bytes += sum(stop - start for start, stop in ranges)
        coming = {each: self._coming.pop(each) for each in ranges if each in self._coming}
        asked: dict[Range, Future[bytes]] = {each: Future() for each in ranges if each not in coming}
        futures = coming | asked
        chunks = []
        for (start, stop), future in futures.items():
            chunk = Chunk(self, start, stop, future)
            future.add_done_callback(partial(_notify, notifications, chunk))
            chunks.append(chunk)
        self._request(asked)
        return chunks

    def _request(self, futures: dict[Range, Future[bytes]]) -> None:
        """Ask for the ranges and complete their futures, now or later."""
        raise NotImplementedError


class RootSource(RemoteSource):
    """``root://``, by vector reads. The server raises the connection to TLS and demands the token at login."""

    def __init__(self, file_path: str, **options: Any) -> None:
        super().__init__(file_path, **options)
        from XRootD import client  # noqa: PLC0415 - its threads must not start before the worker's environment is set

        self._file = client.File()
        status, _ = self._file.open(_with_login(file_path, self._access.token()), timeout=_TIMEOUT_S)
        _raise_for(status, file_path)
        status, info = self._file.stat(timeout=_TIMEOUT_S)
        _raise_for(status, file_path)
        self._num_bytes = info.size

    @property
    def closed(self) -> bool:
        """Whether the file is closed."""
        return not self._file.is_open()

    def __exit__(self, *_: object) -> None:
        self._file.close(timeout=_TIMEOUT_S)

    def _request(self, futures: dict[Range, Future[bytes]]) -> None:
        for group in _groups(sorted(futures)):
            pieces = [piece for each in group for piece in _pieces(each)]
            answer = _VectorAnswer(self._file_path, group, futures)
            status = self._file.vector_read(pieces, timeout=_TIMEOUT_S, callback=answer)
            _raise_for(status, self._file_path)


class _VectorAnswer:
    """Called by the XRootD client's thread with the bytes of one vector read."""

    def __init__(self, url: str, ranges: Sequence[Range], futures: dict[Range, Future[bytes]]) -> None:
        self._url = url
        self._ranges = ranges
        self._futures = futures

    def __call__(self, status: Any, answer: Any, _: Any) -> None:
        try:
            _raise_for(status, self._url)
            buffers = iter([piece.buffer for piece in answer.chunks])
            for each in self._ranges:
                parts = [next(buffers) for _ in _pieces(each)]
                self._futures[each].set_result(parts[0] if len(parts) == 1 else b"".join(parts))
        except Exception as error:  # noqa: BLE001 - nobody above this thread would see it: the reader must
            for each in self._ranges:
                if not self._futures[each].done():
                    self._futures[each].set_exception(error)


class HttpsSource(RemoteSource):
    """``https://``, by range requests on a few kept connections; every request carries the current token."""

    def __init__(self, file_path: str, **options: Any) -> None:
        super().__init__(file_path, **options)
        self._pool = _pool(self._access.ca_bundle)
        self._threads = ThreadPoolExecutor(_CONNECTIONS, thread_name_prefix="https")
        self._closed = False
        answer = self._send("HEAD", {}, 200)
        self._num_bytes = int(answer.headers["Content-Length"])

    @property
    def closed(self) -> bool:
        """Whether the file is closed."""
        return self._closed

    def __exit__(self, *_: object) -> None:
        self._closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _request(self, futures: dict[Range, Future[bytes]]) -> None:
        for group in _groups(sorted(futures), gap_bytes=_GAP_BYTES):
            self._threads.submit(self._fetch, group, futures)

    def _fetch(self, group: Sequence[Range], futures: dict[Range, Future[bytes]]) -> None:
        try:
            first, last = group[0][0], max(stop for _, stop in group)
            body = self._send("GET", {"Range": f"bytes={first}-{last - 1}"}, 206, length=last - first).data
            for start, stop in group:
                futures[start, stop].set_result(body[start - first : stop - first])
        except Exception as error:  # noqa: BLE001 - nobody above this thread would see it: the reader must
            for each in group:
                if not futures[each].done():
                    futures[each].set_exception(error)

    def _send(
        self, method: Literal["HEAD", "GET"], headers: dict[str, str], wanted: int, length: int = 0
    ) -> urllib3.BaseHTTPResponse:
        headers = {**headers, "Authorization": f"Bearer {self._access.token()}"}
        try:
            answer = self._pool.request(method, self._file_path, headers=headers, redirect=False)
        except urllib3.exceptions.HTTPError as error:
            what, got = broken(error)
            raise StorageError(what, got=got, where=self._file_path, remedy=_FAILED) from error
        if answer.status != wanted:
            got = f"HTTP {answer.status}"
            raise _error(got, self._file_path, refused=answer.status in (401, 403), missing=answer.status == 404)
        if len(answer.data) != length:
            raise _error(f"{len(answer.data)} bytes instead of {length}", self._file_path)
        return answer


def is_of_server(error: Exception) -> bool:
    """Whether a failure to read one file lets expect that the server fails with others as well."""
    if isinstance(error, StorageError):
        return error.what not in (_MISSING, WRONG_SIZE)
    return isinstance(error, AuthError)


def source_for(url: str) -> type[RemoteSource] | None:
    """The reader for a URL; none for a local path."""
    return {"root": RootSource, "https": HttpsSource}.get(urlsplit(url).scheme)


@lru_cache(maxsize=8)
def _pool(ca_bundle: str) -> urllib3.PoolManager:
    return urllib3.PoolManager(
        maxsize=_CONNECTIONS,
        block=True,
        # One context for all connections: reading a bundle of CAs takes longer than a handshake.
        ssl_context=ssl.create_default_context(cafile=ca_bundle),
        timeout=_TIMEOUT_S,
        retries=urllib3.Retry(2, status=0, redirect=0, backoff_factor=0.2),
    )


def _with_login(url: str, token: str) -> str:
    """The URL with a user part that changes with the token.

    The XRootD client keeps one connection for each user and server, and a connection the token of its login: without a
    new name, files opened after the token's end would be refused although a new token is there.
    """
    parts = urlsplit(url)
    login = "t" + hashlib.sha256(token.encode()).hexdigest()[:7]
    return urlunsplit(parts._replace(netloc=f"{login}@{parts.netloc.rpartition('@')[2]}"))


def _raise_for(status: Any, url: str) -> None:
    if not status.ok:
        refused = status.errno == _NOT_AUTHORIZED or status.code == _AUTH_FAILED
        raise _error(_said(status.message), url, refused=refused, missing=status.errno == _NOT_FOUND)


def _said(message: str) -> str:
    """The reason alone out of a message of the XRootD client, which wraps it in levels, numbers and the path."""
    reason = _WRAPPING.sub("", message.strip().partition("\n")[0]).strip() or "no reason given"
    return textwrap.shorten(reason, _REASON_CHARACTERS, placeholder=" …")


def _error(got: str, url: str, *, refused: bool = False, missing: bool = False) -> BoathouseError:
    """What a storage element's refusal or failure means."""
    if refused:
        return AuthError("the storage refused the token", got=got, where=url, remedy="boathouse login")
    if missing:
        return StorageError(_MISSING, got=got, where=url, remedy="boathouse audit")
    return StorageError("the storage failed", got=got, where=url, remedy=_FAILED)


def _filled(source: Source, start: int, stop: int, content: bytes) -> Chunk:
    future: Future[bytes] = Future()
    future.set_result(content)
    return Chunk(source, start, stop, future)


def _notify(notifications: queue.Queue[Chunk], chunk: Chunk, _: Future[bytes]) -> None:
    notifications.put(chunk)


def _pieces(each: Range) -> list[tuple[int, int]]:
    """A range as (offset, length) pairs that a vector read accepts."""
    start, stop = each
    return [(offset, min(_MAX_PIECE_BYTES, stop - offset)) for offset in range(start, stop, _MAX_PIECE_BYTES)]


def _groups(ranges: Sequence[Range], gap_bytes: int | None = None) -> list[list[Range]]:
    """Neighbouring ranges, about one request's worth each; with ``gap_bytes``, no wider gap inside a group."""
    groups: list[list[Range]] = []
    for each in ranges:
        if groups and _fits(each, groups[-1], gap_bytes):
            groups[-1].append(each)
        else:
            groups.append([each])
    return groups


def _fits(each: Range, group: Sequence[Range], gap_bytes: int | None) -> bool:
    small = sum(stop - start for start, stop in (*group, each)) <= _REQUEST_BYTES
    few = sum(len(_pieces(other)) for other in (*group, each)) <= _MAX_PIECES
    near = gap_bytes is None or each[0] - group[-1][1] <= gap_bytes
    return small and few and near
