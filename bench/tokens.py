"""How many tokens a second the issuer gives, over TLS and on PostgreSQL, and whether it matters how many there are."""

from __future__ import annotations

import base64
import hashlib
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlencode

from bench.cpu import cpu_s
from bench.harness import Benchmark, Effort, Row
from bench.load import Load, drive
from bench.signer import signer
from boathouse.run import programs
from boathouse.testing.postgres import Databases
from boathouse.testing.scratch import scratch
from boathouse.testing.units import Units

_AUDIENCE, _USER = "127.0.1.11", "alice"
_CONNECTIONS = 16
_MANY, _FEW = 100_000, 10
_FULL_S, _QUICK_S = 8.0, 0.5
_REFRESHED = "openid offline_access wlcg.groups storage.read:/"
_LIFE_S = 30 * 86400


@dataclass(frozen=True)
class _Measured:
    """A load, and the CPU time in milliseconds that each of its requests took, by whom it took it."""

    load: Load
    each_ms: Mapping[str, float]

    def __str__(self) -> str:
        whose = ", ".join(f"{name} {value:.2f}" for name, value in self.each_ms.items())
        return f"ms of CPU for each: {whose}"


@dataclass
class _Running:
    """A running issuer of so many processes."""

    units: Units
    names: tuple[str, ...]
    seconds: float

    def drive(self, requests: list[Callable[[bytes], bytes]], what: str) -> _Measured:
        """Load it, and say what that cost."""
        pids = {
            "issuer": [self.units.processes[name].pid for name in self.names],
            "PostgreSQL": [self.units.processes["postgres"].pid],
        }
        before = {name: cpu_s(of) for name, of in pids.items()}
        address = ("localhost", self.units.context.ports["tokens"])
        load = drive(address, self.units.context.layout.ca, requests, seconds=self.seconds, warm_s=self.seconds / 4)
        spent = {**{name: cpu_s(of) - before[name] for name, of in pids.items()}, "client": load.cpu_s}
        measured = _Measured(load, {name: value / load.answered * 1e3 for name, value in spent.items()})
        sys.stderr.write(
            f"{what}: {load.rate:.0f}/s, median {load.quantile(0.5) * 1e3:.1f} ms, "
            f"p99 {load.quantile(0.99) * 1e3:.1f} ms; {measured}\n"
        )
        return measured

    def bare(self) -> Load:
        """The same load on servers that only sign."""
        with signer(len(self.names), *self.units.tls("tokens")) as address:
            request, ca = self._client_request(), self.units.context.layout.ca
            requests = [lambda _answer: request] * _CONNECTIONS
            return drive(address, ca, requests, seconds=self.seconds / 2, warm_s=self.seconds / 4)

    def client_tokens(self) -> _Measured:
        """Client credentials, as Rucio asks for them."""
        request = self._client_request()
        return self.drive([lambda _answer: request] * _CONNECTIONS, f"{len(self.names)} processes, client credentials")

    def _client_request(self) -> bytes:
        body = {"grant_type": "client_credentials", "scope": "storage.read:/lake/cms", "audience": _AUDIENCE}
        pair = f"rucio:{self.units.values['client-rucio']}".encode()
        return _post(urlencode(body), f"Authorization: Basic {base64.b64encode(pair).decode()}\r\n")

    def refreshes(self, stored: int, connections: int) -> _Measured:
        """Chains of refreshes of one person, with so many refresh tokens of ten thousand people in the database."""
        database = Databases(self.units)
        database.rows("tokens", "TRUNCATE refresh_tokens")
        columns = "(hash, family, client_id, sub, scope, audience, issued_at, expires_at)"
        family, now = "gen_random_uuid()::text, 'boathouse'", int(time.time())
        rest = (_REFRESHED, _AUDIENCE, now)
        database.rows(
            "tokens",
            f"INSERT INTO refresh_tokens {columns} SELECT sha256(n::text::bytea), {family}, "
            "md5((n %% 10000)::text)::uuid::text, %s, %s, %s, %s + n FROM generate_series(1, %s) n",
            *(*rest, now + _LIFE_S, stored - connections),
        )
        firsts = [secrets.token_urlsafe(48) for _ in range(connections)]
        for first in firsts:
            digest, sub = hashlib.sha256(first.encode()).digest(), self.units.values[f"sub-{_USER}"]
            values = (digest, sub, *rest, now + _LIFE_S)
            database.rows(
                "tokens", f"INSERT INTO refresh_tokens {columns} VALUES (%s, {family}, %s, %s, %s, %s, %s)", *values
            )
        database.rows("tokens", "VACUUM ANALYZE refresh_tokens")
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


def _run(effort: Effort) -> list[Row]:
    seconds = _FULL_S if effort is Effort.full else _QUICK_S
    many = _MANY if effort is Effort.full else 1000
    with _issuer(1, seconds) as one:
        single = one.client_tokens().load.rate
    with _issuer(2, seconds) as two:
        double = two.client_tokens()
        limit = two.bare()
        # Two pairs, the second the other way round: what the machine does beside changes slowly.
        rates = {count: [two.refreshes(count, 8).load.rate] for count in (_FEW, many)}
        refreshes = two.refreshes(many, 4)
        for count in (many, _FEW):
            rates[count].append(two.refreshes(count, 8).load.rate)
    p99_s = refreshes.load.quantile(0.99)
    flat = sum(rates[many]) / sum(rates[_FEW])
    return [
        Row(
            id="tokens.issue",
            what=(
                "ES256 tokens by client credentials over TLS, each in the audit log on PostgreSQL; "
                f"2 processes; {double}"
            ),
            unit="tokens/s",
            better="higher",
            ours=double.load.rate,
            peers={"1 process": single},
            limit=limit.rate,
            target="500 tokens/s on 2 cores, shared with client and PostgreSQL; the limit only speaks TLS and signs",
            met=double.load.rate >= 500,
        ),
        Row(
            id="tokens.refresh_p99",
            what=(
                f"99 of 100 refreshes are answered within this time, {refreshes.load.rate:.0f}/s "
                f"with {many} stored tokens; {refreshes}"
            ),
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
