from __future__ import annotations

import pytest

from boathouse.cli.lakes import columns


def test_a_column_without_any_value_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    columns(("A", "B", "C"), [("1", "", "x"), ("2", "", "")])
    assert capsys.readouterr().out.splitlines() == ["A  C", "1  x", "2"]
    columns(("A", "B"), [])
    assert capsys.readouterr().out.splitlines() == ["A  B"]
