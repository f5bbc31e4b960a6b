"""Proxies in front of real servers, each with faults of its own: what a real server does not do when a test wants it.

A proxy ends TLS on both sides, so it can answer by itself, and hold, cut, slow or change the bytes of a real answer.
One request is let through on each connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
import threading
from collections import Counter
from collections.abc import Collection, Coroutine
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar

_T = TypeVar("_T")
_CHUNK = 65536
_TICKS_PER_S = 20
HEAD_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)\r\n", re.IGNORECASE)
LONGEST_HEAD = 65536


class Then(StrEnum):
    """What happens to an answer once so many bytes of its body have passed."""

    cut = "cut"
    """The connection breaks."""
    stall = "stall"
    """Nothing more comes, and the connection stays."""
    flip = "flip"
    """The next byte is another one; all others are right."""


@dataclass
class Fault:
    """One way to treat requests. The first of a proxy's faults that fits, and is not used up, is taken."""

    methods: Collection[str] = ()
    """Which requests; all if empty."""
    times: int | None = None
    """How many of them; all that come if none."""
    status: int = 0
    """Answer this, and ask nobody."""
    hold: bool = False
    """Let the request wait, and ask nobody, until the proxy is told to let go."""
    after_bytes: int = 0
    """For ``then``: bytes of the body that pass before."""
    then: Then | None = None
    bytes_per_s: int = 0
    """Speed of the answer's body; as fast as it comes if 0."""
    taken_per_s: int = 0
    """Bytes per second that are taken of the request's body; as fast as they come if 0."""

    def fits(self, method: str) -> bool:
        """Whether this fault is for a request of that method, and not used up."""
        return self.times != 0 and (not self.methods or method in self.methods)


@dataclass
class Seen:
    """What a proxy saw."""

    requests: Counter[str] = field(default_factory=Counter)
    """By method."""
    agents: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Requests by method and by the program that they come from, as it names itself."""
    held: int = 0
    """Requests that wait."""
    stalled: int = 0
    """Answers of which no more comes."""
    body_bytes: Counter[str] = field(default_factory=Counter)
    """Bytes of answers' bodies that were passed on, by method."""
    whole: Counter[str] = field(default_factory=Counter)
    """Answers that were passed on to their end, by method."""


