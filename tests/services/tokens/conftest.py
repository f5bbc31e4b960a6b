"""The real issuer on a real PostgreSQL, from the drivers' own plan; one of them serves a whole test session."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote_plus, urlencode, urlsplit

import pytest
import urllib3

from boathouse.plan.model import File, Task
from boathouse.plan.service import Programs
from boathouse.testing.postgres import Databases
from boathouse.testing.scratch import free_port, scratch
from boathouse.testing.units import Units
from boathouse.testing.wait import wait_for
from boathouse.wlcg.verify import Claims, Verifier

FACILITY = {"name": "tokens", "vo": "escape", "sites": {"NORTH": {}}}
"""People, clients and policies of the tests are those of ``seed`` below."""
DEVICE = "urn:ietf:params:oauth:grant-type:device_code"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
CALLBACK = "https://localhost:20499/callback"
STORAGE = "127.0.1.11"
ALICE, BOB = "2b7c11f4-9a33-4c8e-a001-000000000001", "2b7c11f4-9a33-4c8e-a001-000000000002"
SECRETS = {name: f"secret-of-{name}" for name in ("rucio", "transfers", "plain", "bounded", "host:node1.example.org")}
PUBLIC = ("browser", "jupyter")
"""Clients of the authorization code without a secret, which prove themselves by PKCE."""
PASSWORD = "correct horse battery staple"


def policy(effect: str, *scopes: str, **whom: str) -> dict[str, Any]:
    return {"effect": effect, "scopes": list(scopes), **whom}


def seed() -> dict[str, Any]:
    """Alice may see the embargoed data of magic, Bob may not."""
    identity = ["openid", "profile", "email", "offline_access", "wlcg", "wlcg:1.0", "wlcg.groups", "host.auth"]
    storage = ["storage.read:/", "storage.create:/", "storage.modify:/"]
    return {
        "groups": [{"name": f"/escape{name}"} for name in ("", "/cms", "/magic")]
        + [{"name": "/escape/production", "optional": True}],
        "users": [
            {
                "login": "alice",
                "sub": ALICE,
                "password": PASSWORD,
                "name": "Alice Adler",
                "email": "alice@example.org",
                "groups": ["/escape", "/escape/cms", "/escape/magic", "/escape/production"],
            },
            {"login": "bob", "sub": BOB, "password": PASSWORD, "groups": ["/escape", "/escape/cms"]},
        ],
        "clients": [
            {
                "client_id": "boathouse",
                "name": "Boathouse",
                "grants": ["device_code", "refresh_token"],
                "scopes": [*identity, "fts", *storage],
            },
            {
                "client_id": "browser",
                "grants": ["authorization_code", "refresh_token"],
                "scopes": [*identity, *storage],
                "redirect_uris": [CALLBACK],
            },
            {
                "client_id": "rucio",
                "secret": SECRETS["rucio"],
                "grants": ["authorization_code", "refresh_token", "client_credentials", "token_exchange"],
                "scopes": [*identity, "fts", *storage],
                "redirect_uris": [CALLBACK, "https://localhost:20499/other"],
            },
            {
                "client_id": "transfers",
                "secret": SECRETS["transfers"],
                "grants": ["client_credentials", "token_exchange", "refresh_token"],
                "scopes": ["offline_access", "storage.read:/lake", "storage.modify:/lake"],
                "exchange_from": ["rucio", "boathouse"],
            },
            {
                "client_id": "plain",
                "secret": SECRETS["plain"],
                "grants": ["client_credentials", "token_exchange"],
                "scopes": ["openid", "storage.read:/lake/cms"],
            },
            {
                "client_id": "bounded",
                "secret": SECRETS["bounded"],
                "grants": [
                    *("authorization_code", "refresh_token", "client_credentials", "device_code", "token_exchange")
                ],
                "scopes": [*identity, *storage],
                "redirect_uris": [CALLBACK],
                "exchange_from": ["boathouse"],
                "audiences": [STORAGE, "rucio"],
            },
            {
                "client_id": "host:node1.example.org",
                "secret": SECRETS["host:node1.example.org"],
                "grants": ["client_credentials"],
                "scopes": ["host.auth"],
            },
        ],
        "policies": [
            policy("PERMIT", "storage.read:/lake/cms", group="/escape"),
            policy("PERMIT", "storage.read:/lake/cms", "storage.modify:/lake/cms", group="/escape/cms"),
            policy("PERMIT", "storage.read:/lake/magic", "storage.modify:/lake/magic", group="/escape/magic"),
            policy("DENY", "storage.read:/lake/magic", "storage.modify:/lake/magic"),
            *(
                policy("PERMIT", f"storage.read:/lake/user.{who}", f"storage.modify:/lake/user.{who}", account=who)
                for who in ("alice", "bob")
            ),
        ],
    }


@dataclass
class Answer:
    """An HTTP response."""

    status: int
    headers: Any
    text: str

    @property
    def json(self) -> dict[str, Any]:
        return dict(json.loads(self.text))

    @property
    def location(self) -> str:
        return str(self.headers["Location"])

    @property
    def parameters(self) -> dict[str, str]:
        """Query parameters of the location."""
        return dict(parse_qsl(urlsplit(self.location).query))


@dataclass
class Issuer:
    """A running issuer and how to speak with it."""

    units: Units
    name: str
    """Of its unit and of its database."""
    url: str
    http: urllib3.PoolManager = field(init=False)
    _cookies: dict[str, dict[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.http = urllib3.PoolManager(ca_certs=str(self.ca), cert_reqs="CERT_REQUIRED", retries=False, timeout=90)

    @property
    def ca(self) -> Path:
        return self.units.context.layout.ca

    @property
    def config(self) -> Path:
        return self.units.context.config(self.name, "settings.json")

    @property
    def seed(self) -> Path:
        return self.units.context.config(self.name, "seed.json")

    @property
    def keys(self) -> Path:
        return self.units.context.data(self.name) / "keys"

    @property
    def log(self) -> str:
        return self.units.log(self.name)

    @property
    def process(self) -> subprocess.Popen[bytes]:
        return self.units.processes[self.name]

    def start(self) -> None:
        self.units.start(self.name)

    def stop(self) -> None:
        assert self.units.stop(self.name)[self.name] in (0, -signal.SIGTERM), self.log

    def request(self, method: str, path: str, **arguments: Any) -> Answer:
        response = self.http.request(method, self.url + path, redirect=False, **arguments)
        return Answer(response.status, response.headers, response.data.decode())

    def post(self, path: str, client: str | None = None, /, **form: str) -> Answer:
        """A form, with the client's secret if it has one."""
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        if client in SECRETS:
            headers |= urllib3.make_headers(basic_auth=f"{quote_plus(client)}:{SECRETS[client]}")
        elif client:
            form["client_id"] = client
        return self.request("POST", path, body=urlencode(form), headers=headers)

    def token(self, client: str, **form: str) -> dict[str, Any]:
        answer = self.post("/token", client, **form)
        assert answer.status == 200, answer.text
        return answer.json

    def refused(self, client: str | None, status: int, error: str, **form: str) -> str:
        """The description of a refusal at the token endpoint."""
        answer = self.post("/token", client, **form)
        assert (answer.status, answer.json["error"]) == (status, error), answer.text
        assert answer.headers["Cache-Control"] == "no-store"
        return str(answer.json.get("error_description", ""))

    def verify(self, token: str, audience: str) -> Claims:
        return Verifier(self.url, audience, self.ca).verify(token)

    def browser(self, login: str | None = None) -> Browser:
        """A browser; for a login, one that has signed in (once for all of a login's browsers: argon2 is slow)."""
        browser = Browser(self)
        if login:
            if login not in self._cookies:
                assert browser.sign_in(login).status == 303
                self._cookies[login] = browser.cookies
            browser.cookies = dict(self._cookies[login])
        return browser

    def forget(self, login: str) -> None:
        """Let the next browser of a login sign in anew, when its sessions have ended."""
        self._cookies.pop(login, None)

    def device_login(self, login: str, *, scope: str, audience: str = STORAGE) -> dict[str, Any]:
        """Log a person in by device code, as the command line does."""
        begun = self.post("/devicecode", "boathouse", scope=scope, audience=audience).json
        approved = self.browser(login).submit(f"/device?user_code={begun['user_code']}", decision="allow")
        assert approved.status == 200, approved.text
        return self.token("boathouse", grant_type=DEVICE, device_code=begun["device_code"])

    def sql(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        return Databases(self.units).rows(self.name, statement, *values)

    def command(self, name: str, config: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run the issuer's program as the services' user."""
        program = (str(self.units.context.programs.python), "-m", "boathouse.apps.tokens")
        return self.units.run(Task(name, (*program, name, "--config", str(config or self.config)), timeout_s=180))

    def reload(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Change the seed and have it applied."""
        document = json.loads(self.seed.read_text())
        change(document)
        before = self.log.count("reloaded")
        self.seed.write_text(json.dumps(document))
        self.process.send_signal(signal.SIGHUP)
        wait_for("a reload", lambda: self.log.count("reloaded") > before)


class Browser:
    """As much of a browser as pages without scripts need: cookies, forms, redirects by hand."""

    def __init__(self, issuer: Issuer, origin: str = "") -> None:
        self.issuer, self.origin = issuer, origin or issuer.url
        self.cookies: dict[str, str] = {}

    def request(self, method: str, path: str, **form: str) -> Answer:
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        if method == "POST":
            headers |= {"Content-Type": "application/x-www-form-urlencoded", "Origin": self.origin}
        answer = self.issuer.request(method, path, headers=headers, body=urlencode(form) if method == "POST" else None)
        for line in answer.headers.getlist("Set-Cookie"):
            for name, morsel in SimpleCookie(line).items():
                assert morsel["secure"]
                assert morsel["httponly"]
                assert morsel["path"] == "/"
                self.cookies[name] = morsel.value
        return answer

    def get(self, path: str) -> Answer:
        return self.request("GET", path)

    def post(self, path: str, **form: str) -> Answer:
        return self.request("POST", path, **form)

    def submit(self, path: str, **form: str) -> Answer:
        """Load a page and send its form with all of its hidden fields."""
        page = self.get(path)
        assert page.status == 200, page.text
        hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page.text))
        return self.post(path, **{**hidden, **form})

    def sign_in(self, login: str, password: str = PASSWORD, there: str = "/account") -> Answer:
        return self.submit(f"/login?{urlencode({'next': there})}", username=login, password=password)


