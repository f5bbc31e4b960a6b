"""What a provider's answers must be like: a provider that signs whatever it likes, and the issuer's checks."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import ECKey, OctKey
from pydantic import SecretStr

from boathouse.apps.tokens.upstream.providers import Provider
from boathouse.apps.tokens.upstream.relying import Flow, RefusedError, RelyingParty, new_flow
from boathouse.errors import ServiceError
from boathouse.testing.issuer import IssuerServer
from boathouse.testing.scratch import free_port
from boathouse.testing.units import Units

from .conftest import ACCESS_TOKEN, EXCHANGE, SECRETS, STORAGE, Issuer, Start

CLIENT = "lake"


class Liar(IssuerServer):
    """Gives identity tokens with whatever claims the test wants."""

    def __init__(self, port: int, tls: tuple[Path, Path]) -> None:
        super().__init__(port, tls)
        self.grants = ["authorization_code"]
        self.answer: dict[str, Any] = {}
        self.claims: dict[str, Any] = {}
        self.signing: dict[str, Any] = {}
        self.userinfo: dict[str, Any] | None = None
        """What the userinfo endpoint says; an empty answer is a failure, None means that there is no such endpoint."""
        self.asked, self.may_answer = threading.Event(), threading.Event()
        self.may_answer.set()

    def documents(self) -> dict[str, dict[str, Any]]:
        self.asked.set()
        assert self.may_answer.wait(240)
        found = super().documents()
        if self.userinfo is not None:
            found["/.well-known/openid-configuration"]["userinfo_endpoint"] = f"{self.url}/userinfo"
            found["/userinfo"] = self.userinfo
        return found

    def grant(self, client: str, form: dict[str, str]) -> dict[str, Any]:
        self.requests.append({"client": client, **form})
        claims = {"sub": "dana", "aud": CLIENT, **self.claims}
        claims = {name: value for name, value in claims.items() if value is not None}
        return {"access_token": "opaque", "id_token": self.sign(claims, **self.signing), **self.answer}


@pytest.fixture(scope="module")
def server(tokens_units: Units) -> Iterator[Liar]:
    liar = Liar(free_port(), tokens_units.tls("tokens"))
    liar.start()
    yield liar
    liar.stop()


@pytest.fixture
def liar(server: Liar) -> Liar:
    server.answer, server.claims, server.signing, server.userinfo = {}, {}, {}, None
    return server


@pytest.fixture
def party(liar: Liar, tokens_units: Units) -> RelyingParty:
    provider = Provider(
        name="liar",
        title="Liar",
        issuer=liar.url,
        client_id=CLIENT,
        client_secret=SecretStr("a secret"),
        ca_file=tokens_units.context.layout.ca,
    )
    return RelyingParty(provider, "https://lake.example/login/with/liar/callback")


def finish(party: RelyingParty, liar: Liar, **claims: Any) -> dict[str, Any]:
    flow: Flow = new_flow("liar", "/account", int(time.time()) + 60)
    liar.claims = {"nonce": flow.nonce, **claims}
    return party.claims(flow, {"state": flow.state, "code": "a code"})


def test_a55_upstream_good_answer_is_taken(party: RelyingParty, liar: Liar) -> None:
    claims = finish(party, liar, email="dana@example.org")
    assert (claims["sub"], claims["email"]) == ("dana", "dana@example.org")
    sent = liar.requests[-1]
    assert sent["client"] == CLIENT
    assert sent["redirect_uri"] == "https://lake.example/login/with/liar/callback"
    assert len(sent["code_verifier"]) >= 43


def test_a55_upstream_userinfo_counts_and_is_needed(liar: Liar, party: RelyingParty) -> None:
    """Groups may stand there alone: a sign-in without them would take them away."""
    liar.userinfo = {"sub": "dana", "groups": ["cms"], "aud": "another"}
    claims = finish(party, liar)
    assert (claims["groups"], claims["aud"]) == (["cms"], CLIENT)
    liar.userinfo = {"sub": "somebody else", "groups": ["magic"]}
    with pytest.raises(RefusedError, match="proof of who you are"):
        finish(party, liar)
    liar.userinfo = {}
    with pytest.raises(ServiceError, match="userinfo endpoint gives no answer"):
        finish(party, liar)


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://evil.example"},
        {"aud": "another"},
        {"aud": ["another"]},
        {"aud": [CLIENT, "another"]},
        {"aud": [CLIENT, "another"], "azp": "another"},
        {"azp": "another"},
        {"aud": None},
        {"nonce": "another"},
        {"nonce": None},
        {"nonce": ""},
        {"sub": None},
        {"sub": ""},
        {"sub": 7},
        {"sub": "x" * 256},
        {"exp": 1_000_000_000},
        {"exp": "tomorrow"},
        {"iat": "yesterday"},
        {"iat": 4_000_000_000},
        {"nbf": 4_000_000_000},
        {"at_hash": "another"},
    ],
    ids=str,
)
def test_a55_upstream_bad_identity_token_is_refused(party: RelyingParty, liar: Liar, claims: dict[str, Any]) -> None:
    with pytest.raises(RefusedError, match="proof of who you are"):
        finish(party, liar, **claims)


def test_a55_upstream_two_audiences_need_the_right_party(party: RelyingParty, liar: Liar) -> None:
    assert finish(party, liar, aud=[CLIENT, "another"], azp=CLIENT)["sub"] == "dana"


@pytest.mark.parametrize(
    "signing",
    [
        {"key": ECKey.generate_key("P-256")},
        {"key": OctKey.generate_key(256), "algorithm": "HS256"},
        {"key": OctKey.import_key("a secret" * 4), "algorithm": "HS256"},
    ],
    ids=["another key", "a shared secret", "the client's secret"],
)
def test_a55_upstream_wrong_signature_is_refused(party: RelyingParty, liar: Liar, signing: dict[str, Any]) -> None:
    liar.signing = signing
    with pytest.raises(RefusedError, match="proof of who you are"):
        finish(party, liar)


@pytest.mark.parametrize(
    "token",
    ["", "a.b.c", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJkYW5hIn0.", None, 7, {}, "é"],
    ids=["empty", "no json", "alg none", "missing", "a number", "an object", "unicode"],
)
def test_a55_upstream_malformed_identity_token_is_refused(party: RelyingParty, liar: Liar, token: object) -> None:
    liar.answer = {"id_token": token}
    with pytest.raises(RefusedError):
        finish(party, liar)


def test_a55_upstream_answer_without_code_or_state_is_refused(party: RelyingParty) -> None:
    flow = new_flow("liar", "/account", int(time.time()) + 60)
    for answer in ({}, {"code": "a code"}, {"state": flow.state}, {"state": "", "code": "a code"}):
        with pytest.raises(RefusedError):
            party.claims(flow, answer)


def test_a55_upstream_that_speaks_for_another_is_no_provider(liar: Liar, tokens_units: Units) -> None:
    provider = Provider(
        name="liar",
        title="Liar",
        issuer=liar.url.replace("localhost", "127.0.0.1"),
        client_id=CLIENT,
        ca_file=tokens_units.context.layout.ca,
    )
    party = RelyingParty(provider, "https://lake.example/callback")
    with pytest.raises(ServiceError, match="not the metadata of the issuer"):
        party.authorization_url(new_flow("liar", "/account", 0))


def test_a55_upstream_certificate_is_verified(liar: Liar) -> None:
    """Without the CA file, the host's CAs decide, and none of them knows this one."""
    provider = Provider(name="liar", title="Liar", issuer=liar.url, client_id=CLIENT)
    party = RelyingParty(provider, "https://lake.example/callback")
    with pytest.raises(ServiceError, match="cannot be reached"):
        party.authorization_url(new_flow("liar", "/account", 0))


