"""Three storage elements, an issuer and the transfer service, without the rest of a facility: what copies run on."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import urllib3

from boathouse.checksums import Adler32
from boathouse.plan.service import Programs
from boathouse.run import programs as installed
from boathouse.services.xrootd import copy_key, copy_unit_name, unit_name
from boathouse.testing.scratch import scratch
from boathouse.testing.units import Units
from boathouse.testing.wait import wait_for

FOLDER = "/lake/bench"
CLIENT = "rucio"
FILES_PER_JOB = 200
"""As many as Rucio's submitter takes from its queue at once."""
_LOOK_S = 0.2
"""How often it is asked whether a job has ended; each question costs the service as much as half a small file."""
_ENDED = ("FINISHED", "FAILED", "FINISHEDDIRTY", "CANCELED")
_FACILITY = {
    "name": "bench",
    "vo": "escape",
    "sites": {
        "NORTH": {"storage": {"SOURCE": {"qos": "FAST"}, "DESTINATION": {"qos": "SAFE"}, "AWAY": {"qos": "SAFE"}}}
    },
    "services": {"token_lifetime": "6 h"},
}
_BLOCK_BYTES = 4_000_000


@dataclass(frozen=True)
class End:
    """The copy door of a storage element, and the directory in which its files lie."""

    unit: str
    address: str
    https: str
    root: Path

    @property
    def davs(self) -> str:
        """Its URL as Rucio writes it."""
        return self.https.replace("https", "davs", 1)

    @property
    def folder(self) -> Path:
        """Where the files of a benchmark lie."""
        return self.root / FOLDER.lstrip("/")


@dataclass(frozen=True)
class Made:
    """A file at the source."""

    name: str
    size_bytes: int
    adler32: str


