"""Which tokens an entry of the issuer's list denies."""

from __future__ import annotations

from typing import Any

import pytest
from boathouse_rucio_site.denials import Denials

NOW = 1_800_000_000
CLAIMS = {"jti": "j", "sub": "alice", "client_id": "cli", "iat": NOW - 10}


def entry(kind: str, key: str, issued_until: int = NOW, expires_at: int = NOW + 3600) -> dict[str, Any]:
    return {"kind": kind, "key": key, "issued_until": issued_until, "expires_at": expires_at}


def denials(*entries: dict[str, Any]) -> Denials:
    made = Denials(clock=lambda: NOW)
    made.settled.set()
    made.add(list(entries))
    return made


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        ("token", "j"),
        ("subject", "alice"),
        ("client", "cli"),
        ("client", "alice"),
        ("grant", "alice cli"),
        ("key", "k"),
    ],
)
def test_each_kind_meets_what_it_names_and_nothing_else(kind: str, key: str) -> None:
    assert denials(entry(kind, key)).holds(CLAIMS, "k")
    assert not denials(entry(kind, "x")).holds(CLAIMS, "k")
    assert not denials(entry("other", key)).holds(CLAIMS, "k")


def test_a_token_that_was_issued_later_counts_again() -> None:
    found = denials(entry("subject", "alice", issued_until=NOW))
    assert found.holds({**CLAIMS, "iat": NOW}, None)
    assert not found.holds({**CLAIMS, "iat": NOW + 1}, None)


@pytest.mark.parametrize("iat", [None, "2027", [1]])
def test_a_token_without_a_time_of_issue_is_old(iat: object) -> None:
    assert denials(entry("subject", "alice")).holds({**CLAIMS, "iat": iat}, None)


def test_what_has_ended_is_forgotten_and_the_rest_stays() -> None:
    clock = [NOW]
    made = Denials(clock=lambda: clock[0])
    made.settled.set()
    made.add([entry("token", "j", expires_at=NOW + 10), entry("subject", "bob", expires_at=NOW + 100)])
    clock[0] += 10
    made.add([])
    assert not made.holds(CLAIMS, None)
    assert made.holds({**CLAIMS, "sub": "bob"}, None)
