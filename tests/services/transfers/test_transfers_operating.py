"""What an operator decides: bans, limits, shares, the end of jobs; and jobs after their end."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from boathouse.apps.transfers import admission
from boathouse.testing.wait import wait_for

from .box import Box, Reply, Service
from .equipment import TRANSFERS

NOWHERE = "davs://127.0.1.19:1"
"""A storage element that nobody listens on: its files stay in the queue."""


class Operated(Service):
    """A service, and an operator's requests."""

    def operate(self, method: str, path: str, body: object = None) -> Reply:
        return self.request(method, path, body, token=self._box.issuer.token(TRANSFERS, "fts", subject="operator"))


@pytest.fixture(scope="module")
def api(box: Box) -> Operated:
    service = Operated(box, "steered", operators=["operator"])
    service.start()
    return service


def waiting(box: Box, path: str, sources: list[str] | None = None) -> dict[str, object]:
    return {**box.file(path, b"f", sources=sources), "destinations": [NOWHERE + path]}


def states(api: Service, job_id: str) -> list[str]:
    return [file["file_state"] for file in api.request("GET", f"/jobs/{job_id}/files").body]


def test_only_operators_decide(api: Operated) -> None:
    for method, path in (
        ("POST", "/ban/se"),
        ("DELETE", "/ban/se?storage=x"),
        ("GET", "/ban/se"),
        ("POST", "/ban/dn"),
        ("GET", "/ban/dn"),
        ("GET", "/config/global"),
        ("POST", "/config/global"),
        ("GET", "/config/se"),
        ("POST", "/config/links"),
        ("GET", "/config/shares"),
        ("GET", "/config/audit"),
        ("POST", "/optimizer/current"),
        ("GET", "/status/hosts"),
        ("DELETE", "/jobs/all"),
        ("DELETE", "/jobs/vo/escape"),
    ):
        assert api.request(method, path, {} if method == "POST" else None).status == 403, path


def test_a_ban_cancels_what_waits_and_refuses_what_comes(box: Box, api: Operated, place: str) -> None:
    job_id = api.submit(waiting(box, f"{place}/f"))
    reply = api.operate("POST", "/ban/se", {"storage": NOWHERE, "message": "disks are changed"})
    assert (reply.status, reply.body) == (200, [job_id])
    job = api.job(job_id)
    assert (job["job_state"], job["files"][0]["file_state"]) == ("CANCELED", "CANCELED")
    assert job["files"][0]["reason"] == "Storage banned: disks are changed"
    refused = api.request("POST", "/jobs", {"files": [waiting(box, f"{place}/g")], "params": {}})
    assert refused.status == 403
    assert "is banned for escape: disks are changed" in refused.body["message"]
    (ban,) = api.operate("GET", "/ban/se").body
    assert (ban["se"], ban["vo"], ban["status"], ban["admin_dn"]) == (NOWHERE, "escape", "CANCEL", "operator")
    assert api.operate("DELETE", f"/ban/se?storage={NOWHERE}").status == 204
    assert api.operate("GET", "/ban/se").body == []
    api.request("DELETE", f"/jobs/{api.submit(waiting(box, f'{place}/g'))}")


def test_a_ban_may_let_jobs_wait(box: Box, api: Operated, place: str) -> None:
    before = api.submit(waiting(box, f"{place}/f"))
    wait = {"storage": "127.0.1.19:1", "status": "wait", "allow_submit": True}
    assert api.operate("POST", "/ban/se", {**wait, "status": "cancel"}).status == 400
    # An attempt may be under way just now.
    wait_for("it waits for the end of the ban", lambda: before in api.operate("POST", "/ban/se", wait).body)
    after = api.submit(waiting(box, f"{place}/g"))
    # An attempt that was under way when the ban came is not broken off.
    wait_for("both wait", lambda: states(api, before) == states(api, after) == ["ON_HOLD"])
    why = api.request("GET", f"/jobs/{after}/why").body
    assert (why["verdict"]["class"], why["verdict"]["layer"], why["classes"]) == ("policy", "policy", {"policy": 1})
    assert why["files"][0]["awaits"] == "the end of a ban: 127.0.1.19:1 is banned for escape"
    assert api.operate("DELETE", "/ban/se?storage=davs://127.0.1.19:1").status == 204
    assert states(api, after) != ["ON_HOLD"]
    for job_id in (before, after):
        api.request("DELETE", f"/jobs/{job_id}")


