"""Storage of others' for tests: real servers of the ``peers`` environment, over TLS."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import quote

import urllib3

from boathouse.apps.transfers.signing import presign
from boathouse.plan.service import Programs
from boathouse.testing.pki import Authority
from boathouse.testing.scratch import free_port
from boathouse.testing.wait import wait_for

SCRIPTS = Path(__file__).parent / "peers"
REGION = "eu-test-1"


class Foreign:
    """A server of the peers, as a child of the test.

    Args:
        programs: where the installed programs are.
        authority: signs its certificate.
        kind: its script.
        more: further arguments of that.
        address: where it listens.
        users: secret by user.
        directory: where its log lies.
    """

    def __init__(
        self,
        programs: Programs,
        authority: Authority,
        kind: str,
        *more: str,
        address: str,
        users: dict[str, str],
        directory: Path,
    ) -> None:
        python = programs.python.parents[2] / "peers" / "bin" / "python"
        assert python.exists(), f"{python} is missing: run `install/run --tests`"
        self.users, port = users, free_port(address)
        self.host = f"{address}:{port}"
        self.url = f"https://{self.host}"
        chain, key = authority.certificate(f"foreign-{kind}", address)
        self._command = [
            str(python),
            "-I",
            str(SCRIPTS / f"{kind}.py"),
            address,
            str(port),
            str(chain),
            str(key),
            *more,
        ]
        self._log = directory / f"{kind}.log"
        self._process: subprocess.Popen[str] | None = None
        self.pool = urllib3.PoolManager(ca_certs=str(chain.parent / "ca.pem"), retries=False, timeout=90)

    def start(self) -> None:
        with self._log.open("a") as log:
            self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=log, stderr=log, text=True)
        assert self._process.stdin
        json.dump(self.users, self._process.stdin)
        self._process.stdin.close()
        wait_for(f"{self.url} answers", self._answers, timeout_s=180)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text()[-2000:]
        try:
            return bool(self.pool.request("GET", self.url).status)
        except urllib3.exceptions.HTTPError:
            return False

    def stop(self) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait(120)
            self._process = None

    def requests(self, path: str) -> list[dict[str, Any]]:
        """What was asked about a file."""
        lines = [json.loads(line) for line in self._log.read_text().splitlines() if line.startswith('{"method"')]
        return [line for line in lines if line["path"] == path]


class S3(Foreign):
    """S3, and what a test does with it by itself."""

    def signed(self, method: str, path: str, *, life_s: int = 600, headers: dict[str, str] | None = None) -> str:
        ((access_key, secret_key),) = self.users.items()
        return presign(
            method,
            self.url + quote(path),
            access_key=access_key,
            secret_key=secret_key,
            region=REGION,
            life_s=life_s,
            headers=headers,
        )

    def put(self, path: str, data: bytes) -> None:
        reply = self.pool.request("PUT", self.signed("PUT", path), body=data)
        assert reply.status == 200, reply.data

    def holds(self, path: str) -> bytes | None:
        reply = self.pool.request("GET", self.signed("GET", path))
        assert reply.status in (200, 404), reply.data
        return reply.data if reply.status == 200 else None
