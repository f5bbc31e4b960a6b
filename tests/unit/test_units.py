"""Durations and sizes as people write them."""

from __future__ import annotations

import pytest

from boathouse.errors import InputError
from boathouse.units import parse_lifetime


def test_a_lifetime_ends_on_a_day_that_the_calendar_has() -> None:
    assert parse_lifetime("30 d") == 30 * 86400
    with pytest.raises(InputError, match="too long a lifetime"):
        parse_lifetime("99999999 d")
