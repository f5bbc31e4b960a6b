"""A lake that trusts a second issuer, which runs by itself: the community's AAI, with its own database and CA."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3
import yaml

from boathouse.lake.approve import approve
from boathouse.lake.http import Http
from boathouse.lake.tokens import Issuer
from boathouse.plan.model import File, Task
from boathouse.plan.service import Programs
from boathouse.testing.box import Box, box
from boathouse.testing.scratch import scratch
from boathouse.testing.units import Units
from boathouse.testing.wait import wait_for

FACILITY: dict[str, Any] = {
    "name": "community",
    "vo": "lofar",
    "sites": {"NORTH": {}},
    "groups": {"analysts": {}},
    "users": {"dana": {"groups": ["analysts"]}, "eva": {"groups": ["analysts"]}, "fred": {}},
}
"""Of it only the issuer runs. Its policies let its people do whatever they like: what that opens, the lake decides."""

WIDE = "openid profile fts wlcg.groups storage.read:/ storage.create:/ storage.modify:/ storage.stage:/"
_UNIT = "aai"


def lake(url: str, ca_file: Path, dana: str) -> dict[str, Any]:
    """The lake's facility file: carol is dana of the community; its other analysts act as the group lofar."""
    return {
        "name": "lake",
        "vo": "escape",
        "sites": {
            "CNAF": {"storage": {"CNAF-STORM": {"qos": "FAST"}}, "caches": {"CNAF-XCACHE": {}}},
            "DESY": {"storage": {"DESY-DCACHE": {"qos": "SAFE"}}},
        },
        "groups": {"cms": {"embargoed": True}, "lofar": {"embargoed": True}},
        "users": {"alice": {"groups": ["cms"]}, "carol": {"groups": ["lofar"], "identities": {"community": dana}}},
        "scopes": {"cms": {"group": "cms"}, "lofar": {"group": "lofar"}, "lofar2": {"group": "cms"}},
        "issuers": {
            "community": {
                "url": url,
                "vo": "lofar",
                "ca_file": str(ca_file),
                "paths": ["/lake/lofar"],
                "accounts": {"/lofar/analysts": "lofar"},
                "key_refresh": "1 s",
                "client_id": "boathouse",
            }
        },
    }


_STORAGE = ["storage.read:/", "storage.create:/", "storage.modify:/"]
_CLIENT, _EXCHANGE = "client_credentials", "token_exchange"
_SERVICES: list[tuple[str, list[str], list[str], dict[str, Any]]] = [
    ("rucio", [_CLIENT], ["openid", "profile", "fts", *_STORAGE], {}),
    (
        "transfers",
        [_CLIENT, _EXCHANGE],
        ["openid", *_STORAGE],
        {"exchange_from": ["boathouse", "lake-rucio", "lake-operator"]},
    ),
    ("cache", [_CLIENT], ["storage.read:/"], {}),
    ("operator", [_CLIENT], ["openid", "profile", "fts", *_STORAGE], {}),
]
"""Clients of a lake that has no other issuer than this one."""


def secret_of(service: str) -> str:
    return f"secret-of-lake-{service}"


def lake_without_issuer(url: str, ca_file: Path, dana: str, secrets: Path) -> dict[str, Any]:
    """The facility file of a lake whose services and people all have their tokens from the community's issuer."""
    issuer: dict[str, Any] = {"url": url, "ca_file": str(ca_file), "client_id": "boathouse", "key_refresh": "1 s"}
    for name, *_ in _SERVICES:
        file = secrets / name
        file.write_text(secret_of(name))
        issuer[name] = {"id": f"lake-{name}", "secret_file": str(file)}
    return {
        "name": "lake",
        "vo": "lofar",
        "sites": {
            "CNAF": {"storage": {"CNAF-STORM": {"qos": "FAST"}}, "caches": {"CNAF-XCACHE": {}}},
            "DESY": {"storage": {"DESY-DCACHE": {"qos": "SAFE"}}},
        },
        "groups": {"analysts": {}},
        "users": {"carol": {"groups": ["analysts"], "identities": {"issuer": dana}}},
        "scopes": {"survey": {"group": "analysts"}},
        "services": {"issuer": issuer},
    }


