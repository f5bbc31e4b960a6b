"""The REST surface: who may call, what FTS3's clients get to see, what bad input gets."""

from __future__ import annotations

import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from .box import Box, Service
from .equipment import SOURCE, TRANSFERS

NOWHERE = "davs://127.0.1.19:1/lake/f"
"""A destination that nobody listens on: its files stay in the queue."""


@pytest.fixture(scope="module")
def api(box: Box) -> Service:
    return box.service("api").start()


def waiting(box: Box, number: int = 0) -> dict[str, object]:
    return {**box.file("/lake/cms/f", b"f"), "destinations": [f"{NOWHERE}{number}"]}


def test_a_caller_without_a_good_token_is_not_let_in(box: Box, api: Service) -> None:
    other = box.issuer.token(TRANSFERS, "fts")
    forged = other[: other.rindex(".") + 1] + "A" * 86
    for token in (
        "",
        "nonsense",
        forged,
        box.issuer.token(SOURCE, "fts"),
        box.issuer.token(TRANSFERS, "fts", lifetime_s=-5),
        box.issuer.token(TRANSFERS, "fts", iss="https://localhost:1"),
    ):
        for method, path in (
            ("GET", "/jobs"),
            ("POST", "/jobs"),
            ("GET", "/"),
            ("GET", "/whoami"),
            ("GET", "/metrics"),
        ):
            reply = api.request(method, path, token=token)
            assert reply.status == 401, (token, path)
            assert reply.body["status"] == "401 Unauthorized"
            assert reply.headers["WWW-Authenticate"].startswith("Bearer")


def test_a_token_without_the_scope_is_forbidden(box: Box, api: Service) -> None:
    reply = api.request("GET", "/jobs", token=box.issuer.token(TRANSFERS, "openid storage.read:/"))
    assert reply.status == 403
    assert "scope fts" in reply.body["message"]


def test_others_do_not_see_or_change_a_job(box: Box, api: Service) -> None:
    alice, bob = (box.issuer.token(TRANSFERS, "fts", subject=name) for name in ("alice", "bob"))
    job_id = api.submit(waiting(box), token=alice)
    own = api.submit(waiting(box, 1), token=bob)
    for method, path in (
        ("GET", f"/jobs/{job_id}"),
        ("DELETE", f"/jobs/{job_id}"),
        ("GET", f"/jobs/{job_id}/files"),
        ("GET", f"/jobs/{job_id}/why"),
        ("GET", f"/jobs/{job_id}/job_metadata"),
    ):
        reply = api.request(method, path, token=bob)
        assert reply.status == 403, path
        assert "job_state" not in reply.body
    assert api.request("POST", f"/jobs/{job_id}", {"params": {"priority": 5}}, token=bob).status == 403
    waited = api.request("GET", f"/jobs/{job_id}?wait=1", token=bob)
    assert (waited.status, waited.headers["X-Boathouse-Revision"]) == (403, "0")
    mixed = api.request("GET", f"/jobs/{own},{job_id}", token=bob)
    assert mixed.status == 207
    assert [job["http_status"] for job in mixed.body] == ["200 Ok", "403 Forbidden"]
    assert [job["job_id"] for job in api.request("GET", "/jobs", token=bob).body] == [own]
    assert api.job(job_id, token=alice)["job_state"] in ("SUBMITTED", "ACTIVE")
    api.request("DELETE", f"/jobs/{job_id}", token=alice)
    api.request("DELETE", f"/jobs/{own}", token=bob)


def test_an_operator_sees_all_jobs(box: Box) -> None:
    service = box.service("operated", operators=["operator"]).start()
    job_id = service.submit(waiting(box))
    operator = box.issuer.token(TRANSFERS, "fts", subject="operator")
    assert service.job(job_id, token=operator)["user_dn"] == "rucio"
    assert service.request("DELETE", f"/jobs/{job_id}", token=operator).body["job_state"] == "CANCELED"
    service.stop()


