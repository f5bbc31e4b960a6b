"""Scope policies against a brute-force oracle over single permissions."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boathouse.apps.tokens.rights.policies import Effect, Policy, allowed
from boathouse.wlcg.scopes import Scope, format_scopes, parse

NAMES = ("a", "ab", "b")
# Deep enough that every path a policy can name has paths below it that no policy names.
PLACES = ["/"]
for _ in range(3):
    PLACES += [f"{place.rstrip('/')}/{name}" for place in PLACES for name in (*NAMES, "z")]
PLACES = list(dict.fromkeys(PLACES))
NAMED = ["/", *(f"/{x}" for x in NAMES), *(f"/{x}/{y}" for x in NAMES for y in NAMES)]
CAPABILITIES = ("storage.read", "storage.create", "storage.modify")

scopes = st.builds(Scope, st.sampled_from(CAPABILITIES), st.sampled_from(NAMED))
policies = st.builds(
    Policy,
    st.sampled_from(list(Effect)),
    st.lists(scopes, min_size=1, max_size=3).map(tuple),
    st.sampled_from(["", "", "bob", "eve"]),
    st.sampled_from(["", "/vo", "/vo/cms", "/vo/other"]),
)


def operations(scope: Scope) -> set[str]:
    return {"storage.create", "storage.modify"} if scope.name == "storage.modify" else {scope.name}


def below(place: str, path: str) -> bool:
    wanted = [segment for segment in path.split("/") if segment]
    return [segment for segment in place.split("/") if segment][: len(wanted)] == wanted


def levels_of_bob(rules: Sequence[Policy]) -> tuple[list[Policy], ...]:
    return (
        [rule for rule in rules if rule.account == "bob"],
        [rule for rule in rules if not rule.account and rule.group in ("/vo", "/vo/cms")],
        [rule for rule in rules if not rule.account and not rule.group],
    )


def single(operation: str, place: str, rules: Sequence[Policy]) -> bool:
    """May Bob, of /vo and /vo/cms, do one thing at one place?"""
    for level in levels_of_bob(rules):
        said = {
            rule.effect
            for rule in level
            for scope in rule.scopes
            if operation in operations(scope) and below(place, scope.path or "/")
        }
        if said:
            return Effect.deny not in said
    return False


def ask(wanted: str | Sequence[Scope], rules: Sequence[Policy], **more: bool) -> tuple[Scope, ...]:
    wishes = parse(wanted) if isinstance(wanted, str) else wanted
    return allowed(wishes, account="bob", groups=("/vo", "/vo/cms"), admin=more.get("admin", False), policies=rules)


@settings(max_examples=300)
@given(scopes, st.lists(policies, max_size=6))
def test_no_issued_scope_holds_a_denied_path_and_none_is_missing(wish: Scope, rules: list[Policy]) -> None:
    issued = ask((wish,), rules)
    for scope in issued:
        assert wish.covers(scope)
        for operation in operations(scope):
            for place in PLACES:
                if below(place, scope.path or "/"):
                    assert single(operation, place, rules), f"{scope} holds {operation} at {place}"
    # Of what is left of a tree only what a policy on Bob names, or what was asked for, can be told by name.
    named = {scope.path or "/" for level in levels_of_bob(rules) for rule in level for scope in rule.scopes}
    for place in {wish.path or "/", *named}:
        for name in CAPABILITIES:
            tree = Scope(name, place)
            free = all(
                single(operation, inner, rules)
                for operation in operations(tree)
                for inner in PLACES
                if below(inner, place)
            )
            if wish.covers(tree) and free:
                assert any(scope.covers(tree) for scope in issued), f"{tree} is allowed, and not in {issued}"


@given(st.lists(scopes, max_size=4), st.lists(policies, max_size=5))
def test_what_was_issued_is_issued_again(wishes: list[Scope], rules: list[Policy]) -> None:
    once = ask(wishes, rules)
    assert ask(once, rules) == once


def permit(text: str, **whom: str) -> Policy:
    return Policy(Effect.permit, parse(text), **whom)


def deny(text: str, **whom: str) -> Policy:
    return Policy(Effect.deny, parse(text), **whom)


@pytest.mark.parametrize(
    ("wanted", "rules", "issued"),
    [
        ("storage.read:/", [], ""),
        ("openid fts compute.read", [], "openid fts compute.read"),
        ("fts", [deny("fts")], ""),
        ("fts", [deny("fts"), permit("fts", account="bob")], "fts"),
        ("scim:read iam:admin", [], ""),
        ("wlcg.groups wlcg.groups:/vo/cms wlcg.groups:/vo/other", [], "wlcg.groups wlcg.groups:/vo/cms"),
        ("storage.read:/", [permit("storage.read:/")], "storage.read:/"),
        # A denial hits all that contains the denied path.
        ("storage.read:/", [permit("storage.read:/"), deny("storage.read:/embargo")], ""),
        (
            "storage.read:/embargoed",
            [permit("storage.read:/"), deny("storage.read:/embargo")],
            "storage.read:/embargoed",
        ),
        ("storage.read:/embargo/x", [permit("storage.read:/"), deny("storage.read:/embargo")], ""),
        # A group may see what nobody else may.
        (
            "storage.read:/",
            [deny("storage.read:/embargo"), permit("storage.read:/embargo/cms", group="/vo/cms")],
            "storage.read:/embargo/cms",
        ),
        (
            "storage.read:/",
            [permit("storage.read:/x", group="/vo/other"), permit("storage.read:/y", account="eve")],
            "",
        ),
        # The account speaks first, then the group, then everybody.
        (
            "storage.read:/x",
            [permit("storage.read:/x", account="bob"), deny("storage.read:/x", group="/vo")],
            "storage.read:/x",
        ),
        ("storage.read:/x", [deny("storage.read:/x/y", account="bob"), permit("storage.read:/x", group="/vo")], ""),
        # Modify holds create.
        ("storage.modify:/x", [permit("storage.modify:/x"), deny("storage.create:/x/y")], ""),
        (
            "storage.modify:/",
            [permit("storage.create:/x"), permit("storage.modify:/y")],
            "storage.modify:/y storage.create:/x",
        ),
        ("storage.create:/x/z", [permit("storage.modify:/x")], "storage.create:/x/z"),
        ("storage.read:/x/", [permit("storage.read:/x")], "storage.read:/x/"),
        ("storage.read:/x", [permit("storage.read:/x/")], "storage.read:/x/"),
    ],
)
def test_by_example(wanted: str, rules: list[Policy], issued: str) -> None:
    assert format_scopes(ask(wanted, rules)) == issued


def test_administrative_scopes_are_for_administrators() -> None:
    assert format_scopes(ask("scim:read openid", [], admin=True)) == "scim:read openid"
