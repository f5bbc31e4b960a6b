"""One facility for all tests of this folder; a test that breaks it brings up its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from boathouse.testing.box import Box, box

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="session")
def lake_box() -> Iterator[Box]:
    with box(EXAMPLES / "laptop.yaml") as running:
        yield running
