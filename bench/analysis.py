"""Reading through a warm cache beside reading local files: the same analysis, the same workers, in turns."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, replace
from pathlib import Path

from bench.harness import Benchmark, Effort, Row
from boathouse.analysis import task as tasks
from boathouse.analysis.dataset import Dataset, from_lake, from_paths
from boathouse.analysis.run import WORKER_MODULES, run
from boathouse.analysis.samples import Sample, generate
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
    Effort.full: Size(Sample(events=4_000_000, files=16), turns=7),
    Effort.quick: Size(Sample(events=20_000, files=2), turns=1),
}


def measure(effort: Effort) -> list[Row]:
    """Events per second over a warm cache."""
    size = SIZES[effort]
    with box(ROOT / "examples" / "laptop.yaml") as lake_box:
        made = generate(size.sample, lake_box.work / "samples")
        did = Did("cms", "Bench.sample")
        paths = [file.path for file in made]
        lake_box.cli("import", *paths, "--to", str(did), "--qos", "FAST", user="alice")
        lake = lake_box.login("alice")
        cached = from_lake(lake, did, site="CNAF")
        with TokenFile(lake.token) as token:
            access = Access(str(token.path), lake.endpoints.ca_bundle)
            with LocalDask(environment=access.environment(), preload=WORKER_MODULES) as backend:
                return _compare(cached, from_paths(paths), backend, access, size)


def _compare(cached: Dataset, local: Dataset, backend: LocalDask, access: Access, size: Size) -> list[Row]:
    task = tasks.load(ROOT / "examples" / "analysis" / "dimuon.py")
    # The URLs of a file: through the cache, then the replica itself.
    direct = replace(cached, files=tuple(replace(file, urls=file.urls[1:]) for file in cached.files))
    ways = {"cache": cached, "local files": local, "storage element": direct}
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(-1, size.turns):
        for name, dataset in ways.items():
            result = run(task, dataset, backend, access=access)
            assert not result.failed, result.failed
            assert result.events == size.sample.events
            # The first turn fills the cache and opens the files.
            if turn >= 0:
                speeds[name].append(result.events / result.wall_s)
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    # Neighbours in time are compared: the machine's speed drifts.
    ratio = statistics.median(ours / peer for ours, peer in zip(speeds["cache"], speeds["local files"], strict=True))
    return [
        Row(
            id="analysis.warm_cache",
            what=f"dimuon analysis of {size.sample.events:,} events through a warm cache, {backend.workers} workers",
            unit="events/s",
            better="higher",
            ours=medians.pop("cache"),
            peers=medians,
            limit=medians["local files"],
            target=f"{TARGET} of the same code on local files (this run: {ratio:.2f})",
            met=ratio >= TARGET,
        )
    ]


BENCHMARK = Benchmark("analysis", ("analysis.warm_cache",), measure)
