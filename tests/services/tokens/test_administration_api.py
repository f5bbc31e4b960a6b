"""Administration over HTTP: who may, INDIGO IAM's and SCIM's forms, and when a change counts."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import pytest

from boathouse.testing.wait import wait_for

from .conftest import ALICE, BOB, PASSWORD, STORAGE, Answer, Issuer, Start

ADMIN = {
    "client_id": "admin",
    "secret": "secret-of-admin",
    "grants": ["client_credentials"],
    "scopes": ["iam:admin.read", "iam:admin.write", "scim:read", "scim:write", "openid"],
}
READER = {**ADMIN, "client_id": "reader", "secret": "secret-of-reader", "scopes": ["scim:read", "iam:admin.read"]}
GRANTING = {
    "client_id": "desk",
    "grants": ["device_code", "refresh_token"],
    "scopes": ["openid", "offline_access", "scim:read", "iam:admin.write"],
}
SCIM_JSON = "application/scim+json"


@dataclass
class Api:
    """An issuer and a token for its administration."""

    issuer: Issuer
    token: str

    def call(self, method: str, path: str, document: Any = None, /, **query: str) -> Answer:
        headers = {"Authorization": f"Bearer {self.token}"}
        body = None
        if document is not None:
            headers["Content-Type"] = SCIM_JSON if path.startswith("/scim") else "application/json"
            body = json.dumps(document)
        return self.issuer.request(method, f"{path}?{urlencode(query)}" if query else path, headers=headers, body=body)

    def get(self, path: str, /, **query: str) -> Any:
        answer = self.call("GET", path, **query)
        assert answer.status == 200, answer.text
        return json.loads(answer.text)

    def change(self, method: str, path: str, document: Any = None, /, **query: str) -> Any:
        answer = self.call(method, path, document, **query)
        assert answer.status in (200, 201, 204), answer.text
        return json.loads(answer.text) if answer.text else None

    def group_id(self, name: str) -> str:
        (found,) = (one["id"] for one in self.get("/iam/groups") if one["name"] == name)
        return str(found)


def bearer(issuer: Issuer, client: dict[str, Any], **more: str) -> Api:
    form = {"grant_type": "client_credentials", "client_secret": client["secret"], "client_id": client["client_id"]}
    answer = issuer.post("/token", **{"scope": " ".join(client["scopes"]), **form, **more})
    assert answer.status == 200, answer.text
    return Api(issuer, answer.json["access_token"])


@pytest.fixture(scope="module")
def issuer(start_issuer: Start) -> Issuer:
    """One of this module's own: its people are changed."""
    started = start_issuer()

    def more(seed: dict[str, Any]) -> None:
        seed["clients"] += [ADMIN, READER, GRANTING]
        seed["users"].append({"login": "ada", "sub": "ada-1", "password": PASSWORD, "admin": True})

    started.reload(more)
    return started


@pytest.fixture(scope="module")
def api(issuer: Issuer) -> Api:
    return bearer(issuer, ADMIN)


@pytest.fixture(scope="module")
def reader(issuer: Issuer) -> Api:
    return bearer(issuer, READER)


def add_person(api: Api, login: str, *groups: str) -> str:
    made = api.change("POST", "/scim/Users", {"userName": login, "displayName": login.title(), "password": PASSWORD})
    for group in groups:
        api.change("PUT", f"/iam/groups/{api.group_id(group)}/members/{made['id']}", {})
    return str(made["id"])


# Who may


def test_no_token_or_another_ones_token_opens_nothing(issuer: Issuer) -> None:
    rucio = issuer.token("rucio", grant_type="client_credentials", scope="openid")["access_token"]
    elsewhere = bearer(issuer, ADMIN, audience=STORAGE).token
    for path in ("/scim/Users", "/scim/v2/Groups", "/iam/scope_policies", "/iam/api/clients", "/iam/audit"):
        for token, status in (("", 401), ("nonsense", 401), (elsewhere, 401), (rucio, 403)):
            answer = Api(issuer, token).call("GET", path)
            assert answer.status == status, (path, token, answer.text)
            assert ("WWW-Authenticate" in answer.headers) == (status == 401)


