"""Files that go from one element to another by way of a third (FTS3's jobs of type H), and copies by many links."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from boathouse.testing.proxy import Fault, Then
from boathouse.testing.wait import wait_for

from .box import Box, Service, Storage
from .equipment import SOURCE

ALL = "storage.read:/lake storage.modify:/lake"


@pytest.fixture(scope="module")
def service(box: Box) -> Iterator[Service]:
    hosts = [each.host for each in (box.source, box.destination)]
    made = box.service("hops", destinations=hosts, limits={"retry_delay_s": 0.1}).start()
    yield made
    made.stop()


def hop(box: Box, path: str, data: bytes, source: Storage, destination: Storage, *, to: str = "") -> dict[str, object]:
    """One hop; ``to`` names another path at its end."""
    return box.file(
        path,
        data,
        sources=[source.davs + path],
        source_tokens=[box.issuer.token(source.address, ALL)],
        destination_token=box.issuer.token(destination.address, ALL),
        destinations=[destination.davs + (to or path)],
    )


def way(box: Box, path: str, data: bytes) -> list[dict[str, object]]:
    """From the source to the destination, and from there back under another name."""
    return [
        hop(box, path, data, box.source, box.destination),
        hop(box, path, data, box.destination, box.source, to=f"{path}.back"),
    ]


@pytest.mark.parametrize("remove", [True, False])
def test_a32_a_file_goes_over_two_hops_and_what_lay_between_is_removed(
    box: Box, service: Service, place: str, *, remove: bool
) -> None:
    path, data = f"{place}/f", os.urandom(200_000)
    box.put(path, data)
    job_id = service.submit(*way(box, path, data), multihop=True, remove_intermediate=remove)
    job = service.finished(job_id)
    assert (job["job_state"], job["job_type"]) == ("FINISHED", "H"), service.why(job_id)
    assert [file["file_state"] for file in job["files"]] == ["FINISHED", "FINISHED"]
    first, second = (file["attempts"][-1] for file in service.why(job_id))
    assert first["ended"] <= second["started"]
    assert box.source.holds(f"{path}.back") == data
    if remove:
        wait_for("what lay between is removed", lambda: box.destination.holds(path) is None)
    wait_for("nothing is held", lambda: not service.rows("SELECT 1 FROM files WHERE busy OR transient"))
    assert box.destination.holds(path) == (None if remove else data)
    assert service.rows("SELECT 1 FROM tokens") == []


def test_a32_a_file_that_lay_between_before_stays(box: Box, service: Service, place: str) -> None:
    path, data = f"{place}/f", os.urandom(20_000)
    for storage in (box.source, box.destination):
        box.put(path, data, storage)
    job_id = service.submit(*way(box, path, data), multihop=True, remove_intermediate=True)
    assert service.finished(job_id)["job_state"] == "FINISHED"
    wait_for("nothing is held", lambda: not service.rows("SELECT 1 FROM files WHERE busy OR transient"))
    assert box.destination.holds(path) == data


def test_a32_nothing_is_copied_after_a_hop_that_failed(box: Box, service: Service, place: str) -> None:
    path = f"{place}/missing"
    job = service.finished(service.submit(*way(box, path, b"x"), multihop=True, remove_intermediate=True))
    assert job["job_state"] == "FAILED"
    assert [file["file_state"] for file in job["files"]] == ["FAILED", "NOT_USED"]
    assert box.source.holds(f"{path}.back") is None


def test_a32_what_lay_between_is_removed_when_the_last_hop_failed(box: Box, service: Service, place: str) -> None:
    path, data = f"{place}/f", os.urandom(20_000)
    box.put(path, data)
    first, second = way(box, path, data)
    second["destination_tokens"] = [box.issuer.token(SOURCE, "storage.read:/lake storage.modify:/lake/elsewhere")]
    job_id = service.submit(first, second, multihop=True, remove_intermediate=True)
    job = service.finished(job_id)
    assert job["job_state"] == "FAILED"
    assert [file["file_state"] for file in job["files"]] == ["FINISHED", "FAILED"]
    wait_for("what lay between is removed", lambda: box.destination.holds(path) is None)


def test_hops_that_do_not_meet_are_refused(box: Box, service: Service, place: str) -> None:
    first, second = way(box, f"{place}/f", b"x")
    reply = service.request(
        "POST",
        "/jobs",
        {"files": [second, first | {"sources": [f"{box.source.davs}/lake/x"]}], "params": {"multihop": True}},
    )
    assert reply.status == 400
    assert "does not begin where the hop before it ends" in reply.body["message"]


def test_a30_many_links_at_once_and_no_byte_through_the_service(box: Box, place: str) -> None:
    """Every pair of elements, both ways, with faults on the way: all finish, few attempts, none twice at once."""
    sources = {storage.unit: box.proxy(storage) for storage in (box.source, box.destination)}
    destinations = {storage.unit: box.proxy(storage) for storage in (box.source, box.destination)}
    proxies = (*sources.values(), *destinations.values())
    for proxy in proxies:
        proxy.start()
    for proxy in sources.values():
        proxy.inject(Fault({"GET"}, 2, after_bytes=1000, then=Then.cut), Fault({"HEAD"}, 1, 500))
    limits = {"retry_delay_s": 0.1}
    service = box.service("pairs", destinations=[each.host for each in proxies], limits=limits).start()
    files, wanted = [], {}
    for source, destination in ((box.source, box.destination), (box.destination, box.source)):
        for number in range(10):
            path, data = f"{place}/{source.unit}/{number}", os.urandom(300_000)
            box.put(path, data, source)
            file = hop(box, path, data, source, destination)
            file["sources"] = [sources[source.unit].davs + path]
            file["destinations"] = [destinations[destination.unit].davs + path]
            files.append(file)
            wanted[destination, path] = data
    job_id = service.submit(*files)
    twins = [service.submit(file) for file in files[:5]]
    assert service.finished(job_id)["job_state"] == "FINISHED", service.why(job_id)
    assert {service.finished(twin)["job_state"] for twin in twins} == {"FINISHED"}
    for (destination, path), data in wanted.items():
        assert destination.holds(path) == data
    tries = [len(file["attempts"]) for file in service.why(job_id)]
    assert max(tries) <= 3
    assert sum(tries) > len(files), "the faults were met"
    overlaps = """
        SELECT 1 FROM attempts a JOIN files f USING (file_id), attempts b JOIN files g USING (file_id)
        WHERE f.dest_url = g.dest_url AND (a.file_id, a.attempt) < (b.file_id, b.attempt)
          AND a.started < b.ended AND b.started < a.ended"""
    assert service.rows(overlaps) == []
    # Storage elements alone read files, each whole one once; the service gets no more than markers.
    assert sum(proxy.seen.whole["GET"] for proxy in sources.values()) == len(files)
    for proxy in proxies:
        readers = {agent for method, agent in proxy.seen.agents if method in ("GET", "PUT")}
        assert readers <= {"xrootd-tpc"}, proxy.seen.agents
    told = sum(sum(proxy.seen.body_bytes.values()) for proxy in destinations.values())
    assert 0 < told < sum(map(len, wanted.values())) / 20
    service.stop()
    for proxy in proxies:
        proxy.stop()
