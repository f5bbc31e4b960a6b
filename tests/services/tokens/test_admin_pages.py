"""The account page and the pages of administration: who sees them, what they change, what they refuse."""

from __future__ import annotations

import re
from urllib.parse import urlencode

import pytest

from boathouse.testing.wait import wait_for

from .conftest import CALLBACK, PASSWORD, SECRETS, STORAGE, Answer, Browser, CodeFlow, Issuer, Start
from .test_pages import Outline, csrf

ADMINISTRATION = ("people", "person?who=bob", "groups", "group?name=/escape/cms", "policies", "clients", "audit")
SKA = "/escape/ska"


@pytest.fixture(scope="module")
def served(start_issuer: Start) -> Issuer:
    """An issuer with carol, who administers it, and bob, who manages a group."""
    issuer = start_issuer()
    carol = {"login": "carol", "sub": "c-0001", "password": PASSWORD, "admin": True}
    issuer.reload(lambda document: document["users"].append(carol))
    admin = issuer.browser("carol")
    assert submit(admin, "/admin/groups", do="add", group=SKA, description="Square Kilometre Array").status == 303
    assert submit(admin, f"/admin/group?name={SKA}", do="add-manager", who="bob").status == 303
    return issuer


def submit(browser: Browser, path: str, /, **form: str) -> Answer:
    """Send a form with the token of this browser."""
    return browser.post(path, csrf=csrf(browser.get("/account").text), **form)


def faulty(answer: Answer, field: str) -> str:
    """What is wrong with a field, which must be tied to it and have the focus."""
    (inputs,) = [tag for tag in Outline(answer.text).tags if tag[1].get("id") == field]
    attributes = inputs[1]
    assert attributes["aria-invalid"] == "true"
    assert "autofocus" in attributes
    described = str(attributes["aria-describedby"]).split()
    assert f"{field}-fault" in described
    found = re.search(rf'id="{field}-fault"[^>]*>([^<]+)<', answer.text)
    assert found
    assert "<title>Error: " in answer.text
    return found[1]


@pytest.mark.parametrize("page", ADMINISTRATION)
def test_administration_is_for_administrators(served: Issuer, page: str) -> None:
    assert served.browser("carol").get(f"/admin/{page}").status == 200
    refused = served.browser("alice").get(f"/admin/{page}")
    assert refused.status == 403
    assert "Administration" not in refused.text
    away = served.browser().get(f"/admin/{page}")
    assert (away.status, away.location) == (303, f"/login?{urlencode({'next': f'/admin/{page}'})}")


def test_a_manager_sees_the_own_groups_and_nothing_else(served: Issuer) -> None:
    bob = served.browser("bob")
    page = bob.get("/admin/groups")
    assert page.status == 200
    assert f"{SKA}</a>" in page.text
    assert "/escape/cms" not in page.text
    assert bob.get(f"/admin/group?name={SKA}").status == 200
    others = (one for one in ADMINISTRATION if one not in ("groups", "person?who=bob"))
    for other in others:
        assert bob.get(f"/admin/{other}").status == 403, other
    assert submit(bob, "/admin/group?name=/escape/cms", do="add-member", who="alice").status == 403
    assert submit(bob, f"/admin/group?name={SKA}", do="add-manager", who="alice").status == 403
    assert submit(bob, "/admin/groups", do="add", group="/escape/mine").status == 403


def test_every_form_needs_the_token_of_its_browser(served: Issuer) -> None:
    admin = served.browser("carol")
    for path in ("/account", *(f"/admin/{page}" for page in ADMINISTRATION), "/admin/client?id=rucio"):
        for wrong in ({}, {"csrf": "wrong"}):
            assert admin.post(path, do="disable", **wrong).status == 403, path
    assert submit(admin, "/account", do="what").status == 400


def test_cookies_are_strict(served: Issuer) -> None:
    fresh = served.browser()
    token = csrf(fresh.get("/login").text)
    headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        "Cookie": f"__Host-csrf={fresh.cookies['__Host-csrf']}",
        "Origin": served.url,
    }
    body = urlencode({"username": "bob", "password": PASSWORD, "csrf": token})
    answer = served.request("POST", "/login", headers=headers, body=body)
    (cookie,) = answer.headers.getlist("Set-Cookie")
    name, *attributes = cookie.split("; ")
    assert name.startswith("__Host-session=")
    assert {attribute.lower() for attribute in attributes} == {
        "httponly",
        "secure",
        "path=/",
        "samesite=lax",
        f"max-age={8 * 3600}",
    }
    assert "domain" not in cookie.lower()