@pytest.mark.parametrize(
    ("method", "path", "document"),
    [
        ("POST", "/scim/Users", {"userName": "eve"}),
        ("PATCH", f"/scim/Users/{BOB}", {"Operations": [{"op": "replace", "path": "active", "value": False}]}),
        ("DELETE", f"/scim/Users/{BOB}", None),
        ("POST", "/scim/Groups", {"displayName": "escape/eve"}),
        ("POST", "/iam/scope_policies", {"rule": "PERMIT", "scopes": ["storage.read:/"]}),
        ("POST", "/iam/api/clients", {"client_id": "c", "grant_types": ["client_credentials"], "scope": "openid"}),
        ("PATCH", "/iam/api/clients/plain/disable", None),
        ("POST", "/iam/api/clients/plain/secret", None),
        ("POST", f"/iam/account/{BOB}/managed-groups/x", None),
    ],
)
def test_who_may_read_may_not_write(reader: Api, method: str, path: str, document: Any) -> None:
    answer = reader.call(method, path, document)
    assert answer.status in (403, 404), answer.text
    assert answer.status == 403 or "managed-groups" in path


def test_administrative_scopes_are_for_administrators_and_end_with_their_rights(issuer: Issuer, api: Api) -> None:
    login = issuer.browser("bob")
    assert login

    def ask(who: str) -> dict[str, Any]:
        begun = issuer.post("/devicecode", "desk", scope=" ".join(GRANTING["scopes"])).json
        answer = issuer.browser(who).submit(f"/device?user_code={begun['user_code']}", decision="allow")
        assert answer.status == 200
        form = {"grant_type": "urn:ietf:params:oauth:grant-type:device_code", "device_code": begun["device_code"]}
        return issuer.token("desk", **form)

    assert ask("bob")["scope"] == "openid offline_access"
    add_person(api, "eva")
    role = {"urn:indigo-dc:scim:schemas:IndigoUser": {"authorities": ["ROLE_USER", "ROLE_ADMIN"]}}
    eva = api.get("/scim/Users", filter='userName eq "eva"')["Resources"][0]["id"]
    api.change("PUT", f"/scim/Users/{eva}", role)
    given = ask("eva")
    assert given["scope"] == " ".join(GRANTING["scopes"])
    own = Api(issuer, given["access_token"])
    assert own.get("/iam/groups")
    assert own.change("POST", "/iam/scope_policies", {"rule": "PERMIT", "scopes": ["fts"], "account": {"uuid": eva}})
    api.change("PUT", f"/scim/Users/{eva}", {"urn:indigo-dc:scim:schemas:IndigoUser": {"authorities": ["ROLE_USER"]}})
    assert own.call("POST", "/iam/scope_policies", {"rule": "PERMIT", "scopes": ["openid"]}).status == 403
    assert own.call("GET", "/scim/Users").status == 403
    assert own.get("/scim/Me")["userName"] == "eva"


# SCIM


