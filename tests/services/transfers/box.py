"""The services of the miniature lake, and the box that holds them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import urllib3

from boathouse.checksums import Adler32
from boathouse.plan.model import File
from boathouse.plan.service import Programs
from boathouse.services.xrootd import copy_key, copy_unit_name, unit_name
from boathouse.testing.issuer import KeyIssuer
from boathouse.testing.pki import Authority
from boathouse.testing.postgres import Databases
from boathouse.testing.proxy import Loop, Proxy
from boathouse.testing.scratch import free_port
from boathouse.testing.units import Units
from boathouse.testing.wait import wait_for

from .equipment import DESTINATION, SOURCE, TRANSFERS, Issuer, Reply

NOBODY = "127.0.1.19:1"
"""A destination that the services know, and where nobody listens."""
PROXIES = "127.0.1.14"
"""Where proxies listen."""
LIFETIME_S = 20
"""Life of the real issuer's tokens, in seconds."""

FACILITY = {
    "name": "transfers",
    "vo": "escape",
    "sites": {"NORTH": {"storage": {name: {"qos": "SAFE"} for name in ("SOURCE", "DESTINATION", "FULL", "SMALL")}}},
    "users": {"alice": {}, "carol": {"admin": True}},
    "services": {"token_lifetime": f"{LIFETIME_S} s", "copy_from": ["127.0.0.0/8"]},
}


class RealIssuer:
    """Boathouse's own issuer, whose tokens live for seconds only."""

    def __init__(self, box: Box) -> None:
        self.url = box.context.issuer
        self._secrets = box.values
        self._pool = urllib3.PoolManager(ca_certs=str(box.context.layout.ca), retries=False, timeout=90)

    def jwks(self) -> Mapping[str, object]:
        found: dict[str, object] = self._pool.request("GET", f"{self.url}/jwk").json()
        return found

    def token(self, audience: str, scope: str, *, client: str = "rucio") -> str:
        """A token of a client's own."""
        reply = self._pool.request(
            "POST",
            f"{self.url}/token",
            fields={"grant_type": "client_credentials", "audience": audience, "scope": scope},
            encode_multipart=False,
            headers=urllib3.make_headers(basic_auth=f"{client}:{self._secrets[f'client-{client}']}"),
        )
        assert reply.status == 200, reply.data
        return str(reply.json()["access_token"])

    def revoke(self, token: str, *, client: str = "rucio") -> None:
        """Have a client's own token revoked."""
        reply = self._pool.request(
            "POST",
            f"{self.url}/revoke",
            fields={"token": token},
            encode_multipart=False,
            headers=urllib3.make_headers(basic_auth=f"{client}:{self._secrets[f'client-{client}']}"),
        )
        assert reply.status == 200, reply.data