@dataclass
class CodeFlow:
    """One run of the authorization code grant, step by step."""

    issuer: Issuer
    client: str
    scope: str = "openid profile offline_access storage.read:/"
    audience: str = STORAGE
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(48))
    more: dict[str, str] = field(default_factory=dict)

    @property
    def path(self) -> str:
        parameters = {
            "response_type": "code",
            "client_id": self.client,
            "redirect_uri": CALLBACK,
            "scope": self.scope,
            "audience": self.audience,
            "state": "a state",
            "nonce": "a nonce",
        }
        if self.client in PUBLIC:
            digest = hashlib.sha256(self.verifier.encode()).digest()
            challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
            parameters |= {"code_challenge": challenge, "code_challenge_method": "S256"}
        merged = parameters | self.more
        return f"/authorize?{urlencode({name: value for name, value in merged.items() if value})}"

    def code(self, login: str = "alice") -> str:
        """Sign in, consent if asked, and read the code from the redirect."""
        browser = self.issuer.browser(login)
        answer = browser.get(self.path)
        if answer.status == 200:
            answer = browser.submit(self.path, decision="allow")
        assert answer.status == 302, answer.text
        assert answer.parameters["state"] == "a state"
        return answer.parameters["code"]

    @property
    def form(self) -> dict[str, str]:
        proof = {"code_verifier": self.verifier} if self.client in PUBLIC else {}
        return {"grant_type": "authorization_code", "redirect_uri": CALLBACK, **proof}

    def tokens(self, login: str = "alice") -> dict[str, Any]:
        return self.issuer.token(self.client, **self.form, code=self.code(login))