def test_a_ban_of_one_vo_is_none_of_anothers(box: Box, api: Operated, place: str) -> None:
    magic = box.issuer.token(TRANSFERS, "fts", subject="pi", **{"wlcg.groups": ["/magic"]})
    assert api.operate("POST", "/ban/se", {"storage": NOWHERE}).body == []
    job_id = api.submit(waiting(box, f"{place}/f"), token=magic)
    assert api.operate("POST", "/ban/se", {"storage": NOWHERE, "vo_name": "*"}).body == [job_id]
    for vo in ("escape", "*"):
        api.operate("DELETE", f"/ban/se?storage={NOWHERE}&vo_name={vo}")


def test_a_banned_source_leaves_the_file_to_the_next(box: Box, api: Operated, place: str) -> None:
    path = f"{place}/f"
    box.put(path, b"f")
    job_id = api.submit(box.file(path, b"f", sources=[f"davs://127.0.1.19:2{path}", box.source.davs + path]))
    api.operate("POST", "/ban/se", {"storage": "davs://127.0.1.19:2"})
    job = api.finished(job_id)
    assert (job["job_state"], box.destination.holds(path)) == ("FINISHED", b"f")
    api.operate("DELETE", "/ban/se?storage=davs://127.0.1.19:2")


def test_a_banned_person_is_not_let_in_and_loses_what_waits(box: Box, api: Operated, place: str) -> None:
    mallory = box.issuer.token(TRANSFERS, "fts", subject="mallory")
    job_id = api.submit(waiting(box, f"{place}/f"), token=mallory)
    assert api.operate("POST", "/ban/dn", {"user_dn": "operator"}).status == 409
    assert api.operate("POST", "/ban/dn", {"user_dn": "mallory", "message": "asked too much"}).body == [job_id]
    refused = api.request("GET", "/jobs", token=mallory)
    assert (refused.status, refused.body["message"]) == (403, "The user has been banned")
    job = api.operate("GET", f"/jobs/{job_id}").body
    assert (job["job_state"], job["reason"]) == ("CANCELED", "User banned")
    (ban,) = api.operate("GET", "/ban/dn").body
    assert (ban["dn"], ban["message"]) == ("mallory", "asked too much")
    assert api.operate("DELETE", "/ban/dn?user_dn=mallory").status == 204
    assert api.request("GET", "/jobs", token=mallory).status == 200


def test_whoever_is_being_banned_gets_no_job_in(box: Box, api: Operated, place: str) -> None:
    """A ban that comes while a job is being stored waits for it, and ends it with the others."""
    eve = box.issuer.token(TRANSFERS, "fts", subject="eve")
    body = {"files": [waiting(box, f"{place}/f")], "params": {}}
    ban = {"user_dn": "eve"}
    with ThreadPoolExecutor(2) as threads:
        with api.connected() as connection:
            connection.execute("LOCK TABLE jobs IN SHARE MODE")
            stored = threads.submit(api.request, "POST", "/jobs", body, token=eve)
            wait_for("the job is being stored", lambda: api.waits_for_a_lock("INSERT INTO jobs"))
            banned = threads.submit(api.operate, "POST", "/ban/dn", ban)
            wait_for("the ban waits", lambda: api.waits_for_a_lock("SELECT pg_advisory_xact_lock(") or banned.done())
        job_id = stored.result().body["job_id"]
        assert banned.result().body == [job_id]
    job = api.operate("GET", f"/jobs/{job_id}").body
    assert (job["job_state"], job["reason"]) == ("CANCELED", "User banned")
    api.operate("DELETE", "/ban/dn?user_dn=eve")


