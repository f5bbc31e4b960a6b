"""Signing in elsewhere: one issuer is the client of a second one, which plays the community's identity provider."""

from __future__ import annotations

import json
import signal
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from boathouse.testing.scratch import free_port
from boathouse.testing.wait import wait_for

from .conftest import ALICE, Answer, Browser, Issuer, Start

CLIENT, SECRET = "lake", "secret-of-lake"
CAROL = "2b7c11f4-9a33-4c8e-a001-000000000003"


@dataclass
class Both:
    """The lake's issuer and the provider that its people may sign in with."""

    lake: Issuer
    provider: Issuer
    name: str

    @property
    def start(self) -> str:
        return f"/login/with/{self.name}"

    def forth(self, browser: Browser, there: str = "/account") -> str:
        """Begin a sign-in; the path at the provider that the browser is sent to."""
        answer = browser.get(f"{self.start}?{urlencode({'next': there})}")
        assert answer.status == 303, answer.text
        assert answer.location.startswith(f"{self.provider.url}/authorize?")
        return answer.location.removeprefix(self.provider.url)

    def there(self, path: str, login: str, decision: str = "allow") -> str:
        """Sign in at the provider; the path at the lake that it sends the browser back to."""
        browser = self.provider.browser(login)
        answer = browser.get(path)
        if answer.status == 200:
            answer = browser.submit(path, decision=decision)
        assert answer.status == 302, answer.text
        assert answer.location.startswith(self.lake.url + self.start)
        return answer.location.removeprefix(self.lake.url)

    def sign_in(self, login: str, browser: Browser | None = None, there: str = "/account") -> Answer:
        browser = browser or self.lake.browser()
        return browser.get(self.there(self.forth(browser, there), login))

    def groups(self, subject: str) -> set[str]:
        """Of whoever is that at the provider."""
        rows = self.lake.sql("SELECT grp FROM members JOIN identities USING (sub) WHERE subject = %s", subject)
        return {group for (group,) in rows}

    def events(self) -> list[tuple[str, dict[str, Any]]]:
        return [(event, detail) for event, detail in self.lake.sql("SELECT event, detail FROM audit ORDER BY seq")]


def changed(path: str, **changes: str | None) -> str:
    """A redirect with other parameters."""
    parts = urlsplit(path)
    parameters = {**dict(parse_qsl(parts.query)), **changes}
    return f"{parts.path}?{urlencode({name: value for name, value in parameters.items() if value is not None})}"


@pytest.fixture(scope="module")
def provider(start_issuer: Start) -> Issuer:
    return start_issuer()


@pytest.fixture(scope="module")
def join(start_issuer: Start, provider: Issuer) -> Any:
    """Starts the lake's issuer with the provider in its settings, and registers it there."""

    def start(name: str, **settings: Any) -> Both:
        entry = {
            "name": name,
            "title": "the Community",
            "issuer": provider.url,
            "client_id": f"{CLIENT}-{name}",
            "client_secret": SECRET,
            "ca_file": str(provider.ca),
            "scope": "openid profile email wlcg.groups",
            **settings,
        }
        lake = start_issuer(providers=[entry])
        client = {
            "client_id": entry["client_id"],
            "secret": SECRET,
            "grants": ["authorization_code"],
            "scopes": ["openid", "profile", "email", "wlcg.groups"],
            "redirect_uris": [f"{lake.url}/login/with/{name}/callback"],
        }
        provider.reload(lambda seed: seed["clients"].append(client))
        return Both(lake, provider, name)

    return start


@pytest.fixture(scope="module")
def both(join: Any) -> Both:
    """Members of magic get an account at once, others wait; carol of the lake is alice there."""
    rules = [{"claim": "wlcg.groups", "value": "/escape/magic", "groups": ["/escape", "/escape/magic"]}]
    joined: Both = join("community", newcomers="approve", admit=rules)
    return joined


@pytest.fixture
def strict(both: Both) -> Both:
    """The same, with nobody linked yet."""
    both.lake.sql("DELETE FROM identities")
    return both


def test_a55_upstream_is_a_button_on_the_sign_in_page(both: Both) -> None:
    page = both.lake.browser().get("/login?next=/device").text
    assert "Sign in with the Community" in page
    assert 'href="/login/with/community?next=%2Fdevice"' in page


