from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from boathouse.analysis.samples import Sample, SampleFile, generate


def boathouse(*arguments: str, **variables: str) -> list[dict[str, object]]:
    command = [sys.executable, "-m", "boathouse.cli", "sample", "--json", *arguments]
    done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_other_processes_make_the_same_bytes(tmp_path: Path) -> None:
    """Whatever the hash seed, and whatever vector instructions the processor has."""
    made = []
    for place, variables in (
        ("a", {"PYTHONHASHSEED": "1"}),
        ("b", {"PYTHONHASHSEED": "2", "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR"}),
    ):
        out = str(tmp_path / place)
        made.append(boathouse("--events", "30000", "--files", "2", "--seed", "7", "--out", out, **variables))
    assert [file["adler32"] for file in made[0]] == [file["adler32"] for file in made[1]]
    for one, other in zip(*made, strict=True):
        assert Path(str(one["path"])).read_bytes() == Path(str(other["path"])).read_bytes()


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sample")


SAMPLE = Sample(events=9_000, files=3, seed=2)


def test_files_are_made_once(directory: Path) -> None:
    told: list[SampleFile] = []
    first = generate(SAMPLE, directory, progress=told.append)
    assert sorted(file.path.name for file in told) == [SAMPLE.name(index) for index in range(3)]
    assert sorted(path.name for path in directory.glob("*.root")) == [file.path.name for file in first]
    stamps = [file.path.stat().st_mtime_ns for file in first]
    assert generate(SAMPLE, directory) == first
    assert [file.path.stat().st_mtime_ns for file in first] == stamps


def test_a_damaged_file_is_made_again(directory: Path) -> None:
    first = generate(SAMPLE, directory)
    content = bytearray(first[1].path.read_bytes())
    content[len(content) // 2] ^= 1
    first[1].path.write_bytes(content)
    assert generate(SAMPLE, directory) == first
    assert first[1].path.read_bytes() != bytes(content)


def test_a_file_without_its_note_is_made_again(directory: Path) -> None:
    first = generate(SAMPLE, directory)
    (directory / f".{first[0].path.name}.json").unlink()
    assert generate(SAMPLE, directory) == first


def test_nothing_unfinished_stays(directory: Path) -> None:
    assert not [path for path in directory.iterdir() if path.name.startswith(".making")]