def test_a_ban_that_came_since_the_request_began_is_seen(box: Box, api: Operated, place: str) -> None:
    trent = box.issuer.token(TRANSFERS, "fts", subject="trent")
    body = {"files": [waiting(box, f"{place}/f")], "params": {}}
    assert api.request("GET", "/jobs", token=trent).status == 200
    with ThreadPoolExecutor(1) as threads:
        with api.connected() as connection:
            connection.execute("SELECT pg_advisory_xact_lock(%s)", [admission.BAN_LOCK])
            stored = threads.submit(api.request, "POST", "/jobs", body, token=trent)
            wait_for("the job waits", lambda: api.waits_for_a_lock("SELECT pg_advisory_xact_lock_shared("))
            connection.execute("INSERT INTO banned_people (subject, admin) VALUES ('trent', 'operator')")
            connection.commit()
        refused = stored.result()
    assert (refused.status, refused.body["message"]) == (403, "The user has been banned")
    assert api.rows("SELECT 1 FROM jobs WHERE owner = 'trent'") == []
    api.operate("DELETE", "/ban/dn?user_dn=trent")


def test_a_vo_sees_its_own_part_of_the_whole(box: Box, api: Operated, place: str) -> None:
    magic = box.issuer.token(TRANSFERS, "fts", subject="pi", **{"wlcg.groups": ["/magic"]})
    theirs = api.submit(waiting(box, f"{place}/f"), token=magic)
    ours = api.submit(waiting(box, f"{place}/g", sources=[f"davs://127.0.1.19:2{place}/g"]))
    link = {"source_se": "davs://127.0.1.19:2", "dest_se": NOWHERE}
    assert api.operate("POST", "/optimizer/current", {**link, "active": 6}).status == 200
    assert api.operate("POST", "/ban/se", {"storage": "davs://127.0.1.19:3"}).status == 200
    secrets = ('vo="escape"', "127.0.1.19:2", "127.0.1.19:3")
    told = str(api.request("GET", "/metrics", token=magic).body)
    assert 'boathouse_transfer_queue{vo="magic"' in told
    assert [each for each in (*secrets, "boathouse_transfer_running ") if each in told] == []
    for text in (api.request("GET", "/metrics").body, api.operate("GET", "/metrics").body):
        assert [each for each in secrets if each not in text] == []
    assert 'vo="magic"' in str(api.operate("GET", "/metrics").body)
    assert api.request("GET", "/optimizer/current", token=magic).body == []
    assert [each["active"] for each in api.request("GET", "/optimizer/current").body] == [6]
    api.operate("DELETE", "/ban/se?storage=davs://127.0.1.19:3")
    for job_id in (theirs, ours):
        api.operate("DELETE", f"/jobs/{job_id}")


def test_files_of_a_job_end_one_by_one(box: Box, api: Operated, place: str) -> None:
    job_id = api.submit(waiting(box, f"{place}/f"), waiting(box, f"{place}/g"))
    first, second = (file["file_id"] for file in api.request("GET", f"/jobs/{job_id}/files").body)
    assert api.request("DELETE", f"/jobs/{job_id}/files/{first}").body == "CANCELED"
    assert api.job(job_id)["job_state"] in ("SUBMITTED", "ACTIVE")
    answer = api.request("DELETE", f"/jobs/{job_id}/files/{first},{second},0").body
    assert answer == ["CANCELED", "CANCELED", "File does not belong to the job"]
    assert api.job(job_id)["job_state"] == "CANCELED"
    assert api.rows("SELECT count(*) FROM tokens WHERE job_id = %s", job_id) == [(0,)]


def test_an_operator_ends_all_jobs_or_those_of_a_vo(box: Box, api: Operated, place: str) -> None:
    magic = box.issuer.token(TRANSFERS, "fts", subject="pi", **{"wlcg.groups": ["/magic"]})
    theirs, ours = api.submit(waiting(box, f"{place}/f"), token=magic), api.submit(waiting(box, f"{place}/g"))
    assert api.operate("DELETE", "/jobs/vo/magic").body == {"affected_files": 1, "affected_dm": 0, "affected_jobs": 1}
    assert api.operate("GET", f"/jobs/{theirs}").body["job_state"] == "CANCELED"
    assert api.job(ours)["job_state"] != "CANCELED"
    assert api.operate("DELETE", "/jobs/all").body["affected_jobs"] == 1
    assert api.job(ours)["job_state"] == "CANCELED"


