from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from boathouse.apps.transfers.optimizer import Measured, decide

CALM = Measured(active=8, running=8, waiting=50, throughput=1e6, finished=100, failed=0, ema=1e6, step=0)


def settled(throughput: Callable[[int], float], start: int, *, rounds: int = 60) -> list[int]:
    """The numbers of copies of the last rounds on a link that is so fast with so many."""
    active, ema, step, seen = start, 0.0, 0, []
    for _ in range(rounds):
        rate = throughput(active)
        new, _ = decide(replace(CALM, active=active, running=active, throughput=rate, ema=ema, step=step), 1, 64)
        ema = 0.3 * rate + 0.7 * (ema or rate)
        active, step = new, new - active
        seen.append(active)
    return seen[-10:]


@pytest.mark.parametrize("start", [2, 10, 30])
def test_it_finds_the_number_beyond_which_more_copies_cost(start: int) -> None:
    found = settled(lambda active: 1e6 * active if active <= 10 else 1e7 / (1 + 0.15 * (active - 10)), start)
    assert all(7 <= active <= 13 for active in found), found


def test_errors_make_it_smaller_at_once() -> None:
    assert decide(replace(CALM, failed=20), 1, 64)[0] == 4
    assert decide(replace(CALM, failed=5), 1, 64)[0] == 7
    assert "83 % of the attempts succeeded" in decide(replace(CALM, failed=20), 1, 64)[1]
    assert decide(replace(CALM, active=1, failed=100), 1, 64)[0] == 1


def test_a_link_that_does_not_use_what_it_may_tells_nothing() -> None:
    assert decide(replace(CALM, waiting=0, throughput=9e9), 1, 64) == (8, "nothing waits: no change")
    assert decide(replace(CALM, running=3, throughput=9e9), 1, 64)[0] == 8


def test_the_operators_bounds_hold() -> None:
    assert decide(replace(CALM, throughput=2e6), 1, 8) == (
        8,
        "2.00 MB/s after 1.00 MB/s: on in the same direction (from 1 to 8 are allowed)",
    )
    assert decide(replace(CALM, failed=100), 6, 8)[0] == 6
