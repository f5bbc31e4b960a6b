"""Reads through a cache at several distances, beside direct ones and nginx; and what deciding on a token costs."""

from __future__ import annotations

import itertools
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.columns import COLUMNS
from bench.cpu import cpu_s
from bench.facility import random_files
from bench.harness import Benchmark, Effort, Row, timed
from bench.lakeside import DISTANCES_MS, FOLDER, LOCAL, Lakeside, lakeside, peers_python
from bench.load import drive
from boathouse.analysis.samples import Sample, generate
from boathouse.analysis.sources import Access
from boathouse.services import xrootd

_READERS = 6
_MIDDLE = "MIDDLE-DISK"
_RANGE_BYTES = 4096


@dataclass(frozen=True)
class Size:
    """How much is read, and how often."""

    stream_bytes: int
    events: int
    turns: int
    distant: tuple[str, ...]
    layers: tuple[int, ...]
    """Through how many caches."""
    load_s: float
    tokens: int


SIZES = {
    Effort.full: Size(100_000_000, 500_000, 3, tuple(DISTANCES_MS), (1, 2, 3), load_s=4.0, tokens=10_000),
    Effort.quick: Size(4_000_000, 20_000, 1, (_MIDDLE,), (1, 3), load_s=0.2, tokens=2_000),
}

Reads = dict[str, list[float]]
"""Seconds of every turn, by the way that was read."""


def measure(effort: Effort) -> list[Row]:
    """All rows."""
    size = SIZES[effort]
    with lakeside() as lake:
        return [*_streams(lake, size), *_columns(lake, size), _wan_bytes(lake, size), *_decisions(lake, size)]


# -- one file from beginning to end ---------------------------------------------------------------------------------


def _streams(lake: Lakeside, size: Size) -> Iterator[Row]:
    (source,) = random_files(lake.work / "stream", count=1, size_bytes=size.stream_bytes)
    (local,) = lake.place(source, LOCAL, names=1)
    megabytes = f"{size.stream_bytes / 1e6:.0f} MB"
    for rse, layers in itertools.product(size.distant, size.layers):
        reads = _in_turns(lake, size, source, rse=rse, layers=layers, read=partial(_stream, lake), local=local)
        rate = {way: _rate(size.stream_bytes, seconds) for way, seconds in reads.items()}
        what = f"xrdcp of {megabytes} from {DISTANCES_MS[rse]} ms away"
        yield _layers_row("cache.stream", what, "MB/s", rate, rse=rse, layers=layers)
        if (rse, layers) == (_MIDDLE, 1):
            yield from _target_rows(what, rate, reads)
    yield from _nginx_rows(lake, size, source, f"curl of {megabytes} from {DISTANCES_MS[_MIDDLE]} ms away over https")


def _stream(lake: Lakeside, url: str) -> float:
    return timed(lambda: lake.stream(url))


def _in_turns(
    lake: Lakeside, size: Size, source: Path, *, rse: str, layers: int, read: Callable[[str], float], local: str
) -> Reads:
    """Read a file of a new name every turn: from its element, through caches that keep nothing of it yet, and again."""
    reads: Reads = {"direct": [], "cold": [], "warm": [], "local": []}
    for name in lake.place(source, rse, names=size.turns):
        reads["direct"].append(read(lake.direct(rse, name)))
        reads["cold"].append(read(lake.cached(rse, name, layers=layers)))
        reads["warm"].append(read(lake.cached(rse, name, layers=layers)))
        reads["local"].append(read(lake.direct(LOCAL, local)))
    return reads


def _layers_row(row: str, what: str, unit: str, rate: Mapping[str, float], *, rse: str, layers: int) -> Row:
    return Row(
        id=row,
        what=f"{what}, kept by {'a cache' if layers == 1 else f'{layers} caches in a chain'}",
        unit=unit,
        better="higher",
        ours=rate["warm"],
        peers={"not kept yet": rate["cold"], "without a cache": rate["direct"]},
        limit=rate["local"],
        target="faster than without a cache, where there is a distance",
        met=rate["warm"] > rate["direct"] or not DISTANCES_MS[rse],
    )


