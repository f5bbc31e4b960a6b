"""Tokens of the real issuer that end while their files wait: they are exchanged in time."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from boathouse.testing.wait import wait_for

from .box import Box, RealIssuer, Service
from .equipment import DESTINATION, SOURCE, TRANSFERS


@pytest.fixture(scope="module")
def service(box: Box) -> Iterator[Service]:
    made = box.service(
        "renewal",
        issuer=box.real_issuer.url,
        client_id="transfers",
        client_secret="transfers'",
        limits={"token_margin_s": 3.0, "renew_s": 8.0, "pause_s": 1.0},
    ).start()
    yield made
    made.process.stop()


def file(box: Box, path: str, data: bytes) -> dict[str, object]:
    return box.file(
        path,
        data,
        source_tokens=[box.real_issuer.token(SOURCE, "storage.read:/lake")],
        destination_token=box.real_issuer.token(DESTINATION, "storage.read:/lake storage.modify:/lake"),
    )


def renew_own_token(box: Box, service: Service) -> bool:
    service.token = box.real_issuer.token(TRANSFERS, "fts")
    return True


def test_a_file_that_outlives_its_tokens_in_the_queue_is_copied(box: Box, service: Service, place: str) -> None:
    data = os.urandom(5000)
    box.put(f"{place}/f", data)
    renew_own_token(box, service)
    box.destination.process.stop()
    submitted = time.time()
    try:
        job_id = service.submit(file(box, f"{place}/f", data))
        wait_for("the tokens that came with it have ended", lambda: time.time() > submitted + RealIssuer.LIFETIME_S + 1)
    finally:
        box.destination.process.start()
        box.wait_storage(box.destination)
    renew_own_token(box, service)
    assert service.finished(job_id)["job_state"] == "FINISHED", service.why(job_id)
    assert box.destination.holds(f"{place}/f") == data
    log = service.process.log.read_text()
    assert f"host={DESTINATION}:{box.destination.port} exchanged" in log
    assert f"host={SOURCE}:{box.source.port} exchanged" in log


def test_tokens_that_ended_before_they_came_fail_with_the_issuers_words(box: Box, service: Service, place: str) -> None:
    data = os.urandom(5000)
    box.put(f"{place}/f", data)
    renew_own_token(box, service)
    sent = file(box, f"{place}/f", data)
    submitted = time.time()
    wait_for("the tokens have ended", lambda: time.time() > submitted + RealIssuer.LIFETIME_S)
    renew_own_token(box, service)
    job = service.finished(service.submit(sent))
    assert job["job_state"] == "FAILED"
    assert "DESTINATION [auth] the token for 127.0.1.12" in job["files"][0]["reason"]
    assert "invalid_grant" in job["files"][0]["reason"]