@dataclass
class Aai:
    """The community's issuer."""

    units: Units

    @property
    def url(self) -> str:
        return self.units.context.issuer

    @property
    def ca(self) -> Path:
        return self.units.context.layout.ca

    def sub(self, login: str) -> str:
        return self.units.values[f"sub-{login}"]

    def password(self, login: str) -> str:
        return self.units.values[f"password-{login}"]

    def token(self, login: str, audience: list[str], scope: str = WIDE) -> str:
        """A person's token, by device code."""
        http = Http(str(self.ca))
        issuer = Issuer(self.url, http)
        code = issuer.device_code("boathouse", scope=scope, audience=audience)
        approve(http, code, login=login, password=self.password(login))
        token = issuer.wait_for_device("boathouse", code).access
        http.close()
        return token

    def client_token(self, client: str, audience: str, scope: str) -> str:
        """A client's token."""
        pool = urllib3.PoolManager(ca_certs=str(self.ca), retries=False, timeout=90)
        reply = pool.request(
            "POST",
            f"{self.url}/token",
            fields={"grant_type": "client_credentials", "audience": audience, "scope": scope},
            encode_multipart=False,
            headers=urllib3.make_headers(basic_auth=f"{client}:{self.units.values[f'client-{client}']}"),
        )
        assert reply.status == 200, reply.data
        return str(reply.json()["access_token"])

    def rotate(self) -> None:
        """Publish a new key, which signs some seconds later."""
        settings = self.units.context.config(_UNIT, "settings.json")
        program = (str(self.units.context.programs.python), "-m", "boathouse.apps.tokens", "rotate")
        done = self.units.run(Task("rotate", (*program, "--config", str(settings)), timeout_s=180))
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        self.units.start(_UNIT)

    def stop(self) -> None:
        self.units.stop(_UNIT)


@contextmanager
def aai(programs: Programs) -> Iterator[Aai]:
    """The community's issuer, running."""
    with scratch() as directory, Units(FACILITY, programs, directory) as units:
        (template,) = [file for file in units.units["tokens"].files if file.path.name == "seed.json"]
        seed = json.loads(template.text)
        for client in seed["clients"]:
            # For the services of a lake that it knows nothing of.
            client["audiences"] = None
        seed["clients"] += [
            {"client_id": f"lake-{name}", "secret": secret_of(name), "grants": grants, "scopes": scopes, **more}
            for name, grants, scopes, more in _SERVICES
        ]
        everything = WIDE.split()[-4:]
        seed["policies"] = [{"effect": "PERMIT", "scopes": everything, "description": "the lake knows better"}]
        own = File(units.context.config(_UNIT, "seed.json"), json.dumps(seed))
        units.variant("tokens", _UNIT, (own,), seed=str(own.path), key_activation_s=10, device_interval_s=0)
        units.start("postgres", _UNIT)
        yield Aai(units)