class Storage:
    """A storage element's copy door, at which the transfer service works; files are read and made in its directory."""

    def __init__(self, box: Box, rse: str) -> None:
        self._box = box
        self.unit = copy_unit_name(rse)
        key = f"{copy_key(rse)}.https"
        self.address, self.port = box.context.addresses[key], box.context.ports[key]
        self.host = f"{self.address}:{self.port}"
        self.davs = box.context.url(key, "davs")
        self.xrootd = box.context.url(f"{copy_key(rse)}.root", "root")
        self.root = box.context.data(unit_name(rse))

    def start(self) -> None:
        self._box.start(self.unit)

    def stop(self) -> None:
        self._box.stop(self.unit)

    def path(self, lake_path: str) -> Path:
        return self.root / lake_path.lstrip("/")

    def put(self, lake_path: str, data: bytes) -> None:
        target = self.path(lake_path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        for made in (target, *target.parents):
            if made == self.root:
                break
            self._box.state.account.own(made)

    def has(self, lake_path: str) -> bool:
        """Whether there is a file, as the element itself says."""
        token = self._box.issuer.token(self.address, "storage.read:/lake")
        url, ca = f"https://{self.host}{lake_path}", str(self._box.context.layout.ca)
        with urllib3.PoolManager(ca_certs=ca, retries=False, timeout=90) as pool:
            status = pool.request("HEAD", url, headers={"Authorization": f"Bearer {token}"}).status
        assert status in (200, 404), status
        return status == 200

    def holds(self, lake_path: str) -> bytes | None:
        """The bytes of a file, or none if there is no such file."""
        target = self.path(lake_path)
        return target.read_bytes() if target.exists() else None


class Service:
    """The transfer service as a process, and a client for it.

    It believes the issuer that signs anything, and takes the copy doors for elements.
    """

    def __init__(self, box: Box, name: str, **changes: object) -> None:
        self._box = box
        self.name = name
        port = free_port(TRANSFERS)
        self.database_url = str(changes.pop("database_url", "")) or box.database(name)
        usual = {
            "port": port,
            "database_url": self.database_url,
            "issuer": box.issuer.url,
            "doors": {},
            "destinations": [box.source.host, box.destination.host, NOBODY],
        }
        box.variant("transfers", name, **{**usual, **changes})
        self._pool = urllib3.PoolManager(ca_certs=str(box.context.layout.ca), retries=False, timeout=120, maxsize=8)
        self.url = f"https://{TRANSFERS}:{port}"
        self.token = box.issuer.token(TRANSFERS, "fts")

    def start(self) -> Service:
        self._box.start(self.name)
        return self

    def stop(self, number: int | None = None) -> None:
        self._box.stop(self.name, number=number)

    @property
    def log(self) -> str:
        return self._box.log(self.name)

    def request(self, method: str, path: str, body: object = None, *, token: str | None = None) -> Reply:
        headers = {"Authorization": f"Bearer {self.token if token is None else token}"}
        if token == "":
            headers = {}
        raw = None if body is None else json.dumps(body)
        answer = self._pool.request(method, self.url + path, body=raw, headers=headers)
        text = answer.data.decode()
        kind = answer.headers.get("Content-Type", "")
        return Reply(answer.status, json.loads(text) if kind.startswith("application/json") else text, answer.headers)

    def submit(self, *files: dict[str, object], token: str | None = None, **params: object) -> str:
        reply = self.request(
            "POST",
            "/jobs",
            {"files": list(files), "params": {"overwrite": True, "verify_checksum": "both", **params}},
            token=token,
        )
        assert reply.status == 200, reply.body
        return str(reply.body["job_id"])

    def job(self, job_id: str, *, token: str | None = None) -> dict[str, Any]:
        fields = "file_state,dest_surl,finish_time,start_time,staging_start,staging_finished,reason,source_surl"
        reply = self.request("GET", f"/jobs/{job_id}?files={fields},file_metadata,file_id", token=token)
        assert reply.status == 200, reply.body
        body: dict[str, Any] = reply.body
        return body

    def finished(self, job_id: str, timeout_s: float = 90.0) -> dict[str, Any]:
        """The job once it is in a terminal state."""

        def ended() -> dict[str, Any] | None:
            self._box.check(self.name)
            job = self.job(job_id)
            return job if job["job_state"] in ("FINISHED", "FAILED", "FINISHEDDIRTY", "CANCELED") else None

        try:
            job = wait_for(f"job {job_id} ended", ended, timeout_s=timeout_s, period_s=0.01)
        except AssertionError as error:
            error.add_note(f"{self.why(job_id)}\n{self.log[-3000:]}")
            raise
        assert job is not None
        return job

    def why(self, job_id: str) -> list[dict[str, Any]]:
        """The files of a job with their attempts."""
        reply = self.request("GET", f"/jobs/{job_id}/why")
        assert reply.status == 200, reply.body
        files: list[dict[str, Any]] = reply.body["files"]
        return files

    def connected(self) -> psycopg.Connection:
        """A connection of the test's own to the service's database."""
        return psycopg.connect(self.database_url.replace("postgresql+psycopg", "postgresql"))

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with self.connected() as connection:
            return connection.execute(query.encode(), values).fetchall()

    def waits_for_a_lock(self, words: str) -> bool:
        """Whether a statement that matches waits for a lock; ``%`` stands for any words."""
        query = """SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
                   AND query LIKE %s"""
        return bool(self.rows(query, f"%{words}%"))


class Box(Units):
    """The whole miniature: made once a session, torn down at its end."""

    def __init__(self, programs: Programs, directory: Path) -> None:
        super().__init__(FACILITY, programs, directory)
        self.issuer = Issuer(free_port(), self.authority.certificate("issuer", "127.0.0.1", dns=("localhost",)))
        self.withdrawn_issuer = KeyIssuer(self.issuer.url)
        self.real_issuer = RealIssuer(self)
        self.source, self.destination = Storage(self, "SOURCE"), Storage(self, "DESTINATION")
        self.full, self.small = Storage(self, "FULL"), Storage(self, "SMALL")
        self.proxies = Loop()
        self._databases: dict[str, str] = {}

    def up(self) -> None:
        """Start what all tests share."""
        self.beside(self.proxies)
        self.beside(self.issuer)
        self.start("postgres")
        self.start("tokens")
        for storage in (self.source, self.destination):
            self._believe(storage.unit)
            storage.start()

    def _add(self, name: str, file_name: str, lines: str) -> None:
        """Write more into one of a unit's files."""
        unit = self.units[name]
        files = (File(each.path, each.text + lines) if each.path.name == file_name else each for each in unit.files)
        self.units[name] = replace(unit, files=tuple(files))

    def start_full(self) -> None:
        """Start an element that wants more free space than any disk has: the server says itself that it is full."""
        self._believe(self.full.unit)
        self._add(self.full.unit, "xrootd.cfg", f"oss.alloc 1000000t\noss.space public {self.full.root}\n")
        self.full.start()

    def start_small(self, size: str) -> None:
        """Start an element on a disk of its own, in memory and small: it fills while files are written."""
        self._believe(self.small.unit)
        self.on_small_disk(self.small.unit, self.small.root / "lake", size)
        self.small.start()

    def proxy(self, storage: Storage, authority: Authority | None = None) -> Proxy:
        """A proxy before a storage element, which does not listen yet; a stranger's certificate makes TLS fail."""
        tls = (authority or self.authority).certificate("proxy", PROXIES)
        upstream, ca = (storage.address, storage.port), self.context.layout.ca_bundle
        return Proxy(self.proxies, PROXIES, free_port(PROXIES), tls=tls, upstream=upstream, ca=ca)

    def _believe(self, name: str) -> None:
        """Make a storage element take the tokens of both issuers."""
        self._add(name, "scitokens.cfg", f"\n[Issuer test]\nissuer = {self.issuer.url}\nbase_path = /\n")
        self.trust(name, self.issuer.url, self.issuer.jwks)
        self.trust(name, self.real_issuer.url, self.real_issuer.jwks())

    def database(self, name: str) -> str:
        """URL of a database of that name, made empty if there is none yet."""
        if name not in self._databases:
            self._databases[name] = Databases(self).make(name, "transfers")
        return self._databases[name]

    def service(self, name: str, **changes: object) -> Service:
        return Service(self, name, **changes)

    def put(self, lake_path: str, data: bytes, storage: Storage | None = None) -> None:
        (storage or self.source).put(lake_path, data)

    def file(
        self,
        lake_path: str,
        data: bytes,
        *,
        sources: list[str] | None = None,
        source_tokens: list[str] | None = None,
        destination_token: str | None = None,
        **more: object,
    ) -> dict[str, object]:
        """An element of ``files`` as Rucio sends it, for a file of which ``data`` are the bytes."""
        urls = sources or [self.source.davs + lake_path]
        read = self.issuer.token(SOURCE, "storage.read:/lake")
        write = self.issuer.token(DESTINATION, "storage.read:/lake storage.modify:/lake")
        return {
            "sources": urls,
            "destinations": [self.destination.davs + lake_path],
            "source_tokens": source_tokens or [read] * len(urls),
            "destination_tokens": [destination_token or write],
            "metadata": {"request_id": lake_path},
            "filesize": len(data),
            "checksum": f"ADLER32:{Adler32(data).hexdigest()}",
            "activity": "User Subscriptions",
            "selection_strategy": "orderly",
            **more,
        }
