"""The enum of states, its drawing and the page about it say the same."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

from boathouse.plan.model import ProbeKind
from boathouse.run.base import UnitState

_PAGE = (Path(__file__).parents[3] / "docs" / "topics" / "states.md").read_text(encoding="utf-8")
_ROWS = re.findall(r"^\| `(\w+)` \| (.+) \| (.+) \| (.+) \|$", _PAGE, re.MULTILINE)


def _meanings() -> dict[str, str]:
    """The text below each state in the code, which Python itself does not keep."""
    (definition,) = ast.parse(inspect.getsource(UnitState)).body
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for assignment, text in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(assignment, ast.Assign) and isinstance(text, ast.Expr):
            (name,) = assignment.targets
            assert isinstance(name, ast.Name)
            found[name.id] = " ".join(ast.literal_eval(text.value).split())
    return found


def test_the_page_gives_every_state_with_its_meaning() -> None:
    assert {name: meaning for name, meaning, _, _ in _ROWS} == _meanings()
    assert [name for name, *_ in _ROWS] == list(UnitState)


def test_page_and_code_agree_on_what_a_state_leads_to() -> None:
    drawn = re.findall(r"^ +(\w+) +-> (.+)$", inspect.getdoc(UnitState) or "", re.MULTILINE)
    in_code = {name: exits.split() for name, exits in drawn}
    assert {name: re.findall(r"`(\w+)`", exits) for name, _, _, exits in _ROWS} == in_code
    assert set(in_code) == set(UnitState)
    assert {name for exits in in_code.values() for name in exits} == set(UnitState)


def test_every_state_has_a_cause() -> None:
    assert all(cause.strip() for _, _, cause, _ in _ROWS)


def test_the_page_gives_every_probe() -> None:
    assert set(re.findall(r"^\| `(\w+)` \| [^|]+ \| [^|]+ \|$", _PAGE, re.MULTILINE)) == set(ProbeKind)