def test_a_request_to_join_is_approved_until_a_day(served: Issuer) -> None:
    alice, bob = served.browser("alice"), served.browser("bob")
    asked = submit(alice, "/account", do="join", group=SKA, notes="for the pulsar paper")
    assert (asked.status, asked.location) == (303, "/account?done=asked")
    assert "waits for a manager" in alice.get("/account").text
    page = bob.get("/admin/groups").text
    assert "for the pulsar paper" in page
    found = re.search(r'name="id" value="([^"]+)"', page)
    assert found
    decision = {"do": "decide", "id": found[1], "decision": "approve"}
    assert submit(alice, "/admin/groups", **decision).status == 403, "not by the one who asks"
    past = submit(bob, "/admin/groups", **decision, until="2001-01-01")
    assert past.status == 400
    assert "a membership cannot end then" in faulty(past, "decide-until").lower()
    assert "waits for a manager" in alice.get("/account").text, "a refusal leaves nothing behind"
    assert submit(bob, "/admin/groups", **decision, until="2031-03-01", reason="welcome").status == 303
    account = alice.get("/account").text
    assert "1 March 2031, 23:59 UTC" in account
    assert "waits for a manager" not in account
    assert submit(alice, "/account", do="leave", group=SKA).status == 303
    assert "2031" not in alice.get("/account").text


def test_people_are_added_changed_disabled_and_removed(served: Issuer) -> None:
    admin = served.browser("carol")
    added = submit(admin, "/admin/people", do="add", login="erin", name="Erin Eder", password="a long first one")
    assert added.location == "/admin/person?who=erin&done=saved"
    erin = served.browser()
    assert erin.sign_in("erin", "a long first one").status == 303
    assert "Erin Eder" in erin.get("/account").text
    assert "login is taken" in faulty(submit(admin, "/admin/people", do="add", login="erin"), "add-login")
    odd = submit(admin, "/admin/people", do="add", login="Not A Login", name="kept <b>")
    assert "Not a login" in faulty(odd, "add-login")
    assert "kept &lt;b&gt;" in odd.text
    short = submit(admin, "/admin/people", do="add", login="frank", password="short")
    assert "8 to 1024" in faulty(short, "add-password")
    assert submit(admin, "/admin/person?who=erin", do="disable", reason="left").status == 303
    assert erin.get("/account").status == 303, "signed out at once"
    told = erin.sign_in("erin", "a long first one")
    assert (told.status, "account is disabled" in told.text) == (403, True)
    for login, password in (("erin", "a wrong one"), ("nobody", "a long first one")):
        told = erin.sign_in(login, password)
        assert (told.status, "Login or password is wrong" in told.text) == (401, True), "strangers learn nothing"
    assert "disabled" in admin.get("/admin/people?search=eder").text
    assert submit(admin, "/admin/person?who=erin", do="remove").location == "/admin/people?done=removed"
    assert admin.get("/admin/person?who=erin").status == 404
    mine = submit(admin, "/admin/person?who=bob", do="change", name="Bobby", email="")
    assert mine.status == 409
    assert "change the facility file" in mine.text.lower()


def test_a_password_is_changed_by_who_knows_the_old_one(served: Issuer) -> None:
    admin = served.browser("carol")
    submit(admin, "/admin/people", do="add", login="gina", password="a long first one")
    one, other = served.browser(), served.browser()
    for browser in (one, other):
        assert browser.sign_in("gina", "a long first one").status == 303
    new = {"do": "password", "password": "an even longer one", "again_password": "an even longer one"}
    assert "old password is wrong" in faulty(
        submit(one, "/account", **new, old_password="guess"), "password-old_password"
    )
    differing = submit(one, "/account", **{**new, "again_password": "other"}, old_password="a long first one")
    assert "differ" in faulty(differing, "password-again_password")
    changed = submit(one, "/account", **new, old_password="a long first one")
    assert (changed.status, changed.location) == (303, "/account?done=password")
    assert one.get("/account").status == 200
    assert other.get("/account").status == 303, "signed out"
    assert other.sign_in("gina", "a long first one").status == 401
    assert other.sign_in("gina", "an even longer one").status == 303
    assert submit(other, "/account", do="everywhere").status == 200
    assert one.get("/account").status == 303
    assert other.get("/account").status == 303


