"""Which of the operator's decisions holds for a link and a VO."""

from __future__ import annotations

from boathouse.apps.transfers.policy import ANY, PUBLIC, Ban, BanStatus, LinkLimit, Policy, Share, StorageLimit

A, B, C = "a:1", "b:1", "c:1"
NO_HOSTS: frozenset[str] = frozenset()


def test_a_ban_holds_for_its_vo_on_both_sides() -> None:
    policy = Policy(bans=(Ban("davs://a:1", frozenset({A}), "escape", BanStatus.WAIT, "disks are changed"),))
    found = policy.ban(A, B, "escape")
    assert found is not None
    assert found.words == "davs://a:1 is banned for escape: disks are changed"
    assert policy.ban(B, A, "escape") is found
    assert policy.ban(A, B, "magic") is None
    assert policy.ban(B, C, "escape") is None


def test_the_closest_entry_limits_a_link() -> None:
    anything = LinkLimit(NO_HOSTS, NO_HOSTS, 1, 1)
    into_b = LinkLimit(NO_HOSTS, frozenset({B}), 1, 2)
    out_of_a = LinkLimit(frozenset({A}), NO_HOSTS, 1, 3)
    exact = LinkLimit(frozenset({A}), frozenset({B}), 1, 4)
    policy = Policy(links=(anything, into_b, out_of_a, exact))
    assert policy.link(A, B) is exact
    assert policy.link(A, C) is out_of_a
    assert policy.link(C, B) is into_b
    assert policy.link(C, A) is anything
    assert Policy().link(A, B) is None


def test_an_element_without_limits_of_its_own_has_those_of_all() -> None:
    policy = Policy(storage={ANY: StorageLimit(inbound_max_active=2), A: StorageLimit(outbound_max_active=1)})
    assert policy.limit(B).inbound_max_active == 2
    assert policy.limit(A).inbound_max_active is None
    assert Policy().limit(A) == StorageLimit()


def test_shares_weigh_the_vos_of_a_link() -> None:
    policy = Policy(
        shares=(
            Share(NO_HOSTS, NO_HOSTS, PUBLIC, 1),
            Share(NO_HOSTS, NO_HOSTS, "escape", 2),
            Share(frozenset({A}), frozenset({B}), "escape", 9),
        )
    )
    assert policy.weights(A, B) == {PUBLIC: 1, "escape": 9}
    assert policy.weights(B, A) == {PUBLIC: 1, "escape": 2}
    assert Policy().weights(A, B) == {}