def test_limits_of_storage_elements_are_kept(api: Operated) -> None:
    limits = {"se_info": {"inbound_max_active": 5, "outbound_max_throughput": 12.5, "tpc_support": "PULL"}}
    answer = api.operate("POST", "/config/se", {NOWHERE: limits}).body[0]
    assert (answer["storage"], answer["inbound_max_active"]) == (NOWHERE, 5)
    stored = api.operate("GET", f"/config/se?se={NOWHERE}").body[NOWHERE]["se_info"]
    assert (stored["outbound_max_throughput"], stored["outbound_max_active"], stored["udt"]) == (12.5, None, None)
    assert api.rows("SELECT hosts FROM storage_limits") == [(["127.0.1.19:1"],)]
    for bad in (
        {NOWHERE: {"se_info": {"tpc_support": "SOMETIMES"}}},
        {NOWHERE: {"se_info": {"inbound_max_active": "many"}}},
        {NOWHERE: {"se_info": {"inbound_max_active": -1}}},
        {NOWHERE: {"se_info": {"udt": True}}},
        {NOWHERE: {"se_info": {"colour": "red"}}},
        {NOWHERE: {"operations": {"escape": {"staging": 3}}}},
        {"davs://host/path": limits},
        {},
    ):
        assert api.operate("POST", "/config/se", bad).status == 400, bad
    assert api.operate("DELETE", f"/config/se?se={NOWHERE}").status == 204
    assert api.operate("GET", "/config/se").body == {}


def test_limits_of_links_are_kept(api: Operated) -> None:
    link = {"symbolicname": "into nowhere", "source": "*", "destination": NOWHERE, "min_active": 1, "max_active": 4}
    reply = api.operate("POST", "/config/links", link)
    assert (reply.status, reply.body) == (201, {**reply.body, **link})
    assert api.operate("GET", "/config/links/into%20nowhere").body["max_active"] == 4
    assert api.operate("POST", "/config/links", {**link, "max_active": "7"}).body["max_active"] == 7
    assert [each["symbolicname"] for each in api.operate("GET", "/config/links").body] == ["into nowhere"]
    assert api.operate("POST", "/config/links", {**link, "min_active": 8}).status == 400
    assert api.operate("POST", "/config/links", {**link, "nostreams": 4}).status == 400
    assert api.operate("DELETE", "/config/links/into%20nowhere").status == 204
    assert api.operate("GET", "/config/links/into%20nowhere").status == 404


def test_shares_are_kept(api: Operated) -> None:
    share = {"source": "*", "destination": NOWHERE, "vo": "escape", "share": 10}
    assert api.operate("POST", "/config/shares", share).body == 10
    assert api.operate("GET", "/config/shares").body == [share]
    assert api.operate("POST", "/config/shares", {**share, "share": -1}).status == 400
    assert api.operate("DELETE", f"/config/shares?source=*&destination={NOWHERE}&vo=escape").status == 204
    assert api.operate("GET", "/config/shares").body == []
    weights = {"vo": "escape", "share": [{"User Subscriptions": 0.7}, {"Production": 0.3}]}
    assert api.operate("POST", "/config/activity_shares", weights).body["activity_share"] == weights["share"]
    kept = {"share": {"User Subscriptions": 0.7, "Production": 0.3}, "active": True}
    assert api.operate("GET", "/config/activity_shares").body == {"escape": kept}
    assert api.operate("GET", "/config/activity_shares/escape").body == kept
    assert api.operate("DELETE", "/config/activity_shares/escape").status == 204
    assert api.operate("GET", "/config/activity_shares/escape").status == 404