@pytest.mark.parametrize("base", ["/scim", "/scim/v2"])
def test_scim_lists_by_page_and_filter(issuer: Issuer, reader: Api, base: str) -> None:
    answer = reader.call("GET", f"{base}/Users", startIndex="1", count="2")
    assert answer.headers["Content-Type"].partition(";")[0] == SCIM_JSON
    first = answer.json
    assert first["schemas"] == ["urn:ietf:params:scim:api:messages:2.0:ListResponse"]
    assert (first["startIndex"], first["itemsPerPage"]) == (1, 2)
    seen: list[str] = []
    while len(seen) < first["totalResults"]:
        page = reader.get(f"{base}/Users", startIndex=str(len(seen) + 1), count="2")
        seen += [one["userName"] for one in page["Resources"]]
    assert {"ada", "alice", "bob"} <= set(seen)
    assert len(set(seen)) == len(seen)
    (alice,) = reader.get(f"{base}/Users", filter='userName eq "ALICE"')["Resources"]
    assert (alice["id"], alice["active"], alice["emails"][0]["value"]) == (ALICE, True, "alice@example.org")
    assert alice["name"]["familyName"] == "Adler"
    assert [group["display"] for group in alice["groups"]][:2] == ["escape", "escape/cms"]
    assert alice["meta"]["location"] == f"{issuer.url}{base}/Users/{ALICE}"
    assert reader.get(f"{base}/Users/{ALICE}") == alice
    found = reader.get(f"{base}/Groups", filter='displayName sw "escape/"')
    assert "escape/magic" in [one["displayName"] for one in found["Resources"]]
    magic = next(one for one in found["Resources"] if one["displayName"] == "escape/magic")
    assert [one["display"] for one in reader.get(f"{base}/Groups/{magic['id']}")["members"]] == ["alice"]


def test_scim_makes_changes_and_removes_people_and_groups(issuer: Issuer, api: Api) -> None:
    made = api.call("POST", "/scim/Users", {"userName": "carol", "name": {"givenName": "Carol", "familyName": "Chen"}})
    assert made.status == 201
    carol = made.json
    assert made.headers["Location"] == carol["meta"]["location"]
    assert api.call("POST", "/scim/Users", {"userName": "carol"}).status == 409
    path = f"/scim/Users/{carol['id']}"
    operations = [{"op": "replace", "value": {"displayName": "Carol Cheng", "emails": [{"value": "c@example.org"}]}}]
    assert api.call("PATCH", path, {"Operations": operations}).status == 204
    seen = api.get(path)
    assert (seen["displayName"], seen["emails"][0]["value"]) == ("Carol Cheng", "c@example.org")

    members = [{"value": carol["id"]}]
    group = api.change("POST", "/scim/Groups", {"displayName": "escape/guests", "members": members})
    here = f"/scim/Groups/{group['id']}"
    assert [one["display"] for one in group["members"]] == ["carol"]
    api.change("PATCH", here, {"Operations": [{"op": "add", "path": "members", "value": [{"value": BOB}]}]})
    assert [one["display"] for one in api.get(here)["members"]] == ["bob", "carol"]
    one = {"op": "remove", "path": f'members[value eq "{BOB}"]'}
    api.change("PATCH", here, {"Operations": [one]})
    assert [one["display"] for one in api.get(here)["members"]] == ["carol"]
    api.change("PATCH", here, {"Operations": [{"op": "remove", "path": "members"}]})
    assert api.get(here)["members"] == []
    assert api.call("DELETE", here).status == 204
    assert api.call("GET", here).status == 404
    assert api.call("DELETE", path).status == 204
    missing = api.call("GET", path)
    assert (missing.status, missing.json["schemas"]) == (404, ["urn:ietf:params:scim:api:messages:2.0:Error"])


