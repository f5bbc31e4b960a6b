"""Every grant, over TLS, with our own verifier at the other end."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from boathouse.errors import AuthError
from boathouse.lake.approve import approve
from boathouse.lake.http import Http
from boathouse.lake.tokens import LOGIN_SCOPE
from boathouse.lake.tokens import Issuer as LakeIssuer
from boathouse.testing.wait import wait_for
from boathouse.wlcg.clientcred import ClientCredentials

from .conftest import (
    ACCESS_TOKEN,
    ALICE,
    BOB,
    CALLBACK,
    DEVICE,
    EXCHANGE,
    PASSWORD,
    SECRETS,
    STORAGE,
    CodeFlow,
    Issuer,
    Start,
)

EVERYTHING = "openid profile email offline_access wlcg.groups storage.read:/ storage.modify:/ storage.create:/"
OF_BOB = [
    *("openid", "profile", "email", "offline_access", "wlcg.groups"),
    *("storage.read:/lake/cms", "storage.read:/lake/user.bob"),
    *("storage.modify:/lake/cms", "storage.modify:/lake/user.bob"),
    *("storage.create:/lake/cms", "storage.create:/lake/user.bob"),
]


def id_token_claims(issuer: Issuer, token: str) -> dict[str, object]:
    keys = KeySet.import_key_set(issuer.request("GET", "/jwk").json)  # type: ignore[arg-type]
    return jwt.decode(token, keys, algorithms=["ES256"]).claims


def test_client_credentials_give_what_the_client_may_have(issuer: Issuer) -> None:
    reply = issuer.token(
        "rucio", grant_type="client_credentials", scope="storage.read:/lake/ fts openid", audience=f"{STORAGE} other"
    )
    assert reply["scope"] == "storage.read:/lake/ fts openid"
    claims = issuer.verify(reply["access_token"], STORAGE)
    assert claims.sub == claims.client_id == "rucio"
    assert claims.aud == (STORAGE, "other")
    assert claims.raw["wlcg.ver"] == "1.0"
    assert claims.raw["iat"] - claims.raw["nbf"] == 60
    assert reply["expires_in"] == claims.raw["exp"] - claims.raw["iat"] == 3600
    assert "refresh_token" not in reply
    assert "id_token" not in reply


def test_a_client_gets_no_more_than_its_list_and_is_told(issuer: Issuer) -> None:
    reply = issuer.token("plain", grant_type="client_credentials", scope="storage.read:/ storage.modify:/ openid")
    assert reply["scope"] == "storage.read:/lake/cms openid"


def test_without_a_scope_no_storage_is_opened(issuer: Issuer) -> None:
    assert issuer.token("plain", grant_type="client_credentials")["scope"] == "openid"


def test_without_an_audience_the_token_is_for_the_issuer_alone(issuer: Issuer) -> None:
    reply = issuer.token("rucio", grant_type="client_credentials", scope="openid")
    assert issuer.verify(reply["access_token"], issuer.url).aud == (issuer.url,)


@pytest.mark.parametrize("name", ["resource", "aud", "audience"])
def test_the_audience_has_three_names(issuer: Issuer, name: str) -> None:
    reply = issuer.token("rucio", grant_type="client_credentials", scope="openid", **{name: "https://one https://two"})
    assert issuer.verify(reply["access_token"], "https://two").aud == ("https://one", "https://two")


def test_the_client_of_our_own_asks_once_and_is_told_refusals(issuer: Issuer) -> None:
    client = ClientCredentials(issuer.url, "rucio", SECRETS["rucio"], issuer.ca)
    with ThreadPoolExecutor(8) as pool:
        tokens = set(pool.map(lambda _: client.token(STORAGE, "storage.read:/lake"), range(16)))
    assert len(tokens) == 1
    assert issuer.verify(tokens.pop(), STORAGE).scope == ("storage.read:/lake",)


@pytest.mark.parametrize("client", ["rucio", "browser"])
def test_code(issuer: Issuer, client: str) -> None:
    issuer.forget("bob")
    began = int(time.time())
    reply = CodeFlow(issuer, client, EVERYTHING).tokens("bob")
    assert reply["scope"].split() == OF_BOB
    claims = issuer.verify(reply["access_token"], STORAGE)
    assert (claims.sub, claims.client_id, claims.groups) == (BOB, client, ("/escape", "/escape/cms"))
    identity = id_token_claims(issuer, reply["id_token"])
    assert identity["nonce"] == "a nonce"
    assert identity["aud"] == client
    assert identity["iss"] == issuer.url
    assert began <= int(str(identity["auth_time"])) <= time.time()
    assert identity["wlcg.groups"] == ["/escape", "/escape/cms"]
    assert identity["preferred_username"] == "bob"


def test_pkce_is_welcome_but_not_asked_of_confidential_clients(issuer: Issuer) -> None:
    challenge = {"code_challenge": "x" * 43, "code_challenge_method": "S256"}
    flow = CodeFlow(issuer, "rucio", more=challenge)
    code = flow.code()
    issuer.refused("rucio", 400, "invalid_request", **flow.form, code=code)
    issuer.refused("rucio", 400, "invalid_grant", **flow.form, code=code, code_verifier="y" * 43)


def test_device_code(issuer: Issuer) -> None:
    reply = issuer.device_login("alice", scope=EVERYTHING, audience=f"rucio {STORAGE}")
    claims = issuer.verify(reply["access_token"], "rucio")
    assert claims.covers("storage.modify:/lake/magic/run1")
    assert not claims.covers("storage.read:/lake/user.bob")
    assert claims.groups == ("/escape", "/escape/cms", "/escape/magic")
    assert id_token_claims(issuer, reply["id_token"])["sub"] == ALICE
    assert reply["refresh_token"]


def test_a_device_waits_until_the_person_decides(issuer: Issuer) -> None:
    begun = issuer.post("/devicecode", "boathouse", scope="openid").json
    form = {"grant_type": DEVICE, "device_code": begun["device_code"]}
    issuer.refused("boathouse", 400, "authorization_pending", **form)
    page = issuer.browser("bob").submit("/device", user_code=begun["user_code"].lower().replace("-", " "))
    assert begun["user_code"] in page.text
    assert "Boathouse" in page.text
    issuer.browser("bob").submit(f"/device?user_code={begun['user_code']}", decision="deny")
    issuer.refused("boathouse", 400, "access_denied", **form)


def test_a_device_code_works_once(issuer: Issuer) -> None:
    begun = issuer.post("/devicecode", "boathouse", scope="openid").json
    issuer.browser("bob").submit(f"/device?user_code={begun['user_code']}", decision="allow")
    form = {"grant_type": DEVICE, "device_code": begun["device_code"]}
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: issuer.post("/token", "boathouse", **form).status, range(4)))
    assert sorted(answers) == [200, 400, 400, 400]


def test_refresh_rotates_narrows_and_stays_wide(issuer: Issuer) -> None:
    first = issuer.device_login("bob", scope=EVERYTHING)
    form = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
    narrow = issuer.token("boathouse", **form, scope="storage.read:/lake/cms/run1", audience="127.0.1.12")
    assert narrow["scope"] == "storage.read:/lake/cms/run1"
    assert issuer.verify(narrow["access_token"], "127.0.1.12").sub == BOB
    assert narrow["refresh_token"] != first["refresh_token"]
    wide = issuer.token("boathouse", grant_type="refresh_token", refresh_token=narrow["refresh_token"])
    assert wide["scope"].split() == OF_BOB
    assert issuer.verify(wide["access_token"], STORAGE).aud == (STORAGE,)
    assert issuer.token("boathouse", **form)["scope"].split() == OF_BOB, "the old one works for its grace period"


def test_a_refresh_token_that_comes_back_after_its_grace_is_stolen(start_issuer: Start) -> None:
    issuer = start_issuer(refresh_grace_s=0)
    first = issuer.device_login("bob", scope="openid offline_access")
    second = issuer.token("boathouse", grant_type="refresh_token", refresh_token=first["refresh_token"])
    issuer.refused("boathouse", 400, "invalid_grant", grant_type="refresh_token", refresh_token=first["refresh_token"])
    issuer.refused("boathouse", 400, "invalid_grant", grant_type="refresh_token", refresh_token=second["refresh_token"])
    assert issuer.sql("SELECT count(*) FROM audit WHERE event = 'refresh.replayed'") == [(1,)]


def test_the_command_lines_login(issuer: Issuer) -> None:
    client = LakeIssuer(issuer.url, Http(str(issuer.ca)))
    code = client.device_code("boathouse", scope=LOGIN_SCOPE, audience=("rucio", STORAGE))
    with pytest.raises(AuthError, match="refused this login"):
        approve(client.http, code, login="bob", password="wrong")
    approve(client.http, code, login="bob", password=PASSWORD)
    tokens = client.wait_for_device("boathouse", code)
    assert issuer.verify(tokens.access, "rucio").covers("storage.modify:/lake/cms/file")
    assert tokens.refresh
    renewed = client.refresh("boathouse", tokens.refresh, audience=("rucio",), scope="openid profile")
    assert issuer.verify(renewed.access, "rucio").scope == ("openid", "profile")
    assert renewed.refresh
    client.revoke("boathouse", renewed.refresh)
    with pytest.raises(AuthError):
        client.refresh("boathouse", renewed.refresh)


def test_refresh_never_widens(issuer: Issuer) -> None:
    first = issuer.device_login("bob", scope="openid offline_access storage.read:/lake/cms")
    form = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
    for scope in ("storage.read:/", "storage.modify:/lake/cms", "storage.read:/lake/cmsx", "profile"):
        issuer.refused("boathouse", 400, "invalid_scope", **form, scope=scope)


def test_no_refresh_token_without_offline_access(issuer: Issuer) -> None:
    assert "refresh_token" not in issuer.device_login("bob", scope="openid storage.read:/")


def exchange(token: str, **more: str) -> dict[str, str]:
    return {
        "grant_type": EXCHANGE,
        "subject_token": token,
        "subject_token_type": ACCESS_TOKEN,
        "audience": "127.0.1.12",
        **more,
    }


def test_exchange_keeps_the_subject_and_names_the_actor(issuer: Issuer) -> None:
    held = issuer.device_login("bob", scope="offline_access storage.read:/ storage.modify:/")["access_token"]
    reply = issuer.token("transfers", **exchange(held, scope="storage.read:/lake/cms storage.read:/lake/magic"))
    assert reply["issued_token_type"] == ACCESS_TOKEN
    assert reply["scope"] == "storage.read:/lake/cms"
    assert "refresh_token" not in reply
    claims = issuer.verify(reply["access_token"], "127.0.1.12")
    assert (claims.sub, claims.client_id, claims.raw["act"]) == (BOB, "transfers", {"sub": "transfers"})


def test_exchange_is_bounded_by_the_subject_token_and_by_the_client(issuer: Issuer) -> None:
    held = issuer.token("rucio", grant_type="client_credentials", scope="storage.read:/lake/cms/a storage.create:/")
    reply = issuer.token("transfers", **exchange(held["access_token"], scope="storage.read:/ storage.modify:/"))
    assert reply["scope"] == "storage.read:/lake/cms/a storage.create:/lake"
    assert issuer.verify(reply["access_token"], "127.0.1.12").sub == "rucio"
    issuer.refused("transfers", 400, "invalid_scope", **exchange(held["access_token"], scope="fts"))


def test_exchange_of_strangers_tokens_is_refused(issuer: Issuer) -> None:
    held = issuer.token("rucio", grant_type="client_credentials", scope="storage.read:/")["access_token"]
    issuer.refused("plain", 400, "unauthorized_client", **exchange(held))


def test_exchange_of_what_is_no_live_token_is_refused(issuer: Issuer) -> None:
    held = issuer.token("rucio", grant_type="client_credentials", scope="storage.read:/")["access_token"]
    forged = held[:-8] + ("AAAAAAAA" if held[-8:] != "AAAAAAAA" else "BBBBBBBB")
    identity = CodeFlow(issuer, "rucio").tokens()["id_token"]
    for token in (forged, "x", identity, held.partition(".")[0] + ".."):
        issuer.refused("transfers", 400, "invalid_grant", **exchange(token))
    issuer.post("/revoke", "rucio", token=held)
    issuer.refused("transfers", 400, "invalid_grant", **exchange(held))


def test_exchange_for_a_refresh_token_outlives_the_subject_token(issuer: Issuer) -> None:
    held = issuer.device_login("bob", scope="offline_access storage.read:/")["access_token"]
    reply = issuer.token("transfers", **exchange(held, scope="offline_access storage.read:/lake/cms"))
    again = issuer.token("transfers", grant_type="refresh_token", refresh_token=reply["refresh_token"])
    claims = issuer.verify(again["access_token"], "127.0.1.12")
    assert (claims.sub, claims.raw["act"]) == (BOB, {"sub": "transfers"})
    assert claims.scope == ("offline_access", "storage.read:/lake/cms")


def test_introspection_and_revocation(issuer: Issuer) -> None:
    reply = issuer.device_login("bob", scope="openid offline_access storage.read:/", audience="rucio")
    seen = issuer.post("/introspect", "rucio", token=reply["access_token"]).json
    assert (seen["active"], seen["sub"], seen["username"], seen["aud"]) == (True, BOB, "bob", "rucio")
    assert issuer.post("/introspect", "rucio", token=reply["refresh_token"]).json == {"active": False}
    assert issuer.post("/introspect", "rucio", token="nonsense").json == {"active": False}

    assert issuer.post("/revoke", "rucio", token=reply["access_token"]).status == 400, "not the client that it is for"
    assert issuer.post("/revoke", "boathouse", token=reply["access_token"]).status == 200
    assert issuer.post("/introspect", "rucio", token=reply["access_token"]).json == {"active": False}

    assert issuer.post("/revoke", "boathouse", token=reply["refresh_token"], token_type_hint="what").status == 200
    form = {"grant_type": "refresh_token", "refresh_token": reply["refresh_token"]}
    issuer.refused("boathouse", 400, "invalid_grant", **form)
    assert issuer.post("/revoke", "boathouse", token="unknown").status == 200, "RFC 7009, 2.2"


def test_userinfo(issuer: Issuer) -> None:
    def ask(token: str) -> tuple[int, dict[str, object]]:
        answer = issuer.request("GET", "/userinfo", headers={"Authorization": f"Bearer {token}"})
        return answer.status, answer.json

    reply = issuer.device_login("alice", scope="openid profile email wlcg.groups:/escape/production")
    assert ask(reply["access_token"]) == (
        200,
        {
            "sub": ALICE,
            "name": "Alice Adler",
            "given_name": "Alice",
            "family_name": "Adler",
            "preferred_username": "alice",
            "email": "alice@example.org",
            "email_verified": True,
            "wlcg.groups": ["/escape/production", "/escape", "/escape/cms", "/escape/magic"],
        },
    )
    assert ask("x")[0] == 401
    assert ask(issuer.device_login("bob", scope="profile")["access_token"])[0] == 403
    assert issuer.request("GET", "/userinfo").status == 401


def test_metadata_is_the_same_at_both_places_and_true(issuer: Issuer) -> None:
    document = issuer.request("GET", "/.well-known/openid-configuration").json
    assert document == issuer.request("GET", "/.well-known/oauth-authorization-server").json
    assert document["issuer"] == issuer.url
    for name, url in document.items():
        if name.endswith(("_endpoint", "_uri")):
            assert url.startswith(issuer.url)
            assert issuer.request("GET", url.removeprefix(issuer.url)).status != 404, name
    keys = issuer.request("GET", "/jwk")
    assert keys.headers["Cache-Control"] == "public, max-age=21600"
    assert {(key["kty"], key["alg"], key["use"]) for key in keys.json["keys"]} == {("EC", "ES256", "sig")}
    assert not any("d" in key for key in keys.json["keys"])


def test_a_person_who_leaves_the_seed_is_out_at_once(issuer: Issuer) -> None:
    reply = issuer.device_login("alice", scope="openid offline_access storage.read:/")

    def drop(seed: dict[str, list[dict[str, object]]]) -> None:
        seed["users"] = [user for user in seed["users"] if user["login"] != "alice"]

    original = issuer.seed.read_text()
    issuer.reload(drop)
    try:
        assert issuer.post("/introspect", "rucio", token=reply["access_token"]).json == {"active": False}
        form = {"grant_type": "refresh_token", "refresh_token": reply["refresh_token"]}
        issuer.refused("boathouse", 400, "invalid_grant", **form)
        assert issuer.browser().sign_in("alice").status == 401
    finally:
        issuer.seed.write_text(original)
        issuer.reload(lambda _: None)
        issuer.forget("alice")
    wait_for("alice is back", lambda: issuer.browser().sign_in("alice").status == 303)


def test_a_policy_counts_at_the_next_refresh(issuer: Issuer) -> None:
    reply = issuer.device_login("alice", scope="offline_access storage.read:/")
    assert "storage.read:/lake/magic" in reply["scope"]
    original = issuer.seed.read_text()

    def leave_magic(seed: dict[str, list[dict[str, object]]]) -> None:
        seed["users"][0]["groups"] = ["/escape", "/escape/cms"]

    issuer.reload(leave_magic)
    try:
        again = issuer.token("boathouse", grant_type="refresh_token", refresh_token=reply["refresh_token"])
        assert again["scope"] == "offline_access storage.read:/lake/cms storage.read:/lake/user.alice"
    finally:
        issuer.seed.write_text(original)
        issuer.reload(lambda _: None)


def test_codes_of_two_redirect_uris_are_not_mixed(issuer: Issuer) -> None:
    flow = CodeFlow(issuer, "rucio")
    form = flow.form | {"redirect_uri": "https://localhost:20499/other"}
    issuer.refused("rucio", 400, "invalid_grant", **form, code=flow.code())
    assert flow.form["redirect_uri"] == CALLBACK