def test_guesses_at_the_old_password_are_counted_as_at_the_sign_in(served: Issuer) -> None:
    admin = served.browser("carol")
    submit(admin, "/admin/people", do="add", login="hugo", password="a long first one")
    hugo = served.browser()
    assert hugo.sign_in("hugo", "a long first one").status == 303
    new = {"do": "password", "password": "an even longer one", "again_password": "an even longer one"}
    for _ in range(5):
        assert submit(hugo, "/account", **new, old_password="guess").status == 403
    locked = submit(hugo, "/account", **new, old_password="a long first one")
    assert (locked.status, "Too many wrong passwords" in locked.text) == (429, True)
    assert served.browser().sign_in("hugo", "a long first one").status == 429, "one count for both doors"
    refused = "SELECT count(*) FROM audit WHERE event = 'user.password-refused'"
    wait_for("all are recorded", lambda: served.sql(refused)[0][0] >= 6)


def test_a_login_is_revoked_on_the_account_page(served: Issuer) -> None:
    reply = served.device_login("bob", scope="openid offline_access storage.read:/lake/cms")
    bob, alice = served.browser("bob"), served.browser("alice")
    page = bob.get("/account").text
    assert "read files in <code>/lake/cms</code>" in page
    assert f"at {STORAGE}; since <time" in page
    (family,) = re.findall(r'name="family" value="([^"]+)"', page)
    assert submit(alice, "/account", do="revoke", family=family).status == 404, "somebody else's"
    assert submit(bob, "/account", do="revoke", family=family).status == 303
    assert "None can act for you" in bob.get("/account").text
    form = {"grant_type": "refresh_token", "refresh_token": reply["refresh_token"]}
    served.refused("boathouse", 400, "invalid_grant", **form)


def test_policies_are_added_tried_and_removed(served: Issuer) -> None:
    admin = served.browser("carol")
    question = {"do": "try", "who": "bob", "operation": "storage.read", "scope": "/lake/cms/run1"}
    assert "may</strong> have" in submit(admin, "/admin/policies", **question).text
    denial = {"do": "add", "effect": "DENY", "scopes": "storage.read:/lake/cms/run1", "login": "bob"}
    assert submit(admin, "/admin/policies", **denial).status == 303
    refused = submit(admin, "/admin/policies", **question)
    assert "may not</strong> have" in refused.text
    above = submit(admin, "/admin/policies", **{**question, "scope": "/lake"}).text
    assert "A token would say instead" in above
    assert "No such person" in faulty(submit(admin, "/admin/policies", **{**question, "who": "nobody"}), "try-who")
    odd = submit(admin, "/admin/policies", **{**question, "scope": "/lake/../x"})
    assert "path" in faulty(odd, "try-scope").lower()
    number = re.findall(r'name="number" value="(\d+)"', admin.get("/admin/policies").text)[-1]
    assert submit(admin, "/admin/policies", do="remove", number=number).status == 303
    assert "may</strong> have" in submit(admin, "/admin/policies", **question).text
    kept = submit(admin, "/admin/policies", do="remove", number="1")
    assert kept.status == 409, "the facility file's"


def test_a_client_is_made_shows_its_secret_once_and_is_switched_off(served: Issuer) -> None:
    admin = served.browser("carol")
    form = {"do": "add", "client_id": "portal", "scopes": "openid storage.read:/", "grant.client_credentials": "yes"}
    answer = submit(admin, "/admin/clients", **form, redirect_uris=CALLBACK, audiences="rucio")
    assert answer.status == 200
    found = re.search(r"<code>([\w-]{40,})</code>", answer.text)
    assert found
    assert found[1] not in admin.get("/admin/client?id=portal").text
    SECRETS["portal"] = found[1]
    try:
        asked = {"grant_type": "client_credentials", "scope": "openid", "audience": "rucio"}
        assert served.token("portal", **asked)["scope"] == "openid"
        assert submit(admin, "/admin/client?id=portal", do="disable").status == 303
        served.refused("portal", 401, "invalid_client", **asked)
    finally:
        del SECRETS["portal"]
    odd = submit(admin, "/admin/clients", **{**form, "client_id": "other"}, redirect_uris="http://evil.example/")
    assert "Not a redirect URI" in faulty(odd, "add-redirect_uris")
    assert "No scope" in faulty(submit(admin, "/admin/clients", **{**form, "scopes": " "}), "add-scopes")