@pytest.mark.parametrize(
    ("method", "path", "document"),
    [
        ("POST", "/scim/Users", {}),
        ("POST", "/scim/Users", {"userName": 1}),
        ("POST", "/scim/Users", {"userName": "a b"}),
        ("POST", "/scim/Users", {"userName": "zoe", "active": "no"}),
        ("POST", "/scim/Users", {"userName": "zoe", "emails": "x"}),
        ("POST", "/scim/Users", {"userName": "zoe", "displayName": "a\u0000b"}),
        ("PUT", f"/scim/Users/{BOB}", {"userName": "robert"}),
        ("PATCH", f"/scim/Users/{BOB}", {}),
        ("PATCH", f"/scim/Users/{BOB}", {"Operations": [{"op": "move"}]}),
        ("PATCH", f"/scim/Users/{BOB}", {"Operations": [{"op": "remove", "path": "userName"}]}),
        ("POST", "/scim/Groups", {"displayName": "es cape"}),
        ("POST", "/scim/Groups", {"displayName": "escape/x", "members": [BOB]}),
        ("GET", '/scim/Users?filter=userName+gt+"a"', None),
        ("GET", '/scim/Users?filter=password+eq+"a"', None),
        ("GET", "/scim/Users?startIndex=x", None),
        ("GET", "/scim/Users?count=-1", None),
        ("POST", "/iam/scope_policies", {"rule": "ALLOW", "scopes": ["fts"]}),
        ("POST", "/iam/scope_policies", {"rule": "DENY", "scopes": "fts"}),
        ("POST", "/iam/scope_policies", {"rule": "DENY", "scopes": ["fts"], "matchingPolicy": "REGEXP"}),
        ("POST", "/iam/scope_policies", {"rule": "DENY", "scopes": ["storage.read:/../x"]}),
        ("DELETE", "/iam/scope_policies/x", None),
        ("POST", "/iam/api/clients", {"client_id": "c", "grant_types": ["password"], "scope": "openid"}),
        ("GET", "/iam/audit/who-could?path=relative", None),
        ("GET", "/iam/audit/who-could?path=/&at=yesterday", None),
        ("GET", "/iam/audit/who-could?path=/&at=nan", None),
        ("GET", "/iam/audit/verify?hash=x", None),
        ("GET", "/iam/audit?count=many", None),
    ],
)
def test_malformed_requests_change_nothing(issuer: Issuer, api: Api, method: str, path: str, document: Any) -> None:
    before = issuer.sql("SELECT max(seq) FROM audit WHERE detail ? 'state'")
    answer = api.call(method, path, document)
    assert answer.status == 400, answer.text
    assert issuer.sql("SELECT max(seq) FROM audit WHERE detail ? 'state'") == before
    if path.startswith("/scim"):
        assert answer.headers["Content-Type"].partition(";")[0] == SCIM_JSON


def test_me_is_for_people_with_any_token_for_this_issuer(issuer: Issuer, api: Api) -> None:
    token = issuer.device_login("alice", scope="openid", audience=issuer.url)["access_token"]
    me = Api(issuer, token)
    assert me.get("/scim/Me")["userName"] == "alice"
    assert me.call("GET", "/scim/Users").status == 403
    assert me.call("GET", f"/scim/Users/{BOB}").status == 403
    assert api.call("GET", "/scim/Me").status == 403
    bare = issuer.device_login("alice", scope="wlcg.groups", audience=issuer.url)["access_token"]
    assert Api(issuer, bare).call("GET", "/scim/Me").status == 403


# Requests, managers, clients, exchange


def test_a_request_becomes_a_membership(issuer: Issuer, api: Api) -> None:
    add_person(api, "dora", "/escape")
    token = issuer.device_login("dora", scope="openid", audience=issuer.url)["access_token"]
    dora = Api(issuer, token)
    made = dora.change("POST", "/iam/group_requests", {"groupName": "escape/cms", "notes": "my thesis"})
    assert (made["status"], made["groupName"], made["username"]) == ("PENDING", "/escape/cms", "dora")
    assert dora.call("POST", f"/iam/group_requests/{made['uuid']}/approve").status == 403
    listed = api.get("/iam/group_requests", status="PENDING", username="dora")
    assert [one["uuid"] for one in listed["Resources"]] == [made["uuid"]]
    api.change("POST", f"/iam/group_requests/{made['uuid']}/approve", until=str(int(time.time()) + 3600))
    assert [one["display"] for one in dora.get("/scim/Me")["groups"]] == ["escape", "escape/cms"]
    (membership,) = (
        one
        for person in api.get("/iam/accounts", search="dora")["Resources"]
        for one in person["memberships"]
        if one["group"] == "/escape/cms"
    )
    assert membership["expires_at"]
    other = dora.change("POST", "/iam/group_requests", {"groupName": "/escape/magic"})
    refused = api.change("POST", f"/iam/group_requests/{other['uuid']}/reject", motivation="embargoed")
    assert (refused["status"], refused["motivation"], refused["decidedBy"]) == ("REJECTED", "embargoed", "admin")
    group = api.group_id("/escape/cms")
    api.change("POST", f"/iam/account/{made['userUuid']}/managed-groups/{group}")
    assert next(one for one in api.get("/iam/groups") if one["id"] == group)["managers"] == ["dora"]
    # A token that travels with jobs does not carry the rights of a manager: those are used on the pages.
    assert dora.call("GET", f"/iam/groups/{group}/members").status == 403
    api.change("DELETE", f"/iam/account/{made['userUuid']}/managed-groups/{group}")


