"""How many tokens a second the issuer gives, over TLS and on PostgreSQL, and whether it matters how many there are."""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from bench.harness import Benchmark, Effort, Row
from bench.load import Load, drive
from boathouse.run import programs
from boathouse.testing.postgres import Databases
from boathouse.testing.scratch import scratch
from boathouse.testing.units import Units

_AUDIENCE, _USER = "127.0.1.11", "alice"
_CONNECTIONS = 16
_MANY, _FEW = 100_000, 10
_FULL_S, _QUICK_S = 8.0, 0.5
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@dataclass
class _Running:
    """A running issuer of so many processes."""

    units: Units
    names: tuple[str, ...]
    seconds: float

    def drive(self, requests: list[Callable[[bytes], bytes]], what: str) -> Load:
        """Load it, and say what that cost."""
        cpu_s = self._cpu_s()
        port = self.units.context.ports["tokens"]
        load = drive(
            ("localhost", port), self.units.context.layout.ca, requests, seconds=self.seconds, warm_s=self.seconds / 4
        )
        # The warm-up counts in the time of the processes, and as much in the requests as it takes of the time.
        each_ms = (self._cpu_s() - cpu_s) / (load.requests * 1.25) * 1e3
        sys.stderr.write(
            f"{what}: {load.rate:.0f}/s, median {load.quantile(0.5) * 1e3:.1f} ms, "
            f"p99 {load.quantile(0.99) * 1e3:.1f} ms, {each_ms:.2f} ms of the issuer's CPU each\n"
        )
        return load

    def _cpu_s(self) -> float:
        """User and system time: fields 14 and 15 of proc_pid_stat(5); the name before them may hold spaces."""
        total = 0
        for name in self.names:
            fields = Path(f"/proc/{self.units.processes[name].pid}/stat").read_text().rpartition(") ")[2].split()
            total += int(fields[11]) + int(fields[12])
        return total * _TICK_S

    def client_tokens(self) -> Load:
        """Client credentials, as Rucio asks for them."""
        body = {"grant_type": "client_credentials", "scope": "storage.read:/lake/cms", "audience": _AUDIENCE}
        pair = f"rucio:{self.units.values['client-rucio']}".encode()
        request = _post(urlencode(body), f"Authorization: Basic {base64.b64encode(pair).decode()}\r\n")
        return self.drive([lambda _answer: request] * _CONNECTIONS, f"{len(self.names)} processes, client credentials")

    def refreshes(self, stored: int, connections: int) -> Load:
        """Chains of refreshes of one person, with so many refresh tokens in the database."""
        database = Databases(self.units)
        database.rows("tokens", "TRUNCATE refresh_tokens")
        firsts = [secrets.token_urlsafe(48) for _ in range(connections)]
        sub = self.units.values[f"sub-{_USER}"]
        scope = "openid offline_access wlcg.groups storage.read:/"
        columns = "(hash, family, client_id, sub, scope, audience, issued_at, expires_at)"
        values = "gen_random_uuid()::text, 'boathouse', %s, %s, %s, %s, %s"
        now = int(time.time())
        rest = (sub, scope, _AUDIENCE, now, now + 86400)
        database.rows(
            "tokens",
            f"INSERT INTO refresh_tokens {columns} SELECT sha256(n::text::bytea), {values} "
            "FROM generate_series(1, %s) n",
            *rest,
            stored - connections,
        )
        for first in firsts:
            digest = hashlib.sha256(first.encode()).digest()
            database.rows("tokens", f"INSERT INTO refresh_tokens {columns} VALUES (%s, {values})", digest, *rest)
        database.rows("tokens", "ANALYZE refresh_tokens")
        return self.drive([_chain(first) for first in firsts], f"refreshes with {stored} stored")


def _post(body: str, headers: str = "") -> bytes:
    return (
        f"POST /token HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Type: application/x-www-form-urlencoded\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


def _chain(first: str) -> Callable[[bytes], bytes]:
    """Each refresh is made with the token that the one before gave."""
    before, after = _post(f"grant_type=refresh_token&client_id=boathouse&refresh_token={first}").split(first.encode())

    def request(answer: bytes) -> bytes:
        token = answer.partition(b'"refresh_token":"')[2].partition(b'"')[0] if answer else first.encode()
        return before + token + after

    return request


@contextmanager
def _issuer(processes: int, seconds: float) -> Iterator[_Running]:
    """An issuer from the drivers' plan, with its PostgreSQL."""
    facility = {
        "name": "tokens",
        "vo": "escape",
        "sites": {"NORTH": {"storage": {"NORTH-DISK": {"qos": "FAST"}}}},
        "groups": {"cms": {}},
        "users": {_USER: {"groups": ["cms"]}},
        "scopes": {"cms": {"group": "cms"}},
        "services": {"issuer_processes": processes},
    }
    names = ("tokens", *(f"tokens-{number}" for number in range(2, processes + 1)))
    with scratch() as directory, Units(facility, programs.load(programs.home()), directory) as units:
        units.start("postgres")
        for name in names:
            units.start(name)
        yield _Running(units, names, seconds)


def _signatures_per_s(seconds: float) -> float:
    """ES256 signatures of the library alone, in one thread."""
    key = ec.generate_private_key(ec.SECP256R1())
    algorithm = ec.ECDSA(hashes.SHA256())
    message = os.urandom(500)
    count = 0
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        key.sign(message, algorithm)
        count += 1
    return count / (time.perf_counter() - began)


def _run(effort: Effort) -> list[Row]:
    seconds = _FULL_S if effort is Effort.full else _QUICK_S
    many = _MANY if effort is Effort.full else 1000
    with _issuer(1, seconds) as one:
        single = one.client_tokens().rate
    with _issuer(2, seconds) as two:
        double = two.client_tokens().rate
        # Two pairs, the second the other way round: what the machine does beside changes slowly.
        rates = {count: [two.refreshes(count, 8).rate] for count in (_FEW, many)}
        latency = two.refreshes(many, 4)
        for count in (many, _FEW):
            rates[count].append(two.refreshes(count, 8).rate)
    p99_s = latency.quantile(0.99)
    flat = sum(rates[many]) / sum(rates[_FEW])
    return [
        Row(
            id="tokens.issue",
            what="ES256 tokens by client credentials over TLS, each in the audit log on PostgreSQL; 2 processes",
            unit="tokens/s",
            better="higher",
            ours=double,
            peers={"1 process": single},
            limit=_signatures_per_s(seconds / 4),
            target="500 tokens/s on 2 cores; the limit is OpenSSL's signatures alone on one core",
            met=double >= 500,
        ),
        Row(
            id="tokens.refresh_p99",
            what=f"99 of 100 refreshes are answered within this time, {latency.rate:.0f}/s with {many} stored tokens",
            unit="s",
            better="lower",
            ours=p99_s,
            target="0.05 s",
            met=p99_s <= 0.05,
        ),
        Row(
            id="tokens.flat",
            what=f"refreshes/s with {many} stored refresh tokens beside those with {_FEW}",
            unit="ratio",
            better="higher",
            ours=flat,
            target="0.9",
            met=flat >= 0.9,
        ),
    ]


BENCHMARK = Benchmark("tokens", ("tokens.issue", "tokens.refresh_p99", "tokens.flat"), _run)
