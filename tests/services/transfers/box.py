"""The services of the miniature lake, and the box that holds them."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import signal
import sqlite3
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psycopg
import urllib3

from boathouse.checksums import Adler32
from boathouse.plan.service import Programs
from boathouse.run.local.account import service_account
from boathouse.testing.wait import wait_for

from .equipment import DESTINATION, SOURCE, TRANSFERS, Issuer, Pki, Process, Reply, free_port


class RealIssuer:
    """Boathouse's own issuer, whose tokens live for seconds only."""

    LIFETIME_S = 10

    def __init__(self, box: Box) -> None:
        home = box.directory("tokens")
        port = free_port("127.0.0.1")
        self.url = f"https://localhost:{port}"
        chain, key = box.pki.certificate("tokens", "127.0.0.1", dns=("localhost",))
        storage = ["storage.read:/", "storage.create:/", "storage.modify:/"]
        grants = ["client_credentials", "token_exchange"]
        seed = {
            "groups": [{"name": "/escape"}],
            "users": [],
            "policies": [],
            "clients": [
                {"client_id": "rucio", "secret": "rucio's", "grants": grants, "scopes": ["fts", *storage]},
                {
                    "client_id": "transfers",
                    "secret": "transfers'",
                    "grants": grants,
                    "scopes": storage,
                    "exchange_from": ["rucio"],
                },
            ],
        }
        (home / "seed.json").write_text(json.dumps(seed))
        settings = {
            "issuer": self.url,
            "listen_address": "127.0.0.1",
            "port": port,
            "certificate": str(chain),
            "key": str(key),
            "database_url": box.database("tokens"),
            "keys_dir": str(home / "keys"),
            "seed": str(home / "seed.json"),
            "token_lifetime_s": self.LIFETIME_S,
        }
        (home / "settings.json").write_text(json.dumps(settings))
        box.own(home)
        self.process = Process(
            command=[
                str(box.programs.python),
                *("-m", "boathouse.apps.tokens", "--config", str(home / "settings.json")),
            ],
            env={},
            log=box.log("tokens"),
            account=box.account,
            cwd=home,
        )
        self._pool = urllib3.PoolManager(ca_certs=str(box.pki.ca), retries=False, timeout=20)
        box.started.append(self.process)
        self.process.start()
        wait_for("the real issuer", self._healthy)
        self.jwks = self._pool.request("GET", f"{self.url}/jwk").json()

    def _healthy(self) -> bool:
        self.process.alive()
        try:
            return self._pool.request("GET", f"{self.url}/health").status == 200
        except urllib3.exceptions.HTTPError:
            return False

    def token(self, audience: str, scope: str) -> str:
        """A token for the client ``rucio``."""
        reply = self._pool.request(
            "POST",
            f"{self.url}/token",
            fields={"grant_type": "client_credentials", "audience": audience, "scope": scope},
            encode_multipart=False,
            headers=urllib3.make_headers(basic_auth="rucio:rucio's"),
        )
        assert reply.status == 200, reply.data
        return str(reply.json()["access_token"])


