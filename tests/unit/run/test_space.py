from __future__ import annotations

from pathlib import Path

import pytest

from boathouse.run.local.space import measure, read


def test_an_element_is_as_full_as_its_own_files(tmp_path: Path) -> None:
    deep = tmp_path / "lake" / "cms" / "ab"
    deep.mkdir(parents=True)
    (deep / "one").write_bytes(b"x" * 300)
    (deep.parent / "two").write_bytes(b"x" * 200)
    space = measure(tmp_path, 1000)
    assert (space.used_bytes, space.free_bytes, space.files) == (500, 500, 2)
    assert measure(tmp_path, 400).free_bytes == 0


def test_a_directory_that_is_not_there_is_no_empty_element(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        measure(tmp_path / "none", 1000)


def test_nothing_is_known_before_it_was_measured(tmp_path: Path) -> None:
    assert read(tmp_path / "space.json") == {}
