"""The pages as a browser without scripts meets them."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser

import pytest

from boathouse.errors import AuthError
from boathouse.lake.approve import approve
from boathouse.lake.http import Http
from boathouse.lake.tokens import Issuer as LakeIssuer

from .conftest import CALLBACK, PASSWORD, Browser, CodeFlow, Issuer, Start


def csrf(page: str) -> str:
    match = re.search(r'name="csrf" value="([^"]+)"', page)
    assert match
    return match[1]


def test_signing_in_leads_back_to_where_one_was(issuer: Issuer) -> None:
    browser = issuer.browser()
    flow = CodeFlow(issuer, "browser", "openid", more={"prompt": "consent"})
    to_login = browser.get(flow.path)
    assert to_login.status == 303
    assert to_login.location.startswith("/login?next=%2Fauthorize")
    signed_in = browser.submit(to_login.location, username=" Bob ", password=PASSWORD)
    assert signed_in.status == 303
    assert signed_in.location.startswith("/authorize?")


@pytest.mark.parametrize(
    "there",
    [
        *("//evil.example", "/\\evil.example", "https://evil.example", "/authorizex", "/account/../x", "/login", ""),
        "/authorize?client_id=%00",
    ],
)
def test_no_open_redirect(issuer: Issuer, there: str) -> None:
    assert issuer.browser().sign_in("bob", there=there).location == "/account"


def test_forms_need_the_token_of_their_browser(issuer: Issuer) -> None:
    browser = issuer.browser()
    page = browser.get("/login")
    assert browser.post("/login", username="bob", password=PASSWORD).status == 403
    assert browser.post("/login", username="bob", password=PASSWORD, csrf="wrong").status == 403
    stranger = Browser(issuer)
    assert stranger.post("/login", username="bob", password=PASSWORD, csrf=csrf(page.text)).status == 403
    headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        "Cookie": f"__Host-csrf={browser.cookies['__Host-csrf']}",
        "Origin": "https://evil.example",
    }
    body = f"username=bob&password=x&csrf={csrf(page.text)}"
    assert issuer.request("POST", "/login", headers=headers, body=body).status == 403
    for path in ("/logout", "/account", "/device"):
        assert issuer.browser("bob").post(path, csrf="wrong").status == 403


def test_a_session_begins_anew_and_ends(issuer: Issuer) -> None:
    browser = issuer.browser()
    browser.sign_in("bob")
    first = browser.cookies["__Host-session"]
    assert browser.sign_in("bob").status == 303
    assert browser.cookies["__Host-session"] != first
    account = browser.get("/account")
    assert account.status == 200
    assert "/escape/cms" in account.text
    kept = dict(browser.cookies)
    assert browser.post("/logout", csrf=csrf(browser.get("/account").text)).status == 200
    browser.cookies = kept
    assert browser.get("/account").status == 303, "the old cookie is worthless"


def test_an_application_can_be_withdrawn(issuer: Issuer) -> None:
    reply = CodeFlow(issuer, "browser", "openid offline_access storage.read:/").tokens("bob")
    browser = issuer.browser("bob")
    page = browser.get("/account")
    assert "read files in" in page.text
    assert "browser</h3>" in page.text
    form = {"do": "withdraw", "client_id": "browser", "csrf": csrf(page.text)}
    assert browser.post("/account", **form).status == 303
    assert "browser</h3>" not in browser.get("/account").text
    issuer.refused("browser", 400, "invalid_grant", grant_type="refresh_token", refresh_token=reply["refresh_token"])
    assert browser.get(CodeFlow(issuer, "browser", "openid").path).status == 200, "consent is asked for again"


def test_consent_is_remembered_until_more_is_asked_for(issuer: Issuer) -> None:
    issuer.sql("DELETE FROM consents")
    browser = issuer.browser("alice")
    flow = CodeFlow(issuer, "rucio", "openid storage.read:/lake/cms")
    page = browser.get(flow.path)
    assert "know who you are" in page.text
    assert "read files in <code>/lake/cms</code>" in page.text
    assert browser.submit(flow.path, decision="allow").status == 302
    assert browser.get(flow.path).status == 200, "nobody asked to remember it"
    assert browser.submit(flow.path, decision="allow", remember="yes").status == 302
    assert browser.get(CodeFlow(issuer, "rucio", "openid storage.read:/lake/cms/x").path).status == 302
    assert browser.get(CodeFlow(issuer, "rucio", "openid storage.read:/").path).status == 200
    asked_again = CodeFlow(issuer, "rucio", "openid", more={"prompt": "consent"})
    assert browser.get(asked_again.path).status == 200
    silent = CodeFlow(issuer, "rucio", "openid email", more={"prompt": "none"})
    assert browser.get(silent.path).parameters["error"] == "consent_required"


def test_a_fresh_sign_in_can_be_asked_for(issuer: Issuer) -> None:
    flow = CodeFlow(issuer, "browser", "openid", more={"prompt": "login"})
    again = issuer.browser("bob").get(flow.path)
    assert again.status == 303
    assert again.location.startswith("/login")
    assert "prompt" not in again.location


def test_wrong_passwords_lock_the_login(start_issuer: Start) -> None:
    issuer = start_issuer(login_attempts=3)
    for _ in range(3):
        assert issuer.browser().sign_in("bob", "wrong").status == 401
    assert issuer.browser().sign_in("bob").status == 429, "even the right one"
    client = LakeIssuer(issuer.url, Http(str(issuer.ca)))
    code = client.device_code("boathouse", scope="openid", audience=())
    with pytest.raises(AuthError, match=r"too many wrong passwords.*\n.*a pause"):
        approve(client.http, code, login="bob", password=PASSWORD)
    assert issuer.browser().sign_in("alice").status == 303
    assert issuer.browser().sign_in("nobody", "wrong").status == 401
    issuer.sql("UPDATE throttle SET locked_until = 0")
    assert issuer.browser().sign_in("bob").status == 303
    events = [row[0] for row in issuer.sql("SELECT event FROM audit WHERE event LIKE 'login.%%' ORDER BY seq")]
    assert events[:4] == ["login.failed"] * 3 + ["login.locked"]


def test_device_codes_cannot_be_guessed(start_issuer: Start) -> None:
    issuer = start_issuer()
    browser = issuer.browser("bob")
    for _ in range(10):
        assert browser.get("/device?user_code=BBBB-BBBB").status == 400
    assert browser.get("/device?user_code=BBBB-BBBB").status == 429


def test_a_flood_of_guesses_leaves_room_for_tokens(start_issuer: Start) -> None:
    issuer = start_issuer()

    def guess(number: int) -> int:
        return issuer.browser().sign_in(f"nobody{number}", "wrong").status

    with ThreadPoolExecutor(12) as pool:
        guesses = [pool.submit(guess, number) for number in range(12)]
        form = {"grant_type": "client_credentials", "scope": "openid"}
        while not all(guess.done() for guess in guesses):
            assert issuer.token("rucio", **form)["access_token"]
    assert {guess.result() for guess in guesses} <= {401, 503}


@pytest.mark.parametrize("name", ["\x00", "x" * 65, "a\nb"])
def test_what_cannot_be_a_login(issuer: Issuer, name: str) -> None:
    assert issuer.browser().submit("/login", username=name, password="x").status == 400


class Outline(HTMLParser):
    """What a screen reader and a keyboard need of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_pages_are_whole_and_closed_to_scripts_and_frames(issuer: Issuer) -> None:
    browser = issuer.browser("bob")
    flow = CodeFlow(issuer, "browser", "openid", more={"prompt": "consent"})
    for path in ("/login", "/device", "/account", flow.path):
        answer = browser.get(path)
        outline = Outline(answer.text)
        assert outline.all("html") == [{"lang": "en"}]
        assert len(outline.all("h1")) == 1
        assert any(meta.get("name") == "viewport" for meta in outline.all("meta"))
        labelled = {label["for"] for label in outline.all("label")}
        fields = [*outline.all("input"), *outline.all("select")]
        shown = {field.get("id") for field in fields if field.get("type") != "hidden"}
        assert shown == labelled
        assert not outline.all("script")
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "no-store"
    assert "form-action 'self' https://localhost:20499" in browser.get(flow.path).headers["Content-Security-Policy"]
    sheet = issuer.request("GET", "/static/style.css")
    assert sheet.headers["Content-Type"].startswith("text/css")
    assert CALLBACK.startswith("https://localhost:20499")


def test_what_people_send_is_escaped(issuer: Issuer) -> None:
    browser = issuer.browser()
    answer = browser.submit("/login", username="<script>alert(1)</script>", password="x")
    assert "<script>" not in answer.text
    page = browser.get('/login?next=/account?"><script>')
    assert "<script>" not in page.text
