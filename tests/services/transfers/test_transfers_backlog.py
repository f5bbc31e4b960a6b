"""A long queue: counted as it changes, bounded, and refused to grow beyond."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import text

from boathouse.apps.transfers import counts, database
from boathouse.testing.wait import wait_for

from .box import NOBODY, Box, Service
from .equipment import TRANSFERS

MOST, MOST_PER_VO, MOST_GROUPS = 30, 20, 4


@pytest.fixture(scope="module")
def small(box: Box) -> Iterator[Service]:
    """A service with room for few files."""
    limits = {"waiting": MOST, "waiting_per_vo": MOST_PER_VO, "groups_per_vo": MOST_GROUPS, "pause_s": 1}
    service = box.service("small", limits=limits).start()
    yield service
    service.stop()


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


def test_a_full_queue_refuses_and_says_when_to_come_again(box: Box, small: Service, place: str) -> None:
    files = waiting(box, place, MOST_PER_VO)
    first = small.submit(*files)
    body = {"files": waiting(box, f"{place}/more", 1), "params": {}}
    refused = small.request("POST", "/jobs", body)
    assert (refused.status, refused.headers["Retry-After"]) == (503, "30")
    assert "too many files of escape wait: submit again later" in refused.body["message"]
    assert f"at most {MOST_PER_VO}" in refused.body["message"]
    # Another VO has room of its own, up to that of all together.
    other = box.issuer.token(TRANSFERS, "fts", subject="virgo", **{"wlcg.groups": ["/virgo"]})
    assert small.request("POST", "/jobs", body, token=other).status == 200
    motley = [
        {**file, "activity": str(number)} for number, file in enumerate(waiting(box, f"{place}/motley", MOST_GROUPS))
    ]
    refused = small.request("POST", "/jobs", {"files": motley, "params": {}}, token=other)
    assert (refused.status, refused.headers["Retry-After"]) == (503, "30")
    assert "too many different activities and links" in refused.body["message"]
    many = {"files": waiting(box, f"{place}/many", MOST - MOST_PER_VO), "params": {}}
    refused = small.request("POST", "/jobs", many, token=other)
    assert refused.status == 503
    assert "too many files wait: submit again later" in refused.body["message"]
    # What has ended makes room.
    small.request("DELETE", f"/jobs/{first}")
    assert small.request("POST", "/jobs", many, token=other).status == 200


def test_counts_follow_the_queue_through_every_change(box: Box, small: Service, place: str) -> None:
    wait_for("nothing is being tried", lambda: by_state(small) == really(small))
    box.put(f"{place}/f", b"some data")
    small.finished(small.submit(box.file(f"{place}/f", b"some data")))
    job_id = small.submit(*waiting(box, place, 3))
    assert by_state(small)["SUBMITTED"] >= 3
    small.request("DELETE", f"/jobs/{job_id}")
    wait_for("the counts are those of the files", lambda: by_state(small) == really(small))
    # Merged, they say the same in fewer rows.
    engine = database.connect(small.database_url)
    with engine.begin() as connection:
        before = counts.by_link(connection)
        counts.merge(connection)
        assert counts.by_link(connection) == before
        keys = "SELECT count(*), count(DISTINCT (vo, activity, source_host, dest_host, state)) FROM file_counts"
        rows, different = connection.execute(text(keys)).one()
        assert rows == different
    engine.dispose()


def test_the_metrics_tell_the_counts(box: Box, small: Service, place: str) -> None:
    job_id = small.submit(*waiting(box, place, 2))
    link = f'{{source="{box.source.host}",destination="{NOBODY}",state="SUBMITTED"}}'
    # Those of other VOs are not for this caller to see.
    [(own,)] = small.rows("SELECT count(*) FROM files WHERE file_state = 'SUBMITTED' AND vo = 'escape'")
    waits = f"boathouse_transfer_files{link} {own}"
    wait_for("the metrics show them", lambda: waits in small.request("GET", "/metrics").body)
    small.request("DELETE", f"/jobs/{job_id}")
