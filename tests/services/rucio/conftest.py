"""A real Rucio on a real PostgreSQL, started from the drivers' own plan, with an issuer that is only a key over TLS.

``box``
    three storage elements that are only described, two groups (one embargoed), three users, one an administrator.
"""

from __future__ import annotations

import base64
import http.server
import json
import os
import shutil
import signal
import ssl
import subprocess
import tempfile
import threading
import time
import urllib.parse
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
import urllib3
from joserfc import jwt
from joserfc.jwk import ECKey

from boathouse.facility.model import Facility
from boathouse.plan.model import Certificate, Task, Unit
from boathouse.plan.service import Context, Programs
from boathouse.run.local import files, ports, secrets
from boathouse.run.local.account import child_environment, service_account
from boathouse.run.local.probe import Prober
from boathouse.run.local.state import State, create_or_open
from boathouse.run.pki import ensure_authority, ensure_certificate
from boathouse.services.postgres import Postgres
from boathouse.services.rucio import Rucio
from boathouse.services.xrootd import StorageElements
from boathouse.testing.wait import wait_for

FACILITY: dict[str, Any] = {
    "name": "catalogue",
    "vo": "escape",
    "sites": {
        "NORTH": {
            "storage": {
                "NORTH-DISK": {"qos": "FAST", "attributes": {"colour": "red"}},
                "NORTH_RAW": {"qos": "FAST", "deterministic": False},
            }
        },
        "SOUTH": {"storage": {"SOUTH-DISK": {"qos": "SAFE", "volatile": True}}},
    },
    "groups": {"cms": {}, "magic": {"embargoed": True}},
    "users": {
        "alice": {"email": "alice@example.org", "groups": ["cms", "magic"]},
        "bob": {"email": "bob@example.org", "groups": ["cms"]},
        "carol": {"email": "carol@example.org", "admin": True},
    },
    "scopes": {"cms": {"group": "cms"}, "magic": {"group": "magic"}},
}


class IssuerServer:
    """Metadata, keys and client credentials over TLS; the keys can be changed and the server taken down."""

    def __init__(self, port: int, certificate: Path, key: Path) -> None:
        self.url = f"https://localhost:{port}"
        self._address = ("127.0.0.1", port)
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(certificate, key)
        self.requests: list[dict[str, str]] = []
        self.fetches: list[str] = []
        self.rotate()
        self._server: http.server.ThreadingHTTPServer | None = None

    def rotate(self) -> None:
        """A new key; the old one is no longer published."""
        self.key = ECKey.generate_key("P-256", {"kid": uuid.uuid4().hex})

    def sign(self, claims: Mapping[str, Any]) -> str:
        now = int(time.time())
        full = {
            "iss": self.url,
            "wlcg.ver": "1.0",
            "iat": now,
            "nbf": now - 10,
            "exp": now + 3600,
            "jti": uuid.uuid4().hex,
            **claims,
        }
        return jwt.encode({"alg": "ES256", "kid": self.key.kid}, full, self.key)

    def documents(self) -> dict[str, dict[str, Any]]:
        return {
            "/.well-known/openid-configuration": {
                "issuer": self.url,
                "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token",
                "jwks_uri": f"{self.url}/jwks",
            },
            "/jwks": {"keys": [{**self.key.as_dict(private=False), "alg": "ES256", "use": "sig"}]},
        }

    def grant(self, client: str, form: dict[str, str]) -> dict[str, Any]:
        self.requests.append({"client": client, **form})
        token = self.sign({"sub": client, "aud": form.get("audience", "").split(), "scope": form.get("scope", "")})
        return {"access_token": token, "token_type": "Bearer", "expires_in": 3600}

    def start(self) -> None:
        issuer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _answer(self, document: dict[str, Any] | None) -> None:
                body = json.dumps(document or {}).encode()
                self.send_response(200 if document is not None else 404)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self) -> None:
                issuer.fetches.append(self.path)
                self._answer(issuer.documents().get(self.path))

            def do_POST(self) -> None:
                text = self.rfile.read(int(self.headers["Content-Length"])).decode()
                basic = base64.b64decode(self.headers["Authorization"].removeprefix("Basic ")).decode()
                self._answer(issuer.grant(basic.split(":")[0], dict(urllib.parse.parse_qsl(text))))

            def log_message(self, *_: object) -> None:
                """Silence."""

        server = http.server.ThreadingHTTPServer(self._address, Handler)
        server.daemon_threads = True
        server.socket = self._tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        self._server = server
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


