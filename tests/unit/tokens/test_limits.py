"""What bounds guesses at passwords, and what strangers can write into the audit log."""

from __future__ import annotations

import pytest

from boathouse.apps.tokens.sessions import limits
from boathouse.apps.tokens.trail.sampling import Sampler


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
def test_no_loopback_address_is_locked(address: str) -> None:
    assert [limit.key for limit in limits("bob", address, 5, 30)] == [f"login:bob@{address}", "login:bob"]


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1", ""])
def test_other_addresses_are(address: str) -> None:
    assert limits("bob", address, 5, 30)[-1].key == f"address:{address}"


def test_a_lock_for_one_address_grows_and_that_for_all_does_not() -> None:
    here, everywhere = limits("bob", "127.0.0.1", 5, 30)
    assert [here.locked_s(failures) for failures in (4, 5, 6, 7, 50)] == [0, 30, 60, 120, 900]
    assert [everywhere.locked_s(failures) for failures in (49, 50, 51, 1000)] == [0, 30, 30, 30]


def test_the_first_of_each_kind_are_admitted_and_the_others_counted() -> None:
    sampler = Sampler(2)
    assert [sampler.admits("refused") for _ in range(5)] == [True, True, False, False, False]
    assert sampler.admits("locked")
    assert sampler.end_window() == {"refused": 3}
    assert sampler.end_window() == {}
    assert sampler.admits("refused")