class Loop:
    """An event loop in a thread; all proxies of a test may share one."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def start(self) -> None:
        """Begin to run."""
        self._thread.start()

    def stop(self) -> None:
        """Cancel what still runs, and end."""
        self.run(self._cancel())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @staticmethod
    async def _cancel() -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def run(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine to its end, from another thread."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()


class Proxy:
    """Stands before one server.

    Args:
        loop: where it runs.
        address: where it listens.
        port: on which port.
        tls: its certificate chain and key; without them, it speaks plain HTTP with its clients.
        upstream: host and port of the real server.
        ca: what the real server's certificate is verified with.
    """

    def __init__(
        self, loop: Loop, address: str, port: int, *, tls: tuple[Path, Path] | None, upstream: tuple[str, int], ca: Path
    ) -> None:
        self.host = f"{address}:{port}"
        self.davs = f"davs://{self.host}"
        self.seen = Seen()
        self._loop, self._address, self._upstream = loop, (address, port), upstream
        self._server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if tls else None
        if self._server_tls and tls:
            self._server_tls.load_cert_chain(*tls)
        self._client_tls = ssl.create_default_context(cafile=str(ca))
        self._faults: list[Fault] = []
        self._released = asyncio.Event()
        self._server: asyncio.Server | None = None

    def start(self) -> None:
        """Listen."""
        self._server = self._loop.run(self._listen())

    def stop(self) -> None:
        """Listen no more, and break what is connected; no-op if it does not listen."""
        if self._server:
            self._loop.run(self._close(self._server))
            self._server = None

    def inject(self, *faults: Fault) -> None:
        """Take these faults instead of those before."""
        self._faults = list(faults)

    def let_go(self) -> None:
        """Let requests that are held, and answers that stall, go on, and all that come."""
        self._faults = []
        self._loop.run(self._release())

    async def _release(self) -> None:
        released, self._released = self._released, asyncio.Event()
        released.set()

    async def _listen(self) -> asyncio.Server:
        self._open: set[asyncio.Task[None]] = set()
        return await asyncio.start_server(self._serve, *self._address, ssl=self._server_tls, limit=LONGEST_HEAD)

    async def _close(self, server: asyncio.Server) -> None:
        server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            await self._request(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            self._open.discard(task)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def _take(self, method: str) -> Fault:
        fault = next((each for each in self._faults if each.fits(method)), Fault())
        if fault.times is not None:
            fault.times -= 1
        return fault

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(HEAD_END)
        method = head.partition(b" ")[0].decode()
        fault = self._take(method)
        self.seen.requests[method] += 1
        self.seen.agents[method, _agent(head)] += 1
        if fault.status:
            phrase = HTTPStatus(fault.status).phrase
            writer.write(f"HTTP/1.1 {fault.status} {phrase}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
            await writer.drain()
            return
        if fault.hold and not await self._held(reader):
            return
        if (own := await self._instead(head, reader)) is not None:
            writer.write(own)
            await writer.drain()
            return
        await self._pass_on(method, self._asked(head), reader, writer, fault)

    async def _instead(self, head: bytes, reader: asyncio.StreamReader) -> bytes | None:
        """An answer of the proxy's own; none if the real server is to answer."""
        del head, reader
        return None

    def _asked(self, head: bytes) -> bytes:
        """The head of a request as the real server gets it."""
        return head

    def _told(self, method: str, head: bytes) -> bytes:
        """The head of an answer as the client gets it."""
        del method
        return head

    async def _pass_on(
        self, method: str, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fault: Fault
    ) -> None:
        up_reader, up_writer = await asyncio.open_connection(*self._upstream, ssl=self._client_tls)
        try:
            up_writer.write(closing(head))
            sending = asyncio.create_task(_pump(reader, up_writer, fault.taken_per_s))
            answering = asyncio.create_task(self._answer(method, up_reader, writer, fault))
            try:
                await asyncio.wait({sending, answering}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                # Whoever asked has gone, or has the whole answer.
                for task in (sending, answering):
                    task.cancel()
                await asyncio.gather(sending, answering, return_exceptions=True)
        finally:
            up_writer.transport.abort()

    async def _held(self, reader: asyncio.StreamReader) -> bool:
        """Hold a request. Returns whether it may go on; not if whoever sent it has gone."""
        self.seen.held += 1
        released = asyncio.create_task(self._released.wait())
        gone = asyncio.create_task(reader.read(1))
        try:
            await asyncio.wait({released, gone}, return_when=asyncio.FIRST_COMPLETED)
            return released.done()
        finally:
            self.seen.held -= 1
            for task in (released, gone):
                task.cancel()
            await asyncio.gather(released, gone, return_exceptions=True)

    async def _answer(
        self, method: str, upstream: asyncio.StreamReader, writer: asyncio.StreamWriter, fault: Fault
    ) -> None:
        head = await upstream.readuntil(HEAD_END)
        writer.write(closing(self._told(method, head)))
        length = _LENGTH.search(head)
        passed, then = 0, fault.then
        while data := await upstream.read(_CHUNK):
            if then is not None and passed + len(data) > fault.after_bytes:
                at = fault.after_bytes - passed
                if then is Then.flip:
                    data = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
                    then = None
                else:
                    writer.write(data[:at])
                    await writer.drain()
                    if then is Then.cut:
                        writer.transport.abort()
                        return
                    await self._stall()
                    data, then = data[at:], None
            await _write(writer, data, fault.bytes_per_s)
            passed += len(data)
            self.seen.body_bytes[method] += len(data)
            if length and passed == int(length[1]):
                # Whoever asked has it all, and may go before the other side ends.
                break
        self.seen.whole[method] += 1

    async def _stall(self) -> None:
        self.seen.stalled += 1
        try:
            await self._released.wait()
        finally:
            self.seen.stalled -= 1


async def _write(writer: asyncio.StreamWriter, data: bytes, bytes_per_s: int) -> None:
    step = max(bytes_per_s // _TICKS_PER_S, 1) if bytes_per_s else len(data)
    for start in range(0, len(data), step):
        writer.write(data[start : start + step])
        await writer.drain()
        if bytes_per_s:
            await pause(1 / _TICKS_PER_S)


async def pause(seconds: float) -> None:
    """Let some time pass: a slow server does."""
    loop = asyncio.get_running_loop()
    passed = loop.create_future()
    loop.call_later(seconds, passed.set_result, None)
    await passed


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, bytes_per_s: int) -> None:
    while data := await reader.read(_CHUNK):
        await _write(writer, data, bytes_per_s)


def _agent(head: bytes) -> str:
    """What the ``User-Agent`` of a request says before its first slash."""
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"user-agent":
            return value.strip().partition(b"/")[0].decode(errors="replace")
    return ""


def closing(head: bytes) -> bytes:
    """A head that says that its connection carries nothing after this."""
    first, *fields = head.removesuffix(HEAD_END).split(b"\r\n")
    kept = [each for each in fields if not each.lower().startswith(b"connection:")]
    return b"\r\n".join((first, *kept, b"Connection: close")) + HEAD_END
