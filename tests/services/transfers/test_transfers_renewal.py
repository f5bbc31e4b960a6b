"""Tokens of the real issuer that end while their files wait, or are not for the copy door: they are exchanged."""

from __future__ import annotations

import base64
import os
import re
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import insert

from boathouse.apps.transfers import database
from boathouse.apps.transfers.queue import Queue
from boathouse.apps.transfers.seal import Seal
from boathouse.apps.transfers.settings import Limits
from boathouse.apps.transfers.tables import jobs, tokens
from boathouse.testing.wait import wait_for

from .box import LIFETIME_S, Box, Service
from .equipment import DESTINATION, SOURCE, TRANSFERS, Gated

DOOR = "127.0.1.19:1094"
"""Where people reach the element whose copy door is the destination."""


BATCH = 200
"""How many tokens are looked at in one round."""


class Renewed(Service):
    """A service that believes the real issuer, whose tokens live for seconds: each request has a new one."""

    @property
    def token(self) -> str:
        return self._box.real_issuer.token(TRANSFERS, "fts")

    @token.setter
    def token(self, _: str) -> None:
        """None is kept."""


@pytest.fixture(scope="module")
def service(box: Box) -> Iterator[Service]:
    made = Renewed(
        box,
        "renewal",
        issuer=box.real_issuer.url,
        doors={DOOR: box.destination.host, box.source.host: box.source.host},
        limits={"token_margin_s": 3.0, "renew_s": LIFETIME_S - 5.0, "pause_s": 1.0, "clean_again_s": 1.0},
    ).start()
    yield made
    made.stop()


def file(box: Box, path: str, data: bytes) -> dict[str, object]:
    return box.file(
        path,
        data,
        source_tokens=[box.real_issuer.token(SOURCE, "storage.read:/lake")],
        destination_token=box.real_issuer.token(DESTINATION, "storage.read:/lake storage.modify:/lake"),
    )


def copied_at_the_element(box: Box, service: Service, place: str, token: str, data: bytes) -> dict[str, Any]:
    """The ended job of a file that was copied to the door for people with this token."""
    box.put(f"{place}/f", data)
    sent = file(box, f"{place}/f", data)
    return service.finished(
        service.submit({**sent, "destinations": [f"davs://{DOOR}{place}/f"], "destination_tokens": [token]})
    )


def test_a_file_that_outlives_its_tokens_in_the_queue_is_copied(
    box: Box, service: Service, gated: Gated, place: str
) -> None:
    """And what a canceled copy left is removed after that time, when its storage is back."""
    data = os.urandom(5000)
    box.put(f"{place}/f", data)
    gated.put(f"{place}/half", data)
    half = service.submit(file(box, f"{place}/half", data) | {"sources": [f"{gated.davs}{place}/half"]})
    wait_for("it is being copied", lambda: gated.asked[f"{place}/half"])
    box.destination.stop()
    service.request("DELETE", f"/jobs/{half}")
    submitted = time.time()
    try:
        job_id = service.submit(file(box, f"{place}/f", data))
        wait_for("the tokens that came with it have ended", lambda: time.time() > submitted + LIFETIME_S + 1)
    finally:
        box.destination.start()
    assert service.finished(job_id)["job_state"] == "FINISHED", service.why(job_id)
    assert box.destination.holds(f"{place}/f") == data
    wait_for("the half file is removed", lambda: not service.rows("SELECT 1 FROM files WHERE busy"))
    assert box.destination.holds(f"{place}/half") is None
    assert service.rows("SELECT 1 FROM tokens WHERE job_id = %s", half) == []
    log = service.log
    assert f"host={DESTINATION}:{box.destination.port} exchanged" in log
    assert f"host={SOURCE}:{box.source.port} exchanged" in log


def test_tokens_that_ended_before_they_came_fail_with_the_issuers_words(box: Box, service: Service, place: str) -> None:
    data = os.urandom(5000)
    box.put(f"{place}/f", data)
    sent = file(box, f"{place}/f", data)
    submitted = time.time()
    wait_for("the tokens have ended", lambda: time.time() > submitted + LIFETIME_S)
    job = service.finished(service.submit(sent))
    assert job["job_state"] == "FAILED"
    assert f"DESTINATION [auth] the token for {DESTINATION}" in job["files"][0]["reason"]
    assert "invalid_grant" in job["files"][0]["reason"]


def test_a_persons_token_is_exchanged_for_the_copy_door(box: Box, service: Service, place: str) -> None:
    data = os.urandom(5000)
    persons = box.real_issuer.token("127.0.1.19", "storage.read:/lake storage.modify:/lake")
    job = copied_at_the_element(box, service, place, persons, data)
    assert job["job_state"] == "FINISHED", service.why(job["job_id"])
    assert job["files"][0]["dest_surl"] == f"davs://{DOOR}{place}/f"
    assert box.destination.holds(f"{place}/f") == data


