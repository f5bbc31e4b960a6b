"""Rules, transfers and their repetitions, with a transfer service that does as a test says."""

from __future__ import annotations

import json
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest

from boathouse.testing.postgres import Databases
from boathouse.testing.wait import wait_for


class Daemons:
    """The running daemons, and what a test does with rules."""

    def __init__(self, box) -> None:
        self.box = box

    def dataset(self, number: int, rses: tuple[str, ...] = ("NORTH-DISK",)) -> str:
        name = f"d{uuid.uuid4().hex[:12]}"
        files = [{"scope": "cms", "name": f"{name}.{i}", "bytes": 100, "adler32": "00000001"} for i in range(number)]
        for rse in rses:
            raw = self.box.context.url("NORTH_RAW.https") + "/lake/cms/detector/"
            known = [file | ({"pfn": raw + file["name"]} if rse == "NORTH_RAW" else {}) for file in files]
            self.ask("POST", "/replicas", {"rse": rse, "files": known})
        dids = [{"scope": "cms", "name": file["name"]} for file in files]
        self.ask("POST", f"/dids/cms/{name}", {"type": "DATASET"})
        self.ask("POST", f"/dids/cms/{name}/dids", {"dids": dids})
        return name

    def ask(self, method: str, path: str, body: object) -> object:
        reply = self.box.call(method, path, "bob", body=body)
        assert reply.status in {200, 201}, reply.body
        return json.loads(reply.body) if reply.body.startswith("[") else reply.body

    def rule(self, name: str, expression: str = "SOUTH-DISK", **more: object) -> str:
        dids = [{"scope": "cms", "name": name}]
        body = {"dids": dids, "copies": 1, "rse_expression": expression, "account": "bob", **more}
        return self.ask("POST", "/rules/", body)[0]

    def state(self, rule: str) -> tuple[str, int, int, int]:
        counts = "locks_ok_cnt, locks_replicating_cnt, locks_stuck_cnt"
        return self.box.rows(f"SELECT state, {counts} FROM rules WHERE id = %s", uuid.UUID(rule))[0]

    def requests(self, rule: str) -> list[tuple[str, int]]:
        return self.box.rows("SELECT state, retry_count FROM requests WHERE rule_id = %s", uuid.UUID(rule))

    def wait_submitted(self, rule: str, number: int = 1) -> None:
        wait_for("it is submitted", lambda: [state for state, _ in self.requests(rule)] == ["S"] * number)

    def wait_ok(self, rule: str, timeout_s: float = 60) -> None:
        wait_for("the rule is OK", lambda: self.state(rule)[0] == "O", timeout_s=timeout_s)

    def report(self) -> dict[str, object]:
        return json.loads((self.box.context.run("rucio-daemons") / "report.json").read_text())


@pytest.fixture(scope="module")
def running(box) -> Iterator[Daemons]:
    box.start("rucio-daemons")
    yield Daemons(box)
    if "rucio-daemons" in box.processes:
        box.stop("rucio-daemons")


@pytest.fixture
def daemons(running) -> Daemons:
    running.box.transfers.reset()
    return running


def test_a_rule_becomes_ok_without_waiting_for_loops(daemons):
    name = daemons.dataset(5)
    began = time.monotonic()
    daemons.wait_ok(daemons.rule(name))
    # Each of the three daemons comes round by itself after 30 s only; the limit leaves room for a busy machine.
    assert time.monotonic() - began < 25


def test_every_request_to_the_transfer_service_carries_a_token(daemons):
    daemons.wait_ok(daemons.rule(daemons.dataset(2)))
    assert daemons.box.transfers.requests
    assert all(token.startswith("Bearer ey") for _, _, token in daemons.box.transfers.requests)


def test_tokens_are_for_one_storage_element_each(daemons):
    daemons.wait_ok(daemons.rule(daemons.dataset(1)))
    asked = {(entry["audience"], entry["scope"]) for entry in daemons.box.issuer.requests}
    addresses = daemons.box.context.addresses
    assert (addresses["NORTH-DISK.copy.https"], "offline_access storage.read:/lake/") in asked
    assert (
        addresses["SOUTH-DISK.copy.https"],
        "offline_access storage.modify:/lake/ storage.read:/lake/",
    ) in asked
    assert ("127.0.0.2", "fts") in asked


