"""The service is killed with -9 at every change of a file's state, or stopped; the next one ends what it began, once.

Where the change is one of the database, the test locks a table and waits until the service waits for it: at that
instant the change is asked for and not made. Where it is one of the storage's, a proxy holds the request.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
import urllib3

from boathouse.testing.proxy import Fault, Proxy, Seen, Then
from boathouse.testing.wait import wait_for

from .box import Box, Service

SIZE = 2_000_000
_SETTLE = "SELECT jobs.job_id, jobs.job_type%FOR UPDATE"
_CANCEL = "SELECT jobs.job_id %jobs.job_state NOT IN%FOR UPDATE"
_STOPS = "INFO stopping with 0 copies"
LIMITS = {"retry_delay_s": 0.1, "pause_s": 1.0, "answer_s": 90.0}


class Killed:
    """One file between two proxies, and the service that is killed while it copies it."""

    def __init__(self, box: Box) -> None:
        self.box = box
        self.source, self.destination = box.proxy(box.source), box.proxy(box.destination)
        hosts = [self.source.host, self.destination.host, box.source.host]
        self.service: Service = box.service("killed", limits=LIMITS, destinations=hosts)
        self.path, self.data = "", b""

    def begin(self, path: str) -> None:
        self.path, self.data = path, os.urandom(SIZE)
        self.box.put(path, self.data)
        for proxy in self.proxies:
            proxy.inject()
            proxy.seen = Seen()

    @property
    def proxies(self) -> tuple[Proxy, Proxy]:
        return self.source, self.destination

    def submit(self, *sources: str, **params: object) -> str:
        file = self.box.file(self.path, self.data, sources=[*sources, self.source.davs + self.path])
        file["destinations"] = [self.destination.davs + self.path]
        return self.service.submit(file, **params)

    def kill(self) -> None:
        self.service.stop(signal.SIGKILL)

    def go_on(self) -> None:
        self.service.start()
        for proxy in self.proxies:
            proxy.let_go()

    @contextlib.contextmanager
    def waiting_for(self, table: str, mode: str) -> Iterator[psycopg.Connection]:
        """Hold a table so that the service's next change of it waits."""
        with self.service.connected() as connection:
            connection.execute(f"LOCK TABLE {table} IN {mode} MODE".encode())
            yield connection
            connection.rollback()

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """Have the service stop, and wait until it has begun to; it has ended after what is done meanwhile."""
        before = self.service.log.count(_STOPS)
        with ThreadPoolExecutor(1) as threads:
            ended = threads.submit(self.service.stop)
            wait_for("it stops", lambda: self.service.log.count(_STOPS) > before)
            yield
            ended.result()

    def check(self, job_id: str, state: str = "FINISHED", *, copies: int = 1) -> None:
        """The file's end: right, once, and nothing else left."""
        assert self.service.finished(job_id)["job_state"] == state, self.service.why(job_id)
        wait_for("all is clean", lambda: not self.service.rows("SELECT 1 FROM files WHERE busy"))
        assert self.box.destination.holds(self.path) == (self.data if state == "FINISHED" else None)
        assert self.source.seen.whole["GET"] == copies
        assert self.service.rows("SELECT 1 FROM tokens") == []


@pytest.fixture(scope="module")
def shared_killed(box: Box) -> Iterator[Killed]:
    made = Killed(box)
    for proxy in made.proxies:
        proxy.start()
    made.service.start()
    yield made
    made.service.stop()
    for proxy in made.proxies:
        proxy.stop()


@pytest.fixture
def killed(shared_killed: Killed, place: str) -> Killed:
    shared_killed.begin(f"{place}/f")
    return shared_killed


def test_while_a_job_is_stored(killed: Killed) -> None:
    with ThreadPoolExecutor(1) as threads:
        with killed.waiting_for("jobs", "SHARE"):
            asked = threads.submit(killed.submit)
            wait_for("the job is being stored", lambda: killed.service.waits_for_a_lock("INSERT INTO jobs"))
            killed.kill()
        with pytest.raises(urllib3.exceptions.HTTPError):
            asked.result()
    before = killed.service.rows("SELECT count(*) FROM jobs")
    killed.go_on()
    assert killed.service.rows("SELECT 1 FROM jobs WHERE job_finished IS NULL") == []
    assert killed.service.rows("SELECT count(*) FROM jobs") == before
    killed.check(killed.submit())