# Tokens of another issuer, exchanged


@pytest.fixture(scope="module")
def trusting(server: Liar, start_issuer: Start, tokens_units: Units) -> Issuer:
    """An issuer that trusts the liar's tokens for one directory, and lets one client exchange them.

    People may sign in there, too; and a single thread does all work.
    """
    trusted = {
        "name": "liar",
        "url": server.url,
        "ca_file": str(tokens_units.context.layout.ca),
        "paths": ["/lake/cms"],
    }
    provider = {**{name: trusted[name] for name in ("name", "ca_file")}, "title": "Liar", "issuer": server.url}
    provider |= {"client_id": CLIENT, "client_secret": "a secret"}
    issuer = start_issuer(trusted=[trusted], trusted_audiences=[STORAGE], providers=[provider], threads=1)

    def allow(seed: dict[str, Any]) -> None:
        (client,) = [client for client in seed["clients"] if client["client_id"] == "transfers"]
        client["exchange_from"] = ["issuer:liar"]

    issuer.reload(allow)
    return issuer


def exchange(token: str, **more: str) -> dict[str, str]:
    return {
        "grant_type": EXCHANGE,
        "subject_token": token,
        "subject_token_type": ACCESS_TOKEN,
        "audience": "127.1.1.11",
        **more,
    }


