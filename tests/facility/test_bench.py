"""Benchmarks work: what is measured rarely breaks unnoticed. Their figures are for people, on a quiet machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import fields
from pathlib import Path

import pytest
from bench import files
from bench.__main__ import BENCHMARKS
from bench.harness import Row

CHECKOUT = Path(__file__).parents[2]
PATIENCE_S = 300.0
TAKE_DOWN_S = 60.0


def run(command: list[str], directory: Path, environment: dict[str, str]) -> tuple[int, str]:
    """Exit status and output of a command that is ended with all its children when it takes too long."""
    with subprocess.Popen(
        command,
        cwd=directory,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            said, _ = process.communicate(timeout=PATIENCE_S)
        except BaseException:
            end(process)
            raise
    return process.returncode, said


def end(process: subprocess.Popen[str]) -> None:
    """Ask a benchmark and its children to end; it takes its facility down. Kill what does not."""
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.communicate(timeout=TAKE_DOWN_S)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.timeout(PATIENCE_S + 2 * TAKE_DOWN_S)
@pytest.mark.parametrize("benchmark", BENCHMARKS, ids=lambda benchmark: benchmark.name)
def test_a_benchmark_runs_and_writes_its_rows(benchmark, tmp_path: Path) -> None:
    paths = os.pathsep.join(filter(None, (str(CHECKOUT), os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-m", "bench", "--quick", benchmark.name]
    status, said = run(command, tmp_path, {**os.environ, "PYTHONPATH": paths})
    assert status == 0, said
    rows = json.loads((tmp_path / "build" / "bench.json").read_text())
    assert rows
    for row in rows:
        assert set(row) == {field.name for field in fields(Row)}
        assert row["id"] in benchmark.ids
        assert row["id"] in said
        figures = [row["ours"], *row["peers"].values(), *([] if row["limit"] is None else [row["limit"]])]
        assert all(figure > 0 for figure in figures), row


def test_a79_the_answer_whether_caches_help_other_files_has_a_line_for_all_that_its_command_measures() -> None:
    page = (CHECKOUT / "docs" / "topics" / "other-files.md").read_text(encoding="utf-8")
    assert "make bench ONLY=cache.files" in page
    assert all(key.startswith("cache.files") for key in files.BENCHMARK.ids)
    lines = [line.split(" | ")[0].removeprefix("| ") for line in page.splitlines() if line.startswith("| ")]
    assert lines[1:] == [words for parts in files.PARTS.values() for words in parts.values()]
