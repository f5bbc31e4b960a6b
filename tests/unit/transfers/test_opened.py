"""Tokens that are open for a moment."""

from __future__ import annotations

from dataclasses import replace

import pytest

from boathouse.apps.transfers.opened import KNOWN_S, OpenTokens
from boathouse.apps.transfers.work import Token
from boathouse.testing.clock import Clock

TOKEN = Token(1, "job", "host", "first", None, "alice")
RENEWED = replace(TOKEN, value="second")


@pytest.fixture
def clock() -> Clock:
    return Clock(100.0)


@pytest.fixture
def opened(clock: Clock) -> OpenTokens:
    return OpenTokens(clock)


def test_only_what_was_kept_is_known(opened: OpenTokens) -> None:
    assert opened.known({1, 2}) == {}
    opened.keep([TOKEN], asked_at=opened.now())
    assert opened.known({1, 2}) == {1: TOKEN}
    assert opened.known({2}) == {}


def test_what_was_read_is_known_for_a_moment(opened: OpenTokens, clock: Clock) -> None:
    """Other workers exchange tokens too: what this one keeps is asked for again, however often it is used."""
    opened.keep([TOKEN], asked_at=opened.now())
    clock.now += KNOWN_S
    assert opened.known({1}) == {1: TOKEN}
    clock.now += 0.001
    assert opened.known({1}) == {}


def test_what_nobody_asked_for_is_forgotten(opened: OpenTokens, clock: Clock) -> None:
    opened.keep([TOKEN], asked_at=opened.now())
    clock.now += KNOWN_S + 1
    opened.keep([replace(TOKEN, token_id=2)], asked_at=opened.now())
    clock.now -= 1
    assert opened.known({1, 2}).keys() == {2}


def test_looking_for_nothing_forgets_nothing(opened: OpenTokens) -> None:
    opened.keep([TOKEN], asked_at=opened.now())
    assert opened.known(set()) == {}
    opened.keep([], asked_at=opened.now())
    assert opened.known({1}) == {1: TOKEN}


def test_a_successor_stays_when_its_forerunner_was_read_before(opened: OpenTokens, clock: Clock) -> None:
    asked_at = opened.now()
    clock.now += 0.1
    opened.keep([RENEWED], asked_at=opened.now())
    opened.keep([TOKEN], asked_at=asked_at)
    assert opened.known({1}) == {1: RENEWED}


def test_a_successor_takes_the_place_of_what_was_known(opened: OpenTokens, clock: Clock) -> None:
    opened.keep([TOKEN], asked_at=opened.now())
    clock.now += 0.1
    opened.keep([RENEWED], asked_at=opened.now())
    assert opened.known({1}) == {1: RENEWED}
