"""Copies from and to a plain WebDAV server, which knows passwords and no third-party copy."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from boathouse.plan.service import Programs
from boathouse.testing.scratch import scratch

from .box import Box, Service
from .foreign import Foreign

PASSWORD = "p4ss of: the facility"


class Dav(Foreign):
    """The server, and the directory of its files."""

    files: Path

    def path(self, path: str) -> Path:
        return self.files / path.lstrip("/")

    def put(self, path: str, data: bytes) -> None:
        self.path(path).parent.mkdir(parents=True, exist_ok=True)
        self.path(path).write_bytes(data)


@pytest.fixture(scope="module")
def dav(box: Box, programs: Programs) -> Iterator[Dav]:
    with scratch() as directory:
        files = directory / "files"
        files.mkdir()
        made = Dav(
            programs,
            box.authority,
            "webdav",
            str(files),
            address="127.0.1.16",
            users={"boathouse": PASSWORD},
            directory=directory,
        )
        made.files = files
        made.start()
        (files / "area").mkdir()
        yield made
        made.stop()


@pytest.fixture(scope="module")
def service(box: Box, dav: Dav) -> Iterator[Service]:
    own = {"kind": "webdav", "host": dav.host, "write": True, "user": "boathouse", "subjects": ["rucio"]}
    stores = [
        {"name": "area", "path": "/area", "secret": PASSWORD, **own},
        {"name": "closed", "path": "/closed", "secret": "another password", **own},
    ]
    made = box.service("webdav", stores=stores, limits={"retry_delay_s": 0.1}).start()
    yield made
    made.stop()


def fetched(box: Box, service: Service, place: str, url: str, data: bytes) -> str:
    return service.submit(box.file(f"{place}/f", data, sources=[url]) | {"source_tokens": [None]})


def sent(box: Box, service: Service, place: str, url: str, data: bytes, **params: object) -> str:
    box.put(f"{place}/f", data)
    file = box.file(f"{place}/f", data) | {"destinations": [url], "destination_tokens": [None]}
    return service.submit(file, **params)


def compared(service: Service, job_id: str) -> str:
    steps = service.why(job_id)[0]["attempts"][-1]["steps"]
    return next((str(step["answered"]) for step in steps if step["asked"] == "what was compared"), "")


def reason(service: Service, job_id: str) -> str:
    assert service.finished(job_id)["job_state"] == "FAILED", service.why(job_id)
    return str(service.why(job_id)[0]["reason"])


@pytest.mark.parametrize("size", [0, 1, 3_000_000])
def test_a41_a_storage_element_fetches_from_webdav(box: Box, service: Service, dav: Dav, place: str, size: int) -> None:
    path, data = f"/area{place}/f", os.urandom(size)
    dav.put(path, data)
    job_id = fetched(box, service, place, f"davs://{dav.host}{path}", data)
    assert service.finished(job_id)["job_state"] == "FINISHED", service.why(job_id)
    assert box.destination.holds(f"{place}/f") == data
    readers = {asked["agent"].partition("/")[0] for asked in dav.requests(path) if asked["method"] == "GET"}
    assert readers == {"xrootd-tpc"}


@pytest.mark.parametrize("size", [0, 1, 3_000_000])
def test_a41_a_storage_element_sends_to_webdav(box: Box, service: Service, dav: Dav, place: str, size: int) -> None:
    path, data = f"/area{place}/made/on the way/f", os.urandom(size)
    job_id = sent(box, service, place, f"https://{dav.host}{path.replace(' ', '%20')}", data)
    assert service.finished(job_id)["job_state"] == "FINISHED", service.why(job_id)
    assert dav.path(path).read_bytes() == data
    assert compared(service, job_id) == "checked by size only: the store tells no adler32"
    writers = {asked["agent"].partition("/")[0] for asked in dav.requests(path) if asked["method"] == "PUT"}
    assert writers == {"xrootd-tpc"}


def test_a41_what_lies_on_webdav_is_replaced_only_if_it_may_be(
    box: Box, service: Service, dav: Dav, place: str
) -> None:
    path, data = f"/area{place}/f", os.urandom(5000)
    dav.put(path, b"other")
    url = f"davs://{dav.host}{path}"
    assert "Destination file exists" in reason(service, sent(box, service, place, url, data, overwrite=False))
    assert dav.path(path).read_bytes() == b"other"
    assert service.finished(sent(box, service, place, url, data))["job_state"] == "FINISHED"
    assert dav.path(path).read_bytes() == data


def test_a41_faults_of_webdav_are_told_of_the_right_side(box: Box, service: Service, dav: Dav, place: str) -> None:
    missing = fetched(box, service, place, f"davs://{dav.host}/area{place}/none", b"x")
    assert reason(service, missing).startswith("SOURCE [source]")
    closed = fetched(box, service, place, f"davs://{dav.host}/closed{place}/f", b"x")
    assert reason(service, closed).startswith("SOURCE [auth]")
    closed = sent(box, service, place, f"davs://{dav.host}/closed{place}/f", b"x")
    assert reason(service, closed).startswith("DESTINATION [auth]")
    dav.put(f"/area{place}/file", b"in the way")
    blocked = sent(box, service, place, f"davs://{dav.host}/area{place}/file/below/f", b"x", retry=-1)
    assert reason(service, blocked).startswith("DESTINATION [destination]")


def test_a41_a_password_of_webdav_is_never_told(box: Box, service: Service, dav: Dav, place: str) -> None:
    job_id = sent(box, service, place, f"davs://{dav.host}/area{place}/f", b"x")
    assert service.finished(job_id)["job_state"] == "FINISHED"
    tables = ("jobs", "files", "attempts", "tokens")
    stored = "\n".join(str(row) for table in tables for row in service.rows(f"SELECT {table}::text FROM {table}"))
    logs = f"{service.log}\n{box.log(box.source.unit)}\n{box.log(box.destination.unit)}"
    told = f"{stored}\n{service.why(job_id)}\n{service.request('GET', '/metrics').body}\n{logs}"
    assert job_id in told
    for secret in (PASSWORD, base64.b64encode(f"boathouse:{PASSWORD}".encode()).decode()):
        assert secret not in told
