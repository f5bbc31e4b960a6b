"""Rucio's own client, unmodified, and its two ways in: a token from outside, and the login by browser."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import unescape
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

import pytest
import urllib3

from boathouse.testing.box import Box
from boathouse.wlcg.verify import Verifier


@dataclass
class Person:
    """As much of a browser as these pages need; cookies are kept by origin."""

    http: urllib3.PoolManager
    cookies: dict[str, dict[str, str]] = field(default_factory=dict)

    def open(self, method: str, url: str, form: dict[str, str] | None = None) -> tuple[str, Any]:
        """Follow redirects to a page; its URL and the response."""
        for _ in range(10):
            origin = "{0.scheme}://{0.netloc}".format(urlsplit(url))
            jar = self.cookies.setdefault(origin, {})
            headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in jar.items())}
            if form is not None:
                headers |= {"Content-Type": "application/x-www-form-urlencoded", "Origin": origin}
            body = None if form is None else urlencode(form)
            answer = self.http.request(method, url, body=body, headers=headers, redirect=False, retries=False)
            for line in answer.headers.getlist("Set-Cookie"):
                jar.update({name: morsel.value for name, morsel in SimpleCookie(line).items()})
            if answer.status not in (302, 303):
                return url, answer
            url, method, form = urljoin(url, answer.headers["Location"]), "GET", None
        msg = f"too many redirects, at last to {url}"
        raise AssertionError(msg)

    def submit(self, url: str, page: str, **values: str) -> tuple[str, Any]:
        """Send the form of a page; the head of each page has one to sign out."""
        page = page.partition("<main")[2]
        action = re.search(r'<form method="post" action="([^"]*)"', page)
        assert action, page
        hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page))
        return self.open("POST", urljoin(url, unescape(action[1])), hidden | values)


@dataclass
class Login:
    """A login that the stock client began and that waits for a code."""

    process: subprocess.Popen[str]
    link: str

    def finish(self, code: str) -> tuple[int, str]:
        output, _ = self.process.communicate(f"{code}\n" * 3, timeout=300)
        return self.process.returncode, output


class Stock:
    """The stock client with a configuration that knows nothing of this facility's sessions."""

    def __init__(self, box: Box, home: Path, **client: str) -> None:
        self.box = box
        self.program = shutil.which("rucio", path=box.env("alice")["PATH"])
        assert self.program, "rucio is missing: run `make install`"
        settings = {
            "rucio_host": box.endpoints.catalogue,
            "auth_host": box.endpoints.catalogue,
            "auth_type": "oidc",
            "ca_cert": box.endpoints.ca_bundle,
            "auth_token_file_path": str(home / "token"),
            **client,
        }
        (home / "etc").mkdir(parents=True)
        lines = [f"{name} = {value}" for name, value in settings.items()]
        (home / "etc" / "rucio.cfg").write_text("[client]\n" + "\n".join(lines) + "\n")
        self.environment = {
            "PATH": os.defpath,
            "HOME": str(home),
            "RUCIO_HOME": str(home),
            "XDG_RUNTIME_DIR": str(home),
            "REQUESTS_CA_BUNDLE": box.endpoints.ca_bundle,
            "PYTHONUNBUFFERED": "1",
        }

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        assert self.program
        return subprocess.Popen(
            [self.program, *arguments],
            env=self.environment | environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    @contextmanager
    def login(self) -> Iterator[Login]:
        with self.start("whoami") as process:
            try:
                assert process.stdout
                said = ""
                for line in process.stdout:
                    said += line
                    if found := re.search(r"https://\S+/auth/oidc_redirect\?\S+", said):
                        break
                else:
                    pytest.fail(f"no link: {said}")
                yield Login(process, found[0])
            finally:
                process.kill()


@pytest.fixture
def person(lake_box: Box) -> Person:
    return Person(urllib3.PoolManager(ca_certs=lake_box.endpoints.ca_bundle, cert_reqs="CERT_REQUIRED", timeout=120))


def sign_in(box: Box, person: Person, link: str, login: str) -> tuple[str, str]:
    """Open a link and sign in; the address and the text of the question that follows."""
    url, answer = person.open("GET", link)
    page = answer.data.decode()
    password = box.local.plan.layout.secret(f"password-{login}").read_text().strip()
    url, answer = person.submit(url, page, username=login, password=password)
    assert answer.status == 200, answer.data.decode()
    return url, answer.data.decode()


def granted_code(page: str) -> str:
    found = re.search(r"\b([A-Za-z0-9]{50})\b", page)
    assert found, page
    return found[1]


def test_a55_login_by_browser(lake_box: Box, person: Person, tmp_path: Path) -> None:
    with Stock(lake_box, tmp_path / "rucio", account="alice").login() as login:
        url, question = sign_in(lake_box, person, login.link, "alice")
        assert "Whoever started this login can get your token" in question
        url, answer = person.submit(url, question, decision="allow")
        assert urlsplit(url).netloc == urlsplit(lake_box.endpoints.catalogue).netloc
        status, output = login.finish(granted_code(answer.data.decode()))
    assert status == 0, output
    assert re.search(r"^account +: +alice$", output, re.MULTILINE)
    # What the client got is for the catalogue alone, and Rucio keeps none of it.
    token = next((tmp_path / "rucio").rglob("*token*alice*"), None) or next((tmp_path / "rucio").glob("token*"))
    claims = Verifier(lake_box.endpoints.issuer, "rucio", Path(lake_box.endpoints.ca_bundle)).verify(token.read_text())
    assert (claims.aud, claims.scope, claims.client_id) == (("rucio",), ("openid", "profile"), "rucio-login")


def test_consent_is_asked_at_each_login_and_a_refusal_gives_nothing(
    lake_box: Box, person: Person, tmp_path: Path
) -> None:
    with Stock(lake_box, tmp_path / "one", account="alice").login() as login:
        url, question = sign_in(lake_box, person, login.link, "alice")
        person.submit(url, question, decision="allow")
    with Stock(lake_box, tmp_path / "two", account="alice").login() as login:
        url, answer = person.open("GET", login.link)
        assert "Whoever started this login" in answer.data.decode(), "signed in, consented before: asked all the same"
        url, answer = person.submit(url, answer.data.decode(), decision="deny")
        assert answer.status == 401
        status, output = login.finish("x" * 50)
    assert status != 0, output


def test_a_link_gives_no_token_to_who_made_it(lake_box: Box, person: Person, tmp_path: Path) -> None:
    """Even after somebody signed in through it: only the code that this person saw does, and only once."""
    fetch = {"X-Rucio-Client-Fetch-Token": "True"}
    with Stock(lake_box, tmp_path / "rucio", account="alice").login() as login:
        url, question = sign_in(lake_box, person, login.link, "alice")
        _, answer = person.submit(url, question, decision="allow")
        stolen = person.http.request("GET", login.link, headers=fetch, redirect=False, retries=False)
        assert (stolen.status, stolen.headers.get("X-Rucio-Auth-Token")) == (401, None)
        code = granted_code(answer.data.decode())
        again = f"{lake_box.endpoints.catalogue}/auth/oidc_redirect?{code}"
        assert person.http.request("GET", again, headers=fetch, retries=False).headers["X-Rucio-Auth-Token"]
        assert person.http.request("GET", again, headers=fetch, retries=False).status == 401


def test_polling_is_refused(lake_box: Box, tmp_path: Path) -> None:
    with Stock(lake_box, tmp_path / "rucio", account="alice", oidc_polling="True").start("whoami") as process:
        output, _ = process.communicate(timeout=300)
    assert process.returncode != 0
    assert "oidc_redirect" not in output


def test_somebody_elses_account_is_not_opened(lake_box: Box, person: Person, tmp_path: Path) -> None:
    with Stock(lake_box, tmp_path / "rucio", account="bob").login() as login:
        url, question = sign_in(lake_box, person, login.link, "alice")
        _, answer = person.submit(url, question, decision="allow")
        assert answer.status == 401


def test_a55_a_token_from_outside(lake_box: Box, tmp_path: Path) -> None:
    """A token that Rucio never saw, in the file that WLCG's bearer token discovery names."""
    token = tmp_path / "bearer"
    token.write_text(
        lake_box.cli("token", "--audience", "rucio", "--scope", "openid profile", user="alice").stdout.strip()
    )
    token.chmod(0o600)
    stock = Stock(lake_box, tmp_path / "rucio", account="alice")
    with stock.start("whoami", BEARER_TOKEN_FILE=str(token)) as process:
        output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert re.search(r"^account +: +alice$", output, re.MULTILINE)
