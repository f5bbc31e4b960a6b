from __future__ import annotations

from dataclasses import replace

from boathouse.lake.access import _file, nearest, through_cache
from boathouse.lake.catalogue import Replicas, Rse
from boathouse.lake.names import Did
from boathouse.plan.model import CacheEndpoint, Endpoints, StorageEndpoint


def storage(rse: str, number: int) -> StorageEndpoint:
    address = f"127.0.1.{number}"
    return StorageEndpoint(rse, "X", "FAST", True, "/lake", f"https://{address}:2", f"root://{address}:1", address)


ORIGINS = {"A": "127.0.1.11:1", "B": "127.10.1.12:1"}


def cache(name: str, site: str, level: str, upstreams: tuple[str, ...] = ("A",)) -> CacheEndpoint:
    origins = {rse: ORIGINS[rse] for rse in upstreams}
    return CacheEndpoint(
        name, site, level, "https://127.0.2.1:2", "root://127.0.2.1:1", "127.0.2.1", upstreams, origins
    )


ENDPOINTS = Endpoints(
    facility="f",
    vo="v",
    issuer="https://localhost:1",
    catalogue="https://localhost:2",
    transfers="https://127.0.0.2:3",
    ca_bundle="/ca",
    storage=(storage("A", 11), storage("B", 12)),
)


def test_a_cache_is_asked_with_the_elements_own_url_behind_its_own() -> None:
    urls = ["root://127.0.1.11:1//lake/cms/ab/cd/f", "https://127.0.1.11:2/lake/cms/ab/cd/f"]
    assert through_cache(cache("C", "S", "site"), urls, ENDPOINTS) == [
        "root://127.0.2.1:1//roots://127.0.1.11:1//lake/cms/ab/cd/f",
        "https://127.0.2.1:2//roots://127.0.1.11:1//lake/cms/ab/cd/f",
    ]


def test_a_cache_is_told_the_host_by_which_it_knows_the_element() -> None:
    found = through_cache(cache("C", "S", "site", ("A", "B")), ["root://127.0.1.12:1//lake/x"], ENDPOINTS)
    assert found == [
        "root://127.0.2.1:1//roots://127.10.1.12:1//lake/x",
        "https://127.0.2.1:2//roots://127.10.1.12:1//lake/x",
    ]


def test_an_element_that_is_not_behind_the_cache_is_not_asked_through_it() -> None:
    assert through_cache(cache("C", "S", "site"), ["root://127.0.1.12:1//lake/x"], ENDPOINTS) == []


def test_a_reader_at_a_site_goes_over_the_distance_and_names_elements_as_the_cache_knows_them() -> None:
    far = replace(storage("A", 11), far={"S": "127.10.1.11"})
    near_cache, far_cache = cache("C", "S", "site"), replace(cache("D", "T", "site"), far={"S": "127.10.2.1"})
    endpoints = replace(ENDPOINTS, storage=(far, storage("B", 12)), caches=(near_cache, far_cache))
    pfns = {"root://127.0.1.11:1//lake/x": "A", "davs://127.0.1.11:2/lake/x": "A", "davs://else.where/x": "Z"}
    replicas = Replicas(Did("cms", "x"), 1, "0" * 8, pfns, {"A": "AVAILABLE"})
    assert _file(replicas, endpoints, "cache", "S").urls == (
        "root://127.0.2.1:1//roots://127.0.1.11:1//lake/x",
        "https://127.0.2.1:2//roots://127.0.1.11:1//lake/x",
        "root://127.10.2.1:1//roots://127.0.1.11:1//lake/x",
        "https://127.10.2.1:2//roots://127.0.1.11:1//lake/x",
        "root://127.10.1.11:1//lake/x",
        "https://127.10.1.11:2/lake/x",
        "https://else.where/x",
    )


def test_the_nearest_cache_first() -> None:
    caches = [cache("R", "T", "region"), cache("S2", "T", "site"), cache("S1", "S", "site"), cache("N", "S", "node")]
    assert [found.name for found in nearest(caches, "S")] == ["N", "S1", "S2", "R"]
    assert [found.name for found in nearest(caches, None)] == ["N", "S1", "S2", "R"]


def protocol(scheme: str, prefix: str = "/lake/", **operations: int) -> dict[str, object]:
    return {"scheme": scheme, "hostname": "h", "port": 1, "prefix": prefix, "domains": {"wan": operations, "lan": {}}}


def test_a10_the_smallest_priority_number_wins() -> None:
    rse = Rse(
        "A",
        deterministic=True,
        volatile=False,
        writable=True,
        algorithm="hash",
        protocols=(protocol("davs", delete=1, third_party_copy_read=1), protocol("https", read=1, write=2, delete=2)),
    )
    assert rse.base("write") == "https://h:1/lake"
    assert rse.base("delete") == "https://h:1/lake"
    assert rse.base("read", ("root",)) is None
