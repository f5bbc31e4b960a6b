from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boathouse.apps.transfers.states import JOB_TERMINAL, JobState, job_state

# elements, finished, failed, canceled, started → state
TABLE = [
    (3, 0, 0, 0, False, JobState.SUBMITTED),
    (3, 0, 0, 0, True, JobState.ACTIVE),
    (3, 2, 0, 0, True, JobState.ACTIVE),
    (3, 0, 2, 0, True, JobState.ACTIVE),
    (3, 3, 0, 0, True, JobState.FINISHED),
    (3, 2, 1, 0, True, JobState.FINISHEDDIRTY),
    (3, 2, 0, 1, True, JobState.FINISHEDDIRTY),
    (3, 0, 3, 0, True, JobState.FAILED),
    (3, 0, 1, 2, True, JobState.FAILED),
    (3, 0, 0, 3, True, JobState.CANCELED),
]


@pytest.mark.parametrize("row", TABLE)
def test_a_jobs_state_follows_from_its_files(row: tuple[int, int, int, int, bool, JobState]) -> None:
    *counts, started, expected = row
    assert job_state(*counts, started=started) is expected


@given(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5), st.integers(0, 5))
def test_a_job_ends_exactly_when_all_its_files_have(open_: int, finished: int, failed: int, canceled: int) -> None:
    elements = open_ + finished + failed + canceled
    state = job_state(elements, finished, failed, canceled, started=True)
    if elements:
        assert (state in JOB_TERMINAL) == (open_ == 0)
