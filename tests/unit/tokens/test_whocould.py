"""Who could read what when, against a model that is changed by hand and asked path by path."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from boathouse.apps.tokens.rights.policies import Effect, Policy, allowed, expanded
from boathouse.apps.tokens.rights.whocould import entitled
from boathouse.apps.tokens.trail.history import fold
from boathouse.wlcg.scopes import Scope

PEOPLE, GROUPS = ("ann", "bob"), ("/vo", "/vo/cms")
TOPS = ("/", "/a", "/a/b", "/ab")
# Below every path that a policy can name there is one that none names.
PLACES = (*TOPS, "/a/b/z", "/a/z", "/ab/z", "/z")
TIMES = st.integers(0, 5)


@dataclass
class Model:
    """Everything that counts, as plain as can be."""

    active: dict[str, bool] = field(default_factory=dict)
    ends: dict[tuple[str, str], int | None] = field(default_factory=dict)
    rules: dict[int, tuple[str, str, str, str]] = field(default_factory=dict)
    """Effect, account, group, path."""

    def may_read_at(self, who: str, place: str, now: int) -> bool:
        groups = {g for (w, g), end in self.ends.items() if w == who and (end is None or end > now)}
        kinds: list[Callable[[str, str], bool]] = [
            lambda account, _: account == who,
            lambda account, group: not account and group in groups,
            lambda account, group: not account and not group,
        ]
        for fits in kinds:
            said = {
                effect
                for effect, account, group, path in self.rules.values()
                if fits(account, group) and (path in (place, "/") or place.startswith(path + "/"))
            }
            if said:
                return said == {"PERMIT"}
        return False

    def may_read(self, who: str, path: str, now: int) -> bool:
        """All of a tree: the places that are there, one by one."""
        inside = [place for place in PLACES if path in (place, "/") or place.startswith(path + "/")]
        return self.active.get(who, False) and all(self.may_read_at(who, place, now) for place in inside)


switch = st.tuples(st.just("switch"), st.sampled_from(PEOPLE), st.booleans())
join = st.tuples(
    st.just("join"), st.sampled_from(PEOPLE), st.sampled_from(GROUPS), st.one_of(st.none(), st.integers(1, 6))
)
leave = st.tuples(st.just("leave"), st.sampled_from(PEOPLE), st.sampled_from(GROUPS))
whom = st.sampled_from([("ann", ""), ("bob", ""), ("", "/vo"), ("", "/vo/cms"), ("", "")])
rule = st.tuples(st.just("rule"), st.sampled_from(["PERMIT", "PERMIT", "DENY"]), whom, st.sampled_from(TOPS))
drop = st.tuples(st.just("drop"), st.integers(0, 5))
BEGIN: list[Any] = [("switch", who, True) for who in PEOPLE] + [("rule", "PERMIT", ("", "/vo"), "/a")]
# Most members of a random history would otherwise have nothing that they could lose.
histories = st.lists(st.tuples(TIMES, st.one_of(join, join, switch, leave, rule, drop)), max_size=12).map(
    lambda steps: [*((0, step) for step in BEGIN), *sorted(steps, key=lambda step: step[0])]
)


def apply(model: Model, step: Any) -> dict[str, Any] | None:
    """Change the model; the change as the log would carry it."""
    match step:
        case ("switch", who, on):
            model.active[who] = on
            row: Any = {"login": who, "admin": False, "active": True, "suspended": not on}
            return {"table": "users", "key": [f"sub-{who}"], "row": row}
        case ("join", who, group, end):
            model.ends[who, group] = end
            return {"table": "members", "key": [f"sub-{who}", group], "row": {"position": 0, "expires_at": end}}
        case ("leave", who, group):
            model.ends.pop((who, group), None)
            return {"table": "members", "key": [f"sub-{who}", group], "row": None}
        case ("rule", effect, (account, group), path):
            number = len(model.rules)
            while number in model.rules:
                number += 1
            model.rules[number] = (effect, account, group, path)
            row = {"effect": effect, "account": account, "grp": group, "scope": f"storage.read:{path}"}
            return {"table": "policies", "key": [number], "row": row}
        case ("drop", place) if place < len(model.rules):
            number = sorted(model.rules)[place]
            del model.rules[number]
            return {"table": "policies", "key": [number], "row": None}
    return None


@settings(max_examples=300, deadline=None)
@given(histories, TIMES, st.sampled_from(TOPS))
def test_a56_what_the_log_tells_is_what_held(history: list[Any], now: int, path: str) -> None:
    model, log = Model(), []
    for at, step in history:
        if at <= now and (change := apply(model, step)) is not None:
            log.append(deepcopy(change))
    told = {one.name for one in entitled(fold(log), Scope("storage.read", path), now)}
    assert told == {who for who in PEOPLE if model.may_read(who, path, now)}


NAMED = st.sampled_from(["storage.read:/a", "storage.read:/a/b", "storage.modify:/a", "compute.create", "fts"])
rules = st.builds(
    Policy,
    st.sampled_from(list(Effect)),
    st.lists(NAMED.map(Scope.parse), min_size=1, max_size=2).map(tuple),
    st.sampled_from(["", "", "bob"]),
    st.sampled_from(["", "/vo", "/vo/cms"]),
)


@given(st.lists(rules, max_size=6), st.sampled_from(["/vo", "/vo/cms"]))
def test_a_capability_set_gives_what_its_scopes_give_and_nothing_to_strangers(
    policies: list[Policy], group: str
) -> None:
    wish = Scope("wlcg.capabilityset", group)
    members = ("/vo",)
    stands_for = expanded((wish,), groups=members, policies=policies)
    named = {
        scope
        for policy in policies
        if policy.effect is Effect.permit and policy.group == group and not policy.account
        for scope in policy.scopes
    }
    assert set(stands_for) == (named if group in members else set())
    given = allowed(stands_for, account="bob", groups=members, admin=False, policies=policies)
    assert all(any(scope.covers(one) for scope in named) for one in given), "never more than its scopes"
    # One by one they give the same.
    assert set(given) == {
        one
        for scope in stands_for
        for one in allowed((scope,), account="bob", groups=members, admin=False, policies=policies)
    }
