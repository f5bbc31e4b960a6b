"""Real XRootD servers, started from the drivers' own plan, with an issuer that is only a key.

``box``
    two deterministic elements, one that is not, and a cache in front of the first two.
``layered``
    another box: two elements, a chain of three caches in front of them (``LAYERS``, from the reader's side a node's, a
    site's and a region's), one cache that gives a group's data to a network, and one that gives them by claim.
"""

from __future__ import annotations

import os
import ssl
import subprocess
import uuid
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import urllib3
from joserfc.jwk import ECKey, OctKey

from boathouse.plan.service import Programs
from boathouse.run.local.state import write_atomically
from boathouse.services import xcache
from boathouse.testing.https import Handler, HttpsServer
from boathouse.testing.issuer import KeyIssuer
from boathouse.testing.pki import Authority
from boathouse.testing.scratch import free_port, scratch
from boathouse.testing.units import Units

FACILITY = {
    "name": "storage",
    "vo": "escape",
    "sites": {
        "NORTH": {
            "storage": {"NORTH-DISK": {"qos": "FAST"}, "NORTH_RAW": {"qos": "FAST", "deterministic": False}},
            "caches": {
                "NORTH-CACHE": {"upstreams": ["NORTH-DISK", "SOUTH-DISK"], "size": "1 GB", "page_checksums": True},
            },
        },
        "SOUTH": {"storage": {"SOUTH-DISK": {"qos": "SAFE"}}},
    },
    "network": {"default": {"rtt": "4 ms", "bandwidth": "4 Gbit/s"}},
}

LAYERED = {
    "name": "layered",
    "vo": "escape",
    "sites": {
        "NORTH": {
            "storage": {"NORTH-DISK": {"qos": "FAST"}, "NORTH_RAW": {"qos": "FAST", "deterministic": False}},
            "caches": {
                "NORTH-CACHE": {"upstreams": ["NORTH-DISK", "SOUTH-DISK"], "size": "1 GB"},
                "NORTH-NODE": {"level": "node", "upstreams": ["NORTH-SITE"], "size": "1 GB"},
                "NORTH-SITE": {"level": "site", "upstreams": ["REGION"], "size": "1 GB"},
                "NORTH-OPEN": {"mode": "group", "group": "cms", "networks": ["127.0.5.0/24"], "size": "1 GB"},
                "NORTH-CLAIM": {"mode": "group", "group": "magic", "upstreams": ["REGION"], "size": "1 GB"},
            },
        },
        "SOUTH": {
            "storage": {"SOUTH-DISK": {"qos": "SAFE"}},
            "caches": {"REGION": {"level": "region", "upstreams": ["NORTH-DISK", "SOUTH-DISK"], "size": "1 GB"}},
        },
    },
    "groups": {"cms": {}, "magic": {"embargoed": True}},
    "scopes": {"cms": {"group": "cms"}, "magic": {"group": "magic"}},
}

LAYERS = ("NORTH-NODE", "NORTH-SITE", "REGION")
"""The chain, from the reader's side to the lake's."""


@dataclass(frozen=True)
class Reply:
    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def text(self) -> str:
        return self.body.decode(errors="replace")


