"""Three caches in a chain, elements at three distances from them, and nginx: what reads are measured on."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import urllib3

from bench.curl import curl_parallel
from bench.nginx import nginx_unit
from boathouse.lake.routing import through_cache
from boathouse.plan.model import StorageEndpoint
from boathouse.plan.service import Programs
from boathouse.run import programs as installed
from boathouse.run.local.state import write_atomically
from boathouse.services import xcache, xrootd
from boathouse.testing.issuer import KeyIssuer
from boathouse.testing.scratch import scratch
from boathouse.testing.units import Units

HERE, LOCAL = "HERE", "LOCAL-DISK"
LAYERS = ("REGION-CACHE", "SITE-CACHE", "NODE-CACHE")
"""The chain, from the elements' side to the readers': a read through so many layers is one through the last of them."""
DISTANCES_MS = {LOCAL: 0, "MIDDLE-DISK": 10, "FAR-DISK": 25}
"""One way from the readers' site to each element, in milliseconds."""
FOLDER = "/lake/bench"
_FACILITY = {
    "name": "bench",
    "vo": "escape",
    "sites": {
        HERE: {
            "storage": {LOCAL: {"qos": "FAST"}},
            "caches": {
                "REGION-CACHE": {"level": "region", "size": "16 GB"},
                "SITE-CACHE": {"level": "site", "upstreams": ["REGION-CACHE"], "size": "16 GB"},
                "NODE-CACHE": {"level": "node", "upstreams": ["SITE-CACHE"], "size": "16 GB"},
            },
        },
        "MIDDLE": {"storage": {"MIDDLE-DISK": {"qos": "SAFE"}}},
        "FAR": {"storage": {"FAR-DISK": {"qos": "SAFE"}}},
    },
    "network": {
        "links": {
            "middle": {"between": [HERE, "MIDDLE"], "rtt": "20 ms"},
            "far": {"between": [HERE, "FAR"], "rtt": "50 ms"},
        },
    },
}


class Lakeside(Units):
    """The units, with an issuer that is only a key; a reader's token; and files that any number of names stand for."""

    def __init__(self, programs: Programs, directory: Path) -> None:
        super().__init__(_FACILITY, programs, directory)
        self.work = directory / "work"
        self.work.mkdir(mode=0o700)
        self.ca = self.context.layout.ca
        self.issuer = KeyIssuer(self.context.issuer)
        self.endpoints = self.plan.endpoints
        self._names = 0
        self._seen = {each.rse: each for each in self.endpoints.seen_from(HERE).storage}
        self._near = {each.rse: each for each in self.endpoints.storage}
        self.token = self.sign("storage.read:/lake", self.audiences)
        self.token_file = self.work / "token"
        self.token_file.touch(mode=0o600)
        self.token_file.write_text(self.token)

    @property
    def audiences(self) -> list[str]:
        """Of all elements and caches."""
        elements = [each.audience for each in self.endpoints.storage]
        return [*elements, *(cache.audience for cache in self.endpoints.caches)]

    def sign(self, scope: str, audience: Sequence[str]) -> str:
        """A token."""
        return self.issuer.sign({"sub": "reader", "aud": list(audience), "scope": scope}, life_s=6 * 3600)

    def up(self) -> None:
        """Start the elements, the caches, the network and nginx."""
        servers = [name for name in self.units if name.startswith(("se-", "cache-"))]
        for name in servers:
            self.trust(name, self.issuer.url, self.issuer.jwks)
        for cache in LAYERS:
            lent = self.sign(xcache.token_scope(self.context, cache), xcache.upstream_audiences(self.context, cache))
            write_atomically(xcache.token_file(self.context, cache), lent, self.state.account, mode=0o600)
        self.start("network", *servers)
        origins = {rse: urlsplit(each.https).netloc for rse, each in self._seen.items()}
        self.units["nginx"] = nginx_unit(self, origins)
        self.start("nginx")

    def place(self, source: Path, rse: str, *, names: int) -> list[str]:
        """Put a file on an element under so many new names, which all stand for the same bytes there.

        Returns:
            The names.
        """
        account = self.state.account
        folder = self.context.data(xrootd.unit_name(rse)) / FOLDER.lstrip("/")
        folder.mkdir(exist_ok=True)
        account.own(folder)
        made: list[Path] = []
        for _ in range(names):
            self._names += 1
            made.append(folder / f"{source.stem}-{self._names:04d}{source.suffix}")
            if len(made) == 1:
                made[0].write_bytes(source.read_bytes())
                account.own(made[0])
            else:
                made[-1].hardlink_to(made[0])
        return [path.name for path in made]

    # -- where a file is read -----------------------------------------------------------------------------------

    def direct(self, rse: str, name: str, scheme: str = "root") -> str:
        """The element itself."""
        element = self._seen[rse]
        return f"{element.https}{FOLDER}/{name}" if scheme == "https" else f"{element.root}/{FOLDER}/{name}"

    def cached(self, rse: str, name: str, scheme: str = "root", *, layers: int = 1) -> str:
        """The same through so many caches."""
        cache = next(each for each in self.endpoints.caches if each.name == LAYERS[layers - 1])
        near = f"{self._near[rse].root}/{FOLDER}/{name}"
        return next(url for url in through_cache(cache, [near], self.endpoints) if url.startswith(scheme))

    def through_nginx(self, rse: str, name: str) -> str:
        """The same through nginx."""
        return f"{self.units['nginx'].url}/{rse}{FOLDER}/{name}"

    def element(self, rse: str) -> StorageEndpoint:
        """An element as the readers see it."""
        return self._seen[rse]

    # -- readers ------------------------------------------------------------------------------------------------

    def stream(self, *urls: str) -> None:
        """Read files from their beginning to their end with xrdcp, all at once.

        Raises:
            AssertionError: one could not be read.
        """
        command = [str(self.context.programs.xrootd_bin / "xrdcp"), "--silent", "--force"]
        readers = [
            subprocess.Popen([*command, url, "/dev/null"], env=self.environment(), stderr=subprocess.PIPE, text=True)
            for url in urls
        ]
        said = [(reader.communicate()[1], reader.returncode) for reader in readers]
        assert not any(status for _, status in said), said

    def fetch(self, *urls: str) -> None:
        """Read files over https with curl, all at once."""
        requests = [[f'url = "{url}"'] for url in urls]
        curl_parallel(requests, token=self.token, ca=self.ca, work=self.work, at_once=len(urls))

    def environment(self) -> dict[str, str]:
        """Variables of clients of the XRootD protocol."""
        return {
            "PATH": os.environ["PATH"],
            "BEARER_TOKEN_FILE": str(self.token_file),
            "X509_CERT_DIR": str(self.context.layout.ca_directory),
            "XrdSecPROTOCOL": "ztn",
        }

    def crossed_bytes(self, rse: str) -> int:
        """What has come over the network from an element so far."""
        with urllib3.PoolManager(ca_certs=str(self.ca)) as pool:
            text = pool.request("GET", self.units["network"].url + "/metrics").data.decode()
        name = rf'boathouse_network_bytes_total{{from="\w+",to="{HERE}",element="{rse}"}} (\d+)'
        return sum(int(count) for count in re.findall(name, text))


def peers_python(programs: Programs) -> Path:
    """The interpreter that has what others use: ROOT, h5py."""
    return programs.python.parents[2] / "peers" / "bin" / "python"


@contextmanager
def lakeside() -> Iterator[Lakeside]:
    """All of it, up; taken down and removed afterwards."""
    with scratch() as directory, Lakeside(installed.load(installed.home()), directory) as made:
        made.up()
        yield made