def test_a55_upstream_member_gets_an_account_and_its_groups(strict: Both) -> None:
    browser = strict.lake.browser()
    answer = strict.sign_in("alice", browser, "/device?user_code=AAAA-BBBB")
    assert (answer.status, answer.location) == (303, "/device?user_code=AAAA-BBBB")
    assert "alice-community" in browser.get("/account").text
    assert strict.groups(ALICE) == {"/escape", "/escape/magic"}, "what the rules give, and no more"
    again = strict.lake.browser()
    assert strict.sign_in("alice", again).status == 303
    assert "alice-community" in again.get("/account").text
    rows = strict.lake.sql(
        "SELECT count(*) FROM identities WHERE iss = %s AND subject = %s", strict.provider.url, ALICE
    )
    assert rows == [(1,)], "one person, however often"


def test_a55_upstream_name_gives_nothing_of_a_local_person(strict: Both) -> None:
    browser = strict.lake.browser()
    strict.sign_in("alice", browser)
    ((sub,),) = strict.lake.sql("SELECT sub FROM identities WHERE subject = %s", ALICE)
    assert sub != ALICE, "the same name and e-mail address, another person"
    assert "/escape/cms" not in strict.groups(ALICE)


def test_a55_upstream_groups_are_taken_when_the_provider_takes_them(strict: Both) -> None:
    browser = strict.lake.browser()
    strict.sign_in("alice", browser)

    def without(seed: dict[str, Any]) -> None:
        seed["users"][0]["groups"].remove("/escape/magic")

    strict.provider.reload(without)
    try:
        strict.sign_in("alice", browser)
        assert strict.groups(ALICE) == set()
    finally:
        strict.provider.reload(lambda seed: seed["users"][0]["groups"].append("/escape/magic"))


def test_a55_upstream_stranger_waits_for_approval(strict: Both) -> None:
    browser = strict.lake.browser()
    answer = strict.sign_in("bob", browser)
    assert answer.status == 403
    assert "Your account waits for" in answer.text
    assert browser.get("/account").status == 303, "no session"
    assert strict.sign_in("bob").status == 403, "asking twice helps nobody"
    events = [event for event, _ in strict.events()]
    assert "account.made" in events
    assert "login.waits" in events
    strict.lake.sql("UPDATE users SET suspended = false WHERE login LIKE 'bob-community%%'")
    assert strict.sign_in("bob", browser).status == 303
    assert "bob-community" in browser.get("/account").text
    strict.lake.sql("UPDATE users SET suspended = true WHERE login LIKE 'bob-community%%'")
    closed = strict.sign_in("bob")
    assert (closed.status, "closed" in closed.text) == (403, True)


def test_a55_upstream_stranger_is_refused_where_nobody_is_admitted(join: Any) -> None:
    refusing: Both = join("refusing")
    answer = refusing.sign_in("bob")
    assert answer.status == 403
    assert "you have no account here" in answer.text
    assert refusing.lake.sql("SELECT count(*) FROM identities") == [(0,)]

    def link(seed: dict[str, Any]) -> None:
        seed["users"][1]["identities"] = [{"iss": refusing.provider.url, "sub": ALICE}]

    refusing.lake.reload(link)
    browser = refusing.lake.browser()
    assert refusing.sign_in("alice", browser).status == 303
    assert "bob" in browser.get("/account").text, "linked by issuer and subject, whatever the name"
    refusing.lake.reload(lambda seed: seed["users"][1].pop("identities"))
    assert refusing.sign_in("alice").status == 403


def test_a55_upstream_person_who_was_removed_does_not_come_back(strict: Both) -> None:
    strict.sign_in("bob")
    strict.lake.sql("UPDATE users SET active = false, login = sub WHERE login LIKE 'bob-community%%'")
    strict.provider.reload(lambda seed: seed["users"][1]["groups"].append("/escape/magic"))
    try:
        answer = strict.sign_in("bob")
        assert (answer.status, "closed" in answer.text) == (403, True), "although a rule would admit a newcomer"
    finally:
        strict.provider.reload(lambda seed: seed["users"][1]["groups"].remove("/escape/magic"))


def test_a55_upstream_login_is_not_given_to_somebody_of_the_facility_file(strict: Both) -> None:
    strict.sign_in("alice")
    ((login,),) = strict.lake.sql("SELECT login FROM users JOIN identities USING (sub) WHERE subject = %s", ALICE)
    document = json.loads(strict.lake.seed.read_text())
    before = strict.lake.log.count("nothing was reloaded")
    changed_seed = {**document, "users": [*document["users"], {"login": login, "sub": "new", "password": "x"}]}
    strict.lake.seed.write_text(json.dumps(changed_seed))
    strict.lake.process.send_signal(signal.SIGHUP)
    wait_for("a refusal", lambda: strict.lake.log.count("nothing was reloaded") > before)
    assert login in strict.lake.log.rpartition("nothing was reloaded")[2]
    strict.lake.seed.write_text(json.dumps(document))


