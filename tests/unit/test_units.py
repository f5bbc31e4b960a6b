"""Durations and sizes as people write them."""

from __future__ import annotations

import pytest

from boathouse.errors import InputError
from boathouse.units import parse_bandwidth, parse_lifetime


def test_a_lifetime_ends_on_a_day_that_the_calendar_has() -> None:
    assert parse_lifetime("30 d") == 30 * 86400
    with pytest.raises(InputError, match="too long a lifetime"):
        parse_lifetime("99999999 d")


@pytest.mark.parametrize(
    ("text", "bits_per_s"),
    [("1 Gbit/s", 10**9), ("2.5Mbit/s", 2_500_000), ("100 MB/s", 800_000_000), ("64 kbit/s", 64_000), (1000, 1000)],
)
def test_a_bandwidth_is_in_bits_or_bytes_a_second(text: str | int, bits_per_s: int) -> None:
    assert parse_bandwidth(text) == bits_per_s


@pytest.mark.parametrize("text", ["1 Gbit", "10 MB", "fast", "-1 Gbit/s", ""])
def test_what_says_no_rate_is_no_bandwidth(text: str) -> None:
    with pytest.raises(InputError, match="not a bandwidth"):
        parse_bandwidth(text)
