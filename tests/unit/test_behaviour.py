"""Every numbered case of docs/behaviour.md is tried by a test that names it, and no test names another."""

from __future__ import annotations

import re
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
CASE = re.compile(r"\b(?:name|import|get|run|audit)-\d+\b")


def test_each_case_has_a_test() -> None:
    page = (CHECKOUT / "docs" / "behaviour.md").read_text(encoding="utf-8")
    cases = re.findall(rf"^\| ({CASE.pattern}) \|", page, re.MULTILINE)
    assert len(cases) == len(set(cases)) > 20
    named: set[str] = set()
    for path in (CHECKOUT / "tests").rglob("test_*.py"):
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.lstrip().startswith(("# case", "# cases")):
                named |= set(CASE.findall(line))
    assert named == set(cases)