class TransferServer:
    """FTS3's REST interface over TLS; files finish when the test says so, or at once.

    A job with a file whose description holds ``refused`` is refused as a whole.
    """

    def __init__(self, address: str, port: int, certificate: Path, key: Path) -> None:
        self._address = (address, port)
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(certificate, key)
        self._server: http.server.ThreadingHTTPServer | None = None
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        with self._lock:
            self.jobs: dict[str, dict[str, Any]] = {}
            self.requests: list[tuple[str, str, str]] = []
            self.submitted_at: list[float] = []
            self.outcome = "FINISHED"
            self.held = False
            self.refused = ""

    def files(self) -> list[dict[str, Any]]:
        with self._lock:
            return [file for job in self.jobs.values() for file in job["files"]]

    def submit(self, body: dict[str, Any]) -> dict[str, Any]:
        job_id = str(uuid.uuid4())
        with self._lock:
            self.submitted_at.append(time.monotonic())
            self.jobs[job_id] = body
            for file in body["files"]:
                file["state"] = "ACTIVE" if self.held else self.outcome
        return {"job_id": job_id}

    def release(self, number: int) -> None:
        """Let that many of the held files finish."""
        for file in [file for file in self.files() if file["state"] == "ACTIVE"][:number]:
            file["state"] = self.outcome

    def status(self, job_id: str) -> dict[str, Any]:
        job = self.jobs.get(job_id)
        if job is None:
            message = f'No job with the id "{job_id}" has been found'
            return {"job_id": job_id, "http_status": "404 Not Found", "http_message": message}
        files = [
            {
                "file_state": file["state"],
                "file_metadata": file["metadata"],
                "source_surl": file["sources"][0],
                "dest_surl": file["destinations"][0],
                "reason": None if file["state"] == "FINISHED" else "no route to host",
                "start_time": "2026-11-20T12:00:00",
                "finish_time": "2026-11-20T12:00:01",
                "staging_start": None,
                "staging_finished": None,
            }
            for file in job["files"]
        ]
        states = {file["file_state"] for file in files}
        state = states.pop() if len(states) == 1 else "ACTIVE"
        return {
            "job_id": job_id,
            "http_status": "200 Ok",
            "job_state": state,
            "job_type": "N",
            "job_metadata": job["params"]["job_metadata"],
            "files": files,
        }

    def start(self) -> None:
        service = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _handle(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length) or b"null")
                path = self.path.partition("?")[0]
                with service._lock:
                    service.requests.append((self.command, path, self.headers.get("Authorization", "")))
                answer: Any = {"http_message": "done"}
                status = 200
                if (self.command, path) == ("POST", "/jobs"):
                    if service.refused and service.refused in json.dumps(body["files"]):
                        status = 400
                    else:
                        answer = service.submit(body)
                elif self.command == "GET" and path.startswith("/jobs/"):
                    reports = [service.status(job_id) for job_id in path.rpartition("/")[2].split(",")]
                    answer = reports if len(reports) > 1 else reports[0]
                    unknown = [report for report in reports if report["http_status"] != "200 Ok"]
                    status = (207 if len(reports) > 1 else 404) if unknown else 200
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_DELETE = _handle  # noqa: N815 - the names of the base class

            def log_message(self, *_: object) -> None:
                """Silence."""

        server = http.server.ThreadingHTTPServer(self._address, Handler)
        server.daemon_threads = True
        server.socket = self._tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        self._server = server
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: str

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.body.splitlines()]

    @property
    def error(self) -> str:
        return self.headers.get("ExceptionClass", "")


