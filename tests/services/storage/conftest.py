"""Real XRootD servers, started from the drivers' own plan, with an issuer that is only a key.

``box``
    two deterministic elements, one that is not, and a cache in front of the first two.
"""

from __future__ import annotations

import http.server
import os
import shutil
import signal
import ssl
import subprocess
import tempfile
import threading
import time
import uuid
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import urllib3
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey

from boathouse.facility.model import Facility
from boathouse.plan.model import Certificate, Unit
from boathouse.plan.service import Context, Programs
from boathouse.run.local import files, ports
from boathouse.run.local.account import child_environment, service_account
from boathouse.run.local.probe import Prober
from boathouse.run.local.state import State, create_or_open, write_atomically
from boathouse.run.pki import ensure_authority, ensure_certificate
from boathouse.services import xcache, xrootd
from boathouse.wlcg import keycache

FACILITY = {
    "name": "storage",
    "vo": "escape",
    "sites": {
        "NORTH": {
            "storage": {"NORTH-DISK": {"qos": "FAST"}, "NORTH_RAW": {"qos": "FAST", "deterministic": False}},
            "caches": {"NORTH-CACHE": {"upstreams": ["NORTH-DISK", "SOUTH-DISK"], "size": "1 GB"}},
        },
        "SOUTH": {"storage": {"SOUTH-DISK": {"qos": "SAFE"}}},
    },
}
TOKENS_PORT = 21999


def wait_until(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    pause, deadline = threading.Event(), time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s} s"
        pause.wait(0.02)


@dataclass(frozen=True)
class Reply:
    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def text(self) -> str:
        return self.body.decode(errors="replace")


@dataclass
class Box:
    context: Context
    state: State
    units: dict[str, Unit]
    prober: Prober
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    key: ECKey = field(default_factory=lambda: ECKey.generate_key("P-256", {"kid": "one"}))

    def __post_init__(self) -> None:
        tls = ssl.create_default_context(cafile=str(self.context.layout.ca))
        self.connections = urllib3.PoolManager(ssl_context=tls, retries=False, timeout=30.0)

    # -- tokens ------------------------------------------------------------------------------------------------

    def jwks(self) -> dict[str, object]:
        return {"keys": [{**self.key.as_dict(private=False), "alg": "ES256", "use": "sig"}]}

    def audience(self, *names: str) -> list[str]:
        return [self.context.addresses[f"{name}.https"] for name in names or self.context.facility.storage]

    def token(self, scope: str, *names: str, life_s: float = 600, **changed: object) -> str:
        now = int(time.time())
        header = {"alg": changed.pop("alg", "ES256"), "kid": "one"}
        key = changed.pop("key", self.key)
        claims = {
            "iss": self.context.issuer,
            "sub": "alice",
            "aud": self.audience(*names),
            "iat": min(now, now + life_s) - 10,
            "nbf": min(now, now + life_s) - 10,
            "exp": now + life_s,
            "jti": str(uuid.uuid4()),
            "scope": scope,
            "wlcg.ver": "1.0",
        } | changed
        return jwt.encode(header, claims, key, algorithms=["ES256", "HS256"])

    # -- clients -----------------------------------------------------------------------------------------------

    def url(self, name: str, path: str) -> str:
        return self.context.url(f"{name}.https") + path

    def through_cache(self, name: str, path: str, scheme: str = "https") -> str:
        return (
            self.context.url(f"NORTH-CACHE.{scheme}", scheme)
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
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)

    # -- servers -----------------------------------------------------------------------------------------------

    def unit(self, name: str) -> Unit:
        return self.units[name]

    def data(self, name: str) -> Path:
        return self.context.data(name)

    def log(self, unit: str) -> str:
        return (self.state.layout.logs / f"{unit}.log").read_text(errors="replace")

    def start(self, *names: str) -> None:
        for name in names:
            unit = self.units[name]
            files.write_unit(unit, self.state, {})
            log = self.state.layout.logs / f"{name}.log"
            with log.open("ab") as handle:
                self.processes[name] = subprocess.Popen(
                    unit.command,
                    env=child_environment(self.state.account, self.state.layout.run, unit.env),
                    cwd=self.state.layout.root,
                    stdin=subprocess.DEVNULL,
                    stdout=handle,
                    stderr=handle,
                    **self.state.account.popen_arguments(),
                )
        for name in names:
            wait_until(lambda name=name: self._is_ready(name), 30, f"{name} ready")

    def _is_ready(self, name: str) -> bool:
        status = self.processes[name].poll()
        assert status is None, f"{name} ended with {status}:\n{self.log(name)[-3000:]}"
        return self.prober.ask(self.units[name].probe).ok

    def stop(self, *names: str, number: int = signal.SIGTERM) -> None:
        for name in names:
            process = self.processes.pop(name)
            process.send_signal(number)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)

    def seed_keys(self) -> None:
        for name in self.units:
            directory = xrootd.key_cache_directory(self.context, name)
            keycache.seed(directory, self.context.issuer, self.jwks())
            for path in (directory, keycache.database(directory).parent, keycache.database(directory)):
                self.state.account.own(path)

    def write_service_tokens(self) -> None:
        for name in self.context.facility.caches:
            token = self.token("storage.read:/", aud=list(xcache.upstream_audiences(self.context, name)))
            write_atomically(xcache.token_file(self.context, name), token, self.state.account, mode=0o600)


