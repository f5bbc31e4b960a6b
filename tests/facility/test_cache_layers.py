"""A chain of caches in a whole facility: its readers get their bytes through it, and none is counted twice."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from boathouse.lake.caching import Care, of_dataset, paths_of
from boathouse.lake.lake import Lake
from boathouse.lake.names import Did
from boathouse.lake.routing import through_cache
from boathouse.testing.box import Box
from boathouse.testing.wait import wait_for

from .conftest import CHAIN, CHAIN_SITE

SIZES = (1_300_000, 600_000, 100)
SIZE_BYTES = sum(SIZES)


@pytest.fixture(scope="module")
def lake(lake_box: Box, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Alice's, after each cache has been heard: what one sends first after it sent something in vain is lost."""
    found = lake_box.login("alice")
    did = stored(found, tmp_path_factory.mktemp("heard"), "layers-heard", (5,))
    for cache in CHAIN:

        def counted_after_a_read(cache: str = cache) -> int:
            read(found, did, cache)
            return int(counted(found, did)[cache]["served_bytes"])

        wait_for(f"{cache} is heard", counted_after_a_read, timeout_s=120, period_s=0.2)
    return found


def stored(lake: Lake, directory: Path, name: str, sizes: tuple[int, ...]) -> Did:
    """A dataset far away."""
    paths = []
    for number, size in enumerate(sizes):
        path = directory / f"{name}-{number}.dat"
        path.write_bytes(os.urandom(size))
        paths.append(path)
    did = Did("testing", name)
    lake.put(paths, scope="testing", rse_expression="EULAKE-1", dataset=did)
    return did


def read(lake: Lake, did: Did, cache: str) -> dict[str, bytes]:
    """What one of the caches gives, over https."""
    endpoint = next(each for each in lake.endpoints.caches if each.name == cache)
    found = {}
    for file in lake.files(did, prefer="replica"):
        ways = through_cache(endpoint, file.urls, lake.endpoints)
        url = next(url for url in ways if url.startswith("https:"))
        found[file.did.name] = b"".join(lake.storage.get(url))
    return found


def counted(lake: Lake, did: Did) -> dict[str, Any]:
    """By cache, what passed through it of a dataset."""
    caches = [each for each in lake.endpoints.caches if each.name in CHAIN]
    paths = list(paths_of(lake.catalogue, lake.endpoints, did))
    told = of_dataset(Care(lake.http, lake.endpoints, lake.token).files(paths, caches))
    return {each["cache"]: each for each in told}


def test_a71_what_a_chain_saves_is_what_readers_got_less_what_the_element_gave(
    lake_box: Box, lake: Lake, tmp_path: Path
) -> None:
    """Two reads by people of the site, whom its node serves first, and one by a machine without a cache."""
    did = stored(lake, tmp_path, "layers", SIZES)
    content = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert all(
        file.urls[0].startswith(next(each.root for each in lake.endpoints.caches if each.name == CHAIN[0]))
        for file in lake.files(did, site=CHAIN_SITE)
    )
    for cache in (CHAIN[0], CHAIN[0], CHAIN[1]):
        assert read(lake, did, cache) == content
    served = {CHAIN[0]: 2 * SIZE_BYTES, CHAIN[1]: 2 * SIZE_BYTES, CHAIN[2]: SIZE_BYTES}

    def all_counted() -> bool:
        return {name: each["served_bytes"] for name, each in counted(lake, did).items()} == served

    wait_for(f"{served} counted", all_counted, timeout_s=120, period_s=0.2)
    found = counted(lake, did)
    assert [found[name]["fetched_bytes"] for name in CHAIN] == [SIZE_BYTES] * 3
    assert [found[name]["from_caches_bytes"] for name in CHAIN] == [SIZE_BYTES, SIZE_BYTES, 0]
    assert sum(each["saved_bytes"] for each in found.values()) == 3 * SIZE_BYTES - SIZE_BYTES
    told = json.loads(lake_box.cli("cache", "status", str(did), "--json", user="alice").stdout)
    assert sum(each["saved_bytes"] for each in told) == 2 * SIZE_BYTES
    # The word of its owner takes it from all of them.
    evicted = json.loads(lake_box.cli("cache", "evict", str(did), "--force", "--json", user="alice").stdout)
    outcomes = [each["outcome"] for each in evicted if each["cache"] in CHAIN]
    assert outcomes == ["evicted"] * len(SIZES) * len(CHAIN)
    assert sum(each["kept_bytes"] for each in counted(lake, did).values()) == 0