def test_a_client_works_until_it_is_switched_off(issuer: Issuer, api: Api) -> None:
    wish = {
        "client_id": "mover",
        "grant_types": ["client_credentials", "token_exchange"],
        "scope": "storage.read:/lake",
    }
    made = api.change("POST", "/iam/api/clients", wish)
    form = {"grant_type": "client_credentials", "client_id": "mover", "scope": "storage.read:/lake"}

    def status(secret: str) -> int:
        return issuer.post("/token", **form, client_secret=secret).status

    assert status(made["client_secret"]) == 200
    assert "client_secret" not in api.get("/iam/api/clients/mover")
    again = api.change("POST", "/iam/api/clients/mover/secret")["client_secret"]
    assert (status(made["client_secret"]), status(again)) == (401, 200)
    api.change("PUT", "/iam/api/clients/mover", {"audiences": [STORAGE], "scope": "storage.read:/lake/cms"})
    assert issuer.post("/token", **form, client_secret=again, audience="else").json["error"] == "invalid_target"
    api.change("PATCH", "/iam/api/clients/mover/disable")
    assert status(again) == 400
    api.change("PATCH", "/iam/api/clients/mover/enable")
    assert status(again) == 200

    held = issuer.device_login("bob", scope="openid storage.read:/", audience=issuer.url)["access_token"]
    exchange = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "client_id": "mover",
        "client_secret": again,
        "subject_token": held,
        "subject_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "audience": STORAGE,
    }
    assert issuer.post("/token", **exchange).status == 400
    pair = {
        "originClient": {"type": "BY_ID", "matchParam": "boathouse"},
        "destinationClient": {"type": "BY_ID", "matchParam": "mover"},
    }
    policy = api.change("POST", "/iam/api/exchange/policies", pair)
    assert issuer.post("/token", **exchange).json["scope"] == "storage.read:/lake/cms"
    assert policy in api.get("/iam/api/exchange/policies")
    api.change("DELETE", f"/iam/api/exchange/policies/{policy['id']}")
    assert issuer.post("/token", **exchange).status == 400
    api.change("DELETE", "/iam/api/clients/mover")
    assert status(again) == 400


def test_what_belongs_to_the_facility_file_is_refused_with_the_remedy(api: Api) -> None:
    for method, path, document in (
        ("DELETE", f"/scim/Users/{BOB}", None),
        ("PUT", f"/scim/Users/{BOB}", {"displayName": "Robert"}),
        ("DELETE", "/iam/api/clients/plain", None),
        ("DELETE", f"/scim/Groups/{api.group_id('/escape/cms')}", None),
    ):
        answer = api.call(method, path, document)
        assert answer.status == 409
        assert "boathouse up" in answer.text


# When a change counts


def given(issuer: Issuer, held: dict[str, Any]) -> list[str] | int:
    """The storage scopes that a refresh gives; the status where it is refused."""
    answer = issuer.post("/token", "boathouse", grant_type="refresh_token", refresh_token=held["refresh_token"])
    if answer.status != 200:
        return answer.status
    return [scope for scope in answer.json["scope"].split() if scope.startswith("storage.")]


