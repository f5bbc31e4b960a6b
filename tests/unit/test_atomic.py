from __future__ import annotations

import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from boathouse import atomic


def test_a_file_is_replaced_with_its_mode_and_owner(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o644)
    owned: list[bytes] = []
    atomic.write(path, b"new", own=lambda made: owned.append(made.read_bytes()))
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert owned == [b"new"]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("mode", [0o600, 0o644])
@pytest.mark.parametrize("mask", [0, 0o077])
def test_the_mode_is_that_asked_for_whatever_the_umask(tmp_path: Path, mask: int, mode: int) -> None:
    target = tmp_path / "token"
    before = os.umask(mask)
    try:
        atomic.write(target, b"new", mode=mode)
    finally:
        os.umask(before)
    assert (target.read_text(), stat.S_IMODE(target.stat().st_mode)) == ("new", mode)
    assert list(tmp_path.iterdir()) == [target]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def refuse(made: Path) -> None:
        raise PermissionError(made)

    with pytest.raises(PermissionError):
        atomic.write(path, b"new", own=refuse)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_directory_in_its_place_is_an_error_that_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(OSError, match="file"):
        atomic.write(tmp_path / "file", b"new")
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_many_writers_leave_one_whole_file(tmp_path: Path) -> None:
    contents = [bytes([number]) * 100_000 for number in range(16)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda content: atomic.write(tmp_path / "file", content), contents))
    assert (tmp_path / "file").read_bytes() in contents
    assert len(list(tmp_path.iterdir())) == 1


def directory(path: Path, *names: str) -> Path:
    path.mkdir()
    for name in names:
        (path / name).write_text(name)
    return path


def names(path: Path) -> list[str]:
    return sorted(file.name for file in path.iterdir())


@pytest.mark.parametrize("there", [False, True])
def test_a_directory_takes_a_free_place_or_that_of_an_empty_one(tmp_path: Path, there: bool) -> None:
    new = directory(tmp_path / "new", "a")
    if there:
        (tmp_path / "place").mkdir()
    atomic.replace_directory(new, tmp_path / "place")
    assert names(tmp_path) == ["place"]
    assert names(tmp_path / "place") == ["a"]


@pytest.mark.parametrize("exchange", [atomic.replace_directory, atomic._exchange_by_turns])
def test_a_directory_takes_the_place_of_another_which_takes_its_own(
    tmp_path: Path, exchange: Callable[[Path, Path], None]
) -> None:
    new, place = directory(tmp_path / "new", "a"), directory(tmp_path / "place", "b", "c")
    inode = new.stat().st_ino
    exchange(new, place)
    assert place.stat().st_ino == inode
    assert (names(place), names(new)) == (["a"], ["b", "c"])
    assert names(tmp_path) == ["new", "place"]


def test_a_directory_never_takes_the_place_of_a_file(tmp_path: Path) -> None:
    new = directory(tmp_path / "new", "a")
    (tmp_path / "place").write_text("file")
    with pytest.raises(NotADirectoryError):
        atomic.replace_directory(new, tmp_path / "place")
    assert (tmp_path / "place").read_text() == "file"
    assert names(new) == ["a"]


def test_the_old_directory_comes_back_if_the_new_one_cannot_take_its_place(tmp_path: Path) -> None:
    place = directory(tmp_path / "place", "b")
    with pytest.raises(FileNotFoundError):
        atomic._exchange_by_turns(tmp_path / "nothing", place)
    assert names(tmp_path) == ["place"]
    assert names(place) == ["b"]


def test_a_new_directory_in_place_is_no_failure_if_the_old_one_keeps_another_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new, place = directory(tmp_path / "new", "a"), directory(tmp_path / "place", "b")
    rename = Path.rename

    def refuse_the_last(source: Path, target: Path) -> Path:
        if source.name == "new.old":
            raise PermissionError(source)
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", refuse_the_last)
    atomic._exchange_by_turns(new, place)
    assert names(place) == ["a"]
    assert names(tmp_path) == ["new.old", "place"]


def test_names_are_on_the_disk_before_and_after_a_directory_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new, place = directory(tmp_path / "new", "a"), tmp_path / "place"
    inode, synced = new.stat().st_ino, []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append((os.fstat(descriptor).st_ino, place.exists())))
    atomic.replace_directory(new, place)
    assert synced == [((place / "a").stat().st_ino, False), (inode, False), (tmp_path.stat().st_ino, True)]
