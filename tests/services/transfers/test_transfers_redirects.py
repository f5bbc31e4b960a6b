"""A store of others' that sends whoever asks it on to another server: what opens the store stays behind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from boathouse.testing.https import Handler, HttpsServer
from boathouse.testing.pki import Authority
from boathouse.testing.scratch import free_port

from .box import Box, Service

PASSWORD = "p4ss of the store"


class Files(HttpsServer):
    """Gives and takes files, or sends on to another server; it asks for no password, and notes whether one came.

    No server of the peers redirects.
    """

    def __init__(self, authority: Authority, name: str, address: str, on_to: str = "") -> None:
        tls = authority.certificate(name, address)
        super().__init__(partial(_Files, files=self), address, free_port(address), tls)
        self.host = self.url.removeprefix("https://")
        self.on_to = on_to
        self.held: dict[str, bytes] = {}
        self.asked: list[tuple[str, str, bool]] = []

    def opened(self, path: str) -> set[tuple[str, bool]]:
        """Methods of the requests for a path, and whether a password came along."""
        return {(method, came) for method, asked, came in self.asked if asked == path}


class _Files(Handler):
    def __init__(self, *args: Any, files: Files) -> None:
        self._files = files
        super().__init__(*args)

    def respond(self) -> None:
        files = self._files
        files.asked.append((self.command, self.path, "Authorization" in self.headers))
        data = files.held.get(self.path)
        if files.on_to:
            self.send_response(307)
            self.send_header("Location", files.on_to + self.path)
        else:
            self.send_response(404 if data is None else 200)
        self.send_header("Content-Length", str(len(data or b"")))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data or b"")


@pytest.fixture(scope="module")
def servers(box: Box) -> Iterator[dict[str, Files]]:
    """A store that sends on to another host, one that sends on to another port of its own, and where that leads."""
    there = Files(box.authority, "there", "127.0.1.18")
    addresses = {"host": "127.0.1.17", "port": "127.0.1.18"}
    stores = {name: Files(box.authority, f"store-{name}", each, there.url) for name, each in addresses.items()}
    made = {**stores, "there": there}
    for server in made.values():
        server.start()
    yield made
    for server in made.values():
        server.stop()


@pytest.fixture(scope="module")
def service(box: Box, servers: dict[str, Files]) -> Iterator[Service]:
    common = {"kind": "webdav", "path": "/area", "write": True, "subjects": ["rucio"]}
    opens = {"user": "boathouse", "secret": PASSWORD}
    stores = [{"name": name, "host": servers[name].host, **common, **opens} for name in ("host", "port")]
    made = box.service("redirects", stores=stores).start()
    yield made
    made.stop()


@pytest.mark.parametrize("another", ["host", "port"])
def test_a41_a_password_of_webdav_does_not_go_on_with_a_redirect(
    box: Box, service: Service, servers: dict[str, Files], place: str, another: str
) -> None:
    path, data = f"/area{place}", os.urandom(5000)
    servers["there"].held[path] = data
    url = f"davs://{servers[another].host}{path}"
    job_id = service.submit(box.file(f"{place}/f", data, sources=[url]) | {"source_tokens": [None]})
    assert service.finished(job_id)["job_state"] == "FINISHED", service.why(job_id)
    assert box.destination.holds(f"{place}/f") == data
    assert servers[another].opened(path) == {("HEAD", True), ("GET", True)}
    assert servers["there"].opened(path) == {("HEAD", False), ("GET", False)}


def test_a41_a_store_that_sends_on_is_not_written_to(
    box: Box, service: Service, servers: dict[str, Files], place: str
) -> None:
    """What lies there is looked at first, by the service, which follows nobody."""
    path, data = f"/area{place}", os.urandom(5000)
    box.put(f"{place}/f", data)
    url = f"davs://{servers['host'].host}{path}"
    job_id = service.submit(
        box.file(f"{place}/f", data) | {"destinations": [url], "destination_tokens": [None]}, retry=-1
    )
    assert service.finished(job_id)["job_state"] == "FAILED"
    assert "HTTP 307" in service.why(job_id)[0]["reason"]
    assert servers["host"].opened(path) == {("GET", True)}
    assert servers["there"].opened(path) == set()