def make_box(root: Path, programs: Programs, document: dict[str, object]) -> Box:
    facility = Facility.model_validate(document)
    account = service_account()
    state = create_or_open(root / "state", facility.name, account)
    drivers = (xrootd.StorageElements(), xcache.Caches())
    requests = [request for driver in drivers for request in driver.ports(facility)]
    chosen = ports.choose(requests, {}, seed=1500 + os.getpid() % 400)
    context = Context(
        facility=facility,
        layout=state.layout,
        programs=programs,
        ports={**chosen, "tokens": TOKENS_PORT},
        addresses={request.key: request.address for request in requests},
    )
    contributions = [driver.plan(context) for driver in drivers]
    files.prepare_state(state)
    ensure_authority(state.layout.pki, facility.name, account.own)
    for contribution in contributions:
        for certificate in contribution.certificates:
            ensure_certificate(state.layout.pki, certificate, 86400, account.own)
    units = {unit.name: unit for contribution in contributions for unit in contribution.units}
    for unit in units.values():
        for directory in unit.directories:
            files.make_directory(directory, account)
    return Box(context, state, units, Prober(state.layout.ca, account, {}))


@pytest.fixture(scope="package")
def box(programs: Programs) -> Iterator[Box]:
    # Not pytest's own directory: the services' user must be able to reach it.
    root = Path(tempfile.mkdtemp(prefix="bh-storage-"))
    root.chmod(0o755)
    made = make_box(root, programs, FACILITY)
    made.seed_keys()
    made.write_service_tokens()
    try:
        made.start(*made.units)
        yield made
    finally:
        made.stop(*made.processes)
        shutil.rmtree(root)


@pytest.fixture
def waiting() -> Callable[[Callable[[], bool], float, str], None]:
    return wait_until


@pytest.fixture
def fresh_path() -> str:
    """A path of the scope ``cms`` that no other test uses."""
    return f"/lake/cms/{uuid.uuid4().hex[:12]}"


@dataclass
class Stranger:
    url: str
    requests: list[str] = field(default_factory=list)


@pytest.fixture
def stranger(tmp_path) -> Iterator[Stranger]:
    """An HTTPS server whose certificate another authority has signed."""
    ensure_authority(tmp_path, "elsewhere", lambda _: None)
    ensure_certificate(tmp_path, Certificate("stranger", ("127.0.0.1",)), 3600, lambda _: None)
    seen = Stranger("")

    class Handler(http.server.BaseHTTPRequestHandler):
        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except (ssl.SSLError, ConnectionResetError):
                self.close_connection = True

        def do_HEAD(self) -> None:
            seen.requests.append(self.path)
            self.send_error(404)

        do_GET = do_HEAD  # noqa: N815 - the name is the base class's

        def log_message(self, *_: object) -> None:
            """Silence."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(tmp_path / "stranger.pem", tmp_path / "stranger.key")
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        seen.url = f"https://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield seen
        finally:
            server.shutdown()
            thread.join()


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