def test_what_rucio_asks_for_is_there(box: Box, api: Service) -> None:
    job_id = api.submit(waiting(box), job_metadata={"issuer": "rucio", "multi_sources": False})
    unknown = str(uuid.uuid4())
    fields = (
        "file_state,dest_surl,finish_time,start_time,staging_start,staging_finished,reason,source_surl,file_metadata"
    )
    reply = api.request("GET", f"/jobs/{job_id},{unknown}?files={fields}")
    assert reply.status == 207
    found, lost = reply.body
    assert found["http_status"] == "200 Ok"
    assert found["job_metadata"]["multi_sources"] is False
    assert set(found["files"][0]) == set(fields.split(","))
    assert (lost["job_id"], lost["http_status"]) == (unknown, "404 Not Found")
    assert api.request("GET", f"/jobs/{unknown}?files={fields}").status == 404
    assert api.request("GET", "/jobs/no-uuid").status == 404
    assert isinstance(api.request("GET", f"/jobs/{job_id},{job_id}").body, list)
    assert api.request("GET", f"/jobs/{job_id}/files").body[0]["file_state"] in ("SUBMITTED", "ACTIVE")
    assert api.request("GET", f"/jobs/{job_id}/dm").body == []
    assert api.request("GET", f"/jobs/{job_id}/vo_name").body == "escape"
    assert api.request("GET", f"/jobs/{job_id}/nonsense").status == 404
    api.request("DELETE", f"/jobs/{job_id}")


def test_the_fts3_client_finds_its_way(box: Box, api: Service) -> None:
    assert api.request("GET", "//").body["api"]["major"] == 3
    whoami = api.request("GET", "//whoami").body
    assert (whoami["user_dn"], whoami["vos"], whoami["method"]) == ("rucio", ["escape"], "oauth2")
    mine = f"/delegation/{whoami['delegation_id']}"
    assert len(api.request("GET", mine).body["termination_time"]) == len("2026-11-20T00:00:00")
    assert api.request("GET", "/delegation/0123456789abcdef").status == 403
    assert api.request("GET", f"{mine}/request").status == 400


def test_deterministic_ids_are_those_that_clients_compute(box: Box, api: Service) -> None:
    whoami = api.request("GET", "/whoami").body
    sid = str(uuid.uuid4())
    body = {"files": [waiting(box)], "params": {"id_generator": "deterministic", "sid": sid, "overwrite": True}}
    job_id = api.request("POST", "/jobs", body).body["job_id"]
    assert job_id == str(uuid.uuid5(uuid.uuid5(uuid.UUID(whoami["base_id"]), whoami["vos"][0]), sid))
    assert api.request("POST", "/jobs", body).status == 409
    api.request("DELETE", f"/jobs/{job_id}")


def test_jobs_are_listed_by_state_vo_and_storage(box: Box, api: Service) -> None:
    token = box.issuer.token(TRANSFERS, "fts", subject="lister", **{"wlcg.groups": ["/magic/pi", "/escape"]})
    job_id = api.submit(waiting(box), token=token)

    def listed(query: str) -> list[str]:
        return [job["job_id"] for job in api.request("GET", f"/jobs?{query}", token=token).body]

    assert listed("") == listed("vo_name=magic") == listed("dest_se=davs://127.0.1.19:1") == [job_id]
    assert listed("state_in=SUBMITTED,ACTIVE,READY") == [job_id]
    assert listed("vo_name=escape") == listed("source_se=davs://nowhere") == listed("state_in=FINISHED") == []
    api.request("DELETE", f"/jobs/{job_id}", token=token)
    assert listed("") == []
    assert listed("state_in=CANCELED&time_window=1:30") == [job_id]
    for far in ("99999999999", "1:99999999999"):
        assert api.request("GET", f"/jobs?time_window={far}").status == 400
    assert api.request("GET", "/jobs?fields=job_id,priority&state_in=CANCELED", token=token).body == [
        {"job_id": job_id, "priority": 3}
    ]
    assert api.request("GET", "/jobs?limit=501", token=token).status == 400
    assert api.request("GET", "/jobs?user_dn=rucio", token=token).status == 400