def test_a56_every_change_counts_at_the_next_refresh(issuer: Issuer, api: Api) -> None:
    finn = add_person(api, "finn", "/escape")
    held = issuer.device_login("finn", scope="openid offline_access storage.read:/")
    usual = ["storage.read:/lake/cms"]
    assert given(issuer, held) == usual
    own = {"rule": "PERMIT", "scopes": ["storage.read:/lake/finn"], "account": {"username": "finn"}}
    policy = api.change("POST", "/iam/scope_policies", own)
    assert given(issuer, held) == [*usual, "storage.read:/lake/finn"]
    api.change("DELETE", f"/iam/scope_policies/{policy['id']}")
    assert given(issuer, held) == usual
    denial = api.change("POST", "/iam/scope_policies", own | {"rule": "DENY", "scopes": ["storage.read:/lake/cms/x"]})
    assert given(issuer, held) == [], "a denial stops what contains the path"
    api.change("DELETE", f"/iam/scope_policies/{denial['id']}")
    magic = f"/iam/groups/{api.group_id('/escape/magic')}/members/{finn}"
    api.change("PUT", magic, {})
    assert given(issuer, held) == [*usual, "storage.read:/lake/magic"]
    api.change("DELETE", magic)
    assert given(issuer, held) == usual
    api.change("PUT", magic, {"until": int(time.time()) + 3600})
    assert given(issuer, held) == [*usual, "storage.read:/lake/magic"]
    api.change("PUT", magic, {"until": int(time.time()) + 5})
    wait_for("the membership ends", lambda: given(issuer, held) == usual)
    api.change("PATCH", f"/scim/Users/{finn}", {"Operations": [{"op": "replace", "path": "active", "value": False}]})
    assert given(issuer, held) == 400
    api.change("PATCH", f"/scim/Users/{finn}", {"Operations": [{"op": "replace", "path": "active", "value": True}]})
    assert given(issuer, held) == 400, "what was revoked stays revoked"


def test_a56_capability_sets_stand_for_what_the_group_is_permitted(issuer: Issuer, api: Api) -> None:
    jana = add_person(api, "jana", "/escape", "/escape/cms")
    scope = "openid offline_access wlcg.capabilityset:/escape/cms wlcg.capabilityset:/escape/magic"
    held = issuer.device_login("jana", scope=scope)
    assert held["scope"].split() == [
        *("openid", "offline_access", "storage.read:/lake/cms", "storage.modify:/lake/cms"),
    ]
    assert given(issuer, held) == ["storage.read:/lake/cms", "storage.modify:/lake/cms"]
    api.change("DELETE", f"/iam/groups/{api.group_id('/escape/cms')}/members/{jana}")
    assert given(issuer, held) == []
    refused = issuer.post("/token", "rucio", grant_type="client_credentials", scope="wlcg.capabilityset:/escape/cms")
    assert refused.json["error"] == "invalid_scope", "clients are in no group"


def test_a55_groups_made_by_administrators_stand_in_tokens(issuer: Issuer, api: Api) -> None:
    group = api.change("POST", "/scim/Groups", {"displayName": "escape/lst"})
    rare = api.change(
        "POST",
        "/scim/Groups",
        {
            "displayName": "escape/lst/shift",
            "urn:indigo-dc:scim:schemas:IndigoGroup": {"labels": [{"name": "wlcg.optional-group"}]},
        },
    )
    gina = add_person(api, "gina", "/escape", "/escape/lst", "/escape/lst/shift")

    def groups(scope: str) -> tuple[str, ...]:
        token = issuer.device_login("gina", scope=f"openid {scope}")["access_token"]
        return issuer.verify(token, STORAGE).groups

    assert groups("wlcg.groups") == ("/escape", "/escape/lst")
    assert groups("wlcg.groups:/escape/lst/shift") == ("/escape/lst/shift", "/escape", "/escape/lst")
    assert groups("") == ()
    api.change("DELETE", f"/iam/groups/{group['id']}/members/{gina}")
    assert groups("wlcg.groups wlcg.groups:/escape/lst") == ("/escape",)
    assert api.call("DELETE", f"/scim/Groups/{rare['id']}").status == 204
    assert groups("wlcg.groups:/escape/lst/shift wlcg.groups") == ("/escape",)