def test_a55_upstream_answer_belongs_to_the_browser_that_began(strict: Both) -> None:
    mine, other = strict.lake.browser(), strict.lake.browser()
    back = strict.there(strict.forth(mine), "alice")
    answer = other.get(back)
    assert answer.status == 403
    assert "another window" in answer.text
    strict.forth(other)
    assert other.get(back).status == 403, "a flow of its own, another state"
    assert mine.get(changed(back, state="made-up")).status == 403
    assert mine.get(back).status == 403, "a flow is over after its first answer"
    assert not strict.lake.sql("SELECT 1 FROM identities")


def test_a55_upstream_flow_cannot_be_written_by_hand(strict: Both) -> None:
    browser = strict.lake.browser()
    back = strict.there(strict.forth(browser), "alice")
    text, _, mark = browser.cookies["__Host-flow"].partition(".")
    for cookie in (f"{text}.", f"{text}.{'0' * len(mark)}", f"x{text}.{mark}", text, "", "é.é"):
        browser.cookies["__Host-flow"] = cookie
        assert browser.get(back).status == 403


def test_a55_upstream_mixed_up_provider_is_noticed(strict: Both) -> None:
    for iss in ("https://evil.example", None, strict.provider.url + "/"):
        browser = strict.lake.browser()
        answer = browser.get(changed(strict.there(strict.forth(browser), "alice"), iss=iss))
        assert answer.status == 403
        assert "another provider" in answer.text
    assert not strict.lake.sql("SELECT 1 FROM identities")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("access_denied", "you did not agree"),
        ("temporarily_unavailable", "out of service"),
        ("server_error", "had a fault"),
        ("invalid_scope", "tell the operators"),
        ("<script>", "tell the operators"),
    ],
)
def test_a55_upstream_errors_are_told_in_plain_words(strict: Both, error: str, words: str) -> None:
    browser = strict.lake.browser()
    back = strict.there(strict.forth(browser), "alice")
    answer = browser.get(changed(back, code=None, error=error, error_description="<b>do not show</b>"))
    assert answer.status == 403
    assert words in answer.text
    assert "script" not in answer.text
    assert "do not show" not in answer.text


def test_a55_upstream_person_may_refuse(strict: Both) -> None:
    strict.provider.sql("DELETE FROM consents")
    browser = strict.lake.browser()
    answer = browser.get(strict.there(strict.forth(browser), "bob", decision="deny"))
    assert answer.status == 403
    assert "you did not agree" in answer.text


def test_a55_upstream_code_of_somebody_else_is_worthless(strict: Both) -> None:
    """A stolen code, put into an own flow: the verifier of PKCE and the nonce are those of the other flow."""
    victim, thief = strict.lake.browser(), strict.lake.browser()
    stolen = dict(parse_qsl(urlsplit(strict.there(strict.forth(victim), "alice")).query))
    back = strict.there(strict.forth(thief), "bob")
    answer = thief.get(changed(back, code=stolen["code"]))
    assert answer.status == 403
    assert thief.get("/account").status == 303


def test_a55_upstream_unknown_provider_and_foreign_page(both: Both) -> None:
    assert both.lake.browser().get("/login/with/nobody").status == 404
    assert both.lake.browser().get("/login/with/nobody/callback").status == 404
    browser = both.lake.browser()
    for there in ("https://evil.example", "//evil.example", "/login/with/community"):
        assert both.sign_in("alice", browser, there).location == "/account"


def test_a55_upstream_that_is_down_is_told(start_issuer: Start, issuer: Issuer) -> None:
    gone = f"https://localhost:{free_port()}"
    entry = {"name": "gone", "title": "Gone", "issuer": gone, "client_id": "x", "ca_file": str(issuer.ca)}
    lake = start_issuer(providers=[entry])
    answer = lake.browser().get("/login/with/gone")
    assert answer.status == 503
    assert "Gone does not answer" in answer.text
    assert lake.browser().sign_in("bob").status == 303, "everybody else signs in as before"


def test_a55_upstream_answers_name_their_issuer(issuer: Issuer) -> None:
    metadata = issuer.request("GET", "/.well-known/openid-configuration").json
    assert metadata["authorization_response_iss_parameter_supported"] is True