def test_defaults_hold_for_jobs_that_do_not_say(box: Box, api: Operated, place: str) -> None:
    assert api.operate("GET", "/config/global").body["*"]["retry"] == 0
    body = api.operate("POST", "/config/global", {"vo_name": "escape", "retry": 4, "max_time_queue": 2}).body
    assert (body["escape"]["retry"], body["escape"]["max_time_queue"]) == (4, 2)
    silent = api.submit(waiting(box, f"{place}/f"))
    says = api.submit(waiting(box, f"{place}/g"), retry=1, max_time_in_queue=48)
    query = (
        "SELECT attempts, round(extract(epoch FROM expires_at - submit_time) / 3600)::int FROM jobs WHERE job_id = %s"
    )
    assert api.rows(query, silent) == [(5, 2)]
    assert api.rows(query, says) == [(2, 48)]
    assert api.operate("POST", "/config/global", {"sec_per_mb": 3}).status == 400
    assert api.operate("DELETE", "/config/global?vo_name=escape").status == 204
    assert list(api.operate("GET", "/config/global").body) == ["*"]
    for job_id in (silent, says):
        api.request("DELETE", f"/jobs/{job_id}")


def test_changes_are_noted_with_who_made_them(api: Operated) -> None:
    api.operate("POST", "/config/global", {"retry": 2})
    (last, *_) = api.operate("GET", "/config/audit").body
    assert (last["dn"], last["action"], last["config"]) == ("operator", "set-globals", '{"retry": 2}')
    api.operate("POST", "/config/global", {"retry": 0})


def test_the_optimizer_is_asked_and_told(api: Operated) -> None:
    assert api.request("GET", "/optimizer").body is True
    link = {"source_se": "davs://127.0.1.19:8", "dest_se": "davs://127.0.1.19:9"}
    assert api.operate("POST", "/optimizer/current", {**link, "active": 0}).status == 400
    assert api.operate("POST", "/optimizer/current", {**link, "active": 6}).body[0]["active"] == 6
    # Of this link alone: the VO has others, that tests before this one used.
    asked = "/optimizer/current?source_se=davs://127.0.1.19:8"
    (found,) = api.operate("GET", asked).body
    assert api.request("GET", asked).body == [], "no link of the VO's"
    assert (found["source_se"], found["dest_se"]) == ("https://127.0.1.19:8", "https://127.0.1.19:9")
    assert api.request("GET", "/optimizer/evolution?dest_se=davs://127.0.1.19:9").body == []


def test_jobs_that_ended_are_in_the_archive(box: Box, api: Operated, place: str) -> None:
    box.put(f"{place}/f", b"f")
    job_id = api.submit(box.file(f"{place}/f", b"f"))
    before = api.finished(job_id)
    recent = api.request("GET", f"/archive/{job_id}").body
    assert (recent["job_state"], recent["files"][0]["file_state"]) == ("FINISHED", "FINISHED")
    api.rows("UPDATE jobs SET job_finished = job_finished - interval '8 days' WHERE job_id = %s RETURNING 1", job_id)
    wait_for("the queue forgets the job", lambda: api.request("GET", f"/jobs/{job_id}").status == 404, timeout_s=120)
    kept: dict[str, Any] = api.request("GET", f"/archive/{job_id}").body
    assert kept["submit_time"] == before["submit_time"]
    assert kept["files"] == [{**recent["files"][0], "job_id": job_id}]
    assert api.request("GET", f"/archive/{job_id}/job_state").body == "FINISHED"
    assert (
        api.request("GET", f"/archive/{job_id}", token=box.issuer.token(TRANSFERS, "fts", subject="eve")).status == 403
    )
    unknown = api.request("GET", f"/archive/{uuid.uuid4()}")
    assert (unknown.status, "in the archive" in unknown.body["message"]) == (404, True)
    assert "fts:archivedJob" in api.request("GET", "/archive").body["_links"]
    api.rows("UPDATE archive SET job_finished = now() - interval '91 days' WHERE job_id = %s RETURNING 1", job_id)
    gone = f"/archive/{job_id}"
    wait_for("the archive forgets the job", lambda: api.request("GET", gone).status == 404, timeout_s=120)
