"""What a client of storage elements makes of answers that no server gives when a test wants them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from boathouse.apps.transfers.checksums import ALGORITHMS, Checksum
from boathouse.apps.transfers.failures import CopyError, Side
from boathouse.apps.transfers.markers import Progress
from boathouse.apps.transfers.settings import Limits, Store, StoreKind
from boathouse.apps.transfers.storage import CopyAnswer, Found, Storage, matches
from boathouse.apps.transfers.stores import Stores, own
from boathouse.apps.transfers.tickets import Tickets
from boathouse.testing.https import Handler, HttpsServer
from boathouse.testing.pki import Authority
from boathouse.testing.scratch import free_port
from boathouse.testing.wait import wait_for

ADDRESS = "127.0.1.21"
AREA = own("area")
LONGEST = 64
"""Chunks of a MiB that are sent after the outcome."""


class Server(HttpsServer):
    """Answers as it is told to, and remembers what it saw.

    Args:
        authority: signs its certificate.
    """

    def __init__(self, authority: Authority) -> None:
        port = free_port(ADDRESS)
        self.host = f"{ADDRESS}:{port}"
        super().__init__(partial(_Answers, server=self), ADDRESS, port, authority.certificate("server", ADDRESS))
        self.say: Callable[[_Answers], None] = lambda answers: answers.head(404)
        self.encodings: set[str | None] = set()
        self.clients: list[int] = []
        self.gone: list[int] = []
        """Chunks that had been sent when the client went away."""


class _Answers(Handler):
    def __init__(self, *args: Any, server: Server) -> None:
        self.of = server
        super().__init__(*args)

    def respond(self) -> None:
        self.of.encodings.add(self.headers.get("Accept-Encoding"))
        self.of.clients.append(self.client_address[1])
        self.of.say(self)

    do_COPY = do_MKCOL = respond  # noqa: N815 - the names of the base class

    def head(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in (headers or {"Content-Length": "0"}).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def watch(self, sent: int) -> None:
        """Wait until the client goes away."""
        with contextlib.suppress(OSError):
            self.rfile.read(1)
        self.of.gone.append(sent)
        self.close_connection = True


@pytest.fixture
def server(authority: Authority) -> Iterator[Server]:
    made = Server(authority)
    made.start()
    yield made
    made.stop()


@pytest.fixture
async def storage(server: Server, tmp_path: Path, authority: Authority) -> AsyncIterator[Storage]:
    chain, _ = authority.certificate("server", ADDRESS)
    area = Store(name="area", kind=StoreKind.webdav, host=server.host, path="/area", user="u", secret="p")
    limits = Limits(answer_s=10, stall_s=10)
    made = Storage(chain.parent / "ca.pem", limits, Stores([area]), Tickets("https://localhost"), {})
    yield made
    await made.close()


async def looked(storage: Storage, server: Server) -> Found | None:
    return await storage.look(Side.DESTINATION, f"{server.url}/area/f", AREA, ALGORITHMS["adler32"])


@pytest.mark.parametrize(
    ("status", "headers", "size"),
    [
        (200, {"Transfer_Encoding": "chunked"}, None),
        (200, {"Content_Length": "1"}, 1),
        (206, {"Content_Range": "bytes 0-0/7", "Content_Length": "1"}, 7),
        (206, {"Content_Range": "bytes 0-0/*", "Content_Length": "1"}, None),
        (416, {"Content_Length": "0"}, 0),
    ],
)
async def test_a_file_is_there_whether_or_not_the_server_tells_its_size(
    storage: Storage, server: Server, status: int, headers: dict[str, str], size: int | None
) -> None:
    def say(answers: _Answers) -> None:
        answers.head(status, **headers)
        if "Transfer_Encoding" in headers:
            answers.chunk(b"x")
            answers.chunk(b"")
        elif size != 0:
            answers.wfile.write(b"x")

    server.say = say
    assert await looked(storage, server) == Found(size, None)


async def test_only_what_is_not_found_is_not_there(storage: Storage, server: Server) -> None:
    server.say = lambda answers: answers.head(404, Content_Range="bytes 0-0/7", Content_Length="0")
    assert await looked(storage, server) is None


@pytest.mark.parametrize("status", [204, 302, 403, 503])
async def test_any_other_answer_says_nothing_of_a_file(storage: Storage, server: Server, status: int) -> None:
    server.say = lambda answers: answers.head(status)
    with pytest.raises(CopyError):
        await looked(storage, server)


async def test_nothing_is_to_be_compressed(storage: Storage, server: Server) -> None:
    server.say = lambda answers: answers.head(404 if answers.command in ("GET", "HEAD") else 201)
    await looked(storage, server)
    await storage.look(Side.SOURCE, f"{server.url}/f", None, None)
    await storage.make_room(f"{server.url}/area/f", AREA)
    await storage.delete(f"{server.url}/f", None)
    await copied(storage, server)
    assert (server.encodings, len(server.clients)) == ({"identity"}, 5)


async def copied(storage: Storage, server: Server) -> CopyAnswer:
    async def moved(_: Progress) -> None:
        pass

    return await storage.copy(
        f"{server.url}/f", None, "https://localhost/f", None, overwrite=False, checksum=None, ahead=False, moved=moved
    )


@pytest.mark.parametrize("line", [b"success: Created\n", b"success: Created"])
async def test_an_outcome_is_the_last_word_though_the_answer_does_not_end(
    storage: Storage, server: Server, line: bytes
) -> None:
    def say(answers: _Answers) -> None:
        answers.head(201, Transfer_Encoding="chunked")
        answers.chunk(line)
        answers.watch(1)

    server.say = say
    answer = await copied(storage, server)
    assert (answer.succeeded, answer.text) == (True, "success: Created")
    await asyncio.to_thread(wait_for, "the connection is closed", lambda: server.gone == [1])


async def test_what_comes_without_end_after_an_outcome_is_not_read(storage: Storage, server: Server) -> None:
    def say(answers: _Answers) -> None:
        answers.head(201, Transfer_Encoding="chunked")
        answers.chunk(b"failure: no space\n")
        sent = 0
        with contextlib.suppress(OSError):
            while sent < LONGEST:
                answers.chunk(bytes(1 << 20))
                sent += 1
            answers.chunk(b"")
        answers.watch(sent)

    server.say = say
    answer = await copied(storage, server)
    assert (answer.succeeded, answer.text) == (False, "failure: no space")
    await asyncio.to_thread(wait_for, "the connection is closed", lambda: server.gone)
    assert server.gone[0] < LONGEST


async def test_the_connection_of_an_answer_that_ends_soon_is_kept(storage: Storage, server: Server) -> None:
    def say(answers: _Answers) -> None:
        answers.head(201, Transfer_Encoding="chunked")
        for part in (b"success: Created\n", b"\n", b""):
            answers.chunk(part)

    server.say = say
    assert (await copied(storage, server)).succeeded
    assert (await copied(storage, server)).succeeded
    assert (len(server.clients), len(set(server.clients))) == (2, 1)


def test_a_size_that_is_not_told_differs_unless_the_checksum_is_compared() -> None:
    checksum = Checksum(ALGORITHMS["adler32"], 1)
    assert matches(Found(None, None), size_bytes=7, checksum=checksum) == {"size": "not told, expected 7 bytes"}
    assert matches(Found(None, checksum), size_bytes=7, checksum=None) == {"size": "not told, expected 7 bytes"}
    assert matches(Found(None, checksum), size_bytes=7, checksum=checksum) == {}
    assert matches(Found(None, None), size_bytes=None, checksum=checksum) == {}
    assert set(matches(Found(6, None), size_bytes=7, checksum=checksum)) == {"size"}
    assert str(Found(None, None)) == "size not told, checksum not told"
