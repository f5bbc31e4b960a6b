"""One facility for all tests of this folder; a test that breaks it brings up its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from boathouse.testing.box import Box, box

EXAMPLES = Path(__file__).parents[2] / "examples"
CHAIN_SITE = "INFN-Napoli"
CHAIN = ("NAPOLI-NODE", "NAPOLI-XCACHE", "SOUTH-XCACHE")
"""Caches of that site, from the reader's side to the lake's."""


@pytest.fixture(scope="session")
def lake_box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """The laptop's facility and one more site, whose readers have a chain of caches.

    Its elements may also fetch from the servers that tests start outside of it.
    """
    facility = tmp_path_factory.mktemp("facility") / "laptop.yaml"
    document = yaml.safe_load((EXAMPLES / "laptop.yaml").read_text(encoding="utf-8"))
    document["sites"][CHAIN_SITE] = {
        "caches": {
            CHAIN[0]: {"level": "node", "upstreams": [CHAIN[1]]},
            CHAIN[1]: {"level": "site", "upstreams": [CHAIN[2]]},
            CHAIN[2]: {"level": "region", "upstreams": "lake"},
        }
    }
    document["services"] = {"copy_from": ["127.0.0.0/8"]}
    facility.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    with box(facility) as running:
        yield running
