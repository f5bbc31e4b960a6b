"""What every command shares: texts of other people do nothing to a terminal, and errors of the system are told."""

from __future__ import annotations

import errno
import io
import os
import sys
from pathlib import Path

import pytest
from rich.table import Table

from boathouse.cli import common, tree
from boathouse.cli.common import Plain, count, line, literal, named_by_user, refused, require_own, shown
from boathouse.cli.main import _report, _run
from boathouse.errors import AuthError, BoathouseError, InputError, NotFoundError, PartialError, ServiceError

FORGED = "ok\nState: OK\nAccount: root \x1b]0;pwned\a"
FORGED_SHOWN = r"ok\nState: OK\nAccount: root \x1b]0;pwned\x07"


def test_nouns_agree_with_their_numbers() -> None:
    assert [count(number, "file") for number in (0, 1, 2, 2000)] == ["0 files", "1 file", "2 files", "2,000 files"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Zürich → 東京 ✓ C:\\new", "Zürich → 東京 ✓ C:\\new"),
        (FORGED, FORGED_SHOWN),
        ("a\rb\tc\0d\x7f", r"a\rb\tc\x00d\x7f"),
        ("\x9b31m", r"\x9b31m"),
        ("\u202egnp.exe\u2066\u200b\u2028", r"\u202egnp.exe\u2066\u200b\u2028"),
        (os.fsdecode(b"caf\xe9"), r"caf\udce9"),
    ],
)
def test_what_is_no_visible_character_is_escaped(text: str, told: str) -> None:
    assert shown(text) == told
    assert shown(told) == told


def test_a_text_means_itself_and_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    console = Plain()
    table = Table("[bold]head[/bold]", box=None)
    table.add_row(":x: [red]\x1b[2J\nforged")
    for printed in (":x: [bold]x[/bold]", FORGED, table, line((FORGED, "bold"), ":x:")):
        console.print(printed)
    console.print("one", "two", sep="\n")
    assert [told.strip() for told in capsys.readouterr().out.splitlines()] == [
        ":x: [bold]x[/bold]",
        FORGED_SHOWN,
        "[bold]head[/bold]",
        r":x: [red]\x1b[2J\nforged",
        f"{FORGED_SHOWN}:x:",
        "one",
        "two",
    ]


def test_texts_are_shown_at_any_depth() -> None:
    assert literal({"a\n": ["b\n", ("c\n", 1, None)]}) == {"a\\n": ["b\\n", ("c\\n", 1, None)]}


def test_an_error_has_no_lines_but_its_own(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["boathouse", "ls"])
    parts = (ServiceError("[bold]two", log_tail=("three", "four\x1b[m")), InputError("five", got="x\n  remedy: :x:"))
    error = PartialError("one\nerror: forged", failures=parts, remedy="six")
    _report(error)
    assert capsys.readouterr().err.splitlines() == [
        r"error: one\nerror: forged",
        "  remedy: six",
        "[bold]two",
        "  last log lines:",
        "    three",
        r"    four\x1b[m",
        "five",
        r"  got: x\n  remedy: :x:",
    ]
    assert error.what == "one\nerror: forged"


class Closed(io.StringIO):
    """A pipe whose reader has gone."""

    def write(self, text: str) -> int:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def test_a_reader_that_has_gone_is_told_to_who_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Closed())
    with pytest.raises(BrokenPipeError):
        Plain().print("word")


def denied(path: Path) -> PermissionError:
    return PermissionError(errno.EACCES, "Permission denied", str(path))


@pytest.fixture
def somebody_elses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A state directory whose owner is another user."""
    (tmp_path / "state.json").write_text("{}")
    monkeypatch.setattr(common.os, "geteuid", lambda: tmp_path.stat().st_uid + 4321)
    monkeypatch.setattr(common, "_name", lambda uid: "harbour" if uid == tmp_path.stat().st_uid else "visitor")
    return tmp_path


@pytest.mark.parametrize("option", ["--state {}", "--state={}"])
def test_a_state_directory_of_somebody_else_is_one_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], somebody_elses: Path, option: str
) -> None:
    def command(**_: object) -> None:
        raise denied(somebody_elses / "secrets" / "x")

    monkeypatch.setattr(sys, "argv", ["boathouse", "status", *option.format(somebody_elses).split()])
    monkeypatch.setattr(tree, "build", lambda: command)
    with pytest.raises(SystemExit) as left:
        _run()
    assert left.value.code == AuthError.exit_code
    told = capsys.readouterr().err
    assert "error: the state directory belongs to harbour" in told
    assert "  got: visitor" in told
    assert "  remedy: run it as harbour" in told


def test_up_and_doctor_ask_whose_directory_it_is(somebody_elses: Path) -> None:
    with pytest.raises(AuthError, match="belongs to harbour"):
        require_own(somebody_elses)
    require_own(somebody_elses / "nothing")


def test_another_file_that_may_not_be_used_is_named(tmp_path: Path) -> None:
    told = refused(denied(tmp_path / "file"), ["--state", str(tmp_path / "state")])
    assert isinstance(told, InputError)
    assert told.where == str(tmp_path / "file")
    assert refused(PermissionError(errno.EPERM, "Operation not permitted"), []) is None


def test_a_part_of_the_facility_that_is_not_there_is_bad_input() -> None:
    error = NotFoundError("no unit x", expected="one of y", got="x", remedy="boathouse logs y")
    with pytest.raises(BoathouseError) as caught, named_by_user():
        raise error
    assert caught.value.exit_code == InputError.exit_code
    assert str(caught.value) == str(error)
