"""Who of another provider's people is let in, and how they are called here."""

from __future__ import annotations

from typing import Any

import pytest

from boathouse.apps.tokens.upstream.providers import Provider, Rule, admission, login_for

PROVIDER = Provider(name="egi", title="EGI", issuer="https://aai.example", client_id="lake")


@pytest.mark.parametrize(
    ("rule", "claims", "admitted"),
    [
        (Rule(claim="groups", value="a"), {"groups": ["b", "a"]}, True),
        (Rule(claim="groups", value="a"), {"groups": "a"}, True),
        (Rule(claim="groups", value="a"), {"groups": ["aa"]}, False),
        (Rule(claim="groups", value="a"), {"groups": {"a": 1}}, False),
        (Rule(claim="groups", value="a"), {}, False),
        (Rule(claim="n", value="1"), {"n": 1}, False),
        (Rule(claim="email", value="@cern.ch"), {"email": "a@CERN.ch", "email_verified": True}, True),
        (Rule(claim="email", value="@cern.ch"), {"email": "a@evilcern.ch", "email_verified": True}, False),
        (Rule(claim="email", value="@cern.ch"), {"email": "a@cern.ch.evil.org", "email_verified": True}, False),
        (Rule(claim="email", value="@cern.ch"), {"email": "a@cern.ch"}, False),
        (Rule(claim="email", value="@cern.ch"), {"email": "a@cern.ch", "email_verified": "true"}, False),
        (Rule(claim="email", value="a@cern.ch"), {"email": "a@cern.ch", "email_verified": True}, True),
    ],
)
def test_a_rule_fits_a_claim_or_does_not(rule: Rule, claims: dict[str, Any], *, admitted: bool) -> None:
    assert admission([rule], claims).admitted is admitted


def test_groups_of_all_fitting_rules_are_given_once() -> None:
    rules = [
        Rule(claim="g", value="a", groups=("/vo", "/vo/x")),
        Rule(claim="g", value="b", groups=("/vo", "/vo/y")),
        Rule(claim="g", value="c", groups=("/vo/z",)),
    ]
    assert admission(rules, {"g": ["b", "a"]}).groups == ("/vo", "/vo/x", "/vo/y")


@pytest.mark.parametrize(
    ("claims", "login"),
    [
        ({"preferred_username": "alice"}, "alice-egi"),
        ({"preferred_username": "Alice Adler"}, "alice-adler-egi"),
        ({"preferred_username": "../../root"}, "root-egi"),
        ({"preferred_username": "7"}, "u7-egi"),
        ({"preferred_username": "Ä" * 300}, "u-egi"),
        ({"preferred_username": "x" * 300}, "x" * 16 + "-egi"),
        ({"email": "bob@example.org"}, "bob-egi"),
        ({}, "u-egi"),
    ],
)
def test_a_login_has_the_name_of_its_provider(claims: dict[str, Any], login: str) -> None:
    assert login_for(PROVIDER, claims, ["alice", "bob"]) == login


def test_no_login_is_given_twice() -> None:
    taken: list[str] = []
    for _ in range(12):
        taken.append(login_for(PROVIDER, {"preferred_username": "alice"}, taken))
    assert len(set(taken)) == 12
    assert all(len(login) <= 20 for login in taken)
