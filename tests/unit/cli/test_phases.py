from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from boathouse.cli.analysis import require_site
from boathouse.cli.phases import Phases
from boathouse.errors import InputError
from boathouse.plan.model import CacheEndpoint, Endpoints, StorageEndpoint


def test_phases_are_said_where_no_terminal_shows_them_and_add_up() -> None:
    said = io.StringIO()
    phases = Phases(Console(file=said, width=200))
    phases.begin("libraries")
    phases.begin("workers", "starting workers")
    phases.begin("events", "reading 1 file")
    phases.begin("workers", "stopping workers")
    phases.end()
    lines = said.getvalue().splitlines()
    assert [line.split("s  ")[1] for line in lines] == ["starting workers", "reading 1 file", "stopping workers"]
    assert re.fullmatch(r"\d+ ms in all: libraries \d+ ms, workers \d+ ms", phases.told(without="events"))


def test_a_terminal_gets_no_line_a_phase() -> None:
    said = io.StringIO()
    phases = Phases(Console(file=said, force_terminal=True))
    phases.begin("workers", "starting workers")
    phases.end()
    assert said.getvalue() == ""


def test_an_unknown_site_is_answered_with_the_known_ones() -> None:
    storage = StorageEndpoint("CERN-EOS", "CERN", "FAST", True, "/lake", "https://x:1", "root://x:2", "x")
    cache = CacheEndpoint("CNAF-XCACHE", "CNAF", "site", "https://y:1", "root://y:2", "y", ("CERN-EOS",))
    known = Endpoints("small", "cms", "https://i", "https://c", "https://t", "/ca", storage=(storage,), caches=(cache,))
    for site in (None, "CERN", "CNAF"):
        require_site(known, site)
    with pytest.raises(InputError, match="small has no such site") as caught:
        require_site(known, "CNAFF")
    assert (caught.value.expected, caught.value.got) == ("one of CERN, CNAF", "CNAFF")
