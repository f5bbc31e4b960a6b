"""A long queue: counted as it changes, bounded, and refused to grow beyond."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import text

from boathouse.apps.transfers import counts, database
from boathouse.testing.wait import wait_for

from .box import NOBODY, Box, Service
from .equipment import TRANSFERS

MOST, MOST_PER_VO, MOST_GROUPS = 50, 40, 12


@pytest.fixture(scope="module")
def service(box: Box) -> Iterator[Service]:
    """A service with room for few files."""
    limits = {"waiting": MOST, "waiting_per_vo": MOST_PER_VO, "groups_per_vo": MOST_GROUPS, "pause_s": 1}
    service = box.service("small", limits=limits, operators=["operator"]).start()
    yield service
    service.stop()


@pytest.fixture
def small(box: Box, service: Service) -> Iterator[Service]:
    """The service with an empty queue."""
    yield service
    ended = service.request("DELETE", "/jobs/all", token=box.issuer.token(TRANSFERS, "fts", subject="operator"))
    assert ended.status == 200, ended.body


def waiting(box: Box, place: str, count: int) -> list[dict[str, object]]:
    """Files for an element where nobody listens."""
    files = []
    for number in range(count):
        path = f"{place}/{number}"
        token = box.issuer.token("127.0.1.19", "storage.modify:/lake")
        destinations = {"destinations": [f"davs://{NOBODY}{path}"], "destination_tokens": [token]}
        files.append({**box.file(path, b"x"), **destinations})
    return files


def by_state(service: Service) -> dict[str, int]:
    rows = service.rows("SELECT state, sum(files)::int FROM file_counts GROUP BY state HAVING sum(files) <> 0")
    return {str(state): count for state, count in rows}


def really(service: Service) -> dict[str, int]:
    query = """
        SELECT CASE WHEN file_state IN ('SUBMITTED', 'ACTIVE') THEN file_state ELSE 'UNCLEAN' END, count(*)::int
        FROM files WHERE file_state IN ('SUBMITTED', 'ACTIVE') OR busy GROUP BY 1"""
    return {str(state): count for state, count in service.rows(query)}


def refusal(service: Service, files: list[dict[str, object]], token: str | None = None) -> str:
    refused = service.request("POST", "/jobs", {"files": files, "params": {}}, token=token)
    assert (refused.status, refused.headers["Retry-After"]) == (503, "30"), refused.body
    return str(refused.body["message"])


def people(box: Box, *names: str, vo: str = "escape") -> list[str]:
    return [box.issuer.token(TRANSFERS, "fts", subject=name, **{"wlcg.groups": [f"/{vo}"]}) for name in names]


def motley(box: Box, place: str, count: int) -> list[dict[str, object]]:
    return [{**file, "activity": f"{place} {number}"} for number, file in enumerate(waiting(box, place, count))]


def test_a_full_queue_refuses_and_says_when_to_come_again(box: Box, small: Service, place: str) -> None:
    (other,) = people(box, "virgo", vo="virgo")
    first = small.submit(*waiting(box, place, 32))
    small.submit(*waiting(box, f"{place}/other", MOST - 32), token=other)
    told = refusal(small, waiting(box, f"{place}/more", 1), other)
    assert "too many files wait: submit again later" in told
    assert f"at most {MOST}" in told
    # What has ended makes room.
    small.request("DELETE", f"/jobs/{first}")
    small.submit(*waiting(box, f"{place}/more", 1), token=other)


def test_nobody_takes_the_room_of_others(box: Box, small: Service, place: str) -> None:
    """A person may have as much of a VO's room as is left then, Rucio four times as much."""
    alice, bob, mallory = people(box, "alice", "bob", "mallory")
    small.submit(*waiting(box, f"{place}/mallory", 20), token=mallory)
    told = refusal(small, waiting(box, f"{place}/again", 1), mallory)
    assert "too many files of yours wait: submit again later" in told
    assert "at most 20, so that others of escape have room" in told
    for name, token, share in (("rucio", None, 16), ("alice", alice, 2), ("bob", bob, 1)):
        small.submit(*waiting(box, f"{place}/{name}", share), token=token)
        refusal(small, waiting(box, f"{place}/{name}/again", 1), token)


def test_nobody_takes_the_activities_and_links_of_others(box: Box, small: Service, place: str) -> None:
    alice, mallory = people(box, "alice", "mallory")
    body = {"files": motley(box, f"{place}/many", 7), "params": {}}
    refused = small.request("POST", "/jobs", body, token=mallory)
    assert refused.status == 400
    assert "too many different activities and links in one job; expected: at most 6" in refused.body["message"]
    small.submit(*motley(box, f"{place}/mallory", 6), token=mallory)
    told = refusal(small, motley(box, f"{place}/again", 1), mallory)
    assert "files of yours wait for too many different activities and links" in told
    small.submit(*motley(box, f"{place}/rucio", 4))
    small.submit(*motley(box, f"{place}/alice", 1), token=alice)
    # What others wait for as well takes no room.
    small.submit(*motley(box, f"{place}/alice", 1), token=mallory)


def test_counts_follow_the_queue_through_every_change(box: Box, small: Service, place: str) -> None:
    wait_for("nothing is being tried", lambda: by_state(small) == really(small))
    box.put(f"{place}/f", b"some data")
    small.finished(small.submit(box.file(f"{place}/f", b"some data")))
    job_id = small.submit(*waiting(box, place, 3))
    # One of them may be tried at this moment.
    counted = by_state(small)
    assert counted.get("SUBMITTED", 0) + counted.get("ACTIVE", 0) == 3
    small.request("DELETE", f"/jobs/{job_id}")
    wait_for("nobody is at work on them", lambda: not small.rows("SELECT 1 FROM files WHERE worker IS NOT NULL"))
    assert by_state(small) == really(small)
    # Merged, they say the same in fewer rows.
    engine = database.connect(small.database_url)
    with engine.begin() as connection:
        before = counts.by_link(connection)
        counts.merge(connection)
        assert counts.by_link(connection) == before
        keys = "SELECT count(*), count(DISTINCT (owner, vo, activity, source_host, dest_host, state)) FROM file_counts"
        rows, different = connection.execute(text(keys)).one()
        assert rows == different
    engine.dispose()


def test_the_metrics_tell_the_counts(box: Box, small: Service, place: str) -> None:
    job_id = small.submit(*waiting(box, place, 2))
    link = f'{{source="{box.source.host}",destination="{NOBODY}",state="SUBMITTED"}}'
    # Those of other VOs are not for this caller to see.
    query = "SELECT count(*) FROM files WHERE file_state = 'SUBMITTED' AND vo = 'escape'"

    def shown() -> bool:
        # One of them may just be tried.
        [(own,)] = small.rows(query)
        return own > 0 and f"boathouse_transfer_files{link} {own}" in small.request("GET", "/metrics").body

    wait_for("the metrics show them", shown)
    small.request("DELETE", f"/jobs/{job_id}")
