from __future__ import annotations

import zlib
from pathlib import Path

import pytest

from boathouse.errors import BoathouseError, HostError, InputError
from boathouse.lake.http import Http
from boathouse.lake.sources import Source, _foreign_environment, _tool, scan


@pytest.fixture
def http(tmp_path: Path) -> Http:
    bundle = Path("/etc/ssl/certs/ca-certificates.crt")
    return Http(str(bundle))


def found(http: Http, *arguments: str, any_file: bool = False) -> list[Source | BoathouseError]:
    return list(scan(arguments, http, any_file=any_file))


def test_files_directories_and_patterns_in_a_stable_order(http: Http, tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for name in ("b.root", "a.root", "deep/er/c.root", "we%20ird#.dat"):
        (tmp_path / name).write_bytes(b"x" * 3)
    listed = found(http, str(tmp_path), any_file=True)
    assert [source.name for source in listed if isinstance(source, Source)] == [
        *("a.root", "b.root", "c.root", "we%20ird#.dat"),
    ]
    matched = found(http, str(tmp_path / "*.root"))
    assert [source.name for source in matched if isinstance(source, Source)] == ["a.root", "b.root"]
    (single,) = found(http, str(tmp_path / "we%20ird#.dat"))
    assert isinstance(single, Source)
    assert single.size_bytes == 3
    assert single.path == str(tmp_path / "we%20ird#.dat").lstrip("/")
    assert single.checksum() == f"{zlib.adler32(b'xxx'):08x}"


def test_a_directory_gives_its_root_files_and_nothing_hidden(http: Http, tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "deep").mkdir()
    for name in (".git/a.root", ".b.root", "deep/c.root", "README.md"):
        (tmp_path / name).touch()
    (only,) = found(http, str(tmp_path))
    assert isinstance(only, Source)
    assert only.name == "c.root"
    assert len(found(http, str(tmp_path), any_file=True)) == 2
    left_out: list[Path] = []
    assert len(list(scan([str(tmp_path)], http, left_out=left_out.append))) == 1
    assert left_out == [tmp_path / "README.md"]
    assert len(list(scan([str(tmp_path)], http, any_file=True, left_out=left_out.append))) == 2
    assert len(left_out) == 1
    (tmp_path / "deep" / "c.root").unlink()
    (none,) = found(http, str(tmp_path))
    assert isinstance(none, InputError)
    assert "--any-file" in str(none.remedy)


def test_a_pattern_that_matches_nothing_is_said_to_be_one(http: Http, tmp_path: Path) -> None:
    (none,) = found(http, str(tmp_path / "*.root"))
    assert isinstance(none, InputError)
    assert none.what == "the pattern matches nothing"


def test_what_cannot_be_read_is_named_and_does_not_stop_the_rest(http: Http, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "good").write_bytes(b"x")
    missing, empty, good = found(http, str(tmp_path / "missing"), str(tmp_path / "empty"), str(tmp_path / "good"))
    assert isinstance(missing, InputError)
    assert missing.where == str(tmp_path / "missing")
    assert isinstance(empty, InputError)
    assert isinstance(good, Source)


def test_a_file_that_is_not_root_is_refused_by_name(http: Http, tmp_path: Path) -> None:
    path = tmp_path / "x.root"
    path.write_bytes(b"not root at all" * 100)
    (source,) = found(http, str(path))
    assert isinstance(source, Source)
    with pytest.raises(InputError) as caught:
        source.check_root()
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["access_token", "mine"])
def test_the_lakes_token_is_not_shown_to_servers_outside(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    if name == "access_token":
        (tmp_path / "session.json").touch()
    monkeypatch.setenv("BEARER_TOKEN_FILE", str(tmp_path / name))
    monkeypatch.setenv("BEARER_TOKEN", "secret")
    kept = _foreign_environment()
    assert ("BEARER_TOKEN_FILE" in kept) == (name == "mine")
    assert "BEARER_TOKEN" not in kept
    monkeypatch.delenv("BEARER_TOKEN_FILE")
    assert "BEARER_TOKEN_FILE" not in _foreign_environment()


def test_the_installed_client_is_used_where_the_search_path_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "installed" / "xrdfs"
    installed.parent.mkdir()
    installed.write_text("#!/bin/sh\n")
    installed.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert _tool("xrdfs", [installed.parent]) == str(installed)
    with pytest.raises(HostError, match="the program xrdfs is missing"):
        _tool("xrdfs", [])
