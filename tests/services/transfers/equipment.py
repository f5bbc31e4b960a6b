"""Parts of a test: a CA, an issuer that signs anything, processes, a source that stops in the middle."""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import signal
import socket
import ssl
import subprocess
import threading
import time
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey

from boathouse.plan.model import Certificate
from boathouse.run import pki
from boathouse.run.local.account import Account, child_environment

TRANSFERS = "127.0.0.2"
SOURCE = "127.0.1.11"
DESTINATION = "127.0.1.12"
_PORTS = iter(range(20500, 21000))


def free_port(address: str) -> int:
    for port in _PORTS:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError:
                continue
            return port
    msg = "no free port between 20500 and 20999"
    raise AssertionError(msg)


class Pki:
    """The facility's own CA, and certificates of it."""

    def __init__(self, directory: Path, account: Account) -> None:
        self._directory = directory
        self._account = account
        pki.ensure_authority(directory, "transfers", account.own)
        self.ca = directory / "ca.pem"
        self.hashed = directory / "hashed"

    def certificate(self, name: str, *addresses: str, dns: tuple[str, ...] = ()) -> tuple[Path, Path]:
        pki.ensure_certificate(self._directory, Certificate(name, addresses, dns), 86400, self._account.own)
        return self._directory / f"{name}.pem", self._directory / f"{name}.key"


class Issuer:
    """A signing key and a TLS server that shows its public half, as an issuer does."""

    def __init__(self, authority: Pki) -> None:
        self._key = ECKey.generate_key("P-256", {"use": "sig", "alg": "ES256"}, auto_kid=True)
        self.jwks = {"keys": [self._key.as_dict(private=False)]}
        port = free_port("127.0.0.1")
        self.url = f"https://localhost:{port}"
        documents = {
            "/.well-known/openid-configuration": {
                "issuer": self.url,
                "jwks_uri": f"{self.url}/jwk",
                "token_endpoint": f"{self.url}/token",
            },
            "/jwk": self.jwks,
        }
        chain, key = authority.certificate("issuer", "127.0.0.1", dns=("localhost",))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain, key)
        self._server = http.server.ThreadingHTTPServer(
            ("127.0.0.1", port), functools.partial(_Documents, documents=documents)
        )
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def token(
        self, audience: str | list[str], scope: str, *, subject: str = "rucio", lifetime_s: int = 3600, **claims: object
    ) -> str:
        now = int(time.time())
        issued = min(now, now + lifetime_s) - 60
        content = {
            "iss": self.url,
            "sub": subject,
            "client_id": subject,
            "aud": audience,
            "scope": scope,
            "wlcg.ver": "1.0",
            "iat": issued,
            "nbf": issued,
            "exp": now + lifetime_s,
            "jti": str(uuid.uuid4()),
            **claims,
        }
        return jwt.encode({"alg": "ES256", "kid": self._key.kid}, content, self._key)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Documents(http.server.BaseHTTPRequestHandler):
    def __init__(self, *args: Any, documents: Mapping[str, object]) -> None:
        self._documents = documents
        super().__init__(*args)

    def do_GET(self) -> None:
        document = self._documents.get(self.path)
        body = json.dumps(document).encode()
        self.send_response(200 if document else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
        """Keep the test's output quiet."""


@dataclass
class Process:
    """A process of the box; started again with the same command."""

    command: list[str]
    env: dict[str, str]
    log: Path
    account: Account
    cwd: Path
    popen: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.popen = subprocess.Popen(
                self.command,
                env=child_environment(self.account, self.cwd, self.env),
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=self.cwd,
                **self.account.popen_arguments(),
            )

    def tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-40:])

    def alive(self) -> bool:
        assert self.popen is not None
        assert self.popen.poll() is None, f"{self.command[0]} died:\n{self.tail()}"
        return True

    def stop(self, signal_number: int = signal.SIGTERM) -> None:
        if self.popen and self.popen.poll() is None:
            self.popen.send_signal(signal_number)
            self.popen.wait(30)


class Gated:
    """A source that stops in the middle of each file until it is told to go on, or breaks off there.

    Storage that dies or hangs at the right moment cannot be had from a real server.
    """

    def __init__(self, authority: Pki) -> None:
        address = "127.0.1.13"
        port = free_port(address)
        self.davs = f"davs://{address}:{port}"
        self.files: dict[str, bytes] = {}
        self.go_on: dict[str, threading.Event] = {}
        self.breaks: set[str] = set()
        self.asked: Counter[str] = Counter()
        chain, key = authority.certificate("gated", address)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain, key)
        self._server = http.server.ThreadingHTTPServer((address, port), functools.partial(_GatedFiles, source=self))
        self._server.daemon_threads = True
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def put(self, path: str, data: bytes) -> threading.Event:
        """Offer a file; set the event that is returned to let its second half go."""
        self.files[path] = data
        return self.go_on.setdefault(path, threading.Event())

    def close(self) -> None:
        for event in self.go_on.values():
            event.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _GatedFiles(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, *args: Any, source: Gated) -> None:
        self._source = source
        super().__init__(*args)

    def do_HEAD(self) -> None:
        self._head()

    def _head(self) -> bytes:
        data = self._source.files.get(self.path, b"")
        self.send_response(200 if self.path in self._source.files else 404)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        return data

    def do_GET(self) -> None:
        data = self._head()
        half = len(data) // 2
        self.wfile.write(data[:half])
        self.wfile.flush()
        self._source.asked[self.path] += 1
        if self.path in self._source.breaks:
            self._source.breaks.discard(self.path)
            self.close_connection = True
            return
        self._source.go_on[self.path].wait(60)
        with contextlib.suppress(OSError):
            self.wfile.write(data[half:])

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
        """Keep the test's output quiet."""


@dataclass
class Reply:
    status: int
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)