def test_all_sources_are_given_and_one_job_does(daemons):
    daemons.wait_ok(daemons.rule(daemons.dataset(10, ("NORTH-DISK", "NORTH_RAW"))))
    files = daemons.box.transfers.files()
    assert len(daemons.box.transfers.jobs) == 1
    assert len(files) == 10
    assert all(len(file["sources"]) == len(file["source_tokens"]) == 2 for file in files)
    assert all(file["checksum"] == "ADLER32:00000001" for file in files)


def test_a_file_that_is_refused_does_not_keep_the_others(daemons):
    """Jobs hold files of several people: one whom the service refuses is not to stop the rules of the others."""
    bad, good = daemons.dataset(2), daemons.dataset(3)
    daemons.box.transfers.refused = f"{bad}.1"
    refused, others = daemons.rule(bad), daemons.rule(good)
    daemons.wait_ok(others)
    wait_for("the other file of the same rule is there", lambda: daemons.state(refused)[1] == 1)
    assert daemons.state(refused)[0] != "O"
    daemons.box.transfers.refused = ""
    daemons.wait_ok(refused)


def test_a_file_unfinished_at_the_first_poll_is_not_forgotten(daemons):
    """Stock Rucio looks at it again after ten minutes."""
    daemons.box.transfers.held = True
    rule = daemons.rule(daemons.dataset(6))
    wait_for("all are submitted", lambda: len(daemons.box.transfers.files()) == 6)
    polled = len(daemons.box.transfers.requests)
    wait_for("several polls", lambda: len(daemons.box.transfers.requests) > polled + 3)
    daemons.box.transfers.release(3)
    wait_for("half is there", lambda: daemons.state(rule)[1] == 3)
    daemons.box.transfers.release(3)
    daemons.wait_ok(rule)


def test_nothing_is_submitted_without_a_token(daemons):
    box = daemons.box
    box.stop("rucio-daemons")
    box.issuer.stop()
    try:
        box.start("rucio-daemons")
        # The server knows the issuer's key already.
        rule = daemons.rule(daemons.dataset(3))
        cycles = daemons.report()["daemons"]["conveyor-submitter"]["cycles"]
        wait_for(
            "the submitter has tried twice",
            lambda: daemons.report()["daemons"]["conveyor-submitter"]["cycles"] > cycles + 1,
        )
        assert box.transfers.jobs == {}
        assert daemons.requests(rule) == [("Q", 0)] * 3
        assert "TokenError" in daemons.report()["daemons"]["conveyor-submitter"]["last_error"]
    finally:
        box.issuer.start()
    daemons.wait_ok(rule)


def test_repetitions_are_held_back(daemons):
    """Stock Rucio with fast loops uses up all repetitions in eleven seconds."""
    daemons.box.transfers.outcome = "FAILED"
    rule = daemons.rule(daemons.dataset(1))
    submitted = daemons.box.transfers.submitted_at
    wait_for("a second attempt", lambda: len(submitted) >= 2)
    assert submitted[1] - submitted[0] > 4.5
    daemons.box.transfers.outcome = "FINISHED"
    daemons.wait_ok(rule, timeout_s=120)


def test_a_stuck_rule_is_repaired_when_boosted(daemons):
    daemons.box.transfers.held = True
    name = daemons.dataset(1)
    rule = daemons.rule(name)
    wait_for("it is submitted", lambda: len(daemons.box.transfers.files()) == 1)
    # As after the last repetition.
    daemons.box.rows("UPDATE requests SET retry_count = 3 WHERE rule_id = %s", uuid.UUID(rule))
    daemons.box.transfers.outcome = "FAILED"
    daemons.box.transfers.release(1)
    wait_for("the rule is stuck", lambda: daemons.state(rule)[0] == "S")
    daemons.box.transfers.reset()
    reply = daemons.box.call("PUT", f"/rules/{rule}", "bob", body={"options": {"boost_rule": True}})
    assert reply.status == 200
    daemons.wait_ok(rule)


