"""A real Rucio on a real PostgreSQL, started from the drivers' own plan, with an issuer that is only a key over TLS.

``box``
    three storage elements that are only described, two groups (one embargoed), three users, one an administrator.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import urllib3

from boathouse.plan.service import Programs
from boathouse.testing.https import Handler, HttpsServer
from boathouse.testing.issuer import IssuerServer
from boathouse.testing.postgres import Databases
from boathouse.testing.scratch import scratch
from boathouse.testing.units import Units

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


class TransferServer(HttpsServer):
    """FTS3's REST interface over TLS; files finish when the test says so, or at once.

    A job with a file whose description holds ``refused`` is refused as a whole.
    """

    def __init__(self, address: str, port: int, tls: tuple[Path, Path]) -> None:
        super().__init__(partial(Transfers, service=self), address, port, tls)
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

    def note(self, method: str, path: str, authorization: str) -> None:
        with self._lock:
            self.requests.append((method, path, authorization))


class Transfers(Handler):
    """One connection to it."""

    def __init__(self, *args: Any, service: TransferServer) -> None:
        self._service = service
        super().__init__(*args)

    def respond(self) -> None:
        service = self._service
        body = json.loads(self.body() or b"null")
        path = self.path.partition("?")[0]
        service.note(self.command, path, self.headers.get("Authorization", ""))
        if (self.command, path) == ("POST", "/jobs"):
            if service.refused and service.refused in json.dumps(body["files"]):
                self.answer({"http_message": "refused"}, 400)
            else:
                self.answer(service.submit(body))
        elif self.command == "GET" and path.startswith("/jobs/"):
            reports = [service.status(job_id) for job_id in path.rpartition("/")[2].split(",")]
            unknown = any(report["http_status"] != "200 Ok" for report in reports)
            if len(reports) == 1:
                self.answer(reports[0], 404 if unknown else 200)
            else:
                self.answer(reports, 207 if unknown else 200)
        else:
            self.answer({"http_message": "done"})


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


class RucioBox(Units):
    """PostgreSQL, Rucio and the doors of storage; issuer and transfer service do as the test says."""

    def __init__(self, programs: Programs, directory: Path) -> None:
        super().__init__(FACILITY, programs, directory)
        ports, addresses = self.context.ports, self.context.addresses
        self.issuer = IssuerServer(ports["tokens"], self.tls("tokens"))
        self.transfers = TransferServer(addresses["transfers"], ports["transfers"], self.tls("transfers"))
        ca = str(self.context.layout.ca)
        self.connections = urllib3.PoolManager(ca_certs=ca, retries=False, timeout=90.0, maxsize=16)

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

    # -- as the operator ---------------------------------------------------------------------------------------

    def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        return Databases(self).rows("rucio", statement, *values)


@pytest.fixture(scope="package")
def box(programs: Programs) -> Iterator[RucioBox]:
    with scratch() as directory, RucioBox(programs, directory) as made:
        made.beside(made.issuer)
        made.beside(made.transfers)
        made.start("postgres")
        made.start("rucio")
        yield made
