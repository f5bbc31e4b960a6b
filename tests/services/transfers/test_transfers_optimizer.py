"""The optimizer on real links: it measures, decides within bounds, backs off on errors, and tells why."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from boathouse.testing.proxy import Fault, Proxy
from boathouse.testing.wait import wait_for

from .box import Box, Service

PER_LINK = 4


@pytest.fixture(scope="module")
def proxy(box: Box) -> Iterator[Proxy]:
    made = box.proxy(box.source)
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def service(box: Box, proxy: Proxy) -> Iterator[Service]:
    limits = {"per_link": PER_LINK, "optimize_s": 0.5, "retry_delay_s": 0.1}
    known = [box.source.host, box.destination.host, proxy.host]
    made = box.service("optimizer", limits=limits, destinations=known).start()
    yield made
    made.stop()


def submit(box: Box, service: Service, place: str, host: str, count: int) -> str:
    files = []
    for number in range(count):
        data = os.urandom(20_000)
        box.put(f"{place}/{number}", data)
        files.append(box.file(f"{place}/{number}", data, sources=[f"davs://{host}{place}/{number}"]))
    return service.submit(*files)


def evolution(service: Service, host: str) -> list[dict[str, Any]]:
    reply = service.request("GET", f"/optimizer/evolution?source_se=davs://{host}")
    assert reply.status == 200, reply.body
    found: list[dict[str, Any]] = reply.body
    return found


def test_a_link_is_measured_and_its_number_of_copies_told(box: Box, service: Service, place: str) -> None:
    job_id = submit(box, service, place, box.source.host, 120)
    assert service.finished(job_id, 120)["job_state"] == "FINISHED"
    decisions = wait_for("a decision", lambda: evolution(service, box.source.host))
    assert all(each["active"] >= 1 for each in decisions)
    assert all(each["rationale"] for each in decisions)
    moved = "SELECT sum(bytes)::bigint, sum(finished)::bigint, sum(failed)::bigint FROM link_samples"
    wait_for("all is measured", lambda: service.rows(moved) == [(120 * 20_000, 120, 0)])

    def last_is_current() -> bool:
        # A decision may come between the two questions.
        decisions = evolution(service, box.source.host)
        reply = service.request("GET", f"/optimizer/current?source_se=davs://{box.source.host}")
        return [each["active"] for each in reply.body] == [decisions[0]["active"]]

    wait_for("the last decision holds", last_is_current)


def test_errors_make_a_link_run_fewer_copies(box: Box, service: Service, proxy: Proxy, place: str) -> None:
    proxy.inject(Fault(status=500))
    submit(box, service, place, proxy.host, 40)
    decisions = wait_for("a decision", lambda: evolution(service, proxy.host))
    first = decisions[-1]
    assert first["active"] == PER_LINK // 2, first
    assert first["success"] == 0, first
    assert "0 % of the attempts succeeded" in first["rationale"]