def test_requests_that_somebody_locked_are_looked_for_again(daemons):
    """Rucio passes over locked rows; with nothing left to do, the daemons would sleep until something else happens."""
    daemons.box.transfers.held = True
    rule = daemons.rule(daemons.dataset(1))
    daemons.wait_submitted(rule)

    def rounds() -> int:
        return daemons.report()["daemons"]["conveyor-poller"]["cycles"]

    with Databases(daemons.box).connect("rucio") as connection, connection.transaction():
        connection.execute("SELECT id FROM requests FOR UPDATE")
        before = rounds()
        wait_for("the poller goes on looking", lambda: rounds() > before + 5)
        # Only now: a round that began before the lock would wait for it with what it was told.
        daemons.box.transfers.release(1)
        assert daemons.state(rule)[0] == "R"
    daemons.wait_ok(rule)


def test_a_submission_that_was_cut_short_is_taken_up(daemons):
    daemons.box.transfers.held = True
    rule = daemons.rule(daemons.dataset(1))
    daemons.wait_submitted(rule)
    # As if the daemons had been killed between the mark and the answer, a while ago.
    daemons.box.rows(
        "UPDATE requests SET state = 'G', external_id = NULL, updated_at = now() at time zone 'utc' - interval '2 min' "
        "WHERE rule_id = %s",
        uuid.UUID(rule),
    )
    daemons.box.transfers.reset()
    # Any event wakes the finisher; a rule of somebody else does.
    daemons.wait_ok(daemons.rule(daemons.dataset(1)))
    daemons.wait_ok(rule)


def test_cancelling_carries_a_token(daemons):
    daemons.box.transfers.held = True
    rule = daemons.rule(daemons.dataset(1))
    daemons.wait_submitted(rule)
    reply = daemons.box.call("PUT", f"/rules/{rule}", "bob", body={"options": {"lifetime": 1}})
    assert reply.status == 200, reply.body

    def cancelled() -> list[str]:
        return [token for method, _, token in daemons.box.transfers.requests if method == "DELETE"]

    wait_for("the job is cancelled", cancelled)
    assert all(token.startswith("Bearer ey") for token in cancelled())


def test_ended_requests_go_into_the_history(daemons):
    name = daemons.dataset(2, ("NORTH-DISK", "NORTH_RAW"))
    rule = daemons.rule(name)
    daemons.wait_ok(rule)
    wait_for("they have ended", lambda: not daemons.requests(rule))
    kept = daemons.box.rows(
        "SELECT h.state, h.request_type, r.rse, h.dest_url LIKE 'davs://%%', h.external_id IS NOT NULL, "
        "h.submitted_at <= h.updated_at FROM requests_history h JOIN rses r ON r.id = h.source_rse_id "
        "WHERE h.rule_id = %s",
        uuid.UUID(rule),
    )
    # The source is the one of which the transfer service says that it was used: the first that it was given.
    addresses = daemons.box.context.addresses
    rse_at = {addresses[f"{rse}.copy.https"]: rse for rse in ("NORTH-DISK", "NORTH_RAW")}
    used = [rse_at[urlsplit(file["sources"][0]).hostname] for file in daemons.box.transfers.files()]
    assert sorted(kept) == sorted(("D", "T", rse, True, True, True) for rse in used)
    left = "SELECT count(*) FROM sources s JOIN requests_history h ON h.id = s.request_id WHERE h.rule_id = %s"
    assert daemons.box.rows(left, uuid.UUID(rule)) == [(0,)]


def test_a8_a_copy_on_a_non_deterministic_rse_is_found_where_it_was_put(daemons):
    name = daemons.dataset(1)
    daemons.wait_ok(daemons.rule(name, "NORTH_RAW"))
    put = urlsplit(daemons.box.transfers.files()[0]["destinations"][0])
    assert put.hostname == daemons.box.context.addresses["NORTH_RAW.copy.https"]
    wanted = {"dids": [{"scope": "cms", "name": f"{name}.0"}], "schemes": ["https"], "rse_expression": "NORTH_RAW"}
    replicas = daemons.box.call("POST", "/replicas/list", "bob", body=wanted)
    # Readers come through the door for people, to the same path.
    assert list(replicas.lines[0]["pfns"]) == [daemons.box.context.url("NORTH_RAW.https") + put.path]
    assert "/lake/cms/" in put.path