def test_a_priority_is_changed_until_the_job_has_ended(box: Box, api: Service) -> None:
    job_id = api.submit(waiting(box), priority=2)
    assert api.job(job_id)["priority"] == 2
    reply = api.request("POST", f"/jobs/{job_id}", {"params": {"priority": 5}})
    assert (reply.status, reply.body["priority"], reply.body["http_status"]) == (200, 5, "200 Ok")
    assert api.request("POST", f"/jobs/{job_id}", {"params": {"priority": "high"}}).status == 400
    api.request("DELETE", f"/jobs/{job_id}")
    reply = api.request("POST", f"/jobs/{job_id}", {"params": {"priority": 1}})
    assert (reply.body["priority"], reply.body["http_status"]) == (5, "304 Not Modified")


def test_a_request_may_wait_for_a_change(box: Box, api: Service, place: str) -> None:
    job_id = api.submit(waiting(box))
    first = api.request("GET", f"/jobs/{job_id}?wait=0")
    known = first.headers["X-Boathouse-Revision"]
    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(api.request, "GET", f"/jobs/{job_id}?wait=30&known={known}")
        while not answer.done():
            # The first change is the start of the only file; whatever is first ends the wait.
            api.request("DELETE", f"/jobs/{job_id}")
        assert answer.result().status == 200
    begun = time.monotonic()
    ended = api.request("GET", f"/jobs/{job_id}?wait=30")
    assert ended.body["job_state"] == "CANCELED"
    assert time.monotonic() - begun < 20
    known = ended.headers["X-Boathouse-Revision"]
    begun = time.monotonic()
    assert api.request("GET", f"/jobs/{job_id}?wait=1&known={known}").status == 200
    assert time.monotonic() - begun >= 0.9
    box.put(f"{place}/f", b"f")
    job_id = api.submit(box.file(f"{place}/f", b"f"))
    known = "-1"
    while True:
        reply = api.request("GET", f"/jobs/{job_id}?wait=30&known={known}&files=file_state")
        known = reply.headers["X-Boathouse-Revision"]
        if reply.body["job_state"] == "FINISHED":
            break
    assert reply.body["files"] == [{"file_state": "FINISHED"}]


BAD = {
    "a list": [],
    "no files": {"files": [], "params": {}},
    "two destinations": {"files": [{"destinations": [NOWHERE, NOWHERE]}]},
    "plain http": {"files": [{"sources": ["http://127.0.1.11/lake/f"]}]},
    "a local file": {"files": [{"sources": ["file:///etc/passwd"]}]},
    "a user in the URL": {"files": [{"sources": ["https://me:secret@127.0.1.11/lake/f"]}]},
    "a header in the URL": {"files": [{"sources": ["https://127.0.1.11/lake/f\r\nX: y"]}]},
    "a header in the token": {"files": [{"destination_tokens": ["abc\r\nX: y"]}]},
    "no token": {"files": [{"destination_tokens": [None]}]},
    "fewer tokens than sources": {"files": [{"source_tokens": []}]},
    "a wrong checksum": {"files": [{"checksum": "ADLER32:xyz"}]},
    "an unknown checksum": {"files": [{"checksum": "SHA3:00"}]},
    "a negative size": {"files": [{"filesize": -1}]},
    "hops that do not meet": {"params": {"multihop": True}, "files": [{}, {"destinations": [f"{NOWHERE}1"]}]},
    "a bad retry": {"params": {"retry": "often"}, "files": [{}]},
    "a size beyond all": {"files": [{"filesize": 2**63}]},
    "a NUL": {"files": [{"metadata": {"name": "a\0b"}}]},
    "half a character": {"files": [{"metadata": "\ud800"}]},
    "no number": {"files": [{"metadata": float("nan")}]},
    "a copy onto itself": {"files": [{"sources": [f"{NOWHERE}0".replace("davs", "https")]}]},
    "a path that climbs": {"files": [{"sources": ["davs://127.0.1.11/lake/cms/%2e%2e/magic/f"]}]},
    "a bad time": {"params": {"max_time_in_queue": "soon"}, "files": [{}]},
}


@pytest.mark.parametrize("fault", BAD)
def test_bad_input_is_refused_and_nothing_is_stored(box: Box, api: Service, fault: str) -> None:
    body: Any = BAD[fault]
    if isinstance(body, dict):
        body = {"params": {}, **body, "files": [{**waiting(box), **file} for file in body["files"]]}
    before = api.rows("SELECT count(*) FROM jobs")
    reply = api.request("POST", "/jobs", body)
    assert reply.status == 400, reply.body
    assert reply.body["status"] == "400 Bad Request"
    assert api.rows("SELECT count(*) FROM jobs") == before