@dataclass
class Member:
    """Somebody of the community, with a token, at the lake."""

    both: Both
    login: str
    token: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def whoami(self) -> tuple[int, str]:
        """The answer of the catalogue, and the account."""
        reply = self.catalogue("GET", "/accounts/whoami")
        return reply.status, str(reply.json().get("account", "")) if reply.status == 200 else ""

    def catalogue(self, method: str, path: str, document: object = None) -> urllib3.BaseHTTPResponse:
        body = None if document is None else json.dumps(document).encode()
        headers = {"X-Rucio-Auth-Token": self.token, "Content-Type": "application/json"}
        url = self.both.box.endpoints.catalogue + path
        # `whoami` sends on to the account.
        return self.both.pool.request(method, url, headers=headers, body=body, retries=urllib3.Retry(3))

    def _asked(self, method: str, url: str, body: bytes | None = None) -> urllib3.BaseHTTPResponse:
        # A storage server that refuses a request drops the connection without saying so.
        headers = {**self.headers, "Connection": "close"}
        return self.both.pool.request(method, url, headers=headers, body=body)

    def https(self, method: str, url: str, body: bytes | None = None) -> int:
        return self._asked(method, url, body).status

    def get(self, url: str) -> tuple[int, bytes]:
        reply = self._asked("GET", url)
        return reply.status, reply.data

    def environment(self) -> dict[str, str]:
        """That of stock clients."""
        session = self.both.box.work / f"member-{self.login}"
        session.mkdir(exist_ok=True, mode=0o700)
        (session / "token").write_text(self.token)
        (session / "token").chmod(0o600)
        values = self.both.box.env("alice")
        config = Path(values["RUCIO_CONFIG"]).read_text()
        account = self.whoami()[1] or "nobody"
        (session / "etc").mkdir(exist_ok=True)
        mine = config.replace(values["BEARER_TOKEN_FILE"], str(session / "token")).replace("= alice", f"= {account}")
        (session / "etc" / "rucio.cfg").write_text(mine)
        return {
            **values,
            "BEARER_TOKEN_FILE": str(session / "token"),
            "RUCIO_HOME": str(session),
            "RUCIO_CONFIG": str(session / "etc" / "rucio.cfg"),
            "RUCIO_ACCOUNT": account,
        }

    def run(self, *command: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """A stock client."""
        done = subprocess.run(
            [*map(str, command)],
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
        assert not check or done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
        return done

    def submit(self, source: str, destination: str) -> tuple[int, str]:
        """Status of a job of one file, and its id or the reason."""
        file = {
            "sources": [source],
            "source_tokens": [self.token],
            "destinations": [destination],
            "destination_tokens": [self.token],
        }
        body = json.dumps({"files": [file], "params": {"retry": -1}}).encode()
        reply = self.both.pool.request("POST", f"{self.transfers}/jobs", headers=self.headers, body=body)
        return reply.status, str(reply.json().get("job_id") or reply.json().get("message"))

    def ended(self, job_id: str) -> str:
        """How a job ended, with the reason."""

        def state() -> str | None:
            url = f"{self.transfers}/jobs/{job_id}?files=reason&wait=5"
            found = self.both.pool.request("GET", url, headers=self.headers).json()
            reason = found["files"][0]["reason"]
            return f"{found['job_state']} {reason}" if found["job_state"] in ("FINISHED", "FAILED") else None

        return str(wait_for("the job has ended", state, timeout_s=180))

    @property
    def transfers(self) -> str:
        return self.both.box.endpoints.transfers


@dataclass
class Both:
    """The lake and the community's issuer."""

    box: Box
    aai: Aai
    pool: urllib3.PoolManager

    @property
    def audiences(self) -> list[str]:
        """What people's tokens are for."""
        found = self.box.endpoints
        doors = [one.audience for one in (*found.storage, *found.caches)]
        return ["rucio", found.transfers_audience, *doors]

    def member(self, login: str, scope: str = WIDE) -> Member:
        return Member(self, login, self.aai.token(login, self.audiences, scope))

    def element(self, rse: str) -> Any:
        return next(one for one in self.box.endpoints.storage if one.rse == rse)

    def file(self, rse: str, path: str) -> str:
        return f"{self.element(rse).https}{path}"


@contextmanager
def both(programs: Programs) -> Iterator[Both]:
    """The lake and the community's issuer, running."""
    with aai(programs) as issuer, scratch() as directory:
        facility = directory / "lake.yaml"
        facility.write_text(yaml.safe_dump(lake(issuer.url, issuer.ca, issuer.sub("dana"))))
        with box(facility) as running:
            pool = urllib3.PoolManager(ca_certs=running.endpoints.ca_bundle, retries=False, timeout=90)
            yield Both(running, issuer, pool)


def content() -> bytes:
    return os.urandom(20_000)