def _target_rows(what: str, rate: dict[str, float], reads: Reads) -> Iterator[Row]:
    overhead, slower = _ratio(reads["cold"], reads["direct"]), _ratio(reads["warm"], reads["local"])
    yield Row(
        id="cache.cold_overhead",
        what=f"{what} through a cache that has nothing of it",
        unit="MB/s",
        better="higher",
        ours=rate["cold"],
        peers={"without a cache": rate["direct"]},
        limit=rate["direct"],
        target=f"at most 1.05 of the time without a cache (this run: {overhead:.2f})",
        met=overhead <= 1.05,
    )
    yield Row(
        id="cache.warm",
        what=f"{what} through a cache that keeps it",
        unit="MB/s",
        better="higher",
        ours=rate["warm"],
        peers={"a storage element next to it": rate["local"]},
        limit=rate["local"],
        target=f"at most 1.2 of the time of a local element (this run: {slower:.2f})",
        met=slower <= 1.2,
    )


def _nginx_rows(lake: Lakeside, size: Size, source: Path, what: str) -> Iterator[Row]:
    reads: Reads = {"cold": [], "warm": [], "cold by nginx": [], "warm by nginx": []}
    for name in lake.place(source, _MIDDLE, names=size.turns):
        for state in ("cold", "warm"):
            reads[state].append(timed(partial(lake.fetch, lake.cached(_MIDDLE, name, "https"))))
            reads[f"{state} by nginx"].append(timed(partial(lake.fetch, lake.through_nginx(_MIDDLE, name))))
    rate = {way: _rate(size.stream_bytes, seconds) for way, seconds in reads.items()}
    for state in ("cold", "warm"):
        yield Row(
            id=f"cache.vs_nginx.{state}",
            what=f"{what}, {state}; nginx gives what it keeps to everybody",
            unit="MB/s",
            better="higher",
            ours=rate[state],
            peers={"nginx, slices of 4 MiB": rate[f"{state} by nginx"]},
            target="no slower than nginx",
            met=rate[state] >= rate[f"{state} by nginx"],
        )


def _rate(size_bytes: int, seconds: Sequence[float]) -> float:
    return size_bytes / 1e6 / statistics.median(seconds)


def _ratio(ours_s: Sequence[float], peer_s: Sequence[float]) -> float:
    """Neighbours in time are compared: the machine's speed drifts."""
    return statistics.median(ours / peer for ours, peer in zip(ours_s, peer_s, strict=True))


# -- a few columns --------------------------------------------------------------------------------------------------


def _columns(lake: Lakeside, size: Size) -> Iterator[Row]:
    (sample,) = generate(Sample(events=size.events, files=1), lake.work / "samples")
    access = Access(str(lake.token_file), str(lake.ca))
    (local,) = lake.place(sample.path, LOCAL, names=1)
    with _data_frame(lake, sample.path) as read_by_root:
        readers: dict[str, Callable[[str], float]] = {
            "uproot": partial(_read_columns, access),
            "RDataFrame": read_by_root,
        }
        for (reader, read), rse, layers in itertools.product(readers.items(), size.distant, size.layers):
            reads = _in_turns(lake, size, sample.path, rse=rse, layers=layers, read=read, local=local)
            rate = {way: size.events / 1e6 / statistics.median(seconds) for way, seconds in reads.items()}
            what = f"{reader} reads {' and '.join(COLUMNS)} of {size.events:,} events, {DISTANCES_MS[rse]} ms away"
            yield _layers_row("cache.columns", what, "million events/s", rate, rse=rse, layers=layers)


def _read_columns(access: Access, url: str) -> float:
    """In a process of its own, as every client begins: with no connection open."""
    command = [sys.executable, "-m", "bench.columns", url, access.token_file, access.ca_bundle]
    done = subprocess.run(command, env={**os.environ, **access.environment()}, stdout=subprocess.PIPE, check=True)
    return float(done.stdout)


@contextmanager
def _data_frame(lake: Lakeside, local: Path) -> Iterator[Callable[[str], float]]:
    """ROOT's RDataFrame, which is among the peers; at each start its wheel warns of being an early one."""
    command = [str(peers_python(lake.context.programs)), "-B", "-W", "ignore", "-m", "bench.dataframe", str(local)]
    environment = {**lake.environment(), "PYTHONPATH": str(Path(__file__).parents[1]), "HOME": str(lake.work)}
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:

        def read(url: str) -> float:
            assert process.stdin
            assert process.stdout
            process.stdin.write(f"{url}\n")
            process.stdin.flush()
            line = process.stdout.readline()
            assert line, "the reader has ended; it said why above"
            return float(line)

        try:
            yield read
        finally:
            # It ends when nobody can ask it any more.
            process.communicate()


