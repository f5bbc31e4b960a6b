"""Lakes of somebody else's, and a facility whose caches stand before them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from boathouse import atomic
from boathouse.plan.model import File
from boathouse.plan.service import Programs
from boathouse.run.local import files
from boathouse.run.local.state import write_atomically
from boathouse.services import tokens
from boathouse.testing.issuer import IssuerServer
from boathouse.testing.scratch import scratch

from .conftest import Box
from .gridpki import GridAuthority

ADDRESS, GRID_ADDRESS = "127.0.9.1", "127.0.9.2"
SERVER, GRID_SERVER = "FAR-DISK", "FAR-GRID"
CACHES = ("BY-CLIENT", "BY-FILE", "BY-PROXY")
"""Caches by their credential: from the federation's issuer, from a file, or an X.509 proxy."""

THEIRS = {
    "name": "far",
    "vo": "other",
    "sites": {
        "FAR": {
            "storage": {
                SERVER: {"qos": "A", "address": ADDRESS, "prefix": "/store"},
                GRID_SERVER: {"qos": "A", "address": GRID_ADDRESS, "prefix": "/store"},
            }
        }
    },
}

RIGHTS = {"everybody": ["/store/mc"], "rights": {"cms": ["/store/cms"], "magic": ["/store/magic"]}}

_GRID = """\
xrootd.seclib libXrdSec.so
sec.protparm gsi -ca:verify -crl:ignore -certdir:{authorities} -cert:{certificate} -key:{key} -gmapopt:nomap
sec.protocol gsi
sec.protbind * only gsi
acc.authdb {rules}
"""


class Lake(Box):
    """Another facility's storage elements, with an issuer and a CA of its own; one of them takes X.509 proxies only."""

    def __init__(self, programs: Programs, directory: Path) -> None:
        super().__init__(THEIRS, programs, directory)
        self.issuer: IssuerServer = IssuerServer(self.context.ports["tokens"], self.tls("tokens"))
        grid = directory / "grid"
        grid.mkdir()
        grid.chmod(0o755)
        self.grid = GridAuthority(grid)
        self._make_grid_server()
        # TLS shows this lake's own certificate there, beneath it another one proves the server again.
        for authority in self.context.layout.ca_directory.iterdir():
            shutil.copy(authority, self.grid.directory)

    def server(self, name: str) -> str:
        return self.context.url(f"{name}.root", "x").removeprefix("x://")

    def _make_grid_server(self) -> None:
        unit = self.units["se-far-grid"]
        name = unit.name
        chain, key = self.grid.server(GRID_ADDRESS)
        (authority,) = self.grid.directory.iterdir()
        certificate, key_path = (self.context.config(name, each) for each in ("host.pem", "host.key"))
        authorities = self.context.config(name, "authorities") / authority.name
        rules = self.context.config(name, "authdb")
        door = _GRID.format(authorities=authorities.parent, certificate=certificate, key=key_path, rules=rules)
        own, *others = unit.files
        begin, _, rest = own.text.partition("xrootd.seclib")
        text = begin + door + rest[rest.index("xrd.protocol tls") :]
        made = (
            File(certificate, chain),
            File(key_path, key, mode=0o600),
            File(authorities, authority.read_text()),
            File(rules, "u * /store/ rl\n"),
        )
        self.units[name] = replace(unit, files=(replace(own, text=text), *others, *made))


class Near(Box):
    """The facility before them. Its keeper runs; the rest of it is not needed."""

    def __init__(self, lake: Lake, programs: Programs, directory: Path) -> None:
        self.lake = lake
        self.token_file, self.proxy_file = directory / "federation.token", directory / "federation.proxy"
        secret = directory / "secret"
        secret.write_text("a secret of the site's")
        ca = str(lake.context.layout.ca)
        by_token = {"url": f"roots://{lake.server(SERVER)}", "ca_file": ca, **RIGHTS}
        client = {"issuer": lake.issuer.url, "ca_file": ca, "id": "site", "secret_file": str(secret)}
        caches = {name: {"mode": "translating", "federation": name.lower(), "size": "1 GB"} for name in CACHES}
        super().__init__(
            {
                "name": "near",
                "vo": "escape",
                "sites": {"NORTH": {"storage": {"NORTH-DISK": {"qos": "FAST"}}, "caches": caches}},
                "groups": {"cms": {}, "magic": {"embargoed": True}},
                "federations": {
                    "by-client": {**by_token, "client": {**client, "audience": ADDRESS}},
                    "by-file": {**by_token, "token_file": str(self.token_file)},
                    "by-proxy": {
                        "url": f"root://{lake.server(GRID_SERVER)}",
                        "ca_directory": str(lake.grid.directory),
                        "proxy_file": str(self.proxy_file),
                        **RIGHTS,
                    },
                },
            },
            programs,
            directory,
        )

    def show(self, credential: str, path: Path | None = None) -> None:
        """Put a credential where somebody else renews it."""
        atomic.write(path or self.token_file, credential.encode(), mode=0o600, own=self.state.account.own)

    def credential(self, cache: str) -> Path:
        return self.context.run(f"cache-{cache.lower()}") / "token"

    def address(self, path: str, scheme: str = "root", cache: str = CACHES[0]) -> str:
        return f"{self.context.url(f'{cache}.{scheme}', scheme)}/{path}"


@contextmanager
def federation(programs: Programs) -> Iterator[Near]:
    """All of them, running."""
    with scratch() as far, Lake(programs, far) as lake:
        lake.beside(lake.issuer)
        lake.trust("se-far-disk", lake.issuer.url, lake.issuer.jwks)
        lake.start("se-far-disk", "se-far-grid")
        with scratch() as directory, Near(lake, programs, directory) as near:
            keys = tokens.jwks_file(near.context)
            files.make_directory(keys.parent, near.state.account)
            write_atomically(keys, json.dumps(near.issuer.jwks), near.state.account, mode=0o600)
            plan = files.plan_document(near.plan)
            write_atomically(near.context.layout.config / "plan.json", plan, near.state.account, mode=0o600)
            near.show(lake.token("storage.read:/", SERVER, life_s=7200))
            near.show(lake.grid.proxy("cache"), near.proxy_file)
            near.start("keeper", *(f"cache-{name.lower()}" for name in CACHES))
            yield near