Rule = tuple[str, list[str], dict[str, Any]]


@pytest.mark.parametrize(
    ("rules", "scope", "issued"),
    [
        # The VO: everybody in it, and nobody else.
        ([("PERMIT", ["storage.read:/lake/vo"], {"group": {"name": "/escape"}})], "storage.read:/lake/vo", True),
        ([("PERMIT", ["storage.read:/lake/vo"], {"group": {"name": "/escape/cms"}})], "storage.read:/lake/vo", False),
        # Groups and roles: an optional group counts as any other, named in the token or not.
        (
            [("PERMIT", ["storage.modify:/lake/prod"], {"group": {"name": "/escape/production"}})],
            "storage.modify:/lake/prod",
            False,
        ),
        # Scopes without a path, and capabilities on computing.
        ([("DENY", ["fts"], {})], "fts", False),
        ([("DENY", ["fts"], {}), ("PERMIT", ["fts"], {"group": {"name": "/escape"}})], "fts", True),
        ([], "fts", True),
        # Capabilities: one does not stand for another.
        ([("PERMIT", ["storage.read:/lake/h"], {"account": {"username": "hugo"}})], "storage.modify:/lake/h", False),
        ([("PERMIT", ["storage.read:/lake/h"], {"account": {"username": "hugo"}})], "storage.read:/lake/h/i", True),
        ([("PERMIT", ["storage.read:/lake/h"], {"account": {"username": "hugo"}})], "storage.read:/lake/hi", False),
        (
            [
                ("PERMIT", ["storage.read:/lake/h"], {"group": {"name": "/escape"}}),
                ("DENY", ["storage.read:/lake/h/secret"], {"account": {"username": "hugo"}}),
            ],
            "storage.read:/lake/h",
            False,
        ),
    ],
)
def test_a56_vo_group_and_capability_policies(
    issuer: Issuer, api: Api, rules: list[Rule], scope: str, issued: bool
) -> None:
    if not api.get("/scim/Users", filter='userName eq "hugo"')["Resources"]:
        add_person(api, "hugo", "/escape")
    made = [
        api.change("POST", "/iam/scope_policies", {"rule": rule, "scopes": scopes, **whom})["id"]
        for rule, scopes, whom in rules
    ]
    try:
        reply = issuer.device_login("hugo", scope=f"openid {scope}")
        assert (scope in reply["scope"].split()) == issued
        verdict = api.get("/iam/scope_policies/test", user="hugo", scope=scope)
        assert verdict["allowed"] == issued, "what is foretold is what is done"
        assert verdict["because"]
    finally:
        for number in made:
            api.change("DELETE", f"/iam/scope_policies/{number}")


# The audit log


