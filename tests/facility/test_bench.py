"""Benchmarks work: what is measured rarely breaks unnoticed. Their figures are for people, on a quiet machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from bench.__main__ import BENCHMARKS
from bench.harness import Row

CHECKOUT = Path(__file__).parents[2]


@pytest.mark.parametrize("benchmark", BENCHMARKS, ids=lambda benchmark: benchmark.name)
def test_a_benchmark_runs_and_writes_its_rows(benchmark, tmp_path: Path) -> None:
    paths = os.pathsep.join(filter(None, (str(CHECKOUT), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--quick", benchmark.name],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((tmp_path / "build" / "bench.json").read_text())
    assert rows
    for row in rows:
        assert set(row) == {field.name for field in fields(Row)}
        assert row["id"] in benchmark.ids
        assert row["id"] in done.stdout
        figures = [row["ours"], *row["peers"].values(), *([] if row["limit"] is None else [row["limit"]])]
        assert all(figure > 0 for figure in figures), row
