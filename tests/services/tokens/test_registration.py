"""Programs that register themselves: what they get, what they never get, and how long they are remembered."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest

from boathouse.testing.wait import wait_for

from .conftest import CALLBACK, DEVICE, STORAGE, Answer, CodeFlow, Issuer, Start

PATH = "/iam/api/client-registration"
NATIVE = {
    "client_name": "agent of a test",
    "redirect_uris": ["edu.kit.data.oidc-agent:/redirect", "http://localhost:8080"],
    "grant_types": ["authorization_code", "refresh_token", DEVICE],
    "scope": "openid offline_access storage.read:/ scim:read",
}


def send(issuer: Issuer, method: str, path: str, body: Any = None, key: str = "") -> Answer:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    return issuer.request(method, path, body=None if body is None else json.dumps(body), headers=headers)


def registered(issuer: Issuer, **changed: Any) -> dict[str, Any]:
    answer = send(issuer, "POST", PATH, NATIVE | changed)
    assert answer.status == 201, answer.text
    return answer.json


def secret_form(client: dict[str, Any]) -> dict[str, str]:
    return {"client_id": client["client_id"], "client_secret": client["client_secret"]}


def device_login(issuer: Issuer, client: dict[str, Any], login: str, **asked: str) -> Answer:
    begun = issuer.post("/devicecode", **secret_form(client), **asked).json
    page = issuer.browser(login).get(f"/device?user_code={begun['user_code']}")
    assert "registered itself" in page.text
    assert issuer.browser(login).submit(f"/device?user_code={begun['user_code']}", decision="allow").status == 200
    return issuer.post("/token", **secret_form(client), grant_type=DEVICE, device_code=begun["device_code"])


def test_discovery_names_the_endpoint(issuer: Issuer) -> None:
    document = issuer.request("GET", "/.well-known/openid-configuration").json
    assert document["registration_endpoint"] == issuer.url + PATH


def test_a_registered_client_gets_tokens_with_what_people_may_have(issuer: Issuer) -> None:
    client = registered(issuer)
    assert client["scope"] == "openid offline_access storage.read:/", "scim:read is not for people's clients"
    reply = device_login(issuer, client, "bob", scope=client["scope"], audience=f"{STORAGE} rucio").json
    assert reply["scope"] == "openid offline_access storage.read:/lake/cms storage.read:/lake/user.bob"
    assert issuer.verify(reply["access_token"], STORAGE).client_id == client["client_id"]
    form = {"grant_type": "refresh_token", "refresh_token": reply["refresh_token"]}
    again = issuer.post("/token", **secret_form(client), **form, scope="storage.read:/lake/cms", audience="rucio").json
    assert issuer.verify(again["access_token"], "rucio").scope == ("storage.read:/lake/cms",)


def test_defaults_are_those_of_the_standard(issuer: Issuer) -> None:
    """RFC 7591, 2: authorization code, HTTP Basic; the reply tells all that was registered (3.2.1)."""
    answer = send(issuer, "POST", PATH, {"redirect_uris": [CALLBACK]})
    assert answer.status == 201
    assert answer.headers["Cache-Control"] == "no-store"
    told = answer.json
    assert told["grant_types"] == ["authorization_code"]
    assert told["response_types"] == ["code"]
    assert told["token_endpoint_auth_method"] == "client_secret_basic"
    assert told["scope"] == "openid profile"
    assert told["client_secret_expires_at"] == 0
    assert told["registration_client_uri"] == f"{issuer.url}{PATH}/{told['client_id']}"


def test_a_public_client_gets_no_secret_and_needs_pkce(issuer: Issuer) -> None:
    client = registered(issuer, token_endpoint_auth_method="none")
    assert "client_secret" not in client
    flow = CodeFlow(issuer, client["client_id"], scope="openid", more={"redirect_uri": "http://localhost:8080"})
    answer = issuer.browser("bob").get(flow.path)
    assert answer.parameters["error_description"] == "A public client must send a code_challenge"


def test_a_person_is_asked_each_time_and_told_that_nobody_vouches(issuer: Issuer) -> None:
    client = registered(issuer)
    flow = CodeFlow(issuer, client["client_id"], scope="openid", more={"redirect_uri": "http://localhost:9999"})
    for _ in range(2):
        page = issuer.browser("bob").get(flow.path)
        assert "Nobody here vouches" in page.text
        assert "localhost:9999" in page.text
        answer = issuer.browser("bob").submit(flow.path, decision="allow")
        assert answer.location.startswith("http://localhost:9999?"), "any port of one's own machine: RFC 8252, 7.3"
    form = {"grant_type": "authorization_code", "redirect_uri": "http://localhost:9999"}
    assert issuer.post("/token", **secret_form(client), **form, code=answer.parameters["code"]).status == 200
    silent = CodeFlow(issuer, client["client_id"], scope="openid", more={**flow.more, "prompt": "none"})
    assert issuer.browser("bob").get(silent.path).parameters["error"] == "consent_required"


def test_a_person_agrees_to_audiences_and_no_others_are_given(issuer: Issuer) -> None:
    """RFC 8707, 2.2; what the page says of a program that nobody vouches for is true."""
    client = registered(issuer)
    back = "http://localhost:9999"
    flow = CodeFlow(issuer, client["client_id"], scope="openid offline_access", more={"redirect_uri": back})
    page = issuer.browser("bob").get(flow.path).text
    assert f"at <code>{STORAGE}</code> and nowhere else" in page
    redeem = {"grant_type": "authorization_code", "redirect_uri": back}

    def code() -> str:
        return issuer.browser("bob").submit(flow.path, decision="allow").parameters["code"]

    wide = issuer.post("/token", **secret_form(client), **redeem, code=code(), audience="rucio")
    assert (wide.status, wide.json["error"]) == (400, "invalid_target")
    held = issuer.post("/token", **secret_form(client), **redeem, code=code()).json
    renew = {"grant_type": "refresh_token", "refresh_token": held["refresh_token"]}
    wider = issuer.post("/token", **secret_form(client), **renew, audience=f"{STORAGE} rucio")
    assert wider.json["error_description"] == "The person did not agree to tokens for rucio"
    renewed = issuer.post("/token", **secret_form(client), **renew, audience=STORAGE).json
    assert issuer.verify(renewed["access_token"], STORAGE).aud == (STORAGE,)


def test_management(issuer: Issuer) -> None:
    """RFC 7592: read, update, delete, each with the registration access token."""
    client = registered(issuer)
    path, key = f"{PATH}/{client['client_id']}", client["registration_access_token"]
    read = send(issuer, "GET", path, key=key)
    assert read.status == 200
    assert read.json == {
        name: value
        for name, value in client.items()
        if name not in ("client_secret", "client_secret_expires_at", "registration_access_token")
    }
    wish = {"client_id": client["client_id"], "redirect_uris": [CALLBACK], "scope": "openid storage.modify:/ iam:x"}
    updated = send(issuer, "PUT", path, wish, key=key)
    assert (updated.status, updated.json["scope"]) == (200, "openid storage.modify:/")
    assert updated.json["redirect_uris"] == [CALLBACK]
    assert "client_name" not in updated.json, "what is left out is gone (RFC 7592, 2.2)"
    assert issuer.post("/devicecode", **secret_form(client), scope="openid").json["error"] == "unauthorized_client"
    assert send(issuer, "DELETE", path, key=key).status == 204
    assert send(issuer, "GET", path, key=key).status == 401
    assert issuer.post("/devicecode", **secret_form(client), scope="openid").json["error"] == "invalid_client"


def test_deleting_a_client_ends_its_refresh_tokens(issuer: Issuer) -> None:
    client = registered(issuer)
    reply = device_login(issuer, client, "bob", scope="openid offline_access").json
    key = client["registration_access_token"]
    assert send(issuer, "DELETE", f"{PATH}/{client['client_id']}", key=key).status == 204
    assert issuer.post("/introspect", "rucio", token=reply["access_token"]).json == {"active": False}
    form = {"grant_type": "refresh_token", "refresh_token": reply["refresh_token"]}
    assert issuer.post("/token", **secret_form(client), **form).json["error"] == "invalid_client"


def test_only_hashes_are_kept_and_all_is_audited(issuer: Issuer) -> None:
    client = registered(issuer, client_name="audited")
    ((row,),) = issuer.sql(
        "SELECT row_to_json(r)::text || row_to_json(c)::text FROM registrations r JOIN clients c USING (client_id) "
        "WHERE client_id = %s",
        client["client_id"],
    )
    assert client["registration_access_token"] not in row
    assert client["client_secret"] not in row
    assert issuer.sql("SELECT count(*) FROM audit WHERE event = 'client.registered' AND detail->>'name' = 'audited'")
    assert client["registration_access_token"] not in issuer.log


def test_what_people_lose_a_registered_client_loses(start_issuer: Start) -> None:
    issuer = start_issuer()
    client = registered(issuer)

    def shorten(seed: dict[str, Any]) -> None:
        (own,) = (entry for entry in seed["clients"] if entry["client_id"] == "boathouse")
        own |= {"scopes": ["openid"], "audiences": ["rucio"]}

    issuer.reload(shorten)
    form = secret_form(client)
    assert issuer.post("/devicecode", **form, scope="storage.read:/").json["error"] == "invalid_scope"
    assert issuer.post("/devicecode", **form, scope="openid", audience=STORAGE).json["error"] == "invalid_target"
    assert issuer.post("/devicecode", **form, scope="openid", audience="rucio").status == 200

    issuer.reload(lambda seed: seed.update(clients=[e for e in seed["clients"] if e["client_id"] != "boathouse"]))
    assert issuer.post("/devicecode", **form, scope="openid").json["error"] == "invalid_client"
    assert send(issuer, "POST", PATH, NATIVE).status == 403


def test_registrations_are_bounded_and_unused_ones_forgotten(start_issuer: Start) -> None:
    issuer = start_issuer(registrations_unused_at_most=3, sweep_s=1)
    first, second = registered(issuer), registered(issuer)
    assert device_login(issuer, first, "bob", scope="openid").status == 200
    registered(issuer)
    registered(issuer)
    full = send(issuer, "POST", PATH, NATIVE)
    assert (full.status, full.json["error"]) == (429, "temporarily_unavailable"), "three wait unused"

    issuer.sql("UPDATE registrations SET expires_at = 0 WHERE used_at IS NULL")
    gone = "SELECT count(*) FROM clients WHERE owner = 'registered'"
    wait_for("the unused ones are forgotten", lambda: issuer.sql(gone) == [(1,)])
    assert issuer.post("/devicecode", **secret_form(second), scope="openid").json["error"] == "invalid_client"
    assert issuer.post("/devicecode", **secret_form(first), scope="openid").status == 200


def test_what_has_expired_is_deleted_however_much_it_is(start_issuer: Start) -> None:
    issuer = start_issuer(sweep_s=1)
    columns = "(hash, family, client_id, sub, scope, issued_at, expires_at)"
    issuer.sql(
        f"INSERT INTO refresh_tokens {columns} SELECT sha256(n::text::bytea), 'family', 'boathouse', 'nobody', "
        "'openid', 0, CASE WHEN n > 2500 THEN %s ELSE n END FROM generate_series(1, 2510) n",
        int(time.time()) + 600,
    )
    alive = "SELECT count(*) FROM refresh_tokens WHERE sub = 'nobody'"
    wait_for("what is alive is left", lambda: issuer.sql(alive) == [(10,)])


def test_who_deletes_its_registrations_cannot_go_on_for_ever(start_issuer: Start) -> None:
    issuer = start_issuer(registrations_per_hour=2)
    for _ in range(2):
        client = registered(issuer)
        key = client["registration_access_token"]
        assert send(issuer, "DELETE", f"{PATH}/{client['client_id']}", key=key).status == 204
    assert send(issuer, "POST", PATH, NATIVE).status == 429


def test_nobody_registers_where_the_operator_does_not_want_it(start_issuer: Start) -> None:
    issuer = start_issuer(registration_bound="")
    assert "registration_endpoint" not in issuer.request("GET", "/.well-known/openid-configuration").json
    answer = send(issuer, "POST", PATH, NATIVE)
    assert (answer.status, answer.json["error"]) == (403, "access_denied")


@pytest.mark.parametrize("name", ["Boathouse", "bOATHOUSE", "rucio", "\uff22oathouse"])
def test_the_name_of_a_known_client_is_taken(issuer: Issuer, name: str) -> None:
    answer = send(issuer, "POST", PATH, NATIVE | {"client_name": name})
    assert (answer.status, answer.json["error"]) == (400, "invalid_client_metadata")
    assert re.search("that of another client", answer.json["error_description"])