@pytest.fixture(scope="session")
def tokens_units(programs: Programs) -> Iterator[Units]:
    """The facility's PostgreSQL, which runs, and the plan of its issuer."""
    with scratch() as directory, Units(FACILITY, programs, directory) as units:
        units.start("postgres")
        yield units


Start = Callable[..., Issuer]


@contextmanager
def starting(units: Units, numbers: Iterator[int]) -> Iterator[Start]:
    """Starts issuers, each with a database of its own; stops all of them at the end."""
    made: list[Issuer] = []

    def start(**settings: Any) -> Issuer:
        port, name = free_port(), f"tokens{next(numbers)}"
        issuer = Issuer(units, name, f"https://localhost:{port}")
        made.append(issuer)
        usual = {
            "issuer": issuer.url,
            "port": port,
            "database_url": Databases(units).make(name, "tokens"),
            "keys_dir": str(issuer.keys),
            "seed": str(issuer.seed),
            "device_interval_s": 0,
            "registration_bound": "boathouse",
            "registrations_per_hour": 10_000,
        }
        units.variant("tokens", name, (File(issuer.seed, json.dumps(seed())),), **{**usual, **settings})
        issuer.start()
        return issuer

    yield start
    running = [issuer.name for issuer in made if issuer.name in units.processes]
    for name, status in units.stop(*running).items():
        assert status in (0, -signal.SIGTERM), units.log(name)


@pytest.fixture(scope="session")
def issuer_numbers() -> Iterator[int]:
    return count()


@pytest.fixture(scope="module")
def start_issuer(tokens_units: Units, issuer_numbers: Iterator[int]) -> Iterator[Start]:
    """Issuers of one module: PostgreSQL has not connections for those of all."""
    with starting(tokens_units, issuer_numbers) as start:
        yield start


@pytest.fixture(scope="session")
def issuer(tokens_units: Units, issuer_numbers: Iterator[int]) -> Iterator[Issuer]:
    """One issuer for all tests that change nothing for others."""
    with starting(tokens_units, issuer_numbers) as start:
        yield start()
