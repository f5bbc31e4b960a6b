"""A80: what failed is remembered for a while, and asked last meanwhile."""

from __future__ import annotations

from boathouse.lake.failing import REMEMBERED_S, Failing

URLS = ["root://cache:1//roots://a:1//f", "https://cache:2//roots://a:1//f", "root://a:1//f", "https://b:2/f"]


def test_a80_a_server_that_failed_comes_last_until_its_failure_is_forgotten() -> None:
    now = 1000.0
    failing = Failing(clock=lambda: now)
    failing.failed("root://cache:1//roots://b:1//other")
    assert failing.last(URLS) == [*URLS[1:], URLS[0]]
    now += REMEMBERED_S + 1
    assert failing.last(URLS) == URLS
    assert failing.known == {}


def test_a_server_that_works_again_is_in_its_turn_at_once() -> None:
    failing = Failing()
    failing.failed("root://t1234@a:1//f")
    assert failing.last(URLS)[-1] == "root://a:1//f"
    failing.worked("root://a:1//g")
    assert failing.last(URLS) == URLS


def test_what_one_process_knows_can_be_told_to_another() -> None:
    one, other = Failing(), Failing()
    one.failed("https://b:2/f")
    other.learn(one.known)
    assert other.last(URLS) == URLS
    other.failed("root://cache:1//x")
    assert other.last(URLS)[-2:] == [URLS[0], URLS[3]]


def test_no_more_is_remembered_than_makes_sense() -> None:
    failing = Failing()
    for number in range(1000):
        failing.failed(f"https://host{number}:1/f")
    assert len(failing.known) == 256
    assert "host999:1" in failing.known
