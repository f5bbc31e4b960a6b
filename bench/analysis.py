"""Reading through a warm cache beside reading local files: the same analysis, the same workers, in turns.

All cores compute all the time, so the ratio tells what TLS and copying cost beside unpacking and the user's code. It is
measured for a file as CMS publishes them, and for many small ones in a codec that leaves little to do beside the
transport.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import awkward as ak
import numpy as np
import uproot

from bench.harness import Benchmark, Effort, Row, median_of
from bench.wire import bare_tls_cpu_s
from boathouse.analysis import task as tasks
from boathouse.analysis.dataset import Dataset, from_lake, from_paths
from boathouse.analysis.rootwrite import Batch, Jagged, add_tree, recreate
from boathouse.analysis.run import WORKER_MODULES, run
from boathouse.analysis.samples import BRANCHES, CLUSTER_ENTRIES, Sample, generate
from boathouse.analysis.sources import Access
from boathouse.analysis.tokens import TokenFile
from boathouse.compute.local import LocalDask
from boathouse.lake.names import Did
from boathouse.testing.box import box

ROOT = Path(__file__).parents[1]
TARGET = 0.9


@dataclass(frozen=True)
class Size:
    """What is read, and how often."""

    sample: Sample
    turns: int


SIZES = {
    Effort.full: Size(Sample(events=4_000_000, files=16), turns=11),
    Effort.quick: Size(Sample(events=20_000, files=2), turns=1),
}


def measure(effort: Effort) -> list[Row]:
    """Events per second over a warm cache, for files in two codecs."""
    size = SIZES[effort]
    with box(ROOT / "examples" / "laptop.yaml") as lake_box:
        made = [file.path for file in generate(size.sample, lake_box.work / "samples")]
        forms = {
            ("analysis.warm_cache", "one file of ZLIB 1, as CMS publishes its muons"): _published(
                made, lake_box.work / "published"
            ),
            ("analysis.warm_zstd", f"{size.sample.files} files of ZSTD 5, cheap to unpack"): made,
        }
        lake = lake_box.login("alice")
        with TokenFile(lake.token) as token:
            access = Access(str(token.path), lake.endpoints.ca_bundle)
            with LocalDask(environment=access.environment(), preload=WORKER_MODULES) as backend:
                rows = []
                for (row, codec), paths in forms.items():
                    did = Did("cms", f"Bench.{row}")
                    lake_box.cli(
                        "import", *paths, "--to", str(did), "--qos", "FAST", "--prefix", f"{row}/", user="alice"
                    )
                    speeds = _compare(from_lake(lake, did, site="CNAF"), from_paths(paths), backend, access, size)
                    what = f"dimuon analysis of {size.sample.events:,} events through a warm cache, {codec}"
                    rows.append(_row(row, f"{what}, {backend.workers} workers", speeds))
    return rows


@dataclass(frozen=True)
class Speeds:
    """Events per second of every turn, by where the bytes came from; and of local files and bare TLS together."""

    cache: list[float]
    local: list[float]
    storage: list[float]
    bare_tls: float


def _compare(cached: Dataset, local: Dataset, backend: LocalDask, access: Access, size: Size) -> Speeds:
    task = tasks.load(ROOT / "examples" / "analysis" / "dimuon.py")
    # The URLs of a file: through the cache, then the replica itself.
    direct = replace(cached, files=tuple(replace(file, urls=file.urls[1:]) for file in cached.files))
    ways = {"cache": cached, "local": local, "storage": direct}
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    walls, bytes_read = [], 0
    for turn in range(-1, size.turns):
        for name, dataset in ways.items():
            result = run(task, dataset, backend, access=access)
            assert not result.failed, result.failed
            assert result.events == size.sample.events
            # The first turn fills the cache and opens the files.
            if turn >= 0:
                speeds[name].append(result.events / result.wall_s)
                if name == "local":
                    walls.append(result.wall_s)
            bytes_read = result.bytes_read
    # All cores compute: what carries the bytes takes their time.
    bare_s = statistics.median(walls) + median_of(3, lambda: bare_tls_cpu_s(bytes_read)) / backend.workers
    return Speeds(**speeds, bare_tls=size.sample.events / bare_s)


def _row(row: str, what: str, speeds: Speeds) -> Row:
    # Neighbours in time are compared: the machine's speed drifts.
    ratio = statistics.median(ours / peer for ours, peer in zip(speeds.cache, speeds.local, strict=True))
    return Row(
        id=row,
        what=what,
        unit="events/s",
        better="higher",
        ours=statistics.median(speeds.cache),
        peers={
            "local files": statistics.median(speeds.local),
            "storage element": statistics.median(speeds.storage),
            "local files, and their bytes once over bare TLS": speeds.bare_tls,
        },
        limit=statistics.median(speeds.local),
        target=f"{TARGET} of the same code on local files (this run: {ratio:.2f})",
        met=ratio >= TARGET,
    )


def _published(paths: Sequence[Path], directory: Path) -> list[Path]:
    """The same events as CMS publishes its muons for outreach: one file, ZLIB 1."""
    directory.mkdir()
    target = directory / "muons.root"
    with recreate(target, uproot.ZLIB(1)) as file:
        add_tree(file, "Events", BRANCHES, chain.from_iterable(map(_batches, paths)), cluster_entries=CLUSTER_ENTRIES)
    return [target]


def _batches(path: Path) -> Iterator[Batch]:
    with uproot.open({path: None}) as file:
        tree = file["Events"]
        for start in range(0, tree.num_entries, CLUSTER_ENTRIES):
            columns = tree.arrays(entry_start=start, entry_stop=start + CLUSTER_ENTRIES, how=dict)
            counts = np.asarray(columns.pop("nMuon"))
            yield {
                name: Jagged(counts, np.asarray(ak.flatten(values))) if BRANCHES[name].counter else np.asarray(values)
                for name, values in columns.items()
            }


BENCHMARK = Benchmark("analysis", ("analysis.warm_cache", "analysis.warm_zstd"), measure)
