"""The pages in a real Chromium: by keyboard alone, on a phone, in the dark; pictures go to ``build/screenshots``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from boathouse.testing.https import Handler, HttpsServer
from boathouse.testing.scratch import free_port

from .chromium import Chromium, PageError, Window, chromium
from .conftest import CALLBACK, DEVICE, PASSWORD, STORAGE, CodeFlow, Issuer, Start
from .test_admin_pages import submit

PICTURES = Path(__file__).parents[3] / "build" / "screenshots"
ACCESS = Path(__file__).with_name("access.js").read_text(encoding="utf-8")
FOREIGN = "[...document.querySelectorAll('img, b, script, style, [style]')].map((one) => one.outerHTML)"
"""Nothing of this kind is on any page of ours."""
PHONE, DESKTOP = 390, 1280
HOSTILE = '<img src=x onerror="document.title=1"><b>bold</b>'
SCOPE = "openid profile email wlcg.groups offline_access storage.read:/ storage.modify:/lake/user.alice"
SKA = "/escape/ska"

LOOKS = {"desktop": (DESKTOP, False), "phone": (PHONE, False), "dark": (DESKTOP, True), "dark-phone": (PHONE, True)}
PAGES = {
    "": {"login": "/login?next=/device"},
    "alice": {"account": "/account", "device": "/device", "hostile": "/device?user_code={hostile}"},
    "bob": {"manager": "/admin/groups"},
    "mallory": {"account-hostile": "/account"},
    "carol": {
        "people": "/admin/people",
        "person": "/admin/person?who=alice",
        "person-made": "/admin/person?who=mallory",
        "groups": "/admin/groups",
        "group": f"/admin/group?name={SKA}",
        "policies": "/admin/policies",
        "clients": "/admin/clients",
        "client": "/admin/client?id=hostile",
        "audit": "/admin/audit",
    },
}


class Application(Handler):
    """Where people return to: an application that only says that they came."""

    def respond(self) -> None:
        self.answer({"welcome": "back"})


@pytest.fixture(scope="module")
def application(tokens_units: Any) -> Iterator[str]:
    """The redirect URI of a running application."""
    server = HttpsServer(Application, "localhost", free_port(), tokens_units.tls("tokens"))
    server.start()
    yield f"{server.url}/callback"
    server.stop()


@pytest.fixture(scope="module")
def served(start_issuer: Start, application: str) -> Issuer:
    """An issuer with an administrator, a manager, a request to join, applications, and names that are HTML."""
    issuer = start_issuer(title="ESCAPE lake")
    carol = {"login": "carol", "sub": "c-0001", "password": PASSWORD, "name": "Carol Castro", "admin": True}
    usual = {"grants": ["authorization_code", "refresh_token", "device_code"], "scopes": SCOPE.split()}
    hostile = {"client_id": "hostile", "name": HOSTILE, "redirect_uris": [CALLBACK], **usual}
    jupyter = {"client_id": "jupyter", "name": "JupyterHub", "redirect_uris": [application], **usual}

    def more(document: dict[str, Any]) -> None:
        document["users"].append(carol)
        document["clients"] += [hostile, jupyter]

    issuer.reload(more)
    admin = partial(submit, issuer.browser("carol"))
    for login, name in (("mallory", HOSTILE), ("dan", "Dan Dale")):
        assert admin("/admin/people", do="add", login=login, name=name, password=PASSWORD).status == 303
    assert admin("/admin/groups", do="add", group=SKA, description=HOSTILE).status == 303
    for action, who in (("add-manager", "bob"), ("add-member", "mallory")):
        assert admin(f"/admin/group?name={SKA}", do=action, who=who, until="2031-03-01").status == 303
    denial = {"effect": "DENY", "login": "mallory", "scopes": "storage.read:/lake", "description": HOSTILE}
    assert admin("/admin/policies", do="add", **denial).status == 303
    alice = issuer.browser("alice")
    assert submit(alice, "/account", do="join", group=SKA, notes=HOSTILE).status == 303
    issuer.device_login("alice", scope=SCOPE)
    remembered = CodeFlow(issuer, "rucio", "openid profile storage.read:/lake/cms")
    assert alice.submit(remembered.path, decision="allow", remember="yes").status == 302
    return issuer


@pytest.fixture(scope="module")
def browser(served: Issuer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with chromium(tmp_path_factory.mktemp("chromium"), served.ca) as running:
        yield running


@contextmanager
def signed_in(browser: Chromium, issuer: Issuer, login: str, **window: Any) -> Iterator[Window]:
    """A window in which somebody has signed in."""
    with browser.window(issuer.url, **window) as one:
        if login:
            one.goto("/login")
            one.sign_in(login, PASSWORD)
        yield one


def device_code(issuer: Issuer, client: str = "boathouse") -> dict[str, Any]:
    return issuer.post("/devicecode", client, scope=SCOPE, audience=STORAGE).json


def test_chromium_verifies_the_issuers_certificate(served: Issuer, tmp_path: Path) -> None:
    refused = pytest.raises(PageError, match="ERR_CERT_AUTHORITY_INVALID")
    with chromium(tmp_path, None) as stranger, stranger.window(served.url) as window, refused:
        window.goto("/login")


@pytest.mark.parametrize("look", LOOKS)
def test_everybody_can_use_and_read_every_page(served: Issuer, browser: Chromium, look: str) -> None:
    width, dark = LOOKS[look]
    faults = {}
    for login, pages in PAGES.items():
        with signed_in(browser, served, login, width=width, dark=dark) as window:
            for name, path in pages.items():
                there = path.format(hostile=device_code(served, "hostile")["user_code"] if "{" in path else "")
                assert window.goto(there) == 200, (name, window.text)
                assert window.ask(FOREIGN) == []
                window.shoot(PICTURES / f"{name}-{look}.png")
                window.ask("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
                if found := window.ask(ACCESS):
                    faults[name] = found
                assert window.ask("matchMedia('(prefers-color-scheme: dark)').matches") is dark
            assert window.said == [], "nothing on the console, so nothing that the policy of the page forbids"
    assert faults == {}


def test_the_check_of_access_finds_faults(served: Issuer, browser: Chromium) -> None:
    with browser.window(served.url, width=PHONE) as window:
        window.goto("/login")
        assert window.ask(ACCESS) == []
        for spoil, found in {
            "document.querySelector('label').remove()": "no label",
            "document.documentElement.lang = ''": "no language",
            "document.querySelector('label').style.color = '#999'": "contrast 2.",
            "document.querySelector('button').style.cssText = 'min-height: 0; height: 20px; padding: 0'": "20 px high",
            "document.querySelector('main').style.width = '500px'": "px wide",
            "document.querySelector('main').append(document.createElement('h4'))": "left out",
        }.items():
            window.goto("/login")
            window.ask(spoil)
            assert any(found in fault for fault in window.ask(ACCESS)), found


def test_names_with_html_are_shown_as_text(served: Issuer, browser: Chromium) -> None:
    with signed_in(browser, served, "carol") as window:
        for path in ("people", "person?who=mallory", "groups", f"group?name={SKA}", "policies", "client?id=hostile"):
            window.goto(f"/admin/{path}")
            assert HOSTILE in window.text, path
            assert window.ask("document.title") != "1"
    with signed_in(browser, served, "mallory") as window:
        assert HOSTILE in window.text
        window.goto(f"/device?user_code={device_code(served, 'hostile')['user_code']}")
        assert f"Allow {HOSTILE}?" in window.text


def test_sign_in_and_consent_by_keyboard(served: Issuer, browser: Chromium, application: str) -> None:
    flow = CodeFlow(served, "jupyter", SCOPE, more={"redirect_uri": application})
    with browser.window(served.url, width=PHONE) as window:
        window.goto(flow.path)
        assert "to go on to JupyterHub" in window.text
        window.type("alice")
        window.tab_to("password")
        window.type("wrong")
        window.follow()
        assert window.focus["id"] == "password", "the focus is on what is wrong"
        described = "document.getElementById(document.activeElement.getAttribute('aria-describedby')).innerText"
        assert window.ask(described) == "Login or password is wrong."
        assert window.ask(ACCESS) == []
        window.shoot(PICTURES / "login-wrong-phone.png")
        window.type(PASSWORD)
        assert window.follow().startswith(f"{served.url}/authorize?"), "Enter in a field sends the form"
        for words in ("Allow JupyterHub?", "read files in /", "/lake/user.alice", STORAGE, "For 1 hour", "30 days"):
            assert words in window.text, words
        assert window.ask(ACCESS) == []
        window.shoot(PICTURES / "consent-phone.png")
        window.tab_to("Technical details")
        window.press("Enter")
        assert application in window.text
        window.tab_to("remember")
        window.press("Space")
        window.tab_to("Allow")
        there = urlsplit(window.follow())
        assert f"{there.scheme}://{there.netloc}{there.path}" == application, "the page's policy lets the form go there"
        form = {**flow.form, "redirect_uri": application, "code": parse_qs(there.query)["code"][0]}
        assert served.token("jupyter", **form)["refresh_token"]
        window.goto(flow.path)
        assert window.url.startswith(application), "remembered"
        window.goto("/account")
        assert "JupyterHub" in window.text
        window.tab_to("Sign out alice")
        window.follow()
        assert "You are signed out of this browser." in window.text


def test_refusing_consent_by_keyboard(served: Issuer, browser: Chromium, application: str) -> None:
    flow = CodeFlow(served, "jupyter", SCOPE, more={"redirect_uri": application, "prompt": "consent"})
    with signed_in(browser, served, "bob") as window:
        window.goto(flow.path)
        window.shoot(PICTURES / "consent-desktop.png")
        window.tab_to("Refuse")
        assert parse_qs(urlsplit(window.follow()).query)["error"] == ["access_denied"]


def test_a_device_by_keyboard(served: Issuer, browser: Chromium) -> None:
    begun = device_code(served)
    with browser.window(served.url, width=PHONE) as window:
        window.goto("/device")
        window.sign_in("alice", PASSWORD)
        assert window.focus["id"] == "user_code"
        window.type("BBBB-BBBB")
        window.follow()
        assert window.focus["id"] == "user_code"
        assert "No device waits with this code" in window.text
        assert window.ask(ACCESS) == []
        window.press("Control+A")
        window.type(begun["user_code"].lower())
        window.follow()
        for words in ("Allow Boathouse?", "127.0.0.1", begun["user_code"], "/lake/user.alice", "refuse"):
            assert words in window.text, words
        assert window.ask(ACCESS) == []
        window.shoot(PICTURES / "device-confirm-phone.png")
        window.tab_to("Allow")
        window.follow()
        assert "Connected" in window.text
    assert served.token("boathouse", grant_type=DEVICE, device_code=begun["device_code"])["access_token"]


def test_one_can_skip_to_the_content(served: Issuer, browser: Chromium) -> None:
    with signed_in(browser, served, "carol") as window:
        window.goto("/admin/people")
        window.press("Tab")
        assert window.focus["text"] == "Skip to content"
        assert window.ask("document.activeElement.getBoundingClientRect().top >= 0"), "it is seen then"
        window.press("Enter")
        window.press("Tab")
        assert window.focus["text"] == "People"


def test_administration_by_keyboard(served: Issuer, browser: Chromium) -> None:
    with signed_in(browser, served, "carol", width=PHONE) as window:
        window.tab_to("Administration")
        window.follow()
        window.tab_to("Policies")
        window.follow()
        window.tab_to("try-who")
        window.type("mallory")
        window.tab_to("try-scope")
        window.press("Control+A")
        window.type("/lake/cms")
        window.follow()
        assert "mallory may not have storage.read:/lake/cms" in window.text
        assert window.ask("document.activeElement.innerText").startswith("mallory may not"), "the answer has the focus"
        window.shoot(PICTURES / "policies-tried-phone.png")
        window.tab_to("Audit log", backwards=True)
        window.follow()
        window.tab_to("Check the chain of the audit log")
        window.follow()
        assert "The chain is whole" in window.text
        assert window.ask(ACCESS) == []
        window.shoot(PICTURES / "audit-checked-phone.png")
    with signed_in(browser, served, "bob") as window:
        window.goto("/admin/groups")
        window.tab_to("Reject alice")
        window.follow()
        assert "The request was decided." in window.text
        assert "Nobody waits." in window.text