@pytest.mark.parametrize("spelling", ["/lake/f0", "//lake//f0", "/%6Cake/f%30"])
def test_the_same_destination_twice_is_refused(box: Box, api: Service, spelling: str) -> None:
    again = {**waiting(box), "destinations": [NOWHERE.replace("/lake/f", spelling)]}
    reply = api.request("POST", "/jobs", {"files": [waiting(box), again], "params": {}})
    assert (reply.status, "twice" in reply.body["message"]) == (400, True)


def test_a_backslash_in_metadata_is_kept(box: Box, api: Service) -> None:
    metadata = {"name": "\\u0000 \u00fc \U0001f6a2"}
    job_id = api.submit({**waiting(box), "metadata": metadata})
    assert api.job(job_id)["files"][0]["file_metadata"] == metadata
    api.request("DELETE", f"/jobs/{job_id}")


def test_a_body_beyond_the_limit_is_not_read(box: Box) -> None:
    service = box.service("small", limits={"body_bytes": 1000}).start()
    assert service.request("POST", "/jobs", {"files": [waiting(box)], "params": {}}).status == 413
    service.stop()


def test_time_in_the_queue_ends(box: Box, api: Service) -> None:
    job_id = api.submit(waiting(box), max_time_in_queue="1s")
    job = api.finished(job_id)
    assert job["job_state"] == "CANCELED"
    assert "stayed in the queue for too long" in job["files"][0]["reason"]


def test_tokens_are_never_readable_at_rest_or_in_logs(box: Box, api: Service, place: str) -> None:
    read = box.issuer.token(SOURCE, "storage.read:/lake", lifetime_s=3000)
    file = {**waiting(box), "source_tokens": [read]}
    job_id = api.submit(file)
    assert api.rows("SELECT count(*) FROM tokens WHERE job_id = %s", job_id) == [(2,)]
    secret = read.split(".")[2]
    with psycopg.connect(api.database_url.replace("+psycopg", "")) as connection:
        for table in ("jobs", "files", "tokens", "attempts", "endpoints", "workers"):
            rows = connection.execute(f"SELECT t::text, t FROM {table} t").fetchall()  # type: ignore[arg-type]
            assert secret not in str(rows)
        sealed = connection.execute("SELECT sealed FROM tokens WHERE job_id = %s", [job_id]).fetchall()
        assert not any(secret.encode() in row[0] for row in sealed)
    api.request("DELETE", f"/jobs/{job_id}")
    assert api.rows("SELECT count(*) FROM tokens WHERE job_id = %s", job_id) == [(0,)]
    assert secret not in api.log
    assert api.token not in api.log


def test_metrics_count_what_was_done(box: Box, api: Service, place: str) -> None:
    box.put(f"{place}/f", b"12345")
    api.finished(api.submit(box.file(f"{place}/f", b"12345")))
    text = api.request("GET", "/metrics").body
    source, destination = (f"{storage.address}:{storage.port}" for storage in (box.source, box.destination))
    link = f'source="{source}",destination="{destination}"'
    assert f"boathouse_transfer_bytes_total{{{link}}}" in text
    assert f'boathouse_transfer_attempts_total{{{link},ended="finished"}}' in text
    assert f'boathouse_transfer_duration_seconds_bucket{{{link},le="+Inf"}} ' in text


def test_health_needs_no_token_and_tells_nothing(api: Service) -> None:
    reply = api.request("GET", "/health", token="")
    assert (reply.status, reply.body) == (200, {"status": "ok"})


def test_filters_and_states_that_there_are_not_are_refused(api: Service) -> None:
    for query, words in (("owner=alice", "Unknown filter: owner"), ("state_in=ACTIVE,LOST", "Unknown state: LOST")):
        refused = api.request("GET", f"/jobs?{query}")
        assert (refused.status, refused.body["message"]) == (400, words)
    assert api.request("GET", "/jobs?state_in=ACTIVE,STAGING").status == 200