def test_the_exchanged_token_may_no_more_than_the_persons(box: Box, service: Service, place: str) -> None:
    data = os.urandom(5000)
    persons = box.real_issuer.token("127.0.1.19", "storage.read:/lake storage.modify:/lake/elsewhere")
    job = copied_at_the_element(box, service, place, persons, data)
    assert job["job_state"] == "FAILED"
    assert "[auth]" in job["files"][0]["reason"]
    assert box.destination.holds(f"{place}/f") is None


def test_a_token_that_cannot_be_exchanged_never_reaches_the_door(box: Box, service: Service, place: str) -> None:
    data = os.urandom(5000)
    foreign = box.issuer.token("127.0.1.19", "storage.read:/lake storage.modify:/lake")
    job = copied_at_the_element(box, service, place, foreign, data)
    assert job["job_state"] == "FAILED"
    assert "it is of another issuer" in job["files"][0]["reason"]
    (file,) = service.why(job["job_id"])
    assert file["attempts"][0]["steps"] == []


def test_a_token_of_somebody_else_is_not_exchanged(box: Box, service: Service, place: str) -> None:
    """Whoever finds a narrow token of another person must not turn it into one for a door, or a longer one."""
    data = os.urandom(5000)
    operators = box.real_issuer.token("127.0.1.19", "storage.read:/lake storage.modify:/lake", client="operator")
    job = copied_at_the_element(box, service, place, operators, data)
    assert job["job_state"] == "FAILED"
    assert "it is of somebody else than the job" in job["files"][0]["reason"]


def test_a_token_for_another_element_is_not_exchanged(box: Box, service: Service, place: str) -> None:
    data = os.urandom(5000)
    elsewhere = box.real_issuer.token("rucio", "storage.read:/lake storage.modify:/lake")
    job = copied_at_the_element(box, service, place, elsewhere, data)
    assert job["job_state"] == "FAILED"
    assert "the token is not for 127.0.1.19" in job["files"][0]["reason"]


def test_the_token_of_a_source_is_never_exchanged_for_a_door(box: Box, service: Service, place: str) -> None:
    """The destination sees it; here the source is the copy door itself."""
    data = os.urandom(5000)
    box.put(f"{place}/f", data, box.destination)
    persons = box.real_issuer.token("127.0.1.19", "storage.read:/lake storage.modify:/lake")
    sent = file(box, f"{place}/f", data) | {
        "sources": [f"{box.destination.davs}{place}/f"],
        "source_tokens": [persons],
        "destinations": [f"{box.source.davs}{place}/f"],
        "destination_tokens": [box.real_issuer.token(SOURCE, "storage.read:/lake storage.modify:/lake")],
    }
    job = service.finished(service.submit(sent))
    assert job["job_state"] == "FAILED"
    assert "SOURCE [auth]" in job["files"][0]["reason"]
    assert f"host={box.destination.host} exchanged" not in "".join(
        line for line in service.log.splitlines() if job["job_id"] in line
    )


def test_nothing_is_copied_to_a_host_that_the_facility_does_not_know(box: Box, service: Service, place: str) -> None:
    stolen = file(box, f"{place}/f", b"x") | {"destinations": ["https://evil.example/f"]}
    reply = service.request("POST", "/jobs", {"files": [stolen]})
    assert (reply.status, reply.body["message"].partition(";")[0]) == (
        400,
        "the destination is no storage element of this facility",
    )


def test_a_token_that_is_revoked_at_the_issuer_is_refused_at_once(box: Box, service: Service) -> None:
    token, other = (box.real_issuer.token(TRANSFERS, "fts") for _ in range(2))
    assert service.request("GET", "/whoami", token=token).status == 200
    box.real_issuer.revoke(token)
    refused = wait_for(
        "the service has heard of it",
        lambda: reply if (reply := service.request("GET", "/whoami", token=token)).status == 401 else None,
        timeout_s=LIFETIME_S - 2,
        period_s=0.01,
    )
    assert "it was revoked" in refused.body["message"]
    assert service.request("GET", "/whoami", token=other).status == 200


@pytest.mark.parametrize("side", ["SOURCE", "DESTINATION"])
def test_no_copy_begins_with_a_token_that_was_revoked_at_the_issuer(
    box: Box, service: Service, place: str, side: str
) -> None:
    """Storage checks tokens alone and would take it; the service knows of it."""
    data = os.urandom(5000)
    box.put(f"{place}/f", data)
    tokens = {
        "SOURCE": box.real_issuer.token(SOURCE, "storage.read:/lake"),
        "DESTINATION": box.real_issuer.token(DESTINATION, "storage.read:/lake storage.modify:/lake"),
    }
    sent = box.file(f"{place}/f", data, source_tokens=[tokens["SOURCE"]], destination_token=tokens["DESTINATION"])
    box.real_issuer.revoke(tokens[side])
    heard = box.real_issuer.token(TRANSFERS, "fts")
    box.real_issuer.revoke(heard)
    wait_for("the service has heard of it", lambda: service.request("GET", "/whoami", token=heard).status == 401)
    job = service.finished(service.submit(sent))
    assert job["job_state"] == "FAILED"
    assert re.fullmatch(rf"{side} \[auth\] the token for .* counts no more: it was revoked", job["files"][0]["reason"])
    assert service.why(job["job_id"])[0]["verdict"]["layer"] == "token"
    assert box.destination.holds(f"{place}/f") is None


