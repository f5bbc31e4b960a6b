"""Questions to storage elements over HTTPS: what is there, copy from there, delete. Connections are kept alive.

Redirects are not followed, since a token would go with them to a host that it was not given for.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path

import aiohttp
from aiohttp.client import _RequestContextManager
from yarl import URL

from boathouse.apps.transfers import stores as stores_module
from boathouse.apps.transfers.checksums import Algorithm, Checksum, from_headers
from boathouse.apps.transfers.failures import CopyError, ErrorClass, Failure, Side, of_status
from boathouse.apps.transfers.markers import Progress
from boathouse.apps.transfers.settings import Limits, StoreKind
from boathouse.apps.transfers.stores import Asked, Stores, is_signed
from boathouse.apps.transfers.tickets import Ticket, Tickets
from boathouse.apps.transfers.urls import at_door, host_of

_KEEP_ALIVE_S = 25.0
_SLOWEST_CHECKSUM = 20e6
"""Bytes per second that a storage element is trusted to checksum."""
_LONGEST_CHECKSUM_S = 7200.0
"""No server is waited for longer, whatever size a client claims."""
_BODY_LIMIT = 4096
_LINE_LIMIT = 65536
_LAST_S = 1.0
"""How long more is waited for once the outcome of a copy is told."""
_IMPATIENCE_S = (3.0, 10.0)
"""How long the first and the second question for a checksum may take."""


class UnreachedError(CopyError):
    """No connection came about: nothing was asked for."""


@dataclass(frozen=True)
class Found:
    """A file on storage."""

    size_bytes: int | None
    checksum: Checksum | None

    def __str__(self) -> str:
        size = "size not told" if self.size_bytes is None else f"{self.size_bytes} bytes"
        return f"{size}, checksum {self.checksum or 'not told'}"


@dataclass(frozen=True)
class CopyAnswer:
    """How a COPY ended."""

    status: int
    progress: Progress
    text: str
    """The outcome line, or the body of a refusal."""

    @property
    def accepted(self) -> bool:
        """Whether the server began to copy (and so may have left something)."""
        return 200 <= self.status < 300

    @property
    def succeeded(self) -> bool:
        """Whether the server says that the copy is complete."""
        return self.accepted and self.progress.succeeded


class Storage:
    """One client for all storage elements. Open it inside the event loop; close it there.

    Args:
        ca_file: CAs that their certificates must chain to.
        limits: the limits.
        stores: storage of others', with what opens it.
        tickets: lead elements to what takes signed requests only.
        far: where who is asked for a copy sees the other end, if not at its own address.
    """

    def __init__(
        self,
        ca_file: Path,
        limits: Limits,
        stores: Stores,
        tickets: Tickets,
        far: Mapping[str, Mapping[str, str]],
    ) -> None:
        self._limits = limits
        self._far = far
        self.stores = stores
        self.tickets = tickets
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                ssl=ssl.create_default_context(cafile=str(ca_file)),
                limit=0,
                limit_per_host=0,
                keepalive_timeout=_KEEP_ALIVE_S,
                ttl_dns_cache=60,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            # A server that compresses tells no size, or not the file's.
            headers={"Accept-Encoding": "identity"},
            auto_decompress=False,
            trust_env=False,
            read_bufsize=_LINE_LIMIT,
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    def _timeout(self, answer_s: float) -> aiohttp.ClientTimeout:
        return aiohttp.ClientTimeout(total=None, sock_connect=self._limits.connect_s, sock_read=answer_s)

    async def look(
        self, side: Side, url: str, token: str | None, algorithm: Algorithm | None, size_bytes: int | None = None
    ) -> Found | None:
        """What lies at a URL; None if nothing does.

        Args:
            side: which of the two it is, for the failure.
            url: the file.
            token: bearer token with ``storage.read`` there.
            algorithm: checksum to ask for.
            size_bytes: expected size; a checksum of a large file takes long.

        Raises:
            CopyError: the storage element could not be asked, or refused to answer.
        """
        headers: dict[str, str] = {}
        patience_s = [self._limits.answer_s]
        if algorithm is not None:
            headers |= {"Want-Digest": algorithm.name, "Want-Repr-Digest": f"{algorithm.field}=10"}
            # XRootD 6.2.0, asked for the checksum of a file that was closed this instant or is still written, answers
            # 400 or 500, or never; asked again, it answers.
            patience_s = [min(each, self._limits.answer_s) for each in _IMPATIENCE_S] + patience_s
            summing_s = min((size_bytes or 0) / _SLOWEST_CHECKSUM, _LONGEST_CHECKSUM_S)
            patience_s = [each + summing_s for each in patience_s]
        status, found = 0, None
        for number, answer_s in enumerate(patience_s, start=1):
            try:
                status, found = await self._head(self._asked(side, "HEAD", url, token, headers), algorithm, answer_s)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                if number == len(patience_s) or not _timed_out(error):
                    raise CopyError(_unreached(side, url, error)) from error
            else:
                if status not in (HTTPStatus.BAD_REQUEST, HTTPStatus.INTERNAL_SERVER_ERROR):
                    break
        if status not in (HTTPStatus.OK, HTTPStatus.NOT_FOUND):
            raise CopyError(of_status(side, status, "to HEAD", host_of(url)))
        return found

    async def head(self, url: str, token: str | None) -> tuple[int, Found | None]:
        """Status and size of a source, asked once.

        Raises:
            CopyError: it could not be asked.
        """
        try:
            return await self._head(self._asked(Side.SOURCE, "HEAD", url, token), None, self._limits.answer_s)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise CopyError(_unreached(Side.SOURCE, url, error)) from error

    async def _head(self, asked: Asked, algorithm: Algorithm | None, answer_s: float) -> tuple[int, Found | None]:
        async with self._send(asked, answer_s) as reply:
            if asked.method == "HEAD":
                there, size = reply.status == HTTPStatus.OK, reply.content_length
            else:
                there = reply.status in stores_module.THERE
                size = stores_module.size(reply.status, reply.headers)
            if not there:
                return reply.status, None
            checksum = from_headers(reply.headers, algorithm) if algorithm else None
            if checksum is None and algorithm and asked.of_s3:
                checksum = stores_module.checksum(reply.headers, algorithm)
            return HTTPStatus.OK, Found(size, checksum)

    def _send(self, asked: Asked, answer_s: float) -> _RequestContextManager:
        return self._session.request(
            asked.method,
            URL(asked.url, encoded=True),
            headers=asked.headers,
            allow_redirects=False,
            timeout=self._timeout(answer_s),
        )

    def _asked(
        self, side: Side, method: str, url: str, token: str | None, headers: Mapping[str, str] | None = None
    ) -> Asked:
        """A request with what opens its place.

        Raises:
            CopyError: that is not to be had any more.
        """
        try:
            return self.stores.ask(method, url, token, headers)
        except LookupError as error:
            raise CopyError(Failure(side, ErrorClass.auth, str(error))) from error

    def signed(self, ticket: Ticket) -> str:
        """The URL that a ticket leads to."""
        return self._asked(Side.TRANSFER, ticket.method, ticket.url, ticket.credential, ticket.headers).url

    async def make_room(self, url: str, token: str | None) -> None:
        """Make the collections of a file in a WebDAV store; elements and S3 make them by themselves.

        Raises:
            CopyError: the store could not be asked, or refused.
        """
        store = self.stores.at(url)
        if store is not None and store.kind is StoreKind.webdav:
            await self.make_collections(url, token)

    async def make_collections(self, url: str, token: str | None) -> None:
        """Make the collections of a file, from the first that is missing on.

        Raises:
            CopyError: the server could not be asked, or refused.
        """
        store = self.stores.at(url)
        wanted = [url.rpartition("/")[0]]
        # 409 says that the collection above is missing (RFC 4918 section 9.3.1).
        while (answer := await self._make(wanted[-1], token))[0] == HTTPStatus.CONFLICT:
            above = wanted[-1].rpartition("/")[0]
            if not URL(above).path.strip("/") or self.stores.at(f"{above}/") is not store:
                break
            wanted.append(above)
        for collection in reversed(wanted[:-1]):
            _require_made(answer, url)
            answer = await self._make(collection, token)
        _require_made(answer, url)

    async def _make(self, url: str, token: str | None) -> tuple[int, str]:
        try:
            asked = self._asked(Side.DESTINATION, "MKCOL", f"{url}/", token)
            try:
                reply = await self._send(asked, self._limits.answer_s)
            except aiohttp.ServerDisconnectedError:
                # The kept connection had been closed by the server meanwhile.
                reply = await self._send(asked, self._limits.answer_s)
            async with reply:
                return reply.status, stores_module.words(await _text(reply))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise CopyError(_unreached(Side.DESTINATION, url, error)) from error

    async def delete(self, url: str, token: str | None) -> None:
        """Remove a file at the destination; one that is not there is removed.

        Raises:
            CopyError: the storage element could not be asked, or refused.
        """
        asked = self._asked(Side.DESTINATION, "DELETE", url, token)
        try:
            async with self._send(asked, self._limits.answer_s) as reply:
                if reply.status >= 300 and reply.status != HTTPStatus.NOT_FOUND:
                    text = stores_module.words(await _text(reply))
                    raise CopyError(of_status(Side.DESTINATION, reply.status, f"to DELETE: {text}", host_of(url)))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise CopyError(_unreached(Side.DESTINATION, url, error)) from error

    async def copy(
        self,
        destination: str,
        destination_token: str | None,
        source: str,
        source_token: str | None,
        *,
        overwrite: bool,
        checksum: Checksum | None,
        ahead: bool,
        moved: Callable[[Progress], Awaitable[None]],
        push: bool = False,
    ) -> CopyAnswer:
        """Have the destination pull a file from the source (HTTP third-party copy), and wait for the end.

        The transport between the two is that of the one that is asked; it gets the other's token from us in a header
        and uses it for the other only.

        Args:
            destination: URL of the new file; its parents are made by the server.
            destination_token: bearer token with ``storage.modify`` there; one with ``storage.create`` can write, but
                not remove what turns out to be wrong.
            source: URL of the file.
            source_token: bearer token with ``storage.read`` there.
            overwrite: whether a file that is there may be replaced.
            checksum: the expected checksum.
            ahead: whether it is told in ``Repr-Digest`` (RFC 9530). A destination that honours that asks the source for
                its own first, which may take long, and refuses other bytes with 412.
            moved: awaited at each marker; what it raises ends the copy.
            push: ask the source to send the file instead; it must be trusted with the destination's token.

        Returns:
            The answer; a refusal is an answer as well.

        Raises:
            CopyError: the destination could not be reached, broke off, or nothing moved for too long.
        """
        asked, other = ("Source", "Destination") if push else ("Destination", "Source")
        ends = {"Destination": (destination, destination_token), "Source": (source, source_token)}
        side = Side.SOURCE if push else Side.DESTINATION
        told = checksum if ahead else None
        url, token = ends[other]
        with self._way(other, at_door(url, self._far.get(host_of(ends[asked][0]), {})), token, checksum) as way:
            request = self._asked(
                side, "COPY", *ends[asked], {**way, **_copy_headers(overwrite=overwrite, checksum=told)}
            )
            answer = await self._follow_copy(side, request, moved)
        return answer if answer.progress.succeeded else replace(answer, text=stores_module.words(answer.text))

    @contextlib.contextmanager
    def _way(self, name: str, url: str, token: str | None, checksum: Checksum | None) -> Iterator[dict[str, str]]:
        """What a COPY says of the other end (``Source`` or ``Destination``), beside the right to it."""
        method = "PUT" if name == "Destination" else "GET"
        asked = self._asked(Side.DESTINATION if method == "PUT" else Side.SOURCE, method, url, token)
        if token is None or not asked.of_s3:
            given = {f"TransferHeader{header}": value for header, value in asked.headers.items()}
            yield {name: url, **given}
            return
        more = {}
        if method == "PUT" and checksum is not None and checksum.algorithm.name == "crc32c" and not is_signed(token):
            # The store compares it with what arrives, and keeps it.
            more = {"x-amz-checksum-crc32c": checksum.base64}
        with self.tickets.issue(method, url, token, more) as ticket:
            headers = {"Authorization": f"Bearer {ticket.value}", **more}
            yield {name: ticket.at, **{f"TransferHeader{header}": value for header, value in headers.items()}}

    async def _follow_copy(self, side: Side, asked: Asked, moved: Callable[[Progress], Awaitable[None]]) -> CopyAnswer:
        """Send a COPY and read its answer to the end."""
        url = asked.url
        try:
            reply = await self._begin(url, asked.headers)
            async with reply:
                progress = Progress()
                if not 200 <= reply.status < 300:
                    return CopyAnswer(reply.status, progress, await _text(reply))
                await self._follow(reply, progress, moved)
                return CopyAnswer(reply.status, progress, progress.outcome or "")
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise UnreachedError(_unreached(side, url, error)) from error
        except aiohttp.ServerTimeoutError as error:
            raise CopyError(_unreached(side, url, error)) from error
        except (aiohttp.ClientError, OSError) as error:
            kind = ErrorClass.source if side is Side.SOURCE else ErrorClass.destination
            failure = Failure(side, kind, f"the copy broke off: {_words(error)}")
            raise CopyError(failure) from error

    async def _begin(self, destination: str, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        """Send a COPY; once more if the kept connection had been closed by the server meanwhile."""
        url, timeout = URL(destination, encoded=True), self._timeout(self._limits.stall_s)
        try:
            return await self._session.request("COPY", url, headers=headers, allow_redirects=False, timeout=timeout)
        except aiohttp.ServerDisconnectedError:
            return await self._session.request("COPY", url, headers=headers, allow_redirects=False, timeout=timeout)

    async def _follow(
        self, reply: aiohttp.ClientResponse, progress: Progress, moved: Callable[[Progress], Awaitable[None]]
    ) -> None:
        """Read markers up to the outcome: it is the last word, even if the answer does not end there or then."""
        clock = asyncio.get_running_loop().time
        grown, seen, markers, rest = clock(), 0, 0, b""
        while progress.outcome is None:
            if len(rest) > _LINE_LIMIT:
                msg = f"a line of more than {_LINE_LIMIT} bytes"
                raise aiohttp.ClientPayloadError(msg)
            until, told = grown + self._limits.stall_s, bool(rest) and _is_outcome(rest)
            try:
                async with asyncio.timeout_at(min(until, clock() + _LAST_S) if told else until):
                    part = await reply.content.readany()
            except TimeoutError as error:
                if told:
                    progress.feed(rest.decode(errors="replace"))
                    return
                cause = f"{seen} bytes, and no more for {self._limits.stall_s:.0f} s ({progress.connections})"
                raise CopyError(Failure(Side.TRANSFER, ErrorClass.timeout, cause)) from error
            *lines, rest = (rest + part).split(b"\n")
            for line in lines if part else [rest]:
                progress.feed(line.decode(errors="replace"))
            if not part:
                return
            if progress.transferred_bytes > seen:
                grown, seen = clock(), progress.transferred_bytes
            if progress.markers > markers:
                markers = progress.markers
                await moved(progress)
        await _read_rest(reply)


def _is_outcome(line: bytes) -> bool:
    """Whether a line is the outcome though its end has not come: XRootD and dCache send none."""
    progress = Progress()
    progress.feed(line.decode(errors="replace"))
    return progress.outcome is not None


async def _read_rest(reply: aiohttp.ClientResponse) -> None:
    """Read the little that is left of an answer: only then its connection is kept."""
    left = _LINE_LIMIT
    with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
        async with asyncio.timeout(_LAST_S):
            while left > 0 and (part := await reply.content.readany()):
                left -= len(part)


def _require_made(answer: tuple[int, str], url: str) -> None:
    """Make sure that there is a collection: it was made, or was there (405)."""
    status, text = answer
    if status >= 300 and status != HTTPStatus.METHOD_NOT_ALLOWED:
        raise CopyError(of_status(Side.DESTINATION, status, f"to MKCOL: {text}", host_of(url)))


def _copy_headers(*, overwrite: bool, checksum: Checksum | None) -> dict[str, str]:
    """What a COPY says of the file."""
    headers = {"Credential": "none", "Overwrite": "T" if overwrite else "F", "RequireChecksumVerification": "false"}
    if checksum:
        headers["Repr-Digest"] = checksum.repr_digest
    return headers


async def _text(reply: aiohttp.ClientResponse) -> str:
    """The first words of an answer's body, and its status line's if there are none."""
    body = (await reply.content.read(_BODY_LIMIT)).decode(errors="replace").strip()
    return body or (reply.reason or "")


def _unreached(side: Side, url: str, error: Exception) -> Failure:
    host = host_of(url)
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        # Nobody mends a certificate within seconds: it is the server's fault, not the network's.
        kind = ErrorClass.source if side is Side.SOURCE else ErrorClass.destination
        return Failure(side, kind, f"TLS with {host} failed: {_words(error)}", retryable=True)
    if _timed_out(error):
        return Failure(side, ErrorClass.timeout, f"{host} did not answer in time: {_words(error)}")
    return Failure(side, ErrorClass.network, f"{host} cannot be reached: {_words(error)}", host=host)


def _timed_out(error: Exception) -> bool:
    """Whether a server that was reached did not answer in time."""
    return isinstance(error, aiohttp.SocketTimeoutError) and not isinstance(error, aiohttp.ConnectionTimeoutError)


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def matches(found: Found, *, size_bytes: int | None, checksum: Checksum | None) -> Mapping[str, str]:
    """How a file on storage differs from what is expected; empty if it does not.

    A checksum that storage does not tell is no difference; :class:`Found` shows that it was not told. Nor is a size,
    where the checksum is compared.
    """
    differences = {}
    if size_bytes is not None and found.size_bytes is None and None in (checksum, found.checksum):
        differences["size"] = f"not told, expected {size_bytes} bytes"
    elif size_bytes is not None and found.size_bytes not in (None, size_bytes):
        differences["size"] = f"{found.size_bytes} bytes, expected {size_bytes}"
    if checksum is not None and found.checksum is not None and found.checksum != checksum:
        differences["checksum"] = f"{found.checksum}, expected {checksum}"
    return differences
