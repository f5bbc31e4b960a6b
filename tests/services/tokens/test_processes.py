"""Two processes of an issuer on one port, one database and one key directory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from boathouse.testing.scratch import free_port
from boathouse.testing.wait import wait_for

from .conftest import ALICE, BOB, STORAGE, Answer, Browser, CodeFlow, Issuer, Start

CLIENT = {"grant_type": "client_credentials", "scope": "storage.read:/lake/cms", "audience": STORAGE}


def twin(issuer: Issuer, name: str, port: int) -> Issuer:
    """A second process of an issuer, with its database and its keys."""
    other = Issuer(issuer.units, f"{issuer.name}-{name}", f"https://localhost:{port}")
    issuer.units.variant(issuer.name, other.name, port=port)
    other.start()
    return other


@pytest.fixture(scope="module")
def pair(start_issuer: Start) -> Iterator[tuple[Issuer, Issuer]]:
    """An issuer, and its second process at a port of its own, so that tests choose which one they ask."""
    one = start_issuer(refresh_grace_s=0, key_activation_s=2)
    other = twin(one, "other", free_port())
    yield one, other
    other.stop()


def at_once(*calls: Any) -> list[Any]:
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result(180) for future in [pool.submit(call) for call in calls]]


def test_a_refresh_token_that_is_used_at_both_is_rotated_once(pair: tuple[Issuer, Issuer]) -> None:
    tokens = CodeFlow(pair[0], "rucio").tokens()
    refresh = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    answers = at_once(*(lambda issuer=issuer: issuer.post("/token", "rucio", **refresh) for issuer in pair * 3))
    assert sorted(answer.status for answer in answers) == [200, 400, 400, 400, 400, 400]
    # Without grace, the second use is theft: the family is dead at both.
    (winner,) = (answer.json["refresh_token"] for answer in answers if answer.status == 200)
    for issuer in pair:
        issuer.refused("rucio", 400, "invalid_grant", grant_type="refresh_token", refresh_token=winner)


def test_refreshes_that_are_done_together_keep_people_apart(pair: tuple[Issuer, Issuer]) -> None:
    """What waits at one process is done in one transaction; among it are strangers' tokens and unknown ones."""
    flows = {login: CodeFlow(pair[0], "rucio") for login in ("alice", "bob")}
    tokens = {login: [flow.tokens(login)["refresh_token"] for _ in range(3)] for login, flow in flows.items()}
    asked = [(login, text) for login, texts in tokens.items() for text in texts] + [("nobody", "unknown")] * 2

    def refresh(text: str) -> Answer:
        return pair[1].post("/token", "rucio", grant_type="refresh_token", refresh_token=text)

    answers = at_once(*(lambda text=text: refresh(text) for _, text in asked))
    told = {"alice": set[str](), "bob": set[str]()}
    for (login, text), answer in zip(asked, answers, strict=True):
        if login == "nobody":
            assert (answer.status, answer.json["error"]) == (400, "invalid_grant")
            continue
        claims = pair[0].verify(answer.json["access_token"], STORAGE)
        assert claims.sub == {"alice": ALICE, "bob": BOB}[login]
        told[login].add(answer.json["scope"])
        pair[1].refused("rucio", 400, "invalid_grant", grant_type="refresh_token", refresh_token=text)
    assert {login: len(scopes) for login, scopes in told.items()} == {"alice": 1, "bob": 1}
    assert "user.alice" in told["alice"].pop()
    scope = told["bob"].pop()
    assert "user.bob" in scope
    assert "user.alice" not in scope
    assert "magic" not in scope
    recorded = "SELECT count(*) FROM audit WHERE event = 'token.issued' AND detail->>'grant' = 'refresh_token'"
    assert pair[0].sql(f"{recorded} AND detail->>'login' = 'bob'") == [(3,)]
    assert pair[0].command("audit-verify").returncode == 0


NO_BATCH = """
CREATE FUNCTION no_batch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF (SELECT count(*) FROM changed WHERE NOT revoked) > 1 THEN RAISE EXCEPTION 'only one by one'; END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER no_batch AFTER UPDATE ON refresh_tokens REFERENCING NEW TABLE AS changed
  FOR EACH STATEMENT EXECUTE FUNCTION no_batch()
"""