class Storage:
    """One XRootD server with HTTPS, third-party copy and tokens; its files are read and made in the file system."""

    def __init__(self, box: Box, address: str) -> None:
        self.address = address
        self.port, root_port = free_port(address), free_port(address)
        self.url = f"https://{address}:{self.port}"
        self.davs = f"davs://{address}:{self.port}"
        home = box.directory(f"se-{address}")
        self.root = home / "data"
        (self.root / "lake").mkdir(parents=True)
        self._cache = home / "cache" / "scitokens"
        self._cache.mkdir(parents=True)
        self._seed({issuer.url: issuer.jwks for issuer in (box.issuer, box.real_issuer)})
        chain, key = box.pki.certificate(f"se-{address}", address)
        (home / "scitokens.cfg").write_text(
            f"[Global]\naudience = {address}\nonmissing = deny\n\n"
            f"[Issuer test]\nissuer = {box.issuer.url}\nbase_path = /\n\n"
            f"[Issuer real]\nissuer = {box.real_issuer.url}\nbase_path = /\n"
        )
        (home / "health.json").write_text('{"status": "ok"}')
        (home / "xrootd.cfg").write_text(
            "\n".join(
                [
                    "all.export /lake",
                    f"oss.localroot {self.root}",
                    f"all.adminpath {home}",
                    f"all.pidpath {home}",
                    f"xrd.port {root_port}",
                    "xrd.network nodnr",
                    f"xrd.tls {chain} {key}",
                    "xrd.tlsca noverify",
                    # Without it libcurl reads the host's whole bundle for every copy: 15 ms of CPU time each.
                    f"http.cafile {box.pki.ca}",
                    "xrootd.seclib libXrdSec.so",
                    "sec.protocol ztn",
                    "sec.protbind * only ztn",
                    "xrootd.tls all",
                    "ofs.authorize 1",
                    f"ofs.authlib libXrdAccSciTokens.so config={home / 'scitokens.cfg'}",
                    "ofs.persist off",
                    "xrootd.async nosf",
                    "xrootd.chksum max 32 adler32 crc32c",
                    f"xrd.protocol tls XrdHttp:{self.port} libXrdHttp.so",
                    "http.header2cgi Authorization authz",
                    f"http.staticpreload /static/health {home / 'health.json'}",
                    "http.exthandler xrdtpc libXrdHttpTPC.so",
                    "http.trace request",
                    "tpc.trace info error warning",
                    "tpc.timeout 60 120",
                    "tpc.allow local",
                    "",
                ]
            )
        )
        self.process = Process(
            command=[
                str(box.programs.python),
                *("-m", "boathouse.services.listen", f"{address}:{root_port}", f"{address}:{self.port}", "--"),
                *(str(box.programs.xrootd_bin / "xrootd"), "-c", str(home / "xrootd.cfg"), "-n", "se"),
            ],
            env={"XDG_CACHE_HOME": str(home / "cache"), "XRDTPC_CADIR": str(box.pki.hashed)},
            log=box.log(f"se-{address}"),
            account=box.account,
            cwd=home,
        )
        box.own(home, chain, key)

    def _seed(self, keys: Mapping[str, object]) -> None:
        """Give the server the issuers' keys, so that it never asks for them."""
        far = int(time.time()) + 365 * 86400
        with contextlib.closing(sqlite3.connect(self._cache / "scitokens_cpp.sqllite")) as database:
            database.execute("CREATE TABLE keycache (issuer text UNIQUE PRIMARY KEY NOT NULL, keys text NOT NULL)")
            for issuer, jwks in keys.items():
                value = json.dumps({"expires": far, "jwks": jwks, "next_update": far})
                database.execute("INSERT INTO keycache VALUES (?, ?)", (issuer, value))
            database.commit()

    def path(self, lake_path: str) -> Path:
        return self.root / lake_path.lstrip("/")

    def put(self, lake_path: str, data: bytes) -> None:
        target = self.path(lake_path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        for made in (target, *target.parents):
            if made == self.root:
                break
            self.process.account.own(made)

    def holds(self, lake_path: str) -> bytes | None:
        """The bytes of a file, or none if there is no such file."""
        target = self.path(lake_path)
        return target.read_bytes() if target.exists() else None


class Service:
    """The transfer service as a process, and a client for it."""

    def __init__(self, box: Box, *, name: str = "transfers", **changes: object) -> None:
        self._box = box
        self.port = free_port(TRANSFERS)
        home = box.directory(name)
        chain, key = box.pki.certificate(name, TRANSFERS)
        settings: dict[str, object] = {
            "listen_address": TRANSFERS,
            "port": self.port,
            "certificate": str(chain),
            "key": str(key),
            "database_url": box.database(name),
            "issuer": box.issuer.url,
            "ca_file": str(box.pki.ca),
            "audience": TRANSFERS,
            "vo": "escape",
            "client_id": "transfers",
            "client_secret": "not known to the test's issuer",
            "private_sources": ["127.0.0.0/8"],
            "store_key": base64.urlsafe_b64encode(bytes(range(32))).decode(),
            **changes,
        }
        config = home / "transfers.json"
        config.write_text(json.dumps(settings))
        self.database_url = str(settings["database_url"])
        self.process = Process(
            command=[str(box.programs.python), "-m", "boathouse.apps.transfers", "--config", str(config)],
            env={},
            log=box.log(name),
            account=box.account,
            cwd=home,
        )
        box.own(home, chain, key)
        self._pool = urllib3.PoolManager(ca_certs=str(box.pki.ca), retries=False, timeout=60, maxsize=8)
        self.url = f"https://{TRANSFERS}:{self.port}"
        self.token = box.issuer.token(TRANSFERS, "fts")

    def start(self) -> Service:
        self.process.start()
        wait_for("transfer service ready", self._healthy, period_s=0.01)
        return self

    def _healthy(self) -> bool:
        self.process.alive()
        try:
            return self._pool.request("GET", f"{self.url}/health").status == 200
        except urllib3.exceptions.HTTPError:
            return False

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

    def finished(self, job_id: str, timeout_s: float = 30.0) -> dict[str, Any]:
        """The job once it is in a terminal state."""

        def ended() -> dict[str, Any] | None:
            self.process.alive()
            job = self.job(job_id)
            return job if job["job_state"] in ("FINISHED", "FAILED", "FINISHEDDIRTY", "CANCELED") else None

        job = wait_for(f"job {job_id} ended", ended, timeout_s=timeout_s, period_s=0.01)
        assert job is not None
        return job

    def why(self, job_id: str) -> list[dict[str, Any]]:
        """The files of a job with their attempts."""
        reply = self.request("GET", f"/jobs/{job_id}/why")
        assert reply.status == 200, reply.body
        files: list[dict[str, Any]] = reply.body["files"]
        return files

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.database_url.replace("postgresql+psycopg", "postgresql")) as connection:
            return connection.execute(query, values).fetchall()  # type: ignore[arg-type]


