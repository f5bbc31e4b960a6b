"""Names of what is put, what is said of it, and words that are no scope and no directory."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from boathouse.cli import lake as commands
from boathouse.errors import InputError
from boathouse.lake.names import Did
from boathouse.lake.sources import LocalSource
from boathouse.lake.upload import UploadResult


def source(name: str) -> LocalSource:
    return LocalSource(where=name, size_bytes=3)


def test_a_given_name_is_checked_and_the_files_own_is_not() -> None:
    assert commands._item(source("a b.txt"), "cms", "n0").did == Did("cms", "n0")
    with pytest.raises(InputError) as caught:
        commands._item(source("a b.txt"), "cms", "n 0")
    assert caught.value.got == "'n 0'"


@pytest.mark.parametrize(("name", "better"), [("a b.txt", "a_b.txt"), (".hidden", "hidden"), ("…", "NAME")])
def test_a_file_whose_name_will_not_do_is_answered_with_one_that_does(name: str, better: str) -> None:
    with pytest.raises(InputError) as caught:
        commands._item(source(name), "cms", None)
    assert (caught.value.remedy or "").endswith(f"--name {better}")
    assert caught.value.where == name


def result(name: str) -> UploadResult:
    return UploadResult(Did("cms", name), name, 2, "00000001", "CNAF-STORM", "uploaded")


@pytest.mark.parametrize(
    ("names", "dataset", "told"),
    [
        (["a"], None, "; as cms:a; at CNAF-STORM"),
        (["a", "b"], None, "; as cms:a … (2 files); at CNAF-STORM"),
        (["a", "b"], Did("cms", "d"), "already; at CNAF-STORM; in cms:d"),
    ],
)
def test_the_names_of_what_was_put_are_told(names: list[str], dataset: Did | None, told: str) -> None:
    assert commands._summary([result(name) for name in names], dataset).endswith(told)


@pytest.mark.parametrize("word", ["", "[bold]x[/bold]", "cms\n", "a b"])
def test_what_is_no_scope_does_not_reach_the_catalogue(monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    monkeypatch.setattr(commands, "open_lake", lambda _: SimpleNamespace())
    with pytest.raises(InputError, match="not a scope") as caught:
        commands.ls(word)
    assert caught.value.got == repr(word)


def test_a_directory_has_a_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert commands._directory(str(tmp_path / "new")) == tmp_path / "new"
    for text in ("", str(tmp_path / "file")):
        with pytest.raises(InputError):
            commands._directory(text)
