from __future__ import annotations

import pytest

from boathouse.cli.cache import _caches
from boathouse.errors import InputError
from boathouse.plan.model import Endpoints
from boathouse.units import format_bytes


def test_less_than_nothing_is_told_in_the_same_units() -> None:
    assert [format_bytes(size) for size in (-12_443_798, 0, 12_443_798)] == ["-12.4 MB", "0 B", "12.4 MB"]


def test_a_cache_that_there_is_not_is_bad_input() -> None:
    with pytest.raises(InputError, match="no cache at NOPE"):
        _caches(
            Endpoints("small", "cms", "https://i", "https://c", "https://t", "/ca", storage=(), caches=()), ["NOPE"]
        )
