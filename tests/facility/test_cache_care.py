"""The commands about caches, against a whole facility: brought in beforehand, counted, found wrong, evicted."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from boathouse.errors import StorageError
from boathouse.lake.caching import paths_of
from boathouse.lake.names import Did
from boathouse.testing.box import Box
from boathouse.testing.wait import wait_for

CACHE, SITE = "CNAF-XCACHE", "CNAF"
SIZES = (1_300_000, 600_000, 100)
SIZE_BYTES = sum(SIZES)


@pytest.fixture(scope="module", autouse=True)
def _heard(lake_box: Box, tmp_path_factory: pytest.TempPathFactory) -> None:
    """What a cache sends first after it sent something in vain is lost: from here on all of it is counted."""
    did = Did("testing", "heard")
    path = tmp_path_factory.mktemp("heard") / did.name
    path.write_bytes(b"heard")
    lake_box.login("alice").put([path], scope="testing", rse_expression="EULAKE-1")

    def counted_after_a_read() -> int:
        read_through_cache(lake_box, did)
        return int(of(lake_box, did)["served_bytes"])

    wait_for("the cache is heard", counted_after_a_read, timeout_s=120, period_s=0.5)


@pytest.fixture
def dataset(lake_box: Box, tmp_path: Path, request: pytest.FixtureRequest) -> Did:
    """Three files far away, one of them smaller than a block."""
    name = request.node.name.replace("[", "-").replace("]", "")
    paths = []
    for number, size in enumerate(SIZES):
        path = tmp_path / f"{name}-{number}.dat"
        path.write_bytes(os.urandom(size))
        paths.append(path)
    did = Did("testing", name)
    lake_box.login("alice").put(paths, scope="testing", rse_expression="EULAKE-1", dataset=did)
    return did


def cache(lake_box: Box, *arguments: str, user: str | None = "alice", status: int = 0) -> Any:
    done = lake_box.cli("cache", *arguments, "--json", user=user, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return json.loads(done.stdout)


def told(lake_box: Box, *arguments: str) -> str:
    return lake_box.cli("cache", *arguments, user="alice").stdout


def of(lake_box: Box, did: Did) -> dict[str, Any]:
    (found,) = cache(lake_box, "status", str(did), "--at", CACHE)
    return dict(found)


def kept(lake_box: Box, did: Did) -> list[Path]:
    lake = lake_box.login("alice")
    data = lake_box.local.plan.layout.data / f"cache-{CACHE.lower()}"
    return sorted(
        (place for path in paths_of(lake.catalogue, lake.endpoints, did) if (place := data / path[1:]).exists()),
        key=lambda place: place.stat().st_size,
    )


def read_through_cache(lake_box: Box, did: Did) -> dict[str, bytes]:
    lake = lake_box.login("alice")
    found = {}
    for file in lake.files(did, site=SITE):
        url = next(url for url in file.urls if url.startswith("https:") and "//roots://" in url)
        found[file.did.name] = b"".join(lake.storage.get(url))
    return found


def test_a73_what_was_brought_in_is_read_without_the_origin(lake_box: Box, dataset: Did) -> None:
    outcomes = cache(lake_box, "prestage", str(dataset), "--at", SITE)
    assert [each["outcome"] for each in outcomes] == ["staged"] * 3
    before = of(lake_box, dataset)
    assert (before["files"], before["complete"]) == (3, 3)
    # What is forced out while it is open is not counted.
    wait_for_served(lake_box, dataset, SIZE_BYTES)
    # Again, with one file lost meanwhile: only that is fetched.
    (lost,) = (path for path in paths_in_cache(lake_box, dataset) if path.endswith("-1.dat"))
    assert "1 file evicted" in told(lake_box, "evict", lost, "--at", SITE, "--force")
    said = told(lake_box, "prestage", str(dataset), "--at", CACHE, "--workers", "1")
    assert said.startswith(f"{CACHE} has 3 of 3 files: 1 brought in now (600.0 kB), 2 there before."), said
    assert sum(len(content) for content in read_through_cache(lake_box, dataset).values()) == SIZE_BYTES
    staged_bytes = SIZE_BYTES + SIZES[1]
    wait_for_served(lake_box, dataset, staged_bytes + SIZE_BYTES)
    after = of(lake_box, dataset)
    assert after["fetched_bytes"] == staged_bytes
    assert after["saved_bytes"] == SIZE_BYTES
    shown = told(lake_box, "status", "--scopes")
    assert CACHE in shown
    assert "testing" in shown
    assert "All caches together: readers got" in shown
    assert CACHE in told(lake_box, "status", str(dataset))


def test_c8_a_flipped_bit_is_found_and_evicted(lake_box: Box, dataset: Did) -> None:
    content = read_through_cache(lake_box, dataset)
    # What is open is given from memory: only what has been closed is counted.
    wait_for_served(lake_box, dataset, SIZE_BYTES)
    assert of(lake_box, dataset)["complete"] == 3
    place = kept(lake_box, dataset)[-1]
    with place.open("r+b") as stream:
        stream.seek(654_321)
        byte = stream.read(1)[0]
        stream.seek(654_321)
        stream.write(bytes([byte ^ 4]))
    report = cache(lake_box, "scrub", "--at", CACHE, user=None, status=20)
    (wrong,) = [each for each in report["wrong"] if each["path"].endswith(place.name)]
    assert (wrong["cache"], wrong["outcome"]) == (CACHE, "evicted")
    assert not place.exists()
    # A reader of a moment ago may still be leaving.
    wait_for("it is fetched anew", lambda: is_right(lake_box, dataset, content), timeout_s=120)
    shown = cache(lake_box, "status", "--operator", user=None)
    (about,) = [each for each in shown["caches"] if each["name"] == CACHE]
    assert about["last_scrub"]["files"] >= 3
    assert about["evictions"]["scrubbed"]["files"] >= 1


def is_right(lake_box: Box, did: Did, content: dict[str, bytes]) -> bool:
    try:
        return read_through_cache(lake_box, did) == content
    except StorageError:
        return False


def test_who_only_reads_may_neither_evict_nor_scrub(lake_box: Box, tmp_path: Path) -> None:
    """Bob reads what is not his: it leaves the cache by its owner's word, or the operator's."""
    path = tmp_path / "of-magic.dat"
    path.write_bytes(b"gamma rays")
    lake_box.login("alice").put([path], scope="magic", rse_expression="EULAKE-1")
    place = next(iter(paths_in_cache(lake_box, Did("magic", path.name))))
    refused = cache(lake_box, "evict", place, user="bob", status=7)
    assert "may not evict" in refused["what"]
    assert cache(lake_box, "evict", place, user="alice")[0]["outcome"] == "absent"
    assert cache(lake_box, "evict", place, "--operator", user=None)[0]["outcome"] == "absent"
    refused = cache(lake_box, "evict", place, "--at", "NOWHERE", user="alice", status=2)
    assert CACHE in refused["expected"]


def paths_in_cache(lake_box: Box, did: Did) -> list[str]:
    lake = lake_box.login("alice")
    return sorted(paths_of(lake.catalogue, lake.endpoints, did))


def wait_for_served(lake_box: Box, did: Did, size_bytes: int) -> None:
    wait_for("it is counted", lambda: of(lake_box, did)["served_bytes"] == size_bytes, timeout_s=120, period_s=0.5)
