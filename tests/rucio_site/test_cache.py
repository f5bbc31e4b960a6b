"""Caches in the process."""

from __future__ import annotations

import time

from boathouse_rucio_site import cache
from boathouse_rucio_site.cache import BoundedStore
from dogpile.cache.api import NO_VALUE
from rucio.common.cache import MemcacheRegion
from rucio.daemons.reaper import reaper


def test_a_store_is_bounded():
    store = BoundedStore(max_entries=3)
    for number in range(3):
        store[str(number)] = b""
    assert store["0"] == b""
    store["3"] = b""
    assert sorted(store) == ["0", "2", "3"]


def test_what_a_caller_does_to_a_value_does_not_change_the_cache():
    region = MemcacheRegion(expiration_time=60)
    region.set("key", {"a": [1]})
    region.get("key")["a"].append(2)
    assert region.get("key") == {"a": [1]}


def test_values_expire():
    region = MemcacheRegion(expiration_time=60)
    region.set("key", 1)
    assert region.get("key", expiration_time=60) == 1
    assert region.get("key", expiration_time=time.time() * -1) is NO_VALUE


def test_flush_empties_every_region():
    regions = [MemcacheRegion(expiration_time=60) for _ in range(3)]
    for region in regions:
        region.set("key", 1)
    cache.flush()
    assert [region.get("key") for region in regions] == [NO_VALUE] * 3


def test_the_reaper_does_not_pause():
    reaper.REGION.set("pause_deletion_1", True)
    reaper.REGION.set("temporary_exclude_1", True)
    assert reaper.REGION.get("pause_deletion_1", expiration_time=120) is NO_VALUE
    assert reaper.REGION.get("temporary_exclude_1", expiration_time=120) is True