def test_while_a_file_is_claimed(killed: Killed) -> None:
    killed.destination.stop()
    job_id = killed.submit()
    wait_for("it waits", lambda: killed.service.why(job_id)[0]["attempts"])
    with killed.waiting_for("files", "SHARE"):
        killed.destination.start()
        wait_for("the claim waits", lambda: killed.service.waits_for_a_lock("SET file_state = 'ACTIVE'"))
        killed.kill()
    killed.go_on()
    killed.check(job_id)


def test_a_stop_gives_back_what_is_claimed_meanwhile(killed: Killed) -> None:
    killed.destination.stop()
    job_id = killed.submit()
    wait_for("it waits", lambda: killed.service.why(job_id)[0]["attempts"])
    with contextlib.ExitStack() as stopped, killed.waiting_for("files", "SHARE"):
        killed.destination.start()
        wait_for("the claim waits", lambda: killed.service.waits_for_a_lock("SET file_state = 'ACTIVE'"))
        stopped.enter_context(killed.stopped())
    rows = killed.service.rows("SELECT file_state, spent, busy, worker FROM files WHERE job_id = %s", job_id)
    assert rows == [("SUBMITTED", 0, False, None)]
    assert not killed.destination.seen.requests["COPY"]
    killed.go_on()
    killed.check(job_id)