class Box(Units):
    """The servers of this facility; their issuer is a key that the test signs with."""

    def __init__(self, document: Mapping[str, Any], programs: Programs, directory: Path) -> None:
        super().__init__(document, programs, directory)
        self.issuer = KeyIssuer(self.context.issuer)
        self.servers = [name for name in self.units if name.startswith(("se-", "copy-", "cache-"))]
        tls = ssl.create_default_context(cafile=str(self.context.layout.ca))
        self.connections = urllib3.PoolManager(ssl_context=tls, retries=False, timeout=90.0, maxsize=4)

    # -- tokens ------------------------------------------------------------------------------------------------

    @property
    def key(self) -> ECKey:
        return self.issuer.key

    def audience(self, *names: str) -> list[str]:
        return [self.context.addresses[f"{name}.https"] for name in names or self.context.facility.storage]

    def token(self, scope: str, *names: str, life_s: float = 600, **changed: Any) -> str:
        algorithm, key = changed.pop("alg", "ES256"), changed.pop("key", None)
        claims = {"sub": "alice", "aud": self.audience(*names), "scope": scope, **changed}
        return self.issuer.sign(claims, life_s=life_s, key=key, algorithm=algorithm)

    # -- clients -----------------------------------------------------------------------------------------------

    def url(self, name: str, path: str) -> str:
        return self.context.url(f"{name}.https") + path

    def through_cache(self, name: str, path: str, scheme: str = "https", cache: str = "NORTH-CACHE") -> str:
        return (
            self.context.url(f"{cache}.{scheme}", scheme)
            + "//"
            + self.context.url(f"{name}.root", "roots")
            + f"/{path}"
        )

    def http(self, method: str, url: str, token: str | None = None, body: bytes | None = None, **headers: str) -> Reply:
        # A server that refuses a PUT drops the connection without saying so.
        sent = {"Connection": "close"} | {name.replace("_", "-"): value for name, value in headers.items()}
        if token:
            sent["Authorization"] = f"Bearer {token}"
        answer = self.connections.request(method, url, body=body, headers=sent)
        return Reply(answer.status, answer.data, {name.lower(): value for name, value in answer.headers.items()})

    def put(self, name: str, path: str, body: bytes) -> None:
        token = self.token("storage.modify:/ storage.read:/", name)
        assert self.http("PUT", self.url(name, path), token, body).status in {200, 201}

    def client(self, program: str, *arguments: str, token: str | None = None) -> subprocess.CompletedProcess[str]:
        env = {
            "PATH": os.environ["PATH"],
            "X509_CERT_DIR": str(self.context.layout.ca_directory),
            "XrdSecPROTOCOL": "ztn",
            "XRD_CONNECTIONWINDOW": "5",
            "XRD_CONNECTIONRETRY": "1",
        }
        if token:
            env["BEARER_TOKEN"] = token
        command = [str(self.context.programs.xrootd_bin / program), *arguments]
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=180, check=False)

    # -- servers -----------------------------------------------------------------------------------------------

    def data(self, name: str) -> Path:
        return self.context.data(name)

    def write_service_tokens(self) -> None:
        """What the keeper does for caches."""
        for name in self.context.facility.caches:
            scope, audiences = xcache.token_scope(self.context, name), xcache.upstream_audiences(self.context, name)
            token = self.token(scope, aud=list(audiences), life_s=6 * 3600)
            write_atomically(xcache.token_file(self.context, name), token, self.state.account, mode=0o600)


@pytest.fixture(scope="package")
def box(programs: Programs) -> Iterator[Box]:
    with scratch() as directory, Box(FACILITY, programs, directory) as made:
        for name in made.servers:
            made.trust(name, made.issuer.url, made.issuer.jwks)
        made.write_service_tokens()
        made.start("network", *made.servers)
        yield made


@pytest.fixture(scope="package")
def layered(programs: Programs) -> Iterator[Box]:
    with scratch() as directory, Box(LAYERED, programs, directory) as made:
        for name in made.servers:
            made.trust(name, made.issuer.url, made.issuer.jwks)
        made.write_service_tokens()
        made.start(*made.servers)
        yield made


@pytest.fixture
def fresh_path() -> str:
    """A path of the scope ``cms`` that no other test uses."""
    return f"/lake/cms/{uuid.uuid4().hex[:12]}"


class Stranger(HttpsServer):
    """An HTTPS server whose certificate another authority has signed; it counts who comes nevertheless."""

    def __init__(self, authority: Authority) -> None:
        super().__init__(
            partial(Asked, stranger=self), "127.0.0.1", free_port(), authority.certificate("stranger", "127.0.0.1")
        )
        self.requests: list[str] = []


class Asked(Handler):
    def __init__(self, *args: Any, stranger: Stranger) -> None:
        self._stranger = stranger
        super().__init__(*args)

    def respond(self) -> None:
        self._stranger.requests.append(self.path)
        self.send_error(404)


@pytest.fixture
def stranger(tmp_path: Path) -> Iterator[Stranger]:
    made = Stranger(Authority(tmp_path))
    made.start()
    yield made
    made.stop()


@pytest.fixture
def symmetric_key() -> OctKey:
    return OctKey.generate_key(256)


@pytest.fixture
def content() -> bytes:
    """A megabyte and a bit whose adler32 begins with a zero (rucio/rucio#4127)."""
    base = os.urandom(1_100_000)
    checksum = zlib.adler32(base)
    ends = (bytes(number) for number in range(1 << 16))
    return base + next(end for end in ends if zlib.adler32(end, checksum) < 1 << 28)