def test_no_copy_begins_again_when_what_its_token_was_exchanged_for_was_revoked(
    box: Box, service: Service, gated: Gated, place: str
) -> None:
    """The door's token has a name of its own, of which nobody but the service knows."""
    data = os.urandom(5000)
    # As long as the right bytes, and wrong: that is tried again.
    go_on = gated.put(f"{place}/f", data[::-1])
    persons = box.real_issuer.token("127.0.1.19", "storage.read:/lake storage.modify:/lake")
    ends = {"sources": [f"{gated.davs}{place}/f"], "destinations": [f"davs://{DOOR}{place}/f"]}
    job_id = service.submit({**file(box, f"{place}/f", data), **ends, "destination_tokens": [persons]})
    wait_for("it is being copied", lambda: gated.asked[f"{place}/f"])
    heard = box.real_issuer.token(TRANSFERS, "fts")
    for revoked in (persons, heard):
        box.real_issuer.revoke(revoked)
    wait_for("the service has heard of it", lambda: service.request("GET", "/whoami", token=heard).status == 401)
    go_on.set()
    job = service.finished(job_id)
    assert job["job_state"] == "FAILED"
    assert re.fullmatch(
        r"DESTINATION \[auth\] the token for .* counts no more: it was revoked", job["files"][0]["reason"]
    )
    assert gated.asked[f"{place}/f"] == 1


@pytest.fixture(scope="module")
def stored(box: Box) -> Iterator[Queue]:
    """The tokens of a job: more than are looked at in one round, each for a host of its own, and one that lives on."""
    engine = database.connect(box.database("stored"))
    database.migrate(engine)
    seal = Seal(base64.urlsafe_b64encode(bytes(32)).decode())
    job_id = str(uuid.uuid4())
    job = {"job_id": job_id, "owner": "alice", "client_id": "cli", "vo_name": "vo", "job_state": "SUBMITTED"}
    more = {"job_type": "N", "priority": 3, "overwrite_flag": False, "verify_checksum": True, "params": {}}
    lives_s = {f"h{number}": 300 + number for number in reversed(range(BATCH + 2))} | {"late": 3600}
    with engine.begin() as connection:
        connection.execute(insert(jobs).values(**job, **more, source_se="", dest_se="", elements=1))
        for host, left_s in lives_s.items():
            ends, sealed = datetime.now(UTC) + timedelta(seconds=left_s), seal.close(f"for {host}", job_id, host)
            connection.execute(insert(tokens).values(job_id=job_id, host=host, expires_at=ends, sealed=sealed))
    yield Queue(engine, seal, Limits())
    engine.dispose()


def test_those_that_end_first_are_exchanged_first(stored: Queue) -> None:
    found = stored.ending(datetime.now(UTC) + timedelta(seconds=600))
    assert [token.host for token in found] == [f"h{number}" for number in range(BATCH)]
    third = found[2].expires_at
    assert third is not None
    assert [token.host for token in stored.ending(third)] == ["h0", "h1"]


def test_those_that_cannot_be_exchanged_take_nobodys_place(stored: Queue) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=600)
    but = [token.token_id for token in stored.ending(soon)]
    assert [token.host for token in stored.ending(soon, but=but)] == [f"h{BATCH}", f"h{BATCH + 1}"]
    known = {"h7", f"h{BATCH + 1}"}
    assert [token.host for token in stored.ending(soon, hosts=known)] == ["h7", f"h{BATCH + 1}"]
    assert [token.host for token in stored.ending(soon, hosts=known, but=but)] == [f"h{BATCH + 1}"]
    assert stored.ending(soon, hosts=()) == []


def test_what_a_token_was_exchanged_for_is_kept_with_where_it_came_from(stored: Queue) -> None:
    (token,) = stored.ending(datetime.now(UTC) + timedelta(hours=2), hosts={"late"})
    assert (token.value, token.origin, token.denied) == ("for late", "", "")
    exchanged = stored.renewed(replace(token, origin="said."), "successor")
    assert (exchanged.value, exchanged.origin) == ("successor", "said.")
    assert stored.current(token) == exchanged
    denied = stored.renewed(replace(exchanged, denied="it was revoked"), exchanged.value)
    assert stored.current(token) == denied == replace(exchanged, denied="it was revoked")