def test_redirects_go_to_registered_uris_only(served: Issuer) -> None:
    alice = served.browser("alice")
    near = (f"{CALLBACK}/", f"{CALLBACK}?x=1", CALLBACK.upper(), CALLBACK.replace("20499", "20500"), f"{CALLBACK}#x")
    for uri in near:
        answer = alice.get(CodeFlow(served, "browser", more={"redirect_uri": uri}).path)
        assert answer.status == 400, uri
        assert "Location" not in answer.headers
        assert "cannot go on" in answer.text


def test_the_audit_log_is_searched_and_its_chain_checked(start_issuer: Start) -> None:
    issuer = start_issuer()
    carol = {"login": "carol", "sub": "c-0001", "password": PASSWORD, "admin": True}
    issuer.reload(lambda document: document["users"].append(carol))
    admin = issuer.browser("carol")
    submit(admin, "/admin/person?who=bob", do="disable", reason="on leave <until> May")
    found = admin.get("/admin/audit?event=user.disabled&who=bob").text
    assert "on leave &lt;until&gt; May" in found
    assert "login.succeeded" not in found
    assert "Nothing was found" in admin.get("/admin/audit?who=nobody").text
    assert "Nothing was found" in admin.get("/admin/audit?until=2001-01-01").text
    assert "expected a day" in admin.get("/admin/audit?until=yesterday").text
    assert "The chain is whole" in submit(admin, "/admin/audit", do="check").text
    issuer.sql("ALTER TABLE audit DISABLE TRIGGER ALL; DELETE FROM audit WHERE seq = 2")
    assert "The chain is broken at record 3" in submit(admin, "/admin/audit", do="check").text


def test_a_request_has_one_name_in_reply_log_and_audit(served: Issuer) -> None:
    browser = served.browser()
    assert browser.sign_in("bob", "wrong").status == 401
    answer = browser.sign_in("bob")
    name = answer.headers["X-Request-ID"]
    assert re.fullmatch("[0-9a-f]{16}", name)
    line = rf"boathouse\.tokens\.access \[{name}\]: 127\.0\.0\.1 POST /login 303 "
    wait_for("the line", lambda: re.search(line, served.log))
    told = served.sql("SELECT event, detail->>'login' FROM audit WHERE detail->>'request' = %s", name)
    assert told == [("login.succeeded", "bob")]
    changed = submit(served.browser("carol"), "/admin/person?who=alice", do="disable")
    submit(served.browser("carol"), "/admin/person?who=alice", do="enable")
    name = changed.headers["X-Request-ID"]
    told = served.sql("SELECT event FROM audit WHERE detail->>'request' = %s", name)
    assert told == [("user.disabled",)]
    refused = browser.get("/authorize?client_id=nobody")
    assert refused.headers["X-Request-ID"] in refused.text, "a page of an error tells it"


def test_no_token_code_or_password_is_in_the_log(served: Issuer) -> None:
    begun = served.post("/devicecode", "boathouse", scope="openid offline_access", audience=STORAGE).json
    bob = served.browser("bob")
    bob.submit(f"/device?user_code={begun['user_code']}", decision="allow")
    code = CodeFlow(served, "browser", "openid offline_access").code("bob")
    reply = served.device_login("bob", scope="openid offline_access")
    submit(bob, "/account", do="password", old_password="a wrong old one", password="a new", again_password="one")
    made = submit(served.browser("carol"), "/admin/clients", do="add", client_id="noted", scopes="openid")
    (secret,) = re.findall(r"<code>([\w-]{40,})</code>", made.text)
    secrets = (
        *(reply["access_token"], reply["refresh_token"], reply["id_token"]),
        *(begun["device_code"], begun["user_code"], code, secret, PASSWORD, "a wrong old one"),
        *bob.cookies.values(),
        *SECRETS.values(),
    )
    wait_for("the last line", lambda: made.headers["X-Request-ID"] in served.log)
    log = served.log
    assert [text for text in secrets if text in log] == []
    assert "?" not in "".join(line for line in log.splitlines() if "tokens.access" in line), "no query"
    audited = "\n".join(str(row) for row in served.sql("SELECT detail FROM audit"))
    assert [text for text in secrets if text in audited] == []
