from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from hypothesis import given
from hypothesis import strategies as st

from boathouse.apps.transfers.policy import Ban, BanStatus, LinkLimit, Policy, Share, StorageLimit
from boathouse.apps.transfers.scheduler import Group, Link, Rules, slots
from boathouse.apps.transfers.settings import Limits

HOSTS = st.sampled_from("abcd")
LINKS = st.tuples(HOSTS, HOSTS)
ANYWHERE = frozenset[str]()


def group(link: Link, vo: str = "cms", activity: str = "default") -> Group:
    return Group(*link, vo, activity)


def dealt(
    links: Iterable[Link],
    active: Mapping[Link, int],
    unreachable: Mapping[str, bool],
    *,
    limits: Limits,
    free: int,
    **rules: object,
) -> dict[Link, int]:
    """Slots by link, of files that are all alike."""
    given_ = slots(
        [group(link) for link in links],
        {group(link): count for link, count in active.items()},
        unreachable,
        rules=Rules(limits, **rules),  # type: ignore[arg-type]
        free=free,
    )
    return {pool.link: count for pool, count in given_.items()}


def test_links_share_what_is_free() -> None:
    limits = Limits(per_storage=100, per_link=100)
    assert dealt([("a", "x"), ("b", "x")], {}, {}, limits=limits, free=5) == {("a", "x"): 3, ("b", "x"): 2}
    busy = {("a", "x"): 4}
    assert dealt([("a", "x"), ("b", "x")], busy, {}, limits=limits, free=1) == {("b", "x"): 1}


def test_a_paused_host_gets_nothing_and_then_one_try() -> None:
    limits = Limits()
    link = ("a", "x")
    assert dealt([link], {}, {"x": True}, limits=limits, free=9) == {}
    assert dealt([link], {}, {"x": False}, limits=limits, free=9) == {link: 1}
    assert dealt([link], {link: 1}, {"x": False}, limits=limits, free=9) == {}
    assert dealt([link, ("b", "y")], {}, {"a": True}, limits=limits, free=1) == {("b", "y"): 1}


@given(
    st.sets(LINKS, max_size=8),
    st.dictionaries(LINKS, st.integers(0, 6), max_size=8),
    st.dictionaries(HOSTS, st.booleans()),
    st.integers(0, 40),
)
def test_no_limit_is_ever_exceeded(
    links: set[Link], active: dict[Link, int], unreachable: dict[str, bool], free: int
) -> None:
    limits = Limits(per_storage=6, per_link=4)
    given_ = dealt(links, active, unreachable, limits=limits, free=free)
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


LINK = ("a", "x")
WIDE = Limits(per_storage=100, per_link=12)


def test_vos_get_their_shares_and_the_others_what_is_left() -> None:
    policy = Policy(shares=(Share(ANYWHERE, ANYWHERE, "cms", 3), Share(ANYWHERE, ANYWHERE, "atlas", 1)))
    waiting = [group(LINK, vo) for vo in ("cms", "atlas", "lhcb")]
    assert slots(waiting, {}, {}, rules=Rules(WIDE, policy), free=8) == {
        group(LINK, "cms", ""): 6,
        group(LINK, "atlas", ""): 2,
    }
    # What runs already counts.
    running = {group(LINK, "cms"): 6}
    assert slots(waiting, running, {}, rules=Rules(WIDE, policy), free=2) == {group(LINK, "atlas", ""): 2}
    assert slots([waiting[2]], {}, {}, rules=Rules(WIDE, policy), free=2) == {group(LINK, "lhcb", ""): 2}


def test_vos_without_shares_are_equal() -> None:
    waiting = [group(LINK, vo) for vo in ("cms", "atlas", "lhcb")]
    assert set(slots(waiting, {}, {}, rules=Rules(WIDE), free=9).values()) == {3}


def test_activities_get_their_shares_only_where_they_have_weights() -> None:
    waiting = [group(LINK, "cms", activity) for activity in ("T0", "Users", "Tests")]
    policy = Policy(activities={"cms": {"T0": 2.0, "default": 0.5}})
    assert slots(waiting, {}, {}, rules=Rules(WIDE, policy), free=6) == {
        group(LINK, "cms", "T0"): 4,
        group(LINK, "cms", "Users"): 1,
        group(LINK, "cms", "Tests"): 1,
    }
    # Without weights priority alone decides: they are one.
    assert slots(waiting, {}, {}, rules=Rules(WIDE), free=6) == {group(LINK, "cms", ""): 6}


def test_limits_of_the_operator() -> None:
    storage = {"a": StorageLimit(outbound_max_active=3), "x": StorageLimit(inbound_max_active=2)}
    assert dealt([LINK], {}, {}, limits=WIDE, free=9, policy=Policy(storage=storage)) == {LINK: 2}
    assert dealt([("a", "y")], {}, {}, limits=WIDE, free=9, policy=Policy(storage=storage)) == {("a", "y"): 3}
    link = Policy(links=(LinkLimit(frozenset("a"), ANYWHERE, 1, 5),))
    assert dealt([LINK], {}, {}, limits=WIDE, free=99, policy=link) == {LINK: 5}


def test_the_optimizers_number_lies_within_what_the_operator_allows() -> None:
    link = Policy(links=(LinkLimit(frozenset("a"), ANYWHERE, 3, 5),))
    for decided, dealt_ in ((1, 3), (4, 4), (50, 5)):
        assert dealt([LINK], {}, {}, limits=WIDE, free=99, policy=link, optimized={LINK: decided}) == {LINK: dealt_}
    assert dealt([LINK], {}, {}, limits=WIDE, free=99, optimized={LINK: 50}) == {LINK: 50}


def test_a_host_that_is_faster_than_allowed_gets_no_more_while_something_runs() -> None:
    policy = Policy(storage={"x": StorageLimit(inbound_max_throughput=100.0)})
    fast = {"policy": policy, "rates_in": {"x": 120.0}}
    assert dealt([LINK], {LINK: 1}, {}, limits=WIDE, free=9, **fast) == {}
    assert dealt([LINK], {}, {}, limits=WIDE, free=9, **fast) == {LINK: 1}
    slow = {"policy": policy, "rates_in": {"x": 80.0}}
    assert dealt([LINK], {LINK: 1}, {}, limits=WIDE, free=9, **slow) == {LINK: 9}


def test_banned_files_wait() -> None:
    ban = Ban("davs://x", frozenset("x"), "cms", BanStatus.WAIT, "")
    waiting = [group(LINK, "cms"), group(LINK, "atlas")]
    given_ = slots(waiting, {}, {}, rules=Rules(WIDE, Policy(bans=(ban,))), free=9)
    assert given_ == {group(LINK, "atlas", ""): 9}
