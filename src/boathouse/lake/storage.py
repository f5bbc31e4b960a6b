"""One storage element over WebDAV: stat, put, get, delete, list, third-party copy, each with verified checksums.

HTTP semantics: RFC 9110, WebDAV: RFC 4918, instance digests: RFC 3230 (``Digest: adler32=``), representation
digests: RFC 9530 (``Repr-Digest: adler=``), third-party copy: the WLCG HTTP-TPC convention (COPY with ``Source``).
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Protocol
from urllib.parse import quote, unquote, urljoin, urlsplit

import urllib3

from boathouse.checksums import told
from boathouse.errors import (
    AuthError,
    BoathouseError,
    ConflictError,
    NoSpaceError,
    NotFoundError,
    StorageError,
)
from boathouse.lake.http import BRIEF, ONCE, Http

READ_BYTES = 1 << 20
"""Bytes handled at a time."""

UNNAMED = "\N{REPLACEMENT CHARACTER}"
"""Stands in a listed name for what no list can carry: bytes that are not UTF-8, control characters."""

_REDIRECTS = 5
"""How many times a reader is sent on."""

_DAV = "{DAV:}"
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, section 2.2


class Readable(Protocol):
    """A stream of bytes, as much of one as a request body needs."""

    def read(self, count: int = -1, /) -> bytes:
        """At most ``count`` bytes; none at the end."""


@dataclass(frozen=True)
class Stat:
    """What a storage element says of a file."""

    size_bytes: int
    adler32: str | None
    """Computed by the server from its bytes, or kept since; ``None`` if it gives none."""


@dataclass(frozen=True)
class Entry:
    """One line of a directory listing."""

    path: str
    """Absolute path on the server, decoded."""
    size_bytes: int
    modified: float | None
    is_directory: bool


class Storage:
    """Requests to storage elements with one user's token. One object serves many threads and many elements.

    Args:
        http: connections whose ``failure`` is :class:`~boathouse.errors.StorageError`.
        token: gives the current bearer token, called for every request.
    """

    def __init__(self, http: Http, token: Callable[[], str]) -> None:
        self._http = http
        self._token = token

    def stat(self, url: str, *, checksum: bool = True) -> Stat | None:
        """Size, checksum and time of a file; ``None`` if there is none.

        Raises:
            AuthError: the token does not open this path.
            StorageError: the element failed.
        """
        headers = self._headers({"Want-Digest": "adler32"} if checksum else {})
        response = self._http.request("HEAD", url, headers=headers, retry=BRIEF, timeout_s=300.0)
        if response.status == 404:
            return None
        if response.status != 200:
            raise _refused("HEAD", url, response)
        return Stat(
            size_bytes=int(response.headers.get("Content-Length", "0")),
            adler32=digest_adler32(response.headers),
        )

    def put(self, url: str, body: bytes | Readable, size_bytes: int, *, overwrite: bool = False) -> None:
        """Write a whole file; directories are made on the way. One attempt.

        Without ``overwrite`` a file that is there stays as it is (``Overwrite: F``, obeyed by XRootD since 6).
        Where the element makes no directories, those that are missing are made, and a body that is no stream is sent
        again.

        Raises:
            ConflictError: there is a file already.
            NoSpaceError: the element is full.
            AuthError: the token does not allow writing this path.
            StorageError: the element failed; what lies there now is unknown.
        """
        headers = self._headers({"Content-Length": str(size_bytes), "Overwrite": "T" if overwrite else "F"})
        response = self._http.request("PUT", url, headers=headers, body=body, retry=ONCE, timeout_s=300.0)
        directory = url.rpartition("/")[0]
        if response.status == 409 and self.modified(directory) is None:
            # It must be there first (RFC 4918 section 9.7.1); XRootD makes it, and means a file that is there.
            self._make_directory(directory)
            if not isinstance(body, bytes):
                raise StorageError("the directory was missing, and is there now", where=url, remedy="try again")
            response = self._http.request("PUT", url, headers=headers, body=body, retry=ONCE, timeout_s=300.0)
        if response.status in (409, 412) and not overwrite:
            raise ConflictError("a file is there already", where=url)
        if response.status not in (200, 201, 202, 204):
            raise _refused("PUT", url, response)

    def _make_directory(self, url: str) -> None:
        """Make a directory, and those above it that are missing; one that is there stays as it is."""
        response = self._http.request("MKCOL", url + "/", headers=self._headers(), retry=BRIEF)
        above = url.rpartition("/")[0]
        if response.status == 409 and urlsplit(above).path:
            # One above is missing (RFC 4918 section 9.3.1).
            self._make_directory(above)
            response = self._http.request("MKCOL", url + "/", headers=self._headers(), retry=BRIEF)
        # 405 says that it is there: somebody else was first.
        if response.status not in (200, 201, 204, 405):
            raise _refused("MKCOL", url, response)

    def get(self, url: str, *, start: int = 0) -> Iterator[bytes]:
        """Bytes of a file from an offset on.

        Raises:
            NotFoundError: there is no such file.
            AuthError: the token does not open it.
            StorageError: the element failed, or the connection broke.
        """
        response = self._open(url, {"Range": f"bytes={start}-"} if start else {})
        try:
            if response.status not in ((200, 206) if start else (200,)):
                raise _refused("GET", url, response)
            # An element that knows no ranges sends all of it (RFC 9110 section 14.2).
            ahead = start if response.status == 200 else 0
            for block in response.stream(READ_BYTES):
                if ahead < len(block):
                    yield block[ahead:]
                ahead = max(0, ahead - len(block))
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._http.unreachable(url, error) from error
        finally:
            # What was not read to its end would be the beginning of the next answer on that connection.
            response.close()
            response.release_conn()

    def _open(self, url: str, more: Mapping[str, str]) -> urllib3.BaseHTTPResponse:
        """The answer to a GET, wherever the element sends its readers; the token goes to the element only."""
        headers: Mapping[str, str] = self._headers(more)
        asked = url
        for _ in range(_REDIRECTS):
            response = self._http.request("GET", asked, headers=headers, retry=ONCE, timeout_s=120.0, stream=True)
            if response.status not in (301, 302, 303, 307, 308):
                return response
            response.drain_conn()
            response.release_conn()
            asked = urljoin(asked, response.headers.get("Location", ""))
            if urlsplit(asked).scheme != "https":
                break
            # Elsewhere a ticket in the URL opens the file. Nor does the token go back, should the way lead there.
            headers = headers if urlsplit(asked).netloc == urlsplit(url).netloc else more
        raise StorageError("the element sends its readers in a circle, or away from https", where=url)

    def delete(self, url: str) -> bool:
        """Delete a file; tell whether there was one."""
        response = self._http.request("DELETE", url, headers=self._headers(), retry=BRIEF)
        if response.status == 404:
            return False
        if response.status not in (200, 202, 204):
            raise _refused("DELETE", url, response)
        return True

    def modified(self, url: str) -> float | None:
        """When a file was last written, in seconds since the epoch; ``None`` if there is none."""
        entries = self._propfind(url, depth=0)
        return entries[0].modified if entries else None

    def listing(self, url: str) -> list[Entry]:
        """Content of a directory, the directory itself left out; empty if there is no such directory.

        Names that a list cannot carry hold :data:`UNNAMED`. One that begins with a line break makes XRootD shift the
        names that follow: they are the numbers of a stat. Nothing can be asked for under such names.

        Raises:
            AuthError: the token does not open this path.
            StorageError: the element failed.
        """
        own = unquote(urlsplit(url).path).rstrip("/")
        return [entry for entry in self._propfind(url.rstrip("/") + "/", depth=1) if entry.path.rstrip("/") != own]

    def _propfind(self, url: str, *, depth: int) -> list[Entry]:
        response = self._http.request("PROPFIND", url, headers=self._headers({"Depth": str(depth)}), retry=BRIEF)
        if response.status == 404:
            return []
        if response.status != 207:
            raise _refused("PROPFIND", url, response)
        # XRootD puts names into its lists as they are, and one that XML cannot carry would make the whole unreadable.
        text = _NOT_XML.sub(UNNAMED, response.data.decode("utf-8", "replace"))
        try:
            # expat itself bounds entity expansion (2.4.1 and later), and the lake's own servers write this text.
            return [_entry(element) for element in ET.fromstring(text)]  # noqa: S314
        except (ET.ParseError, ValueError) as error:
            raise StorageError(
                "the storage element's list of a directory cannot be read", got=str(error), where=url
            ) from error

    def _headers(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token()}", **(more or {})}


def join(base: str, path: str) -> str:
    """URL of a path below a base URL."""
    return f"{base.rstrip('/')}/{quote(path.lstrip('/'))}"


def digest_adler32(headers: Mapping[str, str]) -> str | None:
    """The adler32 of ``Digest`` or ``Repr-Digest`` headers, eight digits; ``None`` if there is none."""
    value = told(headers, "adler32", "adler", 4)
    return None if value is None else f"{value:08x}"


def _entry(element: ET.Element) -> Entry:
    path = unquote(urlsplit(element.findtext(f"{_DAV}href", "")).path)
    return Entry(
        path=path,
        size_bytes=int(element.findtext(f".//{_DAV}getcontentlength") or 0),
        modified=_epoch(element.findtext(f".//{_DAV}getlastmodified")),
        is_directory=element.find(f".//{_DAV}collection") is not None,
    )


def _epoch(text: str | None) -> float | None:
    return parsedate_to_datetime(text).timestamp() if text else None


def _refused(method: str, url: str, response: urllib3.BaseHTTPResponse) -> BoathouseError:
    """The error that a status of a storage element means."""
    body = b"" if method == "HEAD" else response.data
    text = body.decode("utf-8", "replace").strip().splitlines()
    got = f"HTTP status {response.status}" + (f": {text[0][:200]}" if text else "")
    where = f"{method} {url}"
    if response.status in (401, 403):
        path, expired = unquote(urlsplit(url).path), response.status == 401
        return AuthError(
            f"the storage element refused the token for {path}" if expired else f"your groups do not open {path}",
            got=f"HTTP status {response.status}",
            where=where,
            remedy="boathouse login" if expired else "boathouse token --json, to see the paths that are open to you",
        )
    if response.status == 404:
        return NotFoundError("no such file on the storage element", got=got, where=where, remedy="boathouse audit")
    if response.status == 423 or (response.status == 503 and "Retry-After" in response.headers):
        return StorageError(
            "the file is not on disk: the storage element is bringing it back",
            got=got,
            where=where,
            remedy="run the same command again in a few minutes",
        )
    if response.status == 507 or "no space" in got.lower():
        return NoSpaceError("the storage element is full", got=got, where=where)
    return StorageError("the storage element failed", got=got, where=where, remedy="boathouse status")