def test_a_stop_gives_back_what_is_taken_over_meanwhile(killed: Killed) -> None:
    killed.source.inject(Fault({"GET"}, 1, after_bytes=SIZE // 2, then=Then.stall))
    job_id = killed.submit()
    wait_for("half of it has moved", lambda: killed.source.seen.stalled)
    killed.kill()
    with contextlib.ExitStack() as stopped, killed.waiting_for("files", "SHARE"):
        killed.service.start()
        wait_for("the takeover waits", lambda: killed.service.waits_for_a_lock("SET worker = %attempt + 1"))
        stopped.enter_context(killed.stopped())
    # Half a file lies there, or still grows: that it is to be looked at must not be lost.
    rows = killed.service.rows("SELECT file_state, spent, busy, worker FROM files WHERE job_id = %s", job_id)
    assert rows == [("SUBMITTED", 0, True, None)]
    killed.go_on()
    assert killed.service.finished(job_id)["job_state"] == "FINISHED"
    wait_for("all is clean", lambda: not killed.service.rows("SELECT 1 FROM files WHERE busy"))
    assert killed.box.destination.holds(killed.path) == killed.data


def test_between_the_claim_and_the_copy(killed: Killed) -> None:
    killed.destination.inject(Fault({"COPY"}, hold=True))
    job_id = killed.submit()
    wait_for("the copy is asked for", lambda: killed.destination.seen.held)
    assert killed.service.why(job_id)[0]["file_state"] == "ACTIVE"
    killed.kill()
    wait_for("its connection is gone", lambda: not killed.destination.seen.held)
    killed.go_on()
    killed.check(job_id)


def test_while_bytes_move(killed: Killed) -> None:
    killed.source.inject(Fault({"GET"}, 1, after_bytes=SIZE // 2, then=Then.stall))
    job_id = killed.submit()
    wait_for("half of it has moved", lambda: killed.source.seen.stalled)
    killed.kill()
    killed.service.start()
    wait_for("it is looked after", lambda: killed.service.why(job_id)[0]["attempts"])
    killed.source.let_go()
    # Whether the server ends the first copy or begins another depends on when it sees that nobody listens.
    assert killed.service.finished(job_id)["job_state"] == "FINISHED"
    wait_for("all is clean", lambda: not killed.service.rows("SELECT 1 FROM files WHERE busy"))
    assert killed.box.destination.holds(killed.path) == killed.data


def test_between_the_copy_and_its_check(killed: Killed) -> None:
    killed.destination.inject(Fault({"HEAD"}, hold=True))
    job_id = killed.submit()
    wait_for("the check is asked for", lambda: killed.destination.seen.held)
    killed.kill()
    killed.go_on()
    killed.check(job_id)


def test_while_success_is_written(killed: Killed) -> None:
    killed.destination.inject(Fault({"HEAD"}, hold=True))
    job_id = killed.submit()
    wait_for("the check is asked for", lambda: killed.destination.seen.held)
    with killed.waiting_for("jobs", "EXCLUSIVE"):
        killed.destination.let_go()
        wait_for("the outcome waits", lambda: killed.service.waits_for_a_lock(_SETTLE))
        killed.kill()
    killed.go_on()
    killed.check(job_id)
    assert killed.service.why(job_id)[0]["attempts"][-1]["outcome"] == "FINISHED"


@pytest.mark.parametrize("fault", ["another-source", "another-attempt", "the-last"])
def test_while_a_failure_is_written(killed: Killed, fault: str) -> None:
    missing = killed.box.source.davs + killed.path + ".missing"
    sources, params = [], {}
    if fault == "another-source":
        sources = [missing]
    else:
        killed.source.inject(Fault(times=1, status=500))
    if fault == "the-last":
        killed.source.inject(Fault(status=500))
        params = {"retry": -1}
    killed.destination.inject(Fault({"COPY"}, 1, hold=True))
    job_id = killed.submit(*sources, **params)
    wait_for("the copy is asked for", lambda: killed.destination.seen.held)
    with killed.waiting_for("jobs", "EXCLUSIVE"):
        killed.destination.let_go()
        wait_for("the outcome waits", lambda: killed.service.waits_for_a_lock(_SETTLE))
        killed.kill()
    killed.service.start()
    failed = fault == "the-last"
    killed.check(job_id, "FAILED" if failed else "FINISHED", copies=0 if failed else 1)


def test_while_a_partial_file_is_removed(killed: Killed) -> None:
    killed.source.inject(Fault({"GET"}, after_bytes=SIZE // 2, then=Then.cut))
    killed.destination.inject(Fault({"DELETE"}, hold=True))
    job_id = killed.submit(retry=-1)
    wait_for("the removal is asked for", lambda: killed.destination.seen.held)
    killed.kill()
    killed.service.start()
    killed.destination.let_go()
    killed.check(job_id, "FAILED", copies=0)


def test_while_a_canceled_copy_is_cleaned(killed: Killed) -> None:
    killed.source.inject(Fault({"GET"}, after_bytes=SIZE // 2, then=Then.stall))
    job_id = killed.submit()
    wait_for("half of it has moved", lambda: killed.source.seen.stalled)
    killed.destination.inject(Fault({"DELETE"}, hold=True))
    assert killed.service.request("DELETE", f"/jobs/{job_id}").body["job_state"] == "CANCELED"
    wait_for("the removal is asked for", lambda: killed.destination.seen.held)
    killed.kill()
    killed.service.start()
    killed.destination.let_go()
    killed.check(job_id, "CANCELED", copies=0)


@pytest.mark.parametrize("end", ["FAILED", "CANCELED"])
def test_another_file_in_its_place_stays_while_nothing_is_known_of_the_source(killed: Killed, end: str) -> None:
    """That it may be replaced does not say that it may go."""
    killed.box.destination.put(killed.path, b"of before")
    killed.destination.inject(Fault({"COPY"}, hold=True))
    job_id = killed.submit(retry=-1)
    wait_for("the copy is asked for", lambda: killed.destination.seen.held)
    if end == "CANCELED":
        assert killed.service.request("DELETE", f"/jobs/{job_id}").body["job_state"] == end
    killed.kill()
    wait_for("its connection is gone", lambda: not killed.destination.seen.held)
    killed.destination.inject()
    killed.go_on()
    assert killed.service.finished(job_id)["job_state"] == end
    wait_for("all is looked after", lambda: not killed.service.rows("SELECT 1 FROM files WHERE busy"))
    assert killed.box.destination.holds(killed.path) == b"of before"


@pytest.mark.parametrize("committed", [False, True])
def test_while_a_job_is_canceled(killed: Killed, *, committed: bool) -> None:
    killed.destination.inject(Fault({"COPY"}, hold=True))
    job_id = killed.submit()
    wait_for("the copy is asked for", lambda: killed.destination.seen.held)
    with ThreadPoolExecutor(1) as threads:
        with killed.waiting_for("files" if committed else "jobs", "EXCLUSIVE") as held:
            asked = threads.submit(killed.service.request, "DELETE", f"/jobs/{job_id}")
            wait_for(
                "the cancellation waits",
                lambda: killed.service.waits_for_a_lock(
                    "UPDATE files SET file_state=%finish_time=now()" if committed else _CANCEL
                ),
            )
            if committed:
                # What waits behind the cancellation is the worker's own release of the file.
                held.rollback()
                asked.result()
            killed.kill()
        if not committed:
            with pytest.raises(urllib3.exceptions.HTTPError):
                asked.result()
    killed.go_on()
    killed.check(job_id, "CANCELED" if committed else "FINISHED", copies=0 if committed else 1)