# -- many readers of one file ---------------------------------------------------------------------------------------


def _wan_bytes(lake: Lakeside, size: Size) -> Row:
    (source,) = random_files(lake.work / "shared", count=1, size_bytes=size.stream_bytes)
    ours, nginx, direct = lake.place(source, _MIDDLE, names=3)

    def crossed(read: Callable[..., None], url: str) -> float:
        before = lake.crossed_bytes(_MIDDLE)
        read(*[url] * _READERS)
        return (lake.crossed_bytes(_MIDDLE) - before) / size.stream_bytes

    through_cache = crossed(lake.stream, lake.cached(_MIDDLE, ours))
    return Row(
        id="cache.wan_bytes",
        what=f"{_READERS} readers at once of a file of {size.stream_bytes / 1e6:.0f} MB that no cache keeps yet",
        unit="bytes over the network for one of the file",
        better="lower",
        ours=through_cache,
        peers={
            "nginx": crossed(lake.fetch, lake.through_nginx(_MIDDLE, nginx)),
            "without a cache": crossed(lake.stream, lake.direct(_MIDDLE, direct)),
        },
        limit=1.0,
        target="at most 1.05",
        met=through_cache <= 1.05,
    )


# -- who may read ---------------------------------------------------------------------------------------------------


def _decisions(lake: Lakeside, size: Size) -> Iterator[Row]:
    (source,) = random_files(lake.work / "small", count=1, size_bytes=_RANGE_BYTES * 16)
    (name,) = lake.place(source, LOCAL, names=1)
    tokens = [lake.sign("storage.read:/lake", lake.audiences) for _ in range(size.tokens)]
    new, known, none = "a new token in each", "one token", "no token, a page of the server's own"
    path = f"{FOLDER}/{name}"
    costs = {
        new: _load(lake, size, path, map(_authorization, tokens).__next__),
        known: _load(lake, size, path, itertools.repeat(_authorization(lake.token)).__next__),
        none: _load(lake, size, xrootd.HEALTH_PATH, lambda: ""),
    }
    what = f"GET of {_RANGE_BYTES // 1024} KiB of a file, the same token in each, one request after the other"
    more_ms = costs[known].cpu_ms - costs[none].cpu_ms
    yield Row(
        id="authz.decision",
        what=what,
        unit="ms of the server's CPU",
        better="lower",
        ours=costs[known].cpu_ms,
        peers={way: costs[way].cpu_ms for way in (new, none)},
        target=f"at most 1 ms more than without a decision (this run: {more_ms:.2f})",
        met=more_ms <= 1.0,
    )
    yield Row(
        id="authz.rate",
        what=what,
        unit="requests/s",
        better="higher",
        ours=costs[known].rate,
        peers={way: costs[way].rate for way in (new, none)},
        target="1000 on one connection",
        met=costs[known].rate >= 1000,
    )


def _authorization(token: str) -> str:
    return f"Authorization: Bearer {token}\r\n"


@dataclass(frozen=True)
class _Cost:
    """Requests a second on one connection, and milliseconds of the server's CPU for each."""

    rate: float
    cpu_ms: float


def _load(lake: Lakeside, size: Size, path: str, header: Callable[[], str]) -> _Cost:
    element = lake.element(LOCAL)
    host, port = element.audience, lake.context.ports[f"{LOCAL}.https"]
    pid = lake.processes[xrootd.unit_name(LOCAL)].pid

    def request(_: bytes) -> bytes:
        lines = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nRange: bytes=0-{_RANGE_BYTES - 1}\r\n{header()}\r\n"
        return lines.encode()

    before = cpu_s([pid])
    load = drive((host, port), lake.ca, [request], seconds=size.load_s, warm_s=size.load_s / 4)
    return _Cost(load.rate, (cpu_s([pid]) - before) * 1000 / load.answered)


BENCHMARK = Benchmark(
    "caches",
    (
        *("cache.stream", "cache.cold_overhead", "cache.warm", "cache.vs_nginx.cold", "cache.vs_nginx.warm"),
        *("cache.columns", "cache.wan_bytes", "authz.decision", "authz.rate"),
    ),
    measure,
)