@dataclass
class RucioBox:
    context: Context
    state: State
    units: dict[str, Unit]
    values: dict[str, str]
    issuer: IssuerServer
    transfers: TransferServer
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)
    """Tasks that are not to run again."""

    def __post_init__(self) -> None:
        tls = ssl.create_default_context(cafile=str(self.context.layout.ca))
        self.connections = urllib3.PoolManager(ssl_context=tls, retries=False, timeout=30.0, maxsize=16)
        self.prober = Prober(self.context.layout.ca, self.state.account, {})

    # -- as a client -------------------------------------------------------------------------------------------

    def token(self, login: str, **changed: Any) -> str:
        subject = self.values.get(f"sub-{login}", login)
        claims = {"sub": subject, "aud": ["rucio"], "scope": "openid profile"}
        return self.issuer.sign({**claims, **changed})

    def whoami(self, login: str | None = None, token: str | None = None) -> Reply:
        """``/accounts/whoami``, which redirects to the account itself."""
        reply = self.call("GET", "/accounts/whoami", login, token=token)
        if reply.status != 303:
            return reply
        return self.call("GET", f"/accounts/{reply.headers['Location']}", login, token=token)

    def call(
        self, method: str, path: str, login: str | None = None, *, token: str | None = None, body: Any = None
    ) -> Reply:
        headers = {"Accept": "*/*"}
        if login or token:
            headers["X-Rucio-Auth-Token"] = token or self.token(login or "")
        url = f"https://localhost:{self.context.ports['rucio']}{path}"
        data = None if body is None else json.dumps(body).encode()
        answer = self.connections.request(method, url, body=data, headers=headers, redirect=False)
        return Reply(answer.status, answer.headers, answer.data.decode())

    # -- as the operating system -------------------------------------------------------------------------------

    @property
    def database(self) -> psycopg.Connection[Any]:
        return psycopg.connect(
            host=str(self.context.run("postgres")),
            dbname="rucio",
            user="rucio",
            password=self.values["postgres-rucio"],
            autocommit=True,
        )

    def rows(self, statement: str, *arguments: Any) -> list[tuple[Any, ...]]:
        with self.database as connection:
            cursor = connection.execute(statement, arguments)
            return cursor.fetchall() if cursor.description else []

    def log(self, unit: str) -> str:
        return (self.state.layout.logs / f"{unit}.log").read_text(errors="replace")

    def run(self, task: Task) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            task.command,
            env=child_environment(self.state.account, self.state.layout.run, task.env),
            cwd=self.state.layout.root,
            capture_output=True,
            text=True,
            timeout=task.timeout_s,
            check=False,
            **self.state.account.popen_arguments(),
        )

    def write(self, name: str) -> None:
        files.write_unit(self.units[name], self.state, self.values)

    def start(self, name: str) -> None:
        unit = self.units[name]
        self.write(name)
        self._do(unit.prepare)
        with (self.state.layout.logs / f"{name}.log").open("ab") as handle:
            self.processes[name] = subprocess.Popen(
                unit.command,
                env=child_environment(self.state.account, self.state.layout.run, unit.env),
                cwd=self.state.layout.root,
                stdin=subprocess.DEVNULL,
                stdout=handle,
                stderr=handle,
                **self.state.account.popen_arguments(),
            )
        wait_for(f"{name} ready", lambda: self._is_ready(name), timeout_s=60)
        self._do(unit.after)

    def _do(self, tasks: tuple[Task, ...]) -> None:
        for task in tasks:
            if task.name in self.done:
                continue
            done = self.run(task)
            assert done.returncode == 0, f"{task.name}: {done.stdout}\n{done.stderr}"
            if task.once:
                self.done.add(task.name)

    def _is_ready(self, name: str) -> bool:
        status = self.processes[name].poll()
        assert status is None, f"{name} ended with {status}:\n{self.log(name)[-4000:]}"
        return self.prober.ask(self.units[name].probe).ok

    def stop(self, name: str) -> float:
        """End a unit as the runner does; how many seconds it took."""
        process = self.processes.pop(name)
        began = time.monotonic()
        process.send_signal(signal.Signals[f"SIG{self.units[name].stop_signal}"])
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
            raise
        return time.monotonic() - began


def make_box(root: Path, programs: Programs, document: dict[str, Any]) -> RucioBox:
    facility = Facility.model_validate(document)
    account = service_account()
    state = create_or_open(root / "state", facility.name, account)
    drivers = (Postgres(), StorageElements(), Rucio())
    requests = [request for driver in drivers for request in driver.ports(facility)]
    chosen = ports.choose(requests, {}, seed=1100 + os.getpid() % 300)
    issuer_port = next(port for port in range(21000, 21100) if ports.is_free("127.0.0.1", port))
    context = Context(
        facility=facility,
        layout=state.layout,
        programs=programs,
        ports={**chosen, "tokens": issuer_port, "transfers": issuer_port},
        addresses={**{request.key: request.address for request in requests}, "transfers": "127.0.0.2"},
    )
    contributions = [driver.plan(context) for driver in drivers]
    files.prepare_state(state)
    ensure_authority(state.layout.pki, facility.name, account.own)
    wanted = [certificate for contribution in contributions for certificate in contribution.certificates]
    equipment = (Certificate("tokens", ("127.0.0.1",), ("localhost",)), Certificate("transfers", ("127.0.0.2",)))
    for certificate in (*wanted, *equipment):
        ensure_certificate(state.layout.pki, certificate, 86400, account.own)
    values = secrets.ensure(
        [secret for contribution in contributions for secret in contribution.secrets], state.layout.secrets, account
    )
    issuer = IssuerServer(issuer_port, state.layout.certificate("tokens"), state.layout.key("tokens"))
    transfers = TransferServer(
        "127.0.0.2", issuer_port, state.layout.certificate("transfers"), state.layout.key("transfers")
    )
    units = {unit.name: unit for contribution in contributions for unit in contribution.units}
    return RucioBox(context, state, units, values, issuer, transfers)


@pytest.fixture(scope="package")
def box(programs: Programs) -> Iterator[RucioBox]:
    # Not pytest's own directory: the services' user must be able to reach it.
    root = Path(tempfile.mkdtemp(prefix="bh-rucio-"))
    root.chmod(0o755)
    made = make_box(root, programs, FACILITY)
    made.issuer.start()
    made.transfers.start()
    try:
        made.start("postgres")
        made.start("rucio")
        yield made
    finally:
        for name in [name for name in ("rucio-daemons", "rucio", "postgres") if name in made.processes]:
            made.stop(name)
        made.transfers.stop()
        made.issuer.stop()
        shutil.rmtree(root)
