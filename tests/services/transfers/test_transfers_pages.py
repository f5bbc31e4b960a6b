"""The service's pages in a real browser: the way in, what is shown to whom, and that a keyboard is enough."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3
from tests.services.tokens.chromium import Chromium, PageError, Window, chromium

from boathouse.testing.wait import wait_for

from .box import Box, Service
from .equipment import SOURCE, TRANSFERS

NOWHERE = "davs://127.0.1.19:1"


class Shown(Service):
    """A service that believes the real issuer, at the address that is registered there."""

    def __init__(self, box: Box) -> None:
        port = box.context.ports["transfers"]
        operators = ["operator", box.values["sub-carol"]]
        super().__init__(box, "pages", issuer=box.context.issuer, port=port, operators=operators)
        self.url = f"https://{TRANSFERS}:{port}"

    @property
    def token(self) -> str:
        return self._box.real_issuer.token(TRANSFERS, "fts", client="operator")

    @token.setter
    def token(self, _: str) -> None:
        """Tokens of the real issuer live for seconds: each request has a new one."""


@pytest.fixture(scope="module")
def service(box: Box) -> Shown:
    made = Shown(box)
    made.start()
    return made


@pytest.fixture(scope="module")
def browser(box: Box, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with chromium(tmp_path_factory.mktemp("browser"), box.context.layout.ca) as running:
        yield running


def sign_in(box: Box, window: Window, login: str, path: str = "/pages") -> None:
    window.goto(path)
    # Chromium gives a field the focus when it draws the page, a little after it has loaded it.
    wait_for("the focus is in the form", lambda: window.focus["id"] == "username")
    window.sign_in(login, box.values[f"password-{login}"])
    wait_for("the page after the sign-in", lambda: "Sign out" in window.text)
    assert window.ask("location.pathname") == path


def follow(window: Window, wanted: str, is_there: Callable[[], bool]) -> None:
    """Go on by keyboard, on a page that renews itself: if it does between two keys, the focus begins anew."""

    def went() -> bool:
        try:
            if not is_there():
                window.tab_to(wanted)
                window.follow()
            return is_there()
        except PageError:
            # Just then the page made way for the next one.
            return False

    wait_for(f"the page to which {wanted} leads", went)


@pytest.fixture(scope="module")
def jobs(box: Box, service: Shown) -> dict[str, str]:
    """A job of Alice's that failed, and one of the operator's that waits."""
    refused = box.file(
        "/lake/cms/pages/f", os.urandom(1000), source_tokens=[box.issuer.token(SOURCE, "storage.read:/other")]
    )
    failed = service.submit(refused, job_metadata="<script>alert(1)</script>")
    service.finished(failed)
    service.rows("UPDATE jobs SET owner = %s WHERE job_id = %s RETURNING 1", box.values["sub-alice"], failed)
    waits = service.submit({**box.file("/lake/cms/pages/g", b"g"), "destinations": [f"{NOWHERE}/lake/g"]})
    return {"failed": failed, "waits": waits}


def test_a_person_signs_in_with_the_keyboard_and_sees_the_own_jobs(
    box: Box, service: Shown, browser: Chromium, jobs: dict[str, str], tmp_path: Path
) -> None:
    with browser.window(service.url) as window:
        sign_in(box, window, "alice")
        assert "Your transfers" in window.text
        assert jobs["failed"][:8] in window.text
        assert jobs["waits"][:8] not in window.text
        window.shoot(tmp_path / "overview.png")
        follow(window, jobs["failed"][:8], lambda: jobs["failed"] in window.url)
        for words in ("FAILED", "Verdict", "auth (token)", "Cause", "submit again with a token"):
            assert words in window.text, words
        window.shoot(tmp_path / "job.png")
        assert window.goto(f"/pages/jobs/{jobs['waits']}") == 404
        assert "No such job" in window.text


def test_an_administrator_sees_all_and_the_page_renews_itself(
    box: Box, service: Shown, browser: Chromium, jobs: dict[str, str], tmp_path: Path
) -> None:
    with browser.window(service.url, dark=True) as window:
        sign_in(box, window, "carol")
        for words in ("All transfers", jobs["failed"][:8], jobs["waits"][:8], "User Subscriptions", "127.0.1.19:1"):
            assert words in window.text, words
        window.shoot(tmp_path / "overview-dark.png")
        later = service.submit({**box.file("/lake/cms/pages/h", b"h"), "destinations": [f"{NOWHERE}/lake/h"]})
        wait_for("the page shows a new job by itself", lambda: later[:8] in window.text)

        follow(window, "Stop", lambda: window.ask("location.search") == "?live=off")
        assert window.ask("document.querySelector('meta[http-equiv=refresh]') === null") is True
        assert window.ask("document.scripts.length") == 0


def test_the_pages_work_on_a_narrow_screen(
    box: Box, service: Shown, browser: Chromium, jobs: dict[str, str], tmp_path: Path
) -> None:
    with browser.window(service.url, width=360) as window:
        sign_in(box, window, "carol", f"/pages/jobs/{jobs['failed']}")
        window.shoot(tmp_path / "narrow.png")
        assert window.ask("document.documentElement.scrollWidth <= window.innerWidth") is True


def test_whoever_signs_out_has_to_sign_in(box: Box, service: Shown, browser: Chromium) -> None:
    with browser.window(service.url) as window:
        sign_in(box, window, "alice")
        follow(window, "Sign out", lambda: "You are signed out" in window.text)


class Client:
    """A browser's requests one by one."""

    def __init__(self, box: Box, service: Shown) -> None:
        self._url = service.url
        self._pool = urllib3.PoolManager(ca_certs=str(box.context.layout.ca), retries=False, timeout=90)

    def get(self, path: str, **headers: str) -> urllib3.BaseHTTPResponse:
        return self._pool.request("GET", self._url + path, headers=headers)

    def post(self, path: str, **headers: str) -> urllib3.BaseHTTPResponse:
        return self._pool.request("POST", self._url + path, headers=headers)


