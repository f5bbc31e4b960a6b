"""Parts of files that hold no events, read through a cache: image cubes as FITS and as HDF5, and tar files.

A reader opens a connection, reads one part by ranges over https and goes. The same part is read from the element,
through a cache that has nothing of the file, through the cache once more, and from an element next to the reader.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.harness import Benchmark, Effort, Row
from bench.lakeside import DISTANCES_MS, LOCAL, Lakeside, lakeside, peers_python

_MIDDLE = "MIDDLE-DISK"
PARTS: Mapping[str, Mapping[str, str]] = {
    "fits": {
        "plane": "one plane of a FITS cube",
        "spectrum": "one pixel in every plane of a FITS cube",
        "cut-out": "32 by 32 pixels in 2 planes of a FITS cube",
    },
    "hdf5": {
        "plane": "one plane of a chunked HDF5 cube",
        "spectrum": "one pixel in every plane of a chunked HDF5 cube",
        "cut-out": "32 by 32 pixels in 2 planes of a chunked HDF5 cube",
    },
    "tar": {
        "listing": "the names of the members of a tar file",
        "search": "the middle member of a tar file, searched for",
        "indexed": "the middle member of a tar file, at a known place",
    },
}
"""What is read of each kind of file."""
_NAMES = {"fits": "cube.fits", "hdf5": "cube.h5", "tar": "members.tar"}


@dataclass(frozen=True)
class Size:
    """How large the files are, and how often each part is read."""

    shape: tuple[int, int, int]
    chunks: tuple[int, int, int]
    members: int
    member_bytes: int
    turns: int
    distant: tuple[str, ...]


SIZES = {
    Effort.full: Size((64, 512, 512), (16, 64, 64), 40, 1_500_000, 3, tuple(DISTANCES_MS)),
    Effort.quick: Size((8, 64, 64), (4, 32, 32), 6, 20_000, 1, (_MIDDLE,)),
}


class Reader:
    """A process with h5py that makes the files and reads parts of them."""

    def __init__(self, lake: Lakeside, process: subprocess.Popen[str]) -> None:
        self._lake = lake
        self._process = process

    def ask(self, **request: object) -> dict[str, Any]:
        """Do one thing; what it said of it."""
        assert self._process.stdin
        assert self._process.stdout
        whom = {"token_file": str(self._lake.token_file), "ca": str(self._lake.ca)}
        self._process.stdin.write(json.dumps({**whom, **request}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the reader has ended; it said why above"
        return dict(json.loads(line))


@contextmanager
def _reader(lake: Lakeside) -> Iterator[Reader]:
    python = peers_python(lake.context.programs)
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen(
        [python, "-B", "-m", "bench.parts"],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Reader(lake, process)
        finally:
            # It ends when nobody can ask it any more.
            process.communicate()


@dataclass
class Reads:
    """What every turn took, by the way that was read; all of them gave the same bytes."""

    ms: dict[str, list[float]] = field(default_factory=dict)
    crossed_bytes: dict[str, list[int]] = field(default_factory=dict)
    requests: int = 0
    wanted_bytes: int = 0
    digests: set[str] = field(default_factory=set)

    def median_ms(self, way: str) -> float:
        """Of all turns."""
        return statistics.median(self.ms[way])

    def crossed(self, way: str) -> str:
        """Bytes over the network, for people."""
        return f"{statistics.median(self.crossed_bytes[way]) / 1e6:.2g} MB"


def measure(effort: Effort) -> list[Row]:
    """A row for each part of each kind of file at each distance."""
    size = SIZES[effort]
    with lakeside() as lake, _reader(lake) as reader:
        folder = lake.work / "made"
        folder.mkdir()
        member = reader.ask(
            make=str(folder),
            shape=size.shape,
            chunks=size.chunks,
            members=size.members,
            member_bytes=size.member_bytes,
        )
        for rse in size.distant:
            _connect(lake, folder, rse)
        return [
            _row(kind, part, rse, _in_turns(lake, reader, folder, size, kind=kind, part=part, rse=rse, member=member))
            for rse in size.distant
            for kind, parts in PARTS.items()
            for part in parts
        ]


def _connect(lake: Lakeside, folder: Path, rse: str) -> None:
    """Have the cache connect to an element, which it does once; it is no part of reading one file or another."""
    (name,) = lake.place(folder / _NAMES["fits"], rse, names=1)
    lake.fetch(lake.cached(rse, name, "https"))


def _in_turns(
    lake: Lakeside,
    reader: Reader,
    folder: Path,
    size: Size,
    *,
    kind: str,
    part: str,
    rse: str,
    member: Mapping[str, Any],
) -> Reads:
    source = folder / _NAMES[kind]
    (local,) = lake.place(source, LOCAL, names=1)
    reads = Reads()
    for name in lake.place(source, rse, names=size.turns):
        ways = {
            "direct": lake.direct(rse, name, "https"),
            "cold": lake.cached(rse, name, "https"),
            "warm": lake.cached(rse, name, "https"),
            "local": lake.direct(LOCAL, local, "https"),
        }
        for way, url in ways.items():
            before = lake.crossed_bytes(rse)
            said = reader.ask(url=url, kind=kind, part=part, member=member)
            reads.ms.setdefault(way, []).append(1000 * said["seconds"])
            reads.crossed_bytes.setdefault(way, []).append(lake.crossed_bytes(rse) - before)
            reads.requests, reads.wanted_bytes = said["requests"], said["wanted_bytes"]
            reads.digests.add(said["sha256"])
    assert len(reads.digests) == 1, f"{kind} {part} differs from way to way"
    return reads


def _row(kind: str, part: str, rse: str, reads: Reads) -> Row:
    crossed = ", ".join(
        f"{reads.crossed(way)} {words}"
        for way, words in (("direct", "without a cache"), ("cold", "not kept yet"), ("warm", "kept"))
    )
    over = f"; over the network {crossed}" if DISTANCES_MS[rse] else ""
    return Row(
        id=f"cache.files.{kind}",
        what=(
            f"{PARTS[kind][part]}, {DISTANCES_MS[rse]} ms away, kept by a cache: {reads.wanted_bytes / 1e6:.2g} MB by "
            f"{reads.requests} requests{over}"
        ),
        unit="ms",
        better="lower",
        ours=reads.median_ms("warm"),
        peers={"not kept yet": reads.median_ms("cold"), "without a cache": reads.median_ms("direct")},
        limit=reads.median_ms("local"),
        target="faster than without a cache, where there is a distance",
        met=reads.median_ms("warm") < reads.median_ms("direct") or not DISTANCES_MS[rse],
    )


BENCHMARK = Benchmark("files", tuple(f"cache.files.{kind}" for kind in PARTS), measure)
