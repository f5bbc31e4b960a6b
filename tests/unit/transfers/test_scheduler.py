from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from boathouse.apps.transfers.scheduler import slots
from boathouse.apps.transfers.settings import Limits

HOSTS = st.sampled_from("abcd")
LINKS = st.tuples(HOSTS, HOSTS)


def test_links_share_what_is_free() -> None:
    limits = Limits(per_storage=100, per_link=100)
    assert slots([("a", "x"), ("b", "x")], {}, {}, limits=limits, free=5) == {("a", "x"): 3, ("b", "x"): 2}
    busy = {("a", "x"): 4}
    assert slots([("a", "x"), ("b", "x")], busy, {}, limits=limits, free=1) == {("b", "x"): 1}


def test_a_paused_host_gets_nothing_and_then_one_try() -> None:
    limits = Limits()
    link = ("a", "x")
    assert slots([link], {}, {"x": True}, limits=limits, free=9) == {}
    assert slots([link], {}, {"x": False}, limits=limits, free=9) == {link: 1}
    assert slots([link], {link: 1}, {"x": False}, limits=limits, free=9) == {}
    assert slots([link, ("b", "y")], {}, {"a": True}, limits=limits, free=1) == {("b", "y"): 1}


@given(
    st.sets(LINKS, max_size=8),
    st.dictionaries(LINKS, st.integers(0, 6), max_size=8),
    st.dictionaries(HOSTS, st.booleans()),
    st.integers(0, 40),
)
def test_no_limit_is_ever_exceeded(
    links: set[tuple[str, str]], active: dict[tuple[str, str], int], unreachable: dict[str, bool], free: int
) -> None:
    limits = Limits(per_storage=6, per_link=4)
    given_ = slots(links, active, unreachable, limits=limits, free=free)
    assert set(given_) <= links
    assert sum(given_.values()) <= free
    out, into = Counter[str](), Counter[str]()
    for (source, destination), count in (*active.items(), *given_.items()):
        out[source] += count
        into[destination] += count
    for (source, destination), count in given_.items():
        assert count + active.get((source, destination), 0) <= limits.per_link
        assert out[source] <= limits.per_storage
        assert into[destination] <= limits.per_storage
        assert not unreachable.get(source)
        assert not unreachable.get(destination)
