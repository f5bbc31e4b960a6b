"""Who a bearer token is, and when it is refused."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from boathouse.testing.wait import wait_for


def test_ping_needs_no_token(box):
    reply = box.call("GET", "/ping")
    assert reply.status == 200
    assert reply.json == {"version": "41.5.1"}


def test_whoami_by_token(box):
    reply = box.whoami("alice")
    assert reply.status == 200
    assert reply.json["account"] == "alice"


def test_the_operators_client_is_root(box):
    assert box.whoami("operator").json["account"] == "root"


def test_eight_parallel_first_uses_of_one_token(box):
    token = box.token("alice")
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: box.whoami(token=token), range(8)))
    assert [reply.status for reply in replies] == [200] * 8


def test_a_token_for_twenty_audiences(box):
    token = box.token("alice", aud=["rucio", *(f"storage-element-{number}.example.org" for number in range(20))])
    assert box.whoami(token=token).status == 200


def test_nothing_of_a_token_is_stored(box):
    box.whoami("bob")
    assert box.rows("SELECT count(*) FROM tokens") == [(0,)]


def test_a_key_rotation_needs_no_restart(box):
    assert box.whoami("alice").status == 200
    box.issuer.rotate()
    wait_for("the new key is known", lambda: box.whoami("alice").status == 200)


def test_known_keys_serve_while_the_issuer_is_down(box):
    # Every worker must have met the key.
    wait_for("workers have met the key", lambda: all(box.whoami("alice").status == 200 for _ in range(8)))
    box.issuer.stop()
    try:
        for _ in range(4):
            assert box.whoami("bob").status == 200
    finally:
        box.issuer.start()


def test_an_issuer_down_at_the_first_use_is_asked_again(box):
    box.issuer.stop()
    box.stop("rucio")
    box.start("rucio")
    try:
        assert box.whoami("alice").status == 401
    finally:
        box.issuer.start()
    wait_for("the key is known", lambda: box.whoami("alice").status == 200)


def validate(box, token):
    """``/auth/validate``, where clients ask whether a token is good."""
    return box.call("GET", "/auth/validate", token=token)


def test_a_good_token_is_valid(box):
    assert validate(box, box.token("alice")).status == 200


@pytest.mark.parametrize("token", ["nonsense", "a.b.c", "challenge-1", "x" * 5000])
def test_what_is_no_token_is_refused(box, token):
    assert box.whoami(token=token).status == 401
    reply = validate(box, token)
    assert (reply.status, reply.error) == (401, "CannotAuthenticate")


def test_refused_tokens(box):
    now = int(time.time())
    wrong = {
        "expired": {"exp": now - 60},
        "not valid yet": {"nbf": now + 600},
        "for somebody else": {"aud": ["127.0.1.11"]},
        "for anybody": {"aud": ["https://wlcg.cern.ch/jwt/v1/any"]},
        "without the scope": {"scope": "openid"},
        "of an unknown person": {"sub": "nobody"},
        "of another issuer": {"iss": "https://localhost:1"},
    }
    tokens = {why: box.token("alice", **claims) for why, claims in wrong.items()}
    assert {why: box.whoami(token=token).status for why, token in tokens.items()} == dict.fromkeys(wrong, 401)
    assert {why: validate(box, token).status for why, token in tokens.items()} == dict.fromkeys(wrong, 401)


def test_a_forged_signature_is_refused(box):
    head, payload, _ = box.token("alice").split(".")
    _, _, signature = box.token("bob").split(".")
    assert box.whoami(token=f"{head}.{payload}.{signature}").status == 401
    assert validate(box, f"{head}.{payload}.{signature}").status == 401
