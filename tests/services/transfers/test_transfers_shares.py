"""Who gets the slots of a busy link, and that bans and stored limits are obeyed by claims, over all workers."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from boathouse.apps.transfers.queue import CLAIM_LOCK
from boathouse.testing.wait import wait_for

from .box import Box, Service
from .equipment import TRANSFERS, Gated

SLOTS = 4


class Busy:
    """A link whose copies do not end before they are told to."""

    def __init__(self, box: Box, gated: Gated, service: Service, place: str) -> None:
        self._box, self._gated, self.service, self._place = box, gated, service, place
        self._number = 0

    def submit(self, count: int, *, vo: str = "escape", activity: str = "default", **params: object) -> str:
        files = []
        for _ in range(count):
            self._number += 1
            path, data = f"{self._place}/{self._number}", os.urandom(1000)
            self._gated.put(path, data)
            sources = [self._gated.davs + path]
            files.append(self._box.file(path, data, sources=sources, activity=activity))
        token = self._box.issuer.token(TRANSFERS, "fts", subject=vo, **{"wlcg.groups": [f"/{vo}"]})
        return self.service.submit(*files, token=token, **params)

    def active(self, column: str) -> Counter[str]:
        rows = self.service.rows(
            f"SELECT {column}, count(*) FROM files JOIN jobs USING (job_id) WHERE file_state = 'ACTIVE' GROUP BY 1"
        )
        return Counter({str(value): count for value, count in rows})

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Have nothing claimed meanwhile: the lock of claims is taken."""
        url = self.service.database_url.replace("postgresql+psycopg", "postgresql")
        with psycopg.connect(url) as connection:
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (CLAIM_LOCK,))
            yield
            connection.rollback()

    def let_go(self) -> None:
        for number in range(self._number):
            self._gated.go_on[f"{self._place}/{number + 1}"].set()
        left = "SELECT 1 FROM files WHERE file_state IN ('SUBMITTED', 'ACTIVE') OR busy"
        wait_for("all have ended", lambda: not self.service.rows(left), timeout_s=120)


@pytest.fixture(scope="module")
def service(box: Box) -> Iterator[Service]:
    made = box.service("shares", limits={"per_link": SLOTS}, operators=["operator"]).start()
    yield made
    made.stop()


@pytest.fixture
def busy(box: Box, gated: Gated, service: Service, place: str) -> Iterator[Busy]:
    made = Busy(box, gated, service, place)
    yield made
    made.let_go()


def operate(box: Box, service: Service, method: str, path: str, body: object = None) -> Any:
    token = box.issuer.token(TRANSFERS, "fts", subject="operator")
    reply = service.request(method, path, body, token=token)
    assert reply.status in (200, 204), reply.body
    return reply.body


def test_vos_share_a_link_by_their_weights(box: Box, busy: Busy) -> None:
    for vo, share in (("cms", 3), ("atlas", 1)):
        wanted = {"source": "*", "destination": "*", "vo": vo, "share": share}
        operate(box, busy.service, "POST", "/config/shares", wanted)
    busy.submit(6, vo="escape")
    wait_for("all slots are taken", lambda: busy.active("vo")["escape"] == SLOTS)
    busy.submit(6, vo="atlas")
    busy.submit(6, vo="cms")
    for number in range(SLOTS):
        busy._gated.go_on[f"{busy._place}/{number + 1}"].set()
    wait_for("those with shares have them", lambda: busy.active("vo") == {"cms": 3, "atlas": 1})


def test_activities_share_what_a_vo_has(box: Box, busy: Busy) -> None:
    share = {"Express": 3, "default": 1}
    operate(box, busy.service, "POST", "/config/activity_shares", {"vo": "escape", "share": share, "active": True})
    with busy.held():
        busy.submit(6, activity="Users")
        busy.submit(6, activity="Express")
    wait_for("slots are shared", lambda: busy.active("activity") == {"Express": 3, "Users": 1})


def test_what_is_banned_waits_and_goes_on(box: Box, busy: Busy) -> None:
    ban = {"storage": box.destination.davs, "status": "WAIT", "allow_submit": True, "vo_name": "*"}
    operate(box, busy.service, "POST", "/ban/se", ban)
    job_id = busy.submit(2, vo="escape")
    other = busy.service.submit(
        box.file("/lake/cms/elsewhere", b"x") | {"destinations": ["davs://127.0.1.19:1/lake/f"]}
    )
    wait_for("the queue was looked at", lambda: busy.service.why(other)[0]["attempts"])
    assert busy.service.rows("SELECT DISTINCT file_state FROM files WHERE job_id = %s", job_id) == [("SUBMITTED",)]
    busy.service.request("DELETE", f"/jobs/{other}")
    operate(box, busy.service, "DELETE", f"/ban/se?storage={box.destination.davs}&vo_name=*")
    wait_for("it goes on", lambda: busy.active("vo")["escape"] == 2)


def test_a_limit_of_a_storage_element_holds(box: Box, busy: Busy) -> None:
    se = box.destination.davs
    operate(box, busy.service, "POST", "/config/se", {se: {"se_info": {"inbound_max_active": 2}}})
    busy.submit(6)
    wait_for("copies run", lambda: busy.active("vo").total() == 2)
    operate(box, busy.service, "DELETE", f"/config/se?se={se}")
    wait_for("more run when it is gone", lambda: busy.active("vo").total() == SLOTS)


def test_priority_goes_before_age(box: Box, busy: Busy) -> None:
    with busy.held():
        busy.submit(6, priority=1)
        urgent = busy.submit(SLOTS, priority=5)
    wait_for("the urgent ones run", lambda: busy.active("job_id") == {urgent: SLOTS})
