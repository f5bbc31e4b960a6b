from __future__ import annotations

from boathouse.cli.common import count


def test_nouns_agree_with_their_numbers() -> None:
    assert [count(number, "file") for number in (0, 1, 2, 2000)] == ["0 files", "1 file", "2 files", "2,000 files"]