def foreign(liar: Liar, **claims: Any) -> str:
    return liar.sign({"sub": "dana", "aud": STORAGE, "scope": "storage.read:/ storage.modify:/", **claims})


def test_a60_another_issuers_token_is_exchanged_for_what_it_may_open(trusting: Issuer, liar: Liar) -> None:
    reply = trusting.token("transfers", **exchange(foreign(liar)))
    claims = trusting.verify(reply["access_token"], "127.1.1.11")
    assert claims.sub == "liar:dana"
    assert set(claims.scope) == {"storage.read:/lake/cms", "storage.modify:/lake/cms"}
    assert claims.raw["act"] == {"sub": "transfers"}
    assert "refresh_token" not in reply
    again = exchange(reply["access_token"])
    assert "closed" in trusting.refused("transfers", 400, "invalid_grant", **again), "no renewal without the issuer"


@pytest.mark.parametrize(
    ("claims", "error"),
    [
        ({"aud": "127.0.1.99"}, "invalid_grant"),
        ({"aud": "https://wlcg.cern.ch/jwt/v1/any"}, "invalid_grant"),
        ({"exp": 1_000_000_000}, "invalid_grant"),
        ({"iss": "https://evil.example"}, "invalid_grant"),
        ({"scope": "storage.read:/lake/magic"}, "invalid_scope"),
        ({"scope": "storage.read:/lake/cmsx"}, "invalid_scope"),
        ({"scope": "openid fts offline_access"}, "invalid_scope"),
    ],
    ids=str,
)
def test_a60_other_tokens_of_it_are_not(trusting: Issuer, liar: Liar, claims: dict[str, Any], error: str) -> None:
    trusting.refused("transfers", 400, error, **exchange(foreign(liar, **claims)))


def test_a60_only_who_may_exchanges_them(trusting: Issuer, liar: Liar) -> None:
    assert "plain" in SECRETS
    trusting.refused("plain", 400, "unauthorized_client", **exchange(foreign(liar)))


def test_a60_nobody_elses_signature_counts(trusting: Issuer, liar: Liar) -> None:
    token = liar.sign({"sub": "dana", "aud": STORAGE, "scope": "storage.read:/"}, key=ECKey.generate_key("P-256"))
    trusting.refused("transfers", 400, "invalid_grant", **exchange(token))


def test_a55_upstream_that_is_slow_keeps_nobody_else_waiting(trusting: Issuer, liar: Liar) -> None:
    """The only thread works on, and no transaction is open, while somebody waits for the provider."""
    liar.asked.clear()
    liar.may_answer.clear()
    with ThreadPoolExecutor(1) as pool:
        begun = pool.submit(trusting.browser().get, "/login/with/liar")
        try:
            assert liar.asked.wait(180)
            assert trusting.request("GET", "/userinfo").status == 401
            assert trusting.browser().get("/login").status == 200
            assert not begun.done()
        finally:
            liar.may_answer.set()
        assert begun.result(180).location.startswith(f"{liar.url}/authorize?")
