from __future__ import annotations

import socket

from boathouse.plan.model import PortRequest
from boathouse.run.local import ports

A, B = PortRequest("a", "127.0.0.1"), PortRequest("b", "127.0.0.1")


def test_a_kept_port_is_kept_and_a_wanted_one_wins() -> None:
    chosen = ports.choose([A, PortRequest("b", "127.0.0.1", wanted=29_001)], {"a": 29_002, "b": 29_003}, seed=0)
    assert chosen == {"a": 29_002, "b": 29_001}


def test_new_ports_are_distinct_and_free() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        seed = 5_000
        chosen = ports.choose([A, B], {}, seed=seed)
    assert chosen["a"] != chosen["b"]
    assert all(20_000 <= port <= 31_999 for port in chosen.values())


def test_a_port_in_use_is_passed_over_and_named_when_it_was_wanted() -> None:
    with socket.socket() as held:
        (free,) = ports.choose([A], {}, seed=7_000).values()
        held.bind(("127.0.0.1", free))
        held.listen()
        assert ports.choose([A], {}, seed=free - 20_000) != {"a": free}
        (problem,) = ports.check_free([A], {"a": free})
    assert problem.what == f"port {free} is in use by another program"
    assert problem.remedy is not None
    assert str(free) in problem.remedy
    assert ports.check_free([A], {"a": free}) == ()


def test_a_port_that_is_another_s_too_is_free_at_both_addresses() -> None:
    far = PortRequest("far", "127.10.0.1", same_as="a")
    with socket.socket() as held:
        (free,) = ports.choose([A], {}, seed=9_000).values()
        held.bind(("127.10.0.1", free))
        held.listen()
        chosen = ports.choose([far, A], {}, seed=free - 20_000)
    assert chosen["far"] == chosen["a"] != free
    assert ports.choose([A, far], {"a": 29_004, "far": 29_005}, seed=0) == {"a": 29_004, "far": 29_004}