@pytest.fixture
def client(box: Box, service: Shown) -> Client:
    return Client(box, service)


def test_a_stranger_is_sent_to_the_issuer_with_a_challenge(box: Box, client: Client) -> None:
    for path in ("/pages", "/pages/jobs/00000000-0000-4000-8000-000000000000"):
        answer = client.get(path)
        where = answer.headers["Location"]
        assert answer.status == 303
        assert where.startswith(f"{box.context.issuer}/authorize?")
        assert "code_challenge_method=S256" in where
        cookie = answer.headers["Set-Cookie"]
        for words in ("__Host-transfers-sign-in=", "HttpOnly", "Secure", "SameSite=lax", "Path=/"):
            assert words in cookie, cookie
    assert client.get("/", accept="text/html").headers["Location"] == "/pages"


@pytest.mark.parametrize("query", ["", "?code=x&state=y", "?error=access_denied&state=y"])
def test_a_code_that_this_browser_did_not_ask_for_is_refused(client: Client, query: str) -> None:
    answer = client.get(f"/pages/done{query}")
    assert answer.status == 403
    assert "was not begun in this browser" in answer.data.decode()
    assert "Set-Cookie" not in answer.headers


def test_a_cookie_that_is_not_ours_opens_nothing(client: Client, service: Shown) -> None:
    for value in ("x", service.token):
        assert client.get("/pages", cookie=f"__Host-transfers={value}").status == 303
    assert client.post("/pages/sign-out", origin="https://elsewhere.example").status == 403


def test_pages_forbid_scripts_frames_and_caches(client: Client) -> None:
    headers: Any = client.get("/pages/done").headers
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers["Cache-Control"] == "no-store"
    assert client.get("/pages/style.css").headers["Content-Type"].startswith("text/css")
