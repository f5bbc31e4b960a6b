from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from boathouse.errors import BoathouseError, FacilityError
from boathouse.facility.load import read
from boathouse.testing.small import TEXT as GOOD

__all__ = ["EXAMPLES", "GOOD", "Faults"]

EXAMPLES = Path(__file__).parents[3] / "examples"

Faults = Callable[[str], list[BoathouseError]]


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    """Write a facility file."""

    def _write(text: str) -> Path:
        path = tmp_path / "facility.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return _write


@pytest.fixture
def faults(write: Callable[[str], Path]) -> Faults:
    """The faults of a facility file, none for a good one."""

    def _faults(text: str) -> list[BoathouseError]:
        try:
            read(write(text))
        except FacilityError as error:
            return list(error.problems)
        return []

    return _faults
