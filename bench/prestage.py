"""Bringing a dataset into a site's cache before it is read there, beside `xrdcp` through the same cache."""

from __future__ import annotations

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor

from bench.facility import SCOPE, USER, laptop, random_files
from bench.harness import Benchmark, Effort, Row, timed
from boathouse.lake.access import LakeFile
from boathouse.lake.names import Did
from boathouse.testing.box import Box
from boathouse.testing.wait import wait_for

_RSE, _SITE, _CACHE = "EULAKE-1", "CNAF", "CNAF-XCACHE"
_AT_ONCE = 4


def _dataset(running: Box, name: str, *, count: int, size_bytes: int) -> Did:
    did = Did(SCOPE, f"prestage-{name}")
    files = random_files(running.work / did.name, count=count, size_bytes=size_bytes)
    running.login(USER).put(files, scope=SCOPE, rse_expression=_RSE, dataset=did)
    for path in files:
        path.unlink()
    return did


def _through(file: LakeFile, scheme: str) -> str:
    return next(url for url in file.urls if url.startswith(f"{scheme}:") and "//roots://" in url)


def _xrdcp(running: Box, did: Did) -> None:
    """What one would do without us: copy every file through the cache to nowhere."""
    environment = running.env(USER)

    def copy(file: LakeFile) -> None:
        command = ["xrdcp", "-s", "-f", _through(file, "root"), "/dev/null"]
        subprocess.run(command, env=environment, check=True, capture_output=True)

    with ThreadPoolExecutor(_AT_ONCE) as threads:
        list(threads.map(copy, running.login(USER).files(did, site=_SITE)))


def _counted(running: Box, did: Did) -> dict[str, int]:
    (found,) = json.loads(running.cli("cache", "status", str(did), "--at", _CACHE, "--json", user=USER).stdout)
    return dict(found)


def _hit_ratio(running: Box, did: Did, size_bytes: int) -> float:
    """Part of a full read that did not come from the element."""

    def wait(what: str, served_bytes: int) -> dict[str, int]:
        wait_for(what, lambda: _counted(running, did)["served_bytes"] >= served_bytes, timeout_s=200, period_s=0.5)
        return _counted(running, did)

    before = wait("the prestaging is counted", size_bytes)
    lake = running.login(USER)
    for file in lake.files(did, site=_SITE):
        for _ in lake.storage.get(_through(file, "https")):
            pass
    after = wait("the read is counted", before["served_bytes"] + size_bytes)
    return 1 - (after["fetched_bytes"] - before["fetched_bytes"]) / size_bytes


def measure(effort: Effort) -> list[Row]:
    """One row, of a whole facility: the catalogue says which files there are."""
    with laptop() as running:
        return [_row(running, effort)]


def _row(running: Box, effort: Effort) -> Row:
    count, size_bytes = (2, 3_000_000) if effort is Effort.quick else (16, 64_000_000)
    ours, peer = (_dataset(running, name, count=count, size_bytes=size_bytes) for name in ("ours", "peer"))
    ours_s = timed(
        lambda: running.cli("cache", "prestage", str(ours), "--at", _SITE, "--workers", str(_AT_ONCE), user=USER)
    )
    peer_s = timed(lambda: _xrdcp(running, peer))
    hits = _hit_ratio(running, ours, count * size_bytes)
    megabytes = count * size_bytes / 1e6
    return Row(
        id="cache.prestage",
        what=f"{count} files of {size_bytes / 1e6:.0f} MB into a site's cache, verified; then a read, {hits:.1%} hits",
        unit="MB/s",
        better="higher",
        ours=megabytes / ours_s,
        peers={"xrdcp through the cache, unverified": megabytes / peer_s},
        target="100 % hits in a full read afterwards, and 0.8 of `xrdcp`",
        met=hits == 1.0 and peer_s / ours_s >= 0.8,
    )


BENCHMARK = Benchmark("prestage", ("cache.prestage",), measure)
