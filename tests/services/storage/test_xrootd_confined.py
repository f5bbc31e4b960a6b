"""What the kernel leaves to a storage server: its own data and settings, wherever dot segments may lead it.

The copy doors of XRootD 6.2.0 take dot segments literally (``docs/decisions/0005-copy-doors.md``), so they are asked.
"""

from __future__ import annotations

import re
import uuid
from pathlib import Path

import pytest

from boathouse.run.local.state import forget_link
from boathouse.testing.scratch import scratch

from .conftest import Box

DOOR, OTHER = "NORTH-DISK.copy", "SOUTH-DISK.copy"
UP = "/lake/cms/%2e%2e/%2e%2e"
"""The top of the element's data, by a scope for ``/lake/cms``."""
SCOPE = "storage.read:/lake/cms storage.modify:/lake/cms"


@pytest.fixture
def tokens(box):
    """For the door that is led astray, and for the other side."""
    return box.token(SCOPE, DOOR), box.token(SCOPE, OTHER)


@pytest.fixture
def copies(box, tokens):
    """Ask the door to copy between a path of its own and one of the other element: whether it did."""
    # The operating system goes up from directories that are there.
    box.put("NORTH-DISK", "/lake/cms/there", b"")

    def ask(path, other_path, direction):
        answer = box.http(
            "COPY",
            box.url(DOOR, path),
            tokens[0],
            TransferHeaderAuthorization=f"Bearer {tokens[1]}",
            Credential="none",
            Overwrite="T",
            **{direction: box.url(OTHER, other_path)},
        )
        return answer.status < 300 and answer.text.rstrip().splitlines()[-1].startswith("success")

    return ask


@pytest.fixture
def source(box, fresh_path, content):
    """A path of the other element where something is."""
    box.put("SOUTH-DISK", fresh_path, content)
    return fresh_path


@pytest.fixture
def root(box):
    return box.state.layout.root


def beyond(path: str) -> str:
    """A path of the state directory, as the door of an element comes to it."""
    return f"{UP}/%2e%2e/%2e%2e/{path}"


def secret_files(root: Path) -> list[str]:
    """One file of every kind that is none of the door's business, by its path in the state directory."""
    return [
        "pki/ca.key",
        "pki/se-north-disk.key",
        "pki/copy-south-disk.key",
        "config/se-north-disk/xrootd.cfg",
        "run/cache-north-cache/token",
        "run/se-north-disk/cache/scitokens/scitokens_cpp.sqllite",
        "state.json",
        *(str(path.relative_to(root)) for path in sorted((root / "secrets").iterdir())[:1]),
    ]


def test_the_way_that_is_tried_leads_somewhere(box, copies, fresh_path, content):
    """Within the element the door still takes dots literally. If this fails, the others prove nothing."""
    magic = fresh_path.replace("/cms/", "/magic/")
    box.put("NORTH-DISK", magic, content)
    assert copies(f"{UP}{magic}", fresh_path, "Destination")
    assert (box.data("se-south-disk") / fresh_path.lstrip("/")).read_bytes() == content


def test_a_door_reads_nothing_of_others(box, copies, root, fresh_path):
    files = secret_files(root)
    assert any(path.startswith("secrets/") for path in files)
    for number, path in enumerate(files):
        assert (root / path).is_file()
        assert (root / path).read_bytes()
        target = f"{fresh_path}/{number}"
        assert not copies(beyond(path), target, "Destination"), path
        copied = box.data("se-south-disk") / target.lstrip("/")
        assert not copied.exists() or not copied.read_bytes(), path


def test_a_door_reads_no_other_elements_data(box, copies, source):
    assert not copies(beyond(f"data/se-south-disk{source}"), f"{source}.stolen", "Destination")
    stolen = box.data("se-south-disk") / f"{source}.stolen".lstrip("/")
    assert not stolen.exists() or not stolen.read_bytes()


@pytest.mark.parametrize(
    "directory",
    [
        "secrets",
        "pki",
        "config/copy-north-disk",
        "run/copy-north-disk/cache/scitokens",
        "data/se-south-disk/lake",
        "data/cache-north-cache",
        "logs",
        "",
    ],
)
def test_a_door_writes_nothing_outside_its_data(copies, root, source, directory):
    name = f"{directory}/planted-{uuid.uuid4().hex[:8]}".lstrip("/")
    assert not copies(beyond(name), source, "Source")
    assert not (root / name).exists()


@pytest.mark.parametrize(
    "path",
    ["pki/ca.pem", "config/copy-north-disk/scitokens.cfg", "run/copy-north-disk/cache/scitokens/scitokens_cpp.sqllite"],
)
def test_a_door_changes_nothing_of_what_it_reads(copies, root, source, path):
    """Who could change the keys that a server trusts could make tokens for it."""
    before = (root / path).read_bytes()
    assert not copies(beyond(path), source, "Source")
    assert (root / path).read_bytes() == before


def test_a_door_does_not_see_into_other_processes(box, copies, fresh_path):
    number = box.processes["se-north-disk"].pid
    up = "/%2e%2e" * len(box.data("se-north-disk").parts)
    for name in ("environ", "root/etc/passwd", f"root{box.state.layout.root}/pki/ca.key"):
        assert not copies(f"{UP}{up}/proc/{number}/{name}", f"{fresh_path}/x", "Destination"), name


def test_every_server_is_confined(box):
    for name in box.servers:
        status = Path(f"/proc/{box.processes[name].pid}/status").read_text(encoding="ascii")
        assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE), name
        assert "not confined" not in box.log(name)


def test_new_keys_count_at_once(box, fresh_path, content):
    """Servers read their key caches, which only the keeper can write."""
    box.put("NORTH-DISK", fresh_path, content)
    old = box.token("storage.read:/", DOOR)
    assert box.http("GET", box.url(DOOR, fresh_path), old).status == 200
    box.issuer.rotate()
    for name in box.servers:
        box.trust(name, box.issuer.url, box.issuer.jwks)
    box.write_service_tokens()
    assert box.http("GET", box.url(DOOR, fresh_path), box.token("storage.read:/", DOOR)).body == content


def test_a_state_directory_that_is_reached_by_a_link(programs, content):
    document = {"name": "linked", "vo": "escape", "sites": {"A": {"storage": {"SE": {"qos": "FAST"}}}}}
    with scratch() as directory:
        place = directory / "a name with spaces"
        place.mkdir(mode=0o755)
        with Box(document, programs, place) as box:
            assert box.state.layout.root.is_symlink()
            box.trust("se-se", box.issuer.url, box.issuer.jwks)
            box.start("se-se")
            box.put("SE", "/lake/cms/x", content)
            token = box.token("storage.read:/lake/cms", "SE")
            assert box.http("GET", box.url("SE", "/lake/cms/x"), token).body == content
        forget_link(box.state)
