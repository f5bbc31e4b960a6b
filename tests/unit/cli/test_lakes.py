from __future__ import annotations

import pytest

from boathouse.cli.lakes import columns


def test_a_column_without_any_value_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    columns(("A", "B", "C"), [("1", "", "x"), ("2", "", "")])
    assert capsys.readouterr().out.splitlines() == ["A  C", "1  x", "2"]
    columns(("A", "B"), [])
    assert capsys.readouterr().out.splitlines() == ["A  B"]


def test_a_cell_is_one_line_and_does_nothing_to_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    columns(("A", "B"), [("x\n2", "\x1b[1m"), (":x:", "[bold]y[/bold]")])
    assert capsys.readouterr().out.splitlines() == ["A     B", "x\\n2  \\x1b[1m", ":x:   [bold]y[/bold]"]
