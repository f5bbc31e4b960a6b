"""What Prometheus is told, from outcomes and from the database."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from boathouse.apps.transfers.failures import ErrorClass, Failure, Side
from boathouse.apps.transfers.metrics import RECENT_S, Gauges, Metrics
from boathouse.apps.transfers.states import FileState
from boathouse.apps.transfers.work import Outcome, Task, Work

WORK = Work(
    task=Task.copy,
    file_id=1,
    job_id="j",
    attempt=1,
    spent=0,
    attempts=3,
    source_url="https://a/f",
    dest_url="https://b/f",
    source_host="a",
    dest_host="b",
    source_token=None,
    dest_token=None,
    overwrite=False,
    verify=True,
    checksum=None,
    size_bytes=None,
    wrote=False,
    alternatives=False,
)
NOW = datetime.now(UTC)
COPIED = Outcome(WORK, FileState.FINISHED, NOW, size_bytes=1000, seconds=0.5)
EXISTED = Outcome(WORK, FileState.FINISHED, NOW, size_bytes=1000, seconds=0.1, existed=True)
REFUSED = Outcome(WORK, FileState.FAILED, NOW, Failure(Side.SOURCE, ErrorClass.auth, "no"))


def test_outcomes_are_counted_by_link() -> None:
    metrics = Metrics()
    for outcome in (COPIED, COPIED, EXISTED, REFUSED):
        metrics.count(outcome)
    lines = metrics.text(Gauges(), 3).splitlines()
    link = 'source="a",destination="b"'
    for line in (
        f'boathouse_transfer_attempts_total{{{link},ended="finished"}} 2',
        f'boathouse_transfer_attempts_total{{{link},ended="existed"}} 1',
        f'boathouse_transfer_attempts_total{{{link},ended="auth"}} 1',
        f"boathouse_transfer_bytes_total{{{link}}} 2000",
        f'boathouse_transfer_duration_seconds_bucket{{{link},le="0.3"}} 0',
        f'boathouse_transfer_duration_seconds_bucket{{{link},le="1"}} 2',
        f'boathouse_transfer_duration_seconds_bucket{{{link},le="+Inf"}} 2',
        f"boathouse_transfer_duration_seconds_sum{{{link}}} 1.0",
        f"boathouse_transfer_duration_seconds_count{{{link}}} 2",
        "boathouse_transfer_running 3",
    ):
        assert line in lines, line


def test_the_database_is_told_with_escaped_labels() -> None:
    gauges = Gauges(
        files=[{"source_host": 'a"b', "dest_host": "c\\d", "file_state": "SUBMITTED", "count": 1}],
        queue=[{"vo_name": "escape", "activity": "User", "file_state": "ACTIVE", "count": 2}],
        unreachable=["e:1"],
        banned=[("davs://f:1", "*")],
        decided={("a", "b"): 7},
    )
    lines = Metrics().text(gauges, 0).splitlines()
    for line in (
        r'boathouse_transfer_files{source="a\"b",destination="c\\d",state="SUBMITTED"} 1',
        'boathouse_transfer_queue{vo="escape",activity="User",state="ACTIVE"} 2',
        'boathouse_transfer_unreachable{host="e:1"} 1',
        'boathouse_transfer_banned{storage="davs://f:1",vo="*"} 1',
        'boathouse_transfer_link_limit{source="a",destination="b"} 7',
    ):
        assert line in lines, line


def test_a_vo_is_told_of_its_own_copies() -> None:
    metrics = Metrics()
    metrics.count(replace(COPIED, work=replace(WORK, vo="cms")))
    metrics.count(replace(REFUSED, work=replace(WORK, vo="magic", dest_host="c")))
    told = metrics.text(Gauges(), None, "cms")
    assert 'destination="b",ended="finished"} 1' in told
    assert 'destination="c"' not in told
    assert "boathouse_transfer_running" not in told
    assert list(metrics.recent("magic")) == [("a", "c")]
    assert len(metrics.recent()) == 2


def test_what_is_long_ago_is_not_recent() -> None:
    now = 0.0
    metrics = Metrics(lambda: now)
    metrics.count(REFUSED)
    now = RECENT_S
    metrics.count(COPIED)
    assert metrics.recent()["a", "b"].ended == {"auth": 1, "finished": 1}
    now = RECENT_S + 1
    (recent,) = metrics.recent().values()
    assert (recent.ended, recent.size_bytes) == ({"finished": 1}, 1000)