def test_who_could_read_is_who_was_given_it(issuer: Issuer, api: Api) -> None:
    ivan = add_person(api, "ivan", "/escape")
    held = {"alice": issuer.device_login("alice", scope="openid offline_access storage.read:/")}
    held["ivan"] = issuer.device_login("ivan", scope="openid offline_access storage.read:/")
    path = "/lake/magic/run9"
    seen: list[tuple[float, set[str]]] = []

    def look() -> None:
        began = time.time()
        able = set()
        for who, tokens in held.items():
            scopes = given(issuer, tokens)
            if isinstance(scopes, list) and any(f"{path}/".startswith(f"{one.partition(':')[2]}/") for one in scopes):
                able.add(who)
        # Nothing changed since: any moment of it will do.
        seen.append((began + (time.time() - began) / 2, able))

    member = f"/iam/groups/{api.group_id('/escape/magic')}/members/{ivan}"

    def end_soon() -> None:
        api.change("PUT", member, {"until": int(time.time()) + 5})
        wait_for("the end", lambda: "storage.read:/lake/magic" not in str(given(issuer, held["ivan"])))

    steps: list[Callable[[], Any]] = [
        lambda: None,
        lambda: api.change("PUT", member, {}),
        lambda: api.change(
            "POST",
            "/iam/scope_policies",
            {"rule": "DENY", "scopes": [f"storage.read:{path}/x"], "account": {"uuid": ivan}},
        ),
        lambda: api.change(
            "DELETE", f"/iam/scope_policies/{max(policy['id'] for policy in api.get('/iam/scope_policies'))}"
        ),
        lambda: api.change("DELETE", member),
        lambda: api.change("PUT", member, {"until": int(time.time()) + 3600}),
        end_soon,
        lambda: api.change("PUT", member, {}),
        lambda: api.change("DELETE", f"/scim/Users/{ivan}"),
        lambda: issuer.reload(_without_magic),
    ]
    for step in steps:
        step()
        look()
    assert [who for _, who in seen] == [
        {"alice"},
        {"alice", "ivan"},
        {"alice"},
        {"alice", "ivan"},
        {"alice"},
        {"alice", "ivan"},
        {"alice"},
        {"alice", "ivan"},
        {"alice"},
        set(),
    ]
    for at, able in seen:
        answer = api.get("/iam/audit/who-could", path=path, at=f"{at:.3f}")
        people = {one["name"] for one in answer["entitled"] if one["kind"] == "person"}
        assert people & set(held) == able, at
        assert all(one["because"] for one in answer["entitled"])
    last = api.get("/iam/audit/who-could", path=path)
    assert {"alice", "ivan"} <= {one["name"] for one in last["holding"]}, (
        "their tokens live on, and storage honours them"
    )
    clients = {one["name"] for one in last["entitled"] if one["kind"] == "client"}
    assert {"rucio", "transfers"} <= clients
    assert "plain" not in clients, "its list ends at another directory"
    assert api.call("GET", "/iam/audit/who-could", path=path, at="1000").status == 404


def _without_magic(seed: dict[str, Any]) -> None:
    (alice,) = (user for user in seed["users"] if user["login"] == "alice")
    alice["groups"] = ["/escape", "/escape/cms"]


def test_the_chain_is_checked_part_by_part_and_against_the_tables(issuer: Issuer, api: Api) -> None:
    checked = api.get("/iam/audit/verify")
    assert checked["at_end"]
    assert checked["unrecorded"] == []
    assert api.get("/iam/audit/verify", after=str(checked["seq"]), hash=checked["hash"])["at_end"]
    forged = api.call("GET", "/iam/audit/verify", after=str(checked["seq"]), hash="0" * 64)
    assert (forged.status, forged.json["error"]) == (409, "StateError")
    issuer.sql("UPDATE users SET admin = true WHERE login = 'bob'")
    assert api.get("/iam/audit/verify")["unrecorded"] == ["user.changed: bob"]
    issuer.sql("UPDATE users SET admin = false WHERE login = 'bob'")
    assert api.get("/iam/audit/verify")["unrecorded"] == []


def test_the_seed_and_every_refusal_are_in_the_log_without_a_token(issuer: Issuer, api: Api, reader: Api) -> None:
    assert reader.call("POST", "/iam/scope_policies", {"rule": "DENY", "scopes": ["fts"]}).status == 403
    found = api.get("/iam/audit", count="1000")
    events = {one["event"] for one in found}
    assert {"token.issued", "member.added", "administration.refused", "seed.applied", "user.added"} <= events
    by_file = [one for one in api.get("/iam/audit", event="user.added", count="1000") if one["who"] == "facility file"]
    assert {one["whom"] for one in by_file} >= {"alice", "bob", "ada"}
    assert api.token not in json.dumps(found)
    with_reason = api.change(
        "POST", "/iam/scope_policies", {"rule": "DENY", "scopes": ["compute.create"]}, reason="no computing today"
    )
    (record, *_) = api.get("/iam/audit", event="policy.")
    assert (record["event"], record["who"], record["reason"]) == ("policy.added", "admin", "no computing today")
    api.change("DELETE", f"/iam/scope_policies/{with_reason['id']}")
