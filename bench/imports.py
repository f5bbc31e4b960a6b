"""Import of many small and of some large files, beside `rucio upload` and beside bare parallel PUTs."""

from __future__ import annotations

import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.facility import SCOPE, USER, endpoint, laptop, random_files
from bench.harness import Benchmark, Effort, Row, timed
from boathouse.testing.box import Box

_RSE = "CNAF-STORM"
_PUTS_AT_ONCE = 6


def _bare_puts(running: Box, paths: list[Path]) -> None:
    """The bytes alone over kept-alive connections: no checksum, no look at what arrived, no catalogue."""
    base = f"{endpoint(running, _RSE).https}/lake/{SCOPE}/bare"
    storage = running.login(USER).storage

    def put(path: Path) -> None:
        with path.open("rb") as stream:
            storage.put(f"{base}/{path.name}", stream, path.stat().st_size)

    with ThreadPoolExecutor(_PUTS_AT_ONCE) as threads:
        list(threads.map(put, paths))


def _measure(running: Box, name: str, *, count: int, size_bytes: int, times_peer: float) -> Row:
    ours_files = random_files(running.work / f"{name}-ours", count=count, size_bytes=size_bytes)
    ours_s = timed(
        lambda: running.cli("import", *ours_files, "--to", f"{SCOPE}:{name}", "--rse", _RSE, "--any-file", user=USER)
    )
    bare_s = timed(lambda: _bare_puts(running, ours_files))
    shutil.rmtree(ours_files[0].parent)

    peer_files = random_files(running.work / f"{name}-peer", count=count, size_bytes=size_bytes)
    environment = running.env(USER)
    peer_s = timed(
        lambda: subprocess.run(
            ["rucio", "upload", "--rse", _RSE, "--scope", SCOPE, *map(str, peer_files)],
            env=environment,
            check=True,
            capture_output=True,
        )
    )
    shutil.rmtree(peer_files[0].parent)
    for part in ("se-cnaf-storm",):
        shutil.rmtree(running.local.plan.layout.data / part / "lake" / SCOPE / "bare")

    megabytes = count * size_bytes / 1e6
    ours, peer, limit = megabytes / ours_s, megabytes / peer_s, megabytes / bare_s
    aim = min(times_peer * peer, 0.8 * limit)
    return Row(
        id=f"import.{name}",
        what=f"{count} files of {size_bytes / 1e6:.0f} MB into one RSE: verified, registered, attached, with a rule",
        unit="MB/s",
        better="higher",
        ours=ours,
        peers={"rucio upload": peer},
        limit=limit,
        target=f"{times_peer:g} times `rucio upload`, or 0.8 of bare parallel PUTs where that is less: {aim:.1f} MB/s",
        met=ours >= aim,
    )


def _run(effort: Effort) -> list[Row]:
    with laptop() as running:
        if effort is Effort.quick:
            return [_measure(running, "1MB", count=3, size_bytes=1_000_000, times_peer=20)]
        return [
            _measure(running, "1MB", count=500, size_bytes=1_000_000, times_peer=20),
            _measure(running, "100MB", count=20, size_bytes=100_000_000, times_peer=1.5),
        ]


BENCHMARK = Benchmark("import", ("import.1MB", "import.100MB"), _run)
