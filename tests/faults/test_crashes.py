"""Every service is killed while an import and a replication run; afterwards catalogue and storage agree."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from boathouse.lake.names import Did
from boathouse.testing.box import Box, box
from boathouse.testing.wait import wait_for

EXAMPLES = Path(__file__).parents[2] / "examples"

# The source and the destination of the copies, and their copy doors, stand for all storage elements.
UNITS = (
    "postgres",
    "tokens",
    "keeper",
    "transfers",
    "rucio",
    "rucio-daemons",
    "se-cnaf-storm",
    "se-desy-dcache",
    "copy-cnaf-storm",
    "copy-desy-dcache",
    "cache-cnaf-xcache",
)
FILES, FILE_BYTES = 40, 300_000

OVERLAPS = """
select count(*) from attempts a join files f using (file_id), attempts b join files g using (file_id)
where f.dest_url = g.dest_url and (a.file_id, a.attempt) < (b.file_id, b.attempt)
and a.started < b.ended and b.started < a.ended
"""


@pytest.fixture(scope="module")
def crash_box() -> Iterator[Box]:
    with box(EXAMPLES / "laptop.yaml") as running:
        yield running


@pytest.mark.parametrize("unit", UNITS)
def test_a_killed_service_loses_nothing_and_doubles_nothing(crash_box: Box, unit: str) -> None:
    dataset = Did("testing", f"crash-{unit}")
    folder = _random_files(crash_box.work / dataset.name, seed=UNITS.index(unit))
    lake = crash_box.login("alice")
    lake.catalogue.ensure_dataset(dataset)
    crash_box.cli("rule", "add", str(dataset), "QOS=SAFE", user="alice")

    importing = _import_in_background(crash_box, folder, dataset)
    try:
        wait_for(
            "some files are registered",
            lambda: _known(crash_box, dataset) >= 3 or importing.poll() is not None,
            timeout_s=120,
        )
        _kill(crash_box, unit)
        importing.wait(timeout=400)
    finally:
        importing.kill()
        importing.wait()
    crash_box.wait_ready()

    # Whether the import went through or gave up with a reason: the same command again completes it.
    crash_box.cli("import", folder, "--to", str(dataset), "--rse", "CNAF-STORM", "--any-file", user="alice")
    assert _known(crash_box, dataset) == FILES
    for rule in lake.rules.of(dataset):
        lake.rules.wait(rule.id, timeout_s=400)

    report = json.loads(crash_box.cli("audit", "--checksums", "--in-flight", "0 s", "--json").stdout)
    assert report["findings"] == []
    assert _sql(crash_box, "transfers", OVERLAPS) == "0"
    again = crash_box.cli(
        "import", folder, "--to", str(dataset), "--rse", "CNAF-STORM", "--any-file", "--json", user="alice"
    )
    assert {result["outcome"] for result in json.loads(again.stdout)} == {"present"}


def test_a_killed_import_goes_on_where_it_stopped(crash_box: Box) -> None:
    dataset = Did("testing", "crash-import")
    folder = _random_files(crash_box.work / dataset.name, seed=99)
    crash_box.login("alice").catalogue.ensure_dataset(dataset)
    for wanted in (1, FILES // 2):
        importing = _import_in_background(crash_box, folder, dataset)
        try:
            wait_for(
                "some files lie on storage",
                lambda wanted=wanted, process=importing: (
                    _stored(crash_box, "se-cnaf-storm", folder) >= wanted or process.poll() is not None
                ),
                timeout_s=120,
                period_s=0.01,
            )
        finally:
            importing.kill()
            importing.wait()
    crash_box.cli("import", folder, "--to", str(dataset), "--rse", "CNAF-STORM", "--any-file", user="alice")
    assert _known(crash_box, dataset) == FILES
    report = json.loads(crash_box.cli("audit", "--checksums", "--in-flight", "0 s", "--json").stdout)
    assert report["findings"] == []


def _random_files(folder: Path, *, seed: int) -> Path:
    folder.mkdir()
    source = random.Random(seed)
    for number in range(FILES):
        (folder / f"{folder.name}-{number:02d}.dat").write_bytes(source.randbytes(FILE_BYTES))
    return folder


def _import_in_background(running: Box, folder: Path, dataset: Did) -> subprocess.Popen[bytes]:
    command = ["import", str(folder), "--to", str(dataset), "--rse", "CNAF-STORM", "--any-file", "--workers", "1"]
    return subprocess.Popen(
        [sys.executable, "-m", "boathouse.cli", *command],
        env=running.environment("alice"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _known(running: Box, dataset: Did) -> int:
    return int(
        _sql(
            running,
            "rucio",
            f"select count(*) from contents where scope = '{dataset.scope}' and name = '{dataset.name}'",
        )
    )


def _stored(running: Box, unit: str, folder: Path) -> int:
    names = {path.name for path in folder.iterdir()}
    return sum(1 for path in (running.local.plan.layout.data / unit).rglob("*.dat") if path.name in names)


def _kill(running: Box, unit: str) -> None:
    before = _pid(running, unit)
    os.kill(before, signal.SIGKILL)
    wait_for(f"{unit} is there again", lambda: _pid(running, unit) not in {0, before}, timeout_s=180)


def _pid(running: Box, unit: str) -> int:
    healths = running.local.runner.status(running.local.plan)
    return next(health.pid for health in healths if health.unit == unit)


def _sql(running: Box, role: str, query: str) -> str:
    layout = running.local.plan.layout
    psql = running.local.runner.programs.postgres_bin / "psql"
    result = subprocess.run(
        [psql, "-h", layout.run / "postgres", "-U", role, "-d", role, "-Atc", query],
        env={"PGPASSWORD": layout.secret(f"postgres-{role}").read_text()},
        capture_output=True,
        text=True,
        check=False,
    )
    # While the database is being killed and comes back, nothing is known.
    return result.stdout.strip() or "0"
