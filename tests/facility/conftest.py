"""One facility for all tests of this folder; a test that breaks it brings up its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from boathouse.testing.box import Box, box

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="session")
def lake_box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """The laptop's facility, whose elements may also fetch from the servers that tests start outside of it."""
    facility = tmp_path_factory.mktemp("facility") / "laptop.yaml"
    text = (EXAMPLES / "laptop.yaml").read_text(encoding="utf-8")
    facility.write_text(text + "\nservices:\n  copy_from: [127.0.0.0/8]\n", encoding="utf-8")
    with box(facility) as running:
        yield running
