"""What the lake client makes of the transfer service: a copy for a person, or a reason with nothing left behind."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from boathouse.checksums import Adler32
from boathouse.errors import ChecksumError, TransferError
from boathouse.lake.copies import Copies
from boathouse.lake.http import Http
from boathouse.testing.wait import wait_for

from .box import Box, Service
from .equipment import DESTINATION, TRANSFERS, Gated


@dataclass
class Client:
    """The lake client with one person's token."""

    copies: Copies
    box: Box
    gated: Gated
    stop: threading.Event = field(default_factory=threading.Event)
    moved: list[int] = field(default_factory=list)

    def fetch(self, path: str, data: bytes, *, adler32: str | None = None, destination: str = "") -> None:
        self.copies.fetch(
            self.gated.url + path,
            destination or self.box.destination.davs.replace("davs", "https") + path,
            size_bytes=len(data),
            adler32=adler32,
            overwrite=False,
            moved=self.moved.append,
            stop=self.stop,
        )


@pytest.fixture
def client(box: Box, shared: Service, gated: Gated) -> Client:
    token = box.issuer.token([TRANSFERS, DESTINATION], "fts storage.read:/lake storage.modify:/lake", subject="alice")
    http = Http(str(box.context.layout.ca), failure=TransferError)
    return Client(Copies(http, shared.url, lambda: token), box, gated)


@pytest.fixture
def open_jobs(shared: Service) -> Callable[[], list[object]]:
    return lambda: shared.rows("SELECT 1 FROM jobs WHERE owner = 'alice' AND job_finished IS NULL")


@pytest.mark.parametrize("known", [True, False])
def test_a_file_is_fetched_with_and_without_a_known_checksum(client: Client, place: str, *, known: bool) -> None:
    data = os.urandom(50_000)
    client.gated.put(f"{place}/f", data).set()
    client.fetch(f"{place}/f", data, adler32=Adler32(data).hexdigest() if known else None)
    assert client.box.destination.holds(f"{place}/f") == data
    assert client.moved[-1] == len(data)


def test_other_bytes_than_announced_are_an_error_and_leave_nothing(client: Client, place: str) -> None:
    data = os.urandom(50_000)
    client.gated.put(f"{place}/f", data).set()
    with pytest.raises(ChecksumError):
        client.fetch(f"{place}/f", data, adler32="00000001")
    assert client.box.destination.holds(f"{place}/f") is None


def test_a_source_that_is_not_there_leaves_the_way_free_for_this_machine(client: Client, place: str) -> None:
    with pytest.raises(TransferError, match="third-party copy failed") as caught:
        client.fetch(f"{place}/missing", b"x")
    assert "404" in str(caught.value.got)
    assert client.box.destination.holds(f"{place}/missing") is None


def test_stopping_ends_the_job(client: Client, place: str, open_jobs: Callable[[], list[object]]) -> None:
    data = os.urandom(4_000_000)
    go_on = client.gated.put(f"{place}/f", data)
    errors: list[BaseException] = []

    def fetch() -> None:
        try:
            client.fetch(f"{place}/f", data)
        except TransferError as error:
            errors.append(error)

    thread = threading.Thread(target=fetch)
    thread.start()
    try:
        wait_for("the copy runs", lambda: client.gated.asked[f"{place}/f"])
        client.stop.set()
        thread.join(120)
        assert not thread.is_alive()
        # While the source holds back: a server that has all bytes before it sees that nobody listens keeps them.
        wait_for("nothing is left", lambda: client.box.destination.holds(f"{place}/f") is None)
    finally:
        go_on.set()
        thread.join()
    assert [error.what for error in errors if isinstance(error, TransferError)] == ["stopped"]
    assert open_jobs() == []


def test_a_refusal_leaves_no_job(client: Client, place: str, open_jobs: Callable[[], list[object]]) -> None:
    with pytest.raises(TransferError, match="refused"):
        client.fetch(f"{place}/f", b"x", destination="https://elsewhere.example/f")
    assert open_jobs() == []


def test_a_repeated_submission_is_the_same_job(client: Client, shared: Service, place: str) -> None:
    """An answer that got lost: the client asks again with the same seed."""
    sid = "seed-of-" + place
    token = client.copies._token()
    body = {
        "files": [client.box.file(f"{place}/f", b"f", destination_token=token)],
        "params": {"id_generator": "deterministic", "sid": sid},
    }
    client.box.put(f"{place}/f", b"f")
    first = shared.request("POST", "/jobs", body, token=token)
    assert first.body["job_id"] == client.copies._job_id(sid)
    assert shared.request("POST", "/jobs", body, token=token).status == 409