def test_an_asynchronous_rule_is_injected_at_once(daemons):
    rule = daemons.rule(daemons.dataset(3), asynchronous=True)
    # Less than the minute after which the daemon comes round by itself.
    daemons.wait_ok(rule, timeout_s=45)


def test_files_attached_later_are_locked_at_once(daemons):
    name = daemons.dataset(1)
    rule = daemons.rule(name)
    daemons.wait_ok(rule)
    other = daemons.dataset(1)
    attach = {"dids": [{"scope": "cms", "name": f"{other}.0"}]}
    daemons.ask("POST", f"/dids/cms/{name}/dids", attach)
    wait_for("two locks are OK", lambda: daemons.state(rule)[:2] == ("O", 2), timeout_s=45)


def test_the_report_tells_each_daemon(daemons):
    report = wait_for(
        "a report that all is well and has had its turn",
        lambda: (
            found
            if (found := daemons.report())["ok"] and all(entry["cycles"] for entry in found["daemons"].values())
            else None
        ),
    )
    assert report["pid"] == daemons.box.processes["rucio-daemons"].pid
    assert report["listener"] is None
    assert {"judge-evaluator", "conveyor-poller", "reaper", "undertaker"} <= set(report["daemons"])
    assert all(entry["alive"] for entry in report["daemons"].values())


@contextmanager
def making_the_catalogue(box, log):
    """What the server does before it serves, by itself; yields its log."""
    unit = box.units["rucio"]
    command = [word.replace(".server", ".bootstrap") for word in unit.command]
    with (
        log.open("wb") as stream,
        subprocess.Popen(command, env=dict(unit.env), stderr=stream, **box.state.account.popen_arguments()) as maker,
    ):
        try:
            yield log
        finally:
            maker.kill()


def test_the_database_may_go_and_come_back(daemons, tmp_path):
    box = daemons.box
    name = daemons.dataset(2)
    box.stop("postgres")
    wait_for("the report says so", lambda: not daemons.report()["ok"])
    with making_the_catalogue(box, tmp_path / "log") as log:
        wait_for("it waits", lambda: "waiting for the database" in log.read_text(), timeout_s=120)
        box.start("postgres")
        wait_for("it is made", lambda: "the catalogue is as described" in log.read_text(), timeout_s=120)
    # No request is lost to a connection that the old server had closed.
    assert [box.call("GET", "/rses/", "bob").status for _ in range(20)] == [200] * 20
    daemons.wait_ok(daemons.rule(name), timeout_s=120)
    wait_for("the report is good", lambda: daemons.report()["ok"])


def test_the_daemons_end_when_asked(daemons):
    assert daemons.box.stop("rucio-daemons") == {"rucio-daemons": 0}
    daemons.box.start("rucio-daemons")


def test_killed_daemons_go_on_where_they_were(daemons):
    box = daemons.box
    box.transfers.held = True
    rule = daemons.rule(daemons.dataset(4))
    daemons.wait_submitted(rule, 4)
    box.stop("rucio-daemons", number=signal.SIGKILL)
    box.transfers.release(4)
    box.start("rucio-daemons")
    daemons.wait_ok(rule)
    assert len(box.transfers.jobs) == 1


def test_idle_daemons_come_round_by_their_timers_alone(daemons):
    def cycles() -> dict[str, int]:
        return {name: entry["cycles"] for name, entry in daemons.report()["daemons"].items()}

    def is_at_rest() -> bool:
        before = cycles()
        timer = "conveyor-submitter"
        wait_for("its timer rings", lambda: cycles()[timer] > before[timer], timeout_s=120, period_s=0.5)
        # What earlier tests left undone is tried every ten seconds, not without end.
        return all(number - before[name] <= 11 for name, number in cycles().items())

    wait_for("nothing is under way", lambda: not daemons.box.rows("SELECT 1 FROM requests"))
    wait_for("no daemon turns in circles", is_at_rest, timeout_s=240)
