"""The tree that is drawn in the module, the classes and the reference page say the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from boathouse import errors
from boathouse.cli import common
from boathouse.cli.reference import tree

_PAGE = Path(__file__).parents[2] / "docs" / "reference" / "errors.md"

_CLASSES = [(depth, error.__name__, error.exit_code, error.retryable) for depth, error in tree(errors.BoathouseError)]


def _drawn() -> list[tuple[int, str, int, bool]]:
    rows = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.fullmatch(r"    ((?:[│ ]   )*(?:[├└]── )?)(\w+Error) +(\d+)   (.+)", line)
        if match:
            rows.append((len(match[1]) // 4, match[2], int(match[3]), "(retryable)" in match[4]))
    return rows


def test_the_drawing_shows_the_classes() -> None:
    assert _drawn() == _CLASSES


def test_the_page_shows_the_classes() -> None:
    rows = re.findall(
        r"^\| ((?:&nbsp;)*)`(\w+)` \| (\d+) \| (yes|no) \|", _PAGE.read_text(encoding="utf-8"), re.MULTILINE
    )
    shown = [(len(indent) // len("&nbsp;&nbsp;"), name, int(code), flag == "yes") for indent, name, code, flag in rows]
    assert shown == _CLASSES


def test_every_error_of_the_module_is_in_the_tree() -> None:
    names = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}
    assert names == {name for _, name, _, _ in _CLASSES}


def test_the_command_line_names_every_exit_code() -> None:
    named = {int(code) for code in re.findall(r"(\d+) \w", common.EXIT_CODES)}
    assert named == {0, 130} | {code for _, _, code, _ in _CLASSES} - {errors.BoathouseError.exit_code}


@pytest.mark.parametrize("error", [error for _, error in tree(errors.BoathouseError)])
def test_an_error_says_everything_in_text_and_as_json(error: type[errors.BoathouseError]) -> None:
    extra = {"failures": (errors.InputError("inner fault"),)} if error is errors.PartialError else {}
    if error is errors.PartialError:
        shown = errors.PartialError("some failed", remedy="again", **extra)
    else:
        shown = error("it failed", expected="this", got="that", where="here", remedy="again")
        assert all(f"{label}: " in str(shown) for label in ("expected", "got", "where", "remedy"))
    document = shown.as_dict()
    assert (document["error"], document["exit_code"]) == (error.__name__, error.exit_code)
    assert "remedy: again" in str(shown)


def test_problems_and_log_lines_are_shown() -> None:
    wrong = errors.FacilityError("two faults", problems=(errors.InputError("first"), errors.InputError("second")))
    assert str(wrong).splitlines() == ["two faults", "first", "second"]
    dead = errors.ServiceError("rucio died", log_tail=("a", "b"))
    assert "    b" in str(dead)
    assert dead.as_dict()["log_tail"] == ["a", "b"]


def test_people_see_twenty_failures_and_scripts_all() -> None:
    failures = tuple(errors.InputError(f"fault {number}") for number in range(1500))
    error = errors.PartialError("some failed", failures=failures)
    shown = str(error).splitlines()
    assert len(shown) == 22
    assert shown[-1] == "… and 1,480 more; --json has all"
    assert len(error.as_dict()["failures"]) == 1500
