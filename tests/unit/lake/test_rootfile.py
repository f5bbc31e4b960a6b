from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import uproot

from boathouse.errors import InputError
from boathouse.lake.rootfile import HEADER_BYTES, check, check_header


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("root") / "whole.root"
    with uproot.recreate(path, compression=uproot.ZSTD(5)) as file:
        file.mktree("Events", {"x": "float32"}).extend({"x": np.arange(10_000, dtype=np.float32)})
    return path


def test_a_whole_file_is_described(whole: Path) -> None:
    summary = check(whole)
    assert summary.size_bytes == whole.stat().st_size
    assert summary.compression == "ZSTD 5"
    assert summary.version.count("/") == 1


@pytest.mark.parametrize("kept", [0, 3, 11, 12, 40, 99, 300, 5_000])
def test_a_shortened_file_is_refused(whole: Path, tmp_path: Path, kept: int) -> None:
    short = tmp_path / "short.root"
    short.write_bytes(whole.read_bytes()[:kept])
    with pytest.raises(InputError) as caught:
        check(short)
    assert caught.value.where == str(short)
    assert str(kept) in str(caught.value.got) or kept == 0


def test_losing_one_byte_is_enough(whole: Path, tmp_path: Path) -> None:
    short = tmp_path / "short.root"
    short.write_bytes(whole.read_bytes()[:-1])
    with pytest.raises(InputError, match="truncated"):
        check(short)


@pytest.mark.parametrize(
    "content", [b"", b"GIF89a" + bytes(400), b"root:x:0:0:root:/root:/bin/bash\n" * 20, b"SIMPLE  =  T" + b" " * 3000]
)
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    other = tmp_path / "other.root"
    other.write_bytes(content)
    with pytest.raises(InputError, match="not a ROOT file"):
        check(other)


def test_a_file_that_was_never_closed_is_refused(whole: Path) -> None:
    head = bytearray(whole.read_bytes()[:HEADER_BYTES])
    # fSeekFree, which is written when a file is closed: after magic, version, fBEGIN and fEND.
    head[16:20] = bytes(4)
    with pytest.raises(InputError, match="never closed"):
        check_header(bytes(head), whole.stat().st_size, "x")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        check(tmp_path / "no.root")
    assert caught.value.where == str(tmp_path / "no.root")
    assert caught.value.got == "No such file or directory"
