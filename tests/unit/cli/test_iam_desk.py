"""Points in time as administrators type and read them."""

from __future__ import annotations

import pytest

from boathouse.cli.iam_desk import until, when
from boathouse.errors import InputError


@pytest.mark.parametrize("text", ["9999-12-31", "3000-01-01", "99999999 d"])
def test_an_end_that_no_calendar_has_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="too far away"):
        until(text)


def test_a_day_is_meant_to_its_end() -> None:
    assert when(until("2999-12-30")) == "2999-12-30 23:59:59 UTC"


@pytest.mark.parametrize("text", ["2027-02-30", "2027-13-01"])
def test_a_day_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="not a day"):
        until(text)
