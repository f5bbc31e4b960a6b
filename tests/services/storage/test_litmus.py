"""``litmus``, the test suite of WebDAV servers, against an element: all of it holds but what the page lists."""

from __future__ import annotations

import re
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from boathouse.testing.bearer import Bearer
from boathouse.testing.proxy import Loop
from boathouse.testing.scratch import free_port

from .conftest import Box

PAGE = Path(__file__).parents[3] / "docs" / "topics" / "storage.md"
SUITES = ("basic", "copymove", "props", "locks", "http")
ELEMENT = "NORTH-DISK"
_STEP = re.compile(r"^ ?\d+\. (\w+)\.+ ", re.MULTILINE)
_OUTCOME = re.compile(r"\b(pass|FAIL|SKIPPED)\b")


def listed(suite: str) -> set[tuple[str, str]]:
    """The tests of a suite that do not pass, and what becomes of them, as the page says."""
    below = PAGE.read_text(encoding="utf-8").partition("## WebDAV\n")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in below.splitlines() if line.startswith("| `")]
    return {
        (name.strip("`"), outcome) for of, names, outcome, _ in rows if of == f"`{suite}`" for name in names.split(", ")
    }


@pytest.fixture(scope="module")
def open_door(box: Box) -> Iterator[str]:
    """The element for a client that has no token and believes every certificate."""
    token = box.token("storage.read:/lake/cms storage.modify:/lake/cms", ELEMENT, life_s=7200)
    key = f"{ELEMENT}.https"
    loop = Loop()
    loop.start()
    door = Bearer(
        loop,
        free_port("127.0.0.1"),
        upstream=(box.context.addresses[key], box.context.ports[key]),
        ca=box.context.layout.ca,
        token=token,
    )
    door.start()
    yield door.url
    door.stop()
    loop.stop()


@pytest.mark.parametrize("suite", SUITES)
def test_litmus(box: Box, open_door: str, suite: str, tmp_path: Path) -> None:
    place = f"/lake/cms/{uuid.uuid4().hex[:12]}"
    made = box.http("MKCOL", box.url(ELEMENT, place), box.token("storage.modify:/lake/cms", ELEMENT))
    assert made.status == 201, made.text
    program = shutil.which("litmus")
    assert program, "litmus is missing: run `make install`"
    done = subprocess.run(
        [program, f"{open_door}{place}/"],
        env={"TESTS": suite, "PATH": "/usr/bin:/bin"},
        cwd=tmp_path,
        capture_output=True,
        timeout=300,
        check=False,
    )
    # What stands before a carriage return is written over.
    shown = re.sub(r".*\r(?!\n)", "", done.stdout.decode())
    assert f"<- summary for `{suite}'" in shown, (shown, done.stderr)
    _, *parts = _STEP.split(shown)
    found = set()
    # A name may come twice.
    for name, said in zip(parts[::2], parts[1::2], strict=True):
        outcome = _OUTCOME.search(said)
        assert outcome, (name, said)
        found.add((name, outcome[1]))
    assert ("begin", "pass") in found
    assert {(name, outcome) for name, outcome in found if outcome != "pass"} == listed(suite), shown
