"""Which tokens an entry of the issuer's list denies."""

from __future__ import annotations

from typing import Any

import pytest

from boathouse.wlcg.denials import Denials

NOW = 1_800_000_000
CLAIMS = {"jti": "j", "sub": "alice", "client_id": "cli", "iat": NOW - 10}


def entry(kind: str, key: str, issued_until: int = NOW, expires_at: int = NOW + 3600) -> dict[str, Any]:
    return {"kind": kind, "key": key, "issued_until": issued_until, "expires_at": expires_at}


def denials(*entries: dict[str, Any]) -> Denials:
    made = Denials(clock=lambda: NOW)
    made.settle()
    made.add(list(entries))
    return made


@pytest.mark.parametrize(
    ("kind", "key", "why"),
    [
        ("token", "j", "it was revoked"),
        ("subject", "alice", "its owner was switched off"),
        ("client", "cli", "its client was switched off"),
        ("client", "alice", "its client was switched off"),
        ("grant", "alice cli", "its owner revoked it"),
        ("key", "k", "its key was withdrawn"),
    ],
)
def test_each_kind_meets_what_it_names_and_nothing_else(kind: str, key: str, why: str) -> None:
    assert denials(entry(kind, key)).reason(CLAIMS, "k") == why
    assert denials(entry(kind, "x")).reason(CLAIMS, "k") is None
    assert denials(entry("other", key)).reason(CLAIMS, "k") is None


def test_a_token_that_was_issued_later_counts_again() -> None:
    found = denials(entry("subject", "alice", issued_until=NOW))
    assert found.reason({**CLAIMS, "iat": NOW}) is not None
    assert found.reason({**CLAIMS, "iat": NOW + 1}) is None


@pytest.mark.parametrize("iat", [None, "2027", [1]])
def test_a_token_without_a_time_of_issue_is_old(iat: object) -> None:
    assert denials(entry("subject", "alice")).reason({**CLAIMS, "iat": iat}) is not None


def test_what_has_ended_is_forgotten_after_a_day_and_the_rest_stays() -> None:
    """Until then somebody may ask for a token that was exchanged for a longer-lived one."""
    clock = [NOW]
    made = Denials(clock=lambda: clock[0])
    made.settle()
    made.add([entry("token", "j", expires_at=NOW + 10), entry("subject", "bob", expires_at=NOW + 100)])
    clock[0] += 86400
    made.add([])
    assert made.reason(CLAIMS) is not None
    clock[0] += 10
    made.add([])
    assert made.reason(CLAIMS) is None
    assert made.reason({**CLAIMS, "sub": "bob"}) is not None