class Box:
    """The whole miniature: made once a session, torn down at its end."""

    def __init__(self, programs: Programs) -> None:
        self.programs = programs
        self.account = service_account()
        self.home = Path(tempfile.mkdtemp(prefix="boathouse-transfers-", dir="/tmp"))
        self.home.chmod(0o755)
        self.logs = self.directory("logs")
        self.own(self.logs)
        self.started: list[Process] = []
        self.services: list[Service] = []
        self._databases: set[str] = set()
        self._socket = self.directory("pg")
        self.pki = Pki(self.directory("pki"), self.account)
        self.issuer = Issuer(self.pki)
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        self._start_postgres()
        self.real_issuer = RealIssuer(self)
        self.source = Storage(self, SOURCE)
        self.destination = Storage(self, DESTINATION)
        for storage in (self.source, self.destination):
            self.started.append(storage.process)
            storage.process.start()
            self.wait_storage(storage)

    def directory(self, name: str) -> Path:
        path = self.home / name
        path.mkdir(exist_ok=True)
        return path

    def own(self, *paths: Path) -> None:
        for path in paths:
            for entry in (path, *path.rglob("*")) if path.is_dir() else (path,):
                self.account.own(entry)

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def wait_storage(self, storage: Storage) -> None:
        pool = urllib3.PoolManager(ca_certs=str(self.pki.ca), retries=False, timeout=5)

        def up() -> bool:
            storage.process.alive()
            try:
                return pool.request("GET", f"{storage.url}/static/health").status == 200
            except urllib3.exceptions.HTTPError:
                return False

        wait_for(f"storage {storage.address}", up, period_s=0.01)

    def _start_postgres(self) -> None:
        data = self.directory("pgdata")
        self.own(data, self._socket)
        data.chmod(0o700)
        initdb = Process(
            command=[
                str(self.programs.postgres_bin / "initdb"),
                *("-D", str(data), "-U", "boathouse", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"),
            ],
            env={},
            log=self.log("initdb"),
            account=self.account,
            cwd=self._socket,
        )
        initdb.start()
        assert initdb.popen is not None
        assert initdb.popen.wait(60) == 0, initdb.tail()
        self.postgres = Process(
            command=[
                str(self.programs.postgres_bin / "postgres"),
                *("-D", str(data), "-k", str(self._socket), "-c", "listen_addresses="),
            ],
            env={},
            log=self.log("postgres"),
            account=self.account,
            cwd=self._socket,
        )
        self.started.append(self.postgres)
        self.postgres.start()
        wait_for("PostgreSQL", self._postgres_up, period_s=0.01)

    def _postgres_up(self) -> bool:
        self.postgres.alive()
        try:
            psycopg.connect(self._dsn("postgres")).close()
        except psycopg.OperationalError:
            return False
        return True

    def _dsn(self, database: str) -> str:
        return f"postgresql://boathouse@/{database}?host={self._socket}"

    def database(self, name: str) -> str:
        """URL of a database of that name, made empty if there is none yet."""
        database = name.replace("-", "_")
        if database not in self._databases:
            with psycopg.connect(self._dsn("postgres"), autocommit=True) as connection:
                connection.execute(f"CREATE DATABASE {database}")  # type: ignore[arg-type]
            self._databases.add(database)
        return self._dsn(database).replace("postgresql://", "postgresql+psycopg://")

    def service(self, name: str = "transfers", **changes: object) -> Service:
        service = Service(self, name=name, **changes)
        self.services.append(service)
        return service

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

    def close(self) -> None:
        for service in self.services:
            service.process.stop()
        for process in reversed(self.started):
            process.stop(signal.SIGINT if process is self.postgres else signal.SIGTERM)
        self.issuer.close()
        shutil.rmtree(self.home)