class Pair(Units):
    """The units, started; files at the source; and a client of the transfer service."""

    def __init__(self, programs: Programs, directory: Path) -> None:
        super().__init__(_FACILITY, programs, directory)
        self.work = directory / "work"
        self.work.mkdir(mode=0o700)
        self.ca = self.context.layout.ca
        self.source, self.destination, self.away = map(self._end, ("SOURCE", "DESTINATION", "AWAY"))
        self._pool = urllib3.PoolManager(ca_certs=str(self.ca), retries=False, timeout=120, maxsize=16)
        self._transfers = self.context.url("transfers")

    def _end(self, rse: str) -> End:
        key = f"{copy_key(rse)}.https"
        root = self.context.data(unit_name(rse))
        return End(copy_unit_name(rse), self.context.addresses[key], self.context.url(key), root)

    def up(self) -> None:
        """Start all but the element that is away; give the rights that the files need."""
        self.start("postgres")
        self.start("tokens")
        keys = self._pool.request("GET", f"{self.context.issuer}/jwk").json()
        for end in (self.source, self.destination):
            self.trust(end.unit, self.context.issuer, keys)
        self.start(self.source.unit, self.destination.unit, "transfers")
        self.read = self.token("storage.read:/lake", self.source)
        write = "storage.read:/lake storage.modify:/lake"
        self.write = {end: self.token(write, end) for end in (self.destination, self.away)}
        self.fts = self.token("fts", self.context.addresses["transfers"])

    def token(self, scope: str, *audiences: End | str) -> str:
        """A token of Rucio's own."""
        names = [audience if isinstance(audience, str) else audience.address for audience in audiences]
        reply = self._pool.request(
            "POST",
            f"{self.context.issuer}/token",
            fields={"grant_type": "client_credentials", "audience": " ".join(names), "scope": scope},
            encode_multipart=False,
            headers=urllib3.make_headers(basic_auth=f"{CLIENT}:{self.values[f'client-{CLIENT}']}"),
        )
        assert reply.status == 200, reply.data
        return str(reply.json()["access_token"])

    def make(self, prefix: str, *, count: int, size_bytes: int) -> list[Made]:
        """Files of random bytes at the source."""
        account = self.state.account
        self.source.folder.mkdir(exist_ok=True)
        account.own(self.source.folder)
        block = os.urandom(min(size_bytes, _BLOCK_BYTES))
        made = []
        for number in range(count):
            name, checksum = f"{prefix}-{number:06d}", Adler32()
            target = self.source.folder / name
            with target.open("wb") as stream:
                for start in range(0, size_bytes, len(block)):
                    # No two files, and no two blocks, are alike.
                    head = f"{number:016d}{start:016d}".encode()
                    part = (head + block[len(head) :])[: min(len(block), size_bytes - start)]
                    checksum.update(part)
                    stream.write(part)
            account.own(target)
            made.append(Made(name, size_bytes, checksum.hexdigest()))
        return made

    def clear(self) -> None:
        """Remove what was copied, and let what is still to be written be written."""
        shutil.rmtree(self.destination.folder, ignore_errors=True)
        os.sync()

    def require_copied(self, files: Sequence[Made]) -> None:
        """Make sure that all files lie at the destination with their whole size.

        Raises:
            AssertionError: some do not.
        """
        there = {entry.name: entry.stat().st_size for entry in os.scandir(self.destination.folder)}
        wrong = [file.name for file in files if there.get(file.name) != file.size_bytes]
        assert not wrong, f"{len(wrong)} of {len(files)} files are not as they should be: {wrong[:3]}"

    def request(self, method: str, path: str, body: object = None) -> bytes:
        """Ask the transfer service.

        Raises:
            AssertionError: it did not answer with 200.
        """
        raw = None if body is None else json.dumps(body)
        reply = self._pool.request(
            method, self._transfers + path, body=raw, headers={"Authorization": f"Bearer {self.fts}"}
        )
        assert reply.status == 200, (reply.status, reply.data[:500])
        return bytes(reply.data)

    def _answer(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.request(method, path, body))
        return answer

    def get(self, path: str) -> None:
        """Ask for something, and read the answer."""
        self.request("GET", path)

    def submit(self, files: Sequence[Made], to: End) -> str:
        """Submit one job, as Rucio does."""
        entries = [
            {
                "sources": [f"{self.source.davs}{FOLDER}/{file.name}"],
                "destinations": [f"{to.davs}{FOLDER}/{file.name}"],
                "source_tokens": [self.read],
                "destination_tokens": [self.write[to]],
                "metadata": {"request_id": file.name},
                "filesize": file.size_bytes,
                "checksum": f"ADLER32:{file.adler32}",
                "activity": "User Subscriptions",
            }
            for file in files
        ]
        params = {"overwrite": True, "verify_checksum": "both", "job_metadata": {"issuer": "rucio"}}
        return str(self._answer("POST", "/jobs", {"files": entries, "params": params})["job_id"])

    def copy(self, files: Sequence[Made]) -> None:
        """Copy files through the transfer service, and wait until it says that all have arrived and are right.

        Raises:
            AssertionError: some have not.
        """
        jobs = [self.submit(part, self.destination) for part in batches(files, FILES_PER_JOB)]
        for job_id in jobs:
            job = wait_for(job_id, partial(self._ended, job_id), timeout_s=600, period_s=_LOOK_S)
            assert job is not None
            assert job["job_state"] == "FINISHED", self.request("GET", f"/jobs/{job_id}/why")[:10_000]

    def _ended(self, job_id: str) -> dict[str, Any] | None:
        self.check("transfers")
        job = self._answer("GET", f"/jobs/{job_id}")
        return job if job["job_state"] in _ENDED else None

    def database(self) -> str:
        """Where the transfer service keeps its queue, for libpq."""
        settings = json.loads(self.context.config("transfers", "settings.json").read_text())
        return str(settings["database_url"]).replace("+psycopg", "", 1)

    def resident_bytes(self) -> int:
        """Resident memory of the transfer service."""
        status = Path(f"/proc/{self.processes['transfers'].pid}/status").read_text()
        return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")))


def batches(files: Sequence[Made], size: int) -> Iterator[Sequence[Made]]:
    """Files in jobs."""
    return (files[start : start + size] for start in itertools.takewhile(len(files).__gt__, itertools.count(0, size)))


def in_parallel(work: Sequence[Any], call: Any, *, at_once: int) -> None:
    """Call something for each piece of work, some at once."""
    with ThreadPoolExecutor(at_once) as threads:
        list(threads.map(call, work))


@contextmanager
def pair() -> Iterator[Pair]:
    """The pair, up; taken down and removed afterwards."""
    with scratch() as directory, Pair(installed.load(installed.home()), directory) as made:
        made.up()
        yield made