def test_refreshes_that_cannot_be_done_together_are_done_one_by_one(start_issuer: Start) -> None:
    """The database takes no statement that rotates two tokens: whatever met in a batch has failed with it."""
    issuer = start_issuer(refresh_grace_s=0)
    issuer.sql(NO_BATCH)
    flows = {login: CodeFlow(issuer, "rucio") for login in ("alice", "bob")}

    def refresh(text: str) -> Answer:
        return issuer.post("/token", "rucio", grant_type="refresh_token", refresh_token=text)

    def batch_failed() -> bool:
        asked = [(login, flow.tokens(login)["refresh_token"]) for login, flow in flows.items() for _ in range(4)]
        asked.append(("nobody", "unknown"))
        answers = at_once(*(lambda text=text: refresh(text) for _, text in asked))
        for (login, text), answer in zip(asked, answers, strict=True):
            if login == "nobody":
                assert (answer.status, answer.json["error"]) == (400, "invalid_grant")
                continue
            claims = issuer.verify(answer.json["access_token"], STORAGE)
            assert claims.sub == {"alice": ALICE, "bob": BOB}[login]
            assert f"user.{login}" in answer.json["scope"]
            issuer.refused("rucio", 400, "invalid_grant", grant_type="refresh_token", refresh_token=text)
        return re.search(r"\d+ requests could not be worked on together", issuer.log) is not None

    wait_for("some met in a batch", batch_failed, timeout_s=120)
    assert issuer.command("audit-verify").returncode == 0


def test_a_code_that_is_used_at_both_gives_tokens_once(pair: tuple[Issuer, Issuer]) -> None:
    flow = CodeFlow(pair[0], "rucio")
    code = flow.code()
    answers = at_once(
        *(lambda issuer=issuer: issuer.post("/token", "rucio", **flow.form, code=code) for issuer in pair * 3)
    )
    assert sorted(answer.status for answer in answers) == [200, 400, 400, 400, 400, 400]
    (winner,) = (answer.json for answer in answers if answer.status == 200)
    for issuer in pair:
        issuer.refused("rucio", 400, "invalid_grant", grant_type="refresh_token", refresh_token=winner["refresh_token"])
        assert not issuer.post("/introspect", "plain", token=winner["access_token"]).json["active"]


def test_the_audit_chain_is_one(pair: tuple[Issuer, Issuer]) -> None:
    at_once(*(lambda issuer=issuer: [issuer.token("plain", **CLIENT) for _ in range(20)] for issuer in pair * 2))
    assert pair[0].command("audit-verify").returncode == 0


def test_wrong_passwords_at_both_lock_the_login_at_both(pair: tuple[Issuer, Issuer]) -> None:
    one, other = pair
    for issuer in (one, other) * 3:
        Browser(issuer, one.url).sign_in("bob", "wrong")
    for issuer in pair:
        assert Browser(issuer, one.url).sign_in("bob").status == 429, "even the right one is not heard now"


def test_a_rotation_is_seen_by_both(pair: tuple[Issuer, Issuer]) -> None:
    one, other = pair
    assert one.command("rotate").returncode == 0

    def kids(issuer: Issuer) -> list[str]:
        return [key["kid"] for key in issuer.request("GET", "/jwk").json["keys"]]

    wait_for("both publish the new key", lambda: len(kids(one)) == 2 and kids(one) == kids(other))
    new = kids(one)[-1]
    for issuer in pair:
        wait_for(
            "it signs",
            lambda issuer=issuer: one.verify(issuer.token("plain", **CLIENT)["access_token"], STORAGE).kid == new,
        )
    token = one.token("plain", **CLIENT)["access_token"]
    assert other.post("/introspect", "plain", token=token).json["active"]


def test_two_processes_share_a_port(start_issuer: Start) -> None:
    """Clients reach either; when one ends, the other serves whoever comes after."""
    one = start_issuer(share_port=True)
    other = twin(one, "same", int(one.url.rpartition(":")[2]))

    def both_serve() -> bool:
        one.http.clear()
        one.token("plain", **CLIENT)
        return all("POST /token 200" in issuer.log for issuer in (one, other))

    wait_for("both serve", both_serve)
    one.stop()
    for _ in range(10):
        other.http.clear()
        assert other.token("plain", **CLIENT)["access_token"]
    other.stop()
