"""Paths that callers name, the files that they belong to, and what a cache's own notes say of them."""

from __future__ import annotations

import struct

import pytest

from boathouse.apps.caches import cinfo
from boathouse.apps.caches.catalogue import did_of
from boathouse.apps.caches.gate import checked
from boathouse.errors import InputError
from boathouse.lake.names import Did, hash_path

PREFIXES = ("/lake",)


@pytest.mark.parametrize(
    "did", [Did("cms", "f.root"), Did("user.alice", "a/b/c.root"), Did("group.x.y", "f"), Did("a.b", "f")]
)
def test_a_hashed_path_gives_its_name_back(did):
    assert did_of(f"/lake/{hash_path(did)}", PREFIXES) == (did.scope, did.name)


@pytest.mark.parametrize("path", ["/lake/cms/f", "/lake/cms/00/00/f.root", "/store/cms/ab/cd/f", "/lake", "/lake/x"])
def test_other_paths_are_no_hashed_ones(path):
    assert did_of(path, PREFIXES) is None


@pytest.mark.parametrize(
    "path",
    ["", "lake/f", "/lake", "/lake/", "/lakes/f", "/lake/../etc/f", "/lake/./f", "/lake//f", "/lake/f/", "/lake/a b",
     "/lake/f?x=1", "/lake/%2e%2e/f", "/lake/f.cinfo", "/lake/f\n", None, 1],
)  # fmt: skip
def test_a_path_that_is_none_of_a_file_is_refused(path):
    with pytest.raises(InputError):
        checked(path, PREFIXES)


def test_a_path_of_a_file_is_taken_as_it_is():
    assert checked("/lake/user/alice/.../f-1_2.root", PREFIXES) == "/lake/user/alice/.../f-1_2.root"


def notes(blocks, done, *, block=4096, version=4):
    bits = sum(1 << number for number in done).to_bytes((blocks + 7) // 8 or 1, "little")
    head = struct.pack("=iqqqqQIiI", version, block, blocks * block - 1 if blocks else 0, 1700000000, 0, 1, 0, 0, 0)
    return head + bits + bytes(4)


@pytest.mark.parametrize(
    ("blocks", "done", "complete"),
    [
        (1, [0], True),
        (1, [], False),
        (9, range(9), True),
        (9, range(8), False),
        (9, [*range(7), 8], False),
        (8, range(8), True),
    ],
)
def test_a_file_is_complete_when_all_its_blocks_are_there(tmp_path, blocks, done, complete):
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake" / "f").write_bytes(b"x")
    (tmp_path / "lake" / "f.cinfo").write_bytes(notes(blocks, done))
    (tmp_path / "pfc-stats").mkdir()
    (tmp_path / "pfc-stats" / "DirStat.json").write_bytes(b"{}")
    (tmp_path / "pfc-stats" / "DirStat.json.cinfo").write_bytes(notes(1, [0]))
    (found,) = cinfo.kept(tmp_path)
    assert (found.path, found.complete, found.kept_since) == ("/lake/f", complete, 1700000000)


def test_all_that_is_kept_of_a_file_is_found(tmp_path):
    for name in ("lake/f", "roots:/127.0.1.1:1094/lake/f", "root:/127.0.1.1:1094/lake/f", "roots:/h:1/lake/g"):
        place = tmp_path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"x")
        place.with_name(f"{place.name}.cinfo").write_bytes(notes(1, [0]))
    names = [each.name for each in cinfo.of(tmp_path, "/lake/f")]
    assert names == ["/lake/f", "/root:/127.0.1.1:1094/lake/f", "/roots:/127.0.1.1:1094/lake/f"]
    assert {each.path for each in cinfo.kept(tmp_path)} == {"/lake/f", "/lake/g"}


@pytest.mark.parametrize("content", [b"", notes(1, [0])[:20], notes(1, [0], version=3), notes(1, [0], block=0)])
def test_notes_that_cannot_be_read_are_of_nothing(tmp_path, content):
    (tmp_path / "f").write_bytes(b"x")
    (tmp_path / "f.cinfo").write_bytes(content)
    assert list(cinfo.kept(tmp_path)) == []
    assert cinfo.one(tmp_path, "/gone") is None
