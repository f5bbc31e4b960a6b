from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from boathouse.apps.transfers.markers import Progress

XROOTD = """\
Perf Marker
Timestamp: 1795199517
Stripe Index: 0
Stripe Bytes Transferred: 238745
Total Stripe Count: 1
RemoteConnections: tcp:127.0.1.11:20501,tcp:[::1]:20501
End
success: Created"""

DCACHE = """\
Perf Marker
    Timestamp: 1360578938
    State: Running
    State description: querying job status
    Stripe Index: 0
    Stripe Start Time: 1360578937
    Stripe Last Transferred: 1360578938
    Stripe Transfer Time: 0
    Stripe Bytes Transferred: 100
    Stripe Status: RUNNING
    Total Stripe Count: 1
End
Perf Marker
    Stripe Index: 1
    Stripe Bytes Transferred: 11
    Total Stripe Count: 2
End
failure: rejected PUT: 507 Insufficient Storage"""


def fed(text: str) -> Progress:
    progress = Progress()
    for line in text.splitlines(keepends=True):
        progress.feed(line)
    return progress


def test_the_markers_of_xrootd() -> None:
    progress = fed(XROOTD)
    assert (progress.markers, progress.transferred_bytes) == (1, 238745)
    assert progress.connections == "tcp:127.0.1.11:20501,tcp:[::1]:20501"
    assert progress.succeeded
    assert progress.outcome == "success: Created"


def test_the_markers_of_dcache_and_a_failure() -> None:
    progress = fed(DCACHE)
    assert (progress.markers, progress.transferred_bytes) == (2, 111)
    assert not progress.succeeded
    assert progress.outcome == "failure: rejected PUT: 507 Insufficient Storage"


def test_a_stream_that_ends_without_an_outcome_is_no_success() -> None:
    progress = fed(XROOTD.removesuffix("success: Created"))
    assert progress.outcome is None
    assert not progress.succeeded


@given(st.text())
def test_nonsense_is_survived(text: str) -> None:
    assert fed(text).transferred_bytes >= 0
