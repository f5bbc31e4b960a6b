"""The field's own clients, unmodified, each with a token file, at every element and every cache of the box.

``uproot`` is in ``test_analysis_reading.py``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from .conftest import Box
from .doors import CACHES, ELEMENTS, SERVERS, Door

DOORS = (*ELEMENTS, *CACHES)


@dataclass(frozen=True)
class Client:
    """What a person's shell has after ``boathouse env``, and one file to read at a door."""

    box: Box
    door: Door
    path: str
    token: Path
    work: Path

    @property
    def https(self) -> str:
        return self.box.url(self.door.server, self.door.path(self.box, self.path))

    @property
    def root(self) -> str:
        return self.box.context.url(f"{self.door.server}.root", "root") + "/" + self.door.path(self.box, self.path)

    def run(self, *command: str | Path) -> bytes:
        """What a program says, which must end well; the environment is that of ``boathouse env``."""
        bundle, home = str(self.box.context.layout.ca), self.box.context.programs.xrootd_bin
        env = {
            "PATH": f"{home}:{os.environ['PATH']}",
            "HOME": str(self.work),
            "BEARER_TOKEN_FILE": str(self.token),
            "CURL_CA_BUNDLE": bundle,
            "SSL_CERT_FILE": bundle,
            "X509_CERT_FILE": bundle,
            "X509_CERT_DIR": str(self.box.context.layout.ca_directory),
            "XrdSecPROTOCOL": "ztn",
            # Debian's, the one that has the bindings of gfal2.
            "GFAL_PYTHONBIN": "/usr/bin/python3",
        }
        if str(command[0]).startswith("gfal"):
            # It looks into no file.
            env["BEARER_TOKEN"] = self.token.read_text()
        program = shutil.which(str(command[0]), path=env["PATH"])
        assert program, f"{command[0]} is missing: run `make install`"
        done = subprocess.run(
            [program, *map(str, command[1:])], env=env, capture_output=True, timeout=120, cwd=self.work, check=False
        )
        assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout!r}\n{done.stderr!r}"
        return done.stdout

    @property
    def header(self) -> str:
        """For those that discover no token by themselves."""
        return f"Authorization: Bearer {self.token.read_text()}"

    def fetched(self, *command: str | Path) -> bytes:
        """What a program writes into the file ``out``, its last argument."""
        out = self.work / "out"
        self.run(*command, out)
        return out.read_bytes()


def curl(client: Client) -> bytes:
    file = client.work / "header"
    file.touch(mode=0o600)
    file.write_text(client.header)
    return client.run("curl", "--silent", "--fail", "--header", f"@{file}", client.https)


READERS: dict[str, Callable[[Client], bytes]] = {
    "xrdcp": lambda c: c.fetched("xrdcp", "--silent", "--force", c.root),
    "curl": curl,
    "davix-get": lambda c: c.fetched("davix-get", "-H", c.header, c.https),
    "gfal-cat over https": lambda c: c.run("gfal-cat", c.https),
    "gfal-copy over davs": lambda c: c.fetched("gfal-copy", "-f", c.https.replace("https", "davs", 1)),
}


@pytest.fixture(scope="module")
def file(box: Box) -> tuple[str, bytes]:
    """A file on each element: its path, and its bytes, which are text for gfal-cat."""
    path, body = f"/lake/cms/{uuid.uuid4().hex[:12]}/stock.dat", os.urandom(60_000).hex().encode()
    for element in ELEMENTS:
        box.put(element.element, path, body)
    return path, body


@pytest.fixture(params=DOORS, ids=str)
def client(request: pytest.FixtureRequest, box: Box, file: tuple[str, bytes], tmp_path: Path) -> Client:
    token = tmp_path / "token"
    token.touch(mode=0o600)
    token.write_text(box.token("storage.read:/lake/cms storage.modify:/lake/cms", *SERVERS))
    return Client(box, request.param, file[0], token, tmp_path)


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_stock_clients_read(client: Client, file: tuple[str, bytes], reader: Callable[[Client], bytes]) -> None:
    assert reader(client) == file[1]


def test_stock_clients_look(client: Client, file: tuple[str, bytes]) -> None:
    server, path = client.box.context.url(f"{client.door.server}.root", "root"), client.door.path(client.box, file[0])
    assert f"Size:   {len(file[1])}\n".encode() in client.run("xrdfs", server, "stat", path)
    assert str(len(file[1])).encode() in client.run("davix-ls", "-l", "-H", client.header, client.https)
    assert str(len(file[1])).encode() in client.run("gfal-stat", client.https)
