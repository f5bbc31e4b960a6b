"""Copies that the source sends, to a destination that does not fetch."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from boathouse.testing.proxy import Fault, Proxy, Seen

from .box import Box, Service

NO_COPY = Fault({"COPY"}, status=405)


@pytest.fixture(scope="module")
def sink(box: Box) -> Iterator[Proxy]:
    """A destination that knows no third-party copy, like a plain WebDAV server."""
    made = box.proxy(box.destination)
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def service(box: Box, sink: Proxy) -> Iterator[Service]:
    known = [box.source.host, sink.host]
    made = box.service("push", destinations=known, limits={"retry_delay_s": 0.1, "answer_s": 60.0}).start()
    yield made
    made.stop()


@pytest.fixture(autouse=True)
def _fresh(sink: Proxy) -> None:
    sink.inject(NO_COPY)
    sink.seen = Seen()


def submit(box: Box, service: Service, sink: Proxy, path: str, data: bytes, *sources: str, **params: object) -> str:
    file = box.file(path, data, sources=list(sources) or [box.source.davs + path])
    return service.submit(file | {"destinations": [sink.davs + path]}, **params)


def test_a31_the_source_sends_what_the_destination_does_not_fetch(
    box: Box, service: Service, sink: Proxy, place: str
) -> None:
    for number, size in enumerate((0, 1, 3_000_000)):
        path, data = f"{place}/{number}", os.urandom(size)
        box.put(path, data)
        job_id = submit(box, service, sink, path, data)
        assert service.finished(job_id)["job_state"] == "FINISHED", service.why(job_id)
        assert box.destination.holds(path) == data
        assert len(service.why(job_id)[0]["attempts"]) == 1
    writers = {agent for method, agent in sink.seen.agents if method in ("GET", "PUT")}
    assert writers == {"xrootd-tpc"}, sink.seen.agents


def test_a31_pushes_replace_only_what_may_be_replaced(box: Box, service: Service, sink: Proxy, place: str) -> None:
    path, data, other = f"{place}/f", os.urandom(5000), os.urandom(4000)
    box.put(path, data)
    box.put(path, other, box.destination)
    job_id = submit(box, service, sink, path, data, overwrite=False)
    assert service.finished(job_id)["job_state"] == "FAILED"
    assert "Destination file exists" in service.why(job_id)[0]["reason"]
    assert box.destination.holds(path) == other
    wrong = service.submit(box.file(path, data, checksum="ADLER32:00000001") | {"destinations": [sink.davs + path]})
    assert service.finished(wrong)["job_state"] == "FAILED"
    assert service.why(wrong)[0]["reason"].startswith("SOURCE [checksum]"), service.why(wrong)
    assert box.destination.holds(path) == other, "nothing is given away for bytes that are not wanted"
    os.utime(box.destination.path(path), (10**9, 10**9))
    assert service.finished(submit(box, service, sink, path, data))["job_state"] == "FINISHED"
    assert box.destination.holds(path) == data
    right = submit(box, service, sink, path, data)
    assert service.finished(right)["job_state"] == "FINISHED"
    assert service.why(right)[0]["attempts"][0]["outcome"] == "EXISTED"


def test_a31_faults_of_a_push_are_told_of_the_right_side(box: Box, service: Service, sink: Proxy, place: str) -> None:
    job_id = submit(box, service, sink, f"{place}/missing", b"x")
    assert service.finished(job_id)["job_state"] == "FAILED"
    assert service.why(job_id)[0]["reason"].startswith("SOURCE [source]"), service.why(job_id)
    path, data = f"{place}/f", os.urandom(5000)
    box.put(path, data)
    sink.inject(NO_COPY, Fault({"PUT"}, 1, 500))
    again = submit(box, service, sink, path, data)
    assert service.finished(again)["job_state"] == "FINISHED", service.why(again)
    first = service.why(again)[0]["attempts"][0]
    assert first["reason"].startswith("DESTINATION [destination]"), first
    assert box.destination.holds(path) == data


def test_a_source_that_the_facility_does_not_know_gets_no_token_of_the_destination(
    box: Box, service: Service, sink: Proxy, place: str
) -> None:
    stranger = box.proxy(box.source)
    stranger.start()
    path, data = f"{place}/f", os.urandom(5000)
    box.put(path, data)
    job_id = submit(box, service, sink, path, data, stranger.davs + path)
    assert service.finished(job_id)["job_state"] == "FAILED"
    assert "the source may not be asked to send" in service.why(job_id)[0]["reason"]
    assert "COPY" not in stranger.seen.requests
    assert len(service.why(job_id)[0]["attempts"]) == 1
    stranger.stop()
