"""The supervisor of the daemons: waking, restarts, stopping, telling."""

from __future__ import annotations

import contextlib
import json
import threading
import time

import pytest
from boathouse_rucio_site import health
from boathouse_rucio_site.backoff import DELAYS_S, Backoff
from boathouse_rucio_site.errors import TokenError
from boathouse_rucio_site.loop import Daemon, Supervisor


def until(condition, timeout_s: float = 60.0) -> None:
    pause, deadline = threading.Event(), time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        pause.wait(0.005)


def daemon(cycle, **more):
    more.setdefault("heartbeat", contextlib.nullcontext)
    return Daemon("worker", cycle, **more)


@pytest.fixture
def supervised():
    """Runs daemons under a supervisor until the test is over."""
    running = []

    def start(*daemons: Daemon) -> Supervisor:
        stop = threading.Event()
        supervisor = Supervisor(daemons, stop)
        thread = threading.Thread(target=supervisor.run, args=(lambda: None, 0.02))
        thread.start()
        running.append((stop, thread))
        return supervisor

    yield start
    for stop, thread in running:
        stop.set()
        thread.join(60)
        assert not thread.is_alive()


def test_a_topic_wakes_those_that_listen(supervised):
    seen: list[str] = []
    first = daemon(lambda _: seen.append("first"), topics=["submit"])
    second = daemon(lambda _: seen.append("second"), topics=["finish"])
    supervisor = supervised(first, second)
    until(lambda: len(seen) == 2)
    supervisor.wake("submit")
    until(lambda: seen.count("first") == 2)
    assert seen.count("second") == 1


def test_a_wake_during_a_cycle_causes_another(supervised):
    entered, leave = threading.Event(), threading.Event()
    count = []

    def cycle(_: object) -> None:
        count.append(1)
        entered.set()
        leave.wait(60)

    supervisor = supervised(daemon(cycle, topics=["t"]))
    assert entered.wait(60)
    supervisor.wake("t")
    leave.set()
    until(lambda: len(count) == 2)


def test_a_cycle_says_when_it_wants_to_be_called_again(supervised):
    count = []
    supervised(daemon(lambda _: count.append(1) or (0.01 if len(count) < 5 else None)))
    until(lambda: len(count) == 5)


def test_a_failing_cycle_is_told_and_tried_again(supervised):
    answers = iter([RuntimeError("no route")])

    def cycle(_: object) -> None:
        for error in answers:
            raise error

    worker = daemon(cycle)
    supervisor = supervised(worker)
    until(lambda: supervisor.report(None)["daemons"]["worker"]["last_error"] == "RuntimeError: no route")
    until(lambda: worker.status.cycles == 2)
    assert worker.status.last_error == ""


@pytest.mark.parametrize(("error", "traced"), [(TokenError("no answer"), False), (RuntimeError("no route"), True)])
def test_what_is_known_to_go_wrong_is_logged_in_one_line(supervised, caplog, error, traced):
    """Daemons try again all through an outage of the issuer."""
    answers = iter([error])

    def cycle(_: object) -> None:
        for failure in answers:
            raise failure

    worker = daemon(cycle)
    supervised(worker)
    until(lambda: worker.status.cycles == 1)
    (record,) = [record for record in caplog.records if "this cycle failed" in record.getMessage()]
    assert str(error) in record.getMessage()
    assert bool(record.exc_info) == traced


def test_a_thread_that_dies_is_restarted_and_counted(supervised):
    lives = []

    @contextlib.contextmanager
    def heartbeat():
        lives.append(1)
        if len(lives) < 3:
            raise RuntimeError("no database")
        yield None

    worker = daemon(lambda _: None, heartbeat=heartbeat)
    supervised(worker)
    until(lambda: worker.status.cycles == 1)
    assert worker.status.restarts == 2
    assert worker.alive


def test_there_is_never_more_than_one_thread(supervised):
    worker = daemon(lambda _: None)
    supervised(worker)
    until(lambda: worker.status.cycles == 1)
    before = threading.active_count()
    for _ in range(5):
        worker.start()
    assert threading.active_count() == before


def test_stopping_ends_a_busy_daemon_by_its_own_flag():
    flag = threading.Event()
    worker = daemon(lambda _: flag.wait(120) and None, stop_work=flag.set)
    stop = threading.Event()
    supervisor = Supervisor([worker], stop)
    result = []
    thread = threading.Thread(target=lambda: result.append(supervisor.run(lambda: None, 0.02)))
    thread.start()
    until(lambda: worker.status.busy_since is not None)
    stop.set()
    thread.join(60)
    assert result == [True], "it ended by its flag, before the time in which it would have been given up"


def test_the_report_is_a_runners(tmp_path):
    worker = daemon(lambda _: None)
    supervisor = Supervisor([worker], threading.Event())
    path = tmp_path / "report.json"
    health.write(path, supervisor.report("not connected"))
    report = json.loads(path.read_text())
    assert report["ok"] is False
    assert "the listener: not connected" in report["detail"]
    assert "worker is dead" in report["detail"]
    assert report["pid"] > 0
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.json"]


class Request:
    def __init__(self, retry_count: int | None) -> None:
        self.retry_count = retry_count


def test_repetitions_are_held_back_longer_and_longer():
    now = [0.0]
    backoff = Backoff(clock=lambda: now[0])
    requests = {str(number): Request(number) for number in (0, 1, 2, 3, 9)}
    due, wait = backoff.split(requests)
    assert list(due) == ["0"]
    assert wait == DELAYS_S[1]
    now[0] = DELAYS_S[1]
    assert list(backoff.split(requests)[0]) == ["0", "1"]
    now[0] = DELAYS_S[3]
    assert list(backoff.split(requests)[0]) == list(requests)


def test_backoff_forgets_what_is_gone():
    now = [0.0]
    backoff = Backoff(clock=lambda: now[0])
    backoff.split({"a": Request(1)})
    backoff.split({})
    now[0] = 10.0
    assert backoff.split({"a": Request(1)})[0] == {}
