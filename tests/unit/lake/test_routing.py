"""A80: which way to a file a reader tries first, and what comes after."""

from __future__ import annotations

from dataclasses import replace

import pytest

from boathouse.errors import NotFoundError
from boathouse.lake.caching import caches_at
from boathouse.lake.routing import Router, through_cache
from boathouse.plan.model import CacheEndpoint, Endpoints, StorageEndpoint

ADDRESS = {"A": "127.0.1.11", "B": "127.0.1.12", "C": "127.0.1.13"}


def storage(rse: str, site: str) -> StorageEndpoint:
    address = ADDRESS[rse]
    return StorageEndpoint(rse, site, "FAST", True, "/lake", f"https://{address}:2", f"root://{address}:1", address)


def cache(name: str, site: str, level: str, rses: str = "ABC", parent: str = "") -> CacheEndpoint:
    origins = {rse: f"{ADDRESS[rse]}:1" for rse in rses}
    return CacheEndpoint(
        name, site, level, f"https://{name}:2", f"root://{name}:1", name, tuple(rses), origins, parent=parent
    )


def endpoints(*caches: CacheEndpoint) -> Endpoints:
    return Endpoints(
        facility="f",
        vo="v",
        issuer="https://localhost:1",
        catalogue="https://localhost:2",
        transfers="https://127.0.0.2:3",
        ca_bundle="/ca",
        storage=(storage("A", "NORTH"), storage("B", "SOUTH"), storage("C", "EAST")),
        caches=caches,
    )


CHAIN = (
    cache("REGION", "SOUTH", "region"),
    cache("SITE", "NORTH", "site", parent="REGION"),
    cache("NODE", "NORTH", "node", parent="SITE"),
)
OTHERS = (cache("FAR", "EAST", "region"), cache("THEIRS", "EAST", "site"), cache("THEIR-NODE", "EAST", "node"))


def route(site: str | None, caches: tuple[CacheEndpoint, ...], *rses: str, name: str = "cms:f") -> list[str]:
    """Where a reader goes, in order: names of caches, and RSEs for what is read directly; `>` says through which."""
    replicas = {f"root://{ADDRESS[rse]}:1//lake/f": rse for rse in rses}
    places = {f"{ADDRESS[rse]}:1": rse for rse in ADDRESS}
    found = []
    for url in Router(endpoints(*caches), site).ways(replicas, name):
        if url.startswith("root:"):
            first, _, rest = url.removeprefix("root://").partition("//")
            through = rest.removeprefix("roots://").partition("//")[0] if rest.startswith("roots:") else ""
            found.append(f"{first.partition(':')[0]}>{places[through]}" if through else places[first])
    return found


def test_a10_the_protocol_that_comes_first_is_taken_directly_and_through_caches() -> None:
    replicas = ["https://127.0.1.11:2/lake/f", "root://127.0.1.11:1//lake/f"]
    for urls in (replicas, replicas[::-1]):
        found = Router(endpoints(*CHAIN), "NORTH").ways(dict.fromkeys(urls, "A"), "cms:f")
        schemes = [url.partition(":")[0] for url in urls]
        assert [url.partition(":")[0] for url in found] == schemes * (len(found) // 2)


def test_a_cache_is_asked_with_the_elements_own_url_behind_its_own() -> None:
    urls = ["root://127.0.1.11:1//lake/cms/ab/cd/f", "https://127.0.1.11:2/lake/cms/ab/cd/f"]
    assert through_cache(cache("S", "NORTH", "site"), urls, endpoints()) == [
        "root://S:1//roots://127.0.1.11:1//lake/cms/ab/cd/f",
        "https://S:2//roots://127.0.1.11:1//lake/cms/ab/cd/f",
    ]


def test_a_cache_is_told_the_host_by_which_it_knows_the_element() -> None:
    behind = CacheEndpoint("S", "NORTH", "site", "https://S:2", "root://S:1", "S", ("B",), {"B": "127.10.1.12:1"})
    assert through_cache(behind, ["root://127.0.1.12:1//lake/x"], endpoints())[0] == (
        "root://S:1//roots://127.10.1.12:1//lake/x"
    )


def test_an_element_that_is_not_behind_the_cache_is_not_asked_through_it() -> None:
    assert through_cache(cache("S", "NORTH", "site", "A"), ["root://127.0.1.12:1//lake/x"], endpoints()) == []
    assert route("NORTH", (cache("S", "NORTH", "site", "A"),), "B") == ["B"]


def test_a80_node_then_site_then_region_then_replicas() -> None:
    assert route("NORTH", (*OTHERS, *CHAIN), "B") == ["NODE>B", "SITE>B", "REGION>B", "FAR>B", "B", "THEIRS>B"]


def test_a80_the_own_sites_storage_before_caches_elsewhere() -> None:
    assert route("SOUTH", OTHERS, "B", "C") == ["B", "FAR>B", "FAR>C", "C", "THEIRS>B", "THEIRS>C"]


def test_a80_a_chain_that_leaves_the_site_comes_after_the_own_sites_storage() -> None:
    found = route("NORTH", CHAIN, "A")
    assert found == ["A", "NODE>A", "SITE>A", "REGION>A"]
    inside = (cache("SITE", "NORTH", "site"), cache("NODE", "NORTH", "node", parent="SITE"))
    assert route("NORTH", inside, "A") == ["NODE>A", "SITE>A", "A"]
    assert route("NORTH", inside, "A", "B")[:3] == ["NODE>A", "SITE>A", "A"]


def test_a_reader_at_a_site_goes_over_the_distance_and_names_elements_as_the_cache_knows_them() -> None:
    near, far = cache("S", "NORTH", "site"), replace(cache("REGION", "SOUTH", "region"), far={"NORTH": "127.10.2.1"})
    plain = endpoints(near, far)
    moved = replace(plain.storage[1], far={"NORTH": "127.10.1.12"})
    seen = replace(plain, storage=(plain.storage[0], moved, plain.storage[2]))
    urls = {"root://127.0.1.12:1//lake/f": "B", "https://127.0.1.12:2/lake/f": "B", "https://else.where/f": "Z"}
    assert Router(seen, "NORTH").ways(urls, "f")[:4] == (
        "root://S:1//roots://127.0.1.12:1//lake/f",
        "https://S:2//roots://127.0.1.12:1//lake/f",
        "root://127.10.2.1:1//roots://127.0.1.12:1//lake/f",
        "https://127.10.2.1:2//roots://127.0.1.12:1//lake/f",
    )
    assert set(Router(seen, "NORTH").ways(urls, "f")[4:]) == {
        *("root://127.10.1.12:1//lake/f", "https://127.10.1.12:2/lake/f", "https://else.where/f")
    }


def test_without_a_site_every_cache_comes_before_the_replicas() -> None:
    assert route(None, CHAIN, "A") == ["NODE>A", "SITE>A", "REGION>A", "A"]


def test_readers_of_one_file_take_one_replica_and_files_are_spread() -> None:
    """A cache before another one keeps what was asked for by the element's name."""
    firsts = {name: route("NORTH", CHAIN, "B", "C", name=name)[0] for name in map(str, range(40))}
    assert set(firsts.values()) == {"NODE>B", "NODE>C"}
    assert all(route("NORTH", CHAIN, "C", "B", name=name)[0] == first for name, first in firsts.items())


def test_a74_a_groups_cache_is_asked_for_what_it_gives_alone() -> None:
    own = replace(cache("S", "NORTH", "site"), mode="group", paths=("/lake/cms",), schemes=("root",))
    for path, served in (("/lake/cms/f", True), ("/lake/cmsx/f", False), ("/lake/magic/f", False)):
        urls = Router(endpoints(own), "NORTH").ways({f"root://127.0.1.12:1/{path}": "B"}, "f")
        assert [url for url in urls if "//S:" in url] == [f"root://S:1//roots://127.0.1.12:1/{path}"] * served


def test_root_before_https_at_each_place() -> None:
    found = Router(endpoints(CHAIN[1]), "NORTH").ways({"root://127.0.1.12:1//lake/f": "B"}, "f")
    assert found == (
        "root://SITE:1//roots://127.0.1.12:1//lake/f",
        "https://SITE:2//roots://127.0.1.12:1//lake/f",
        "root://127.0.1.12:1//lake/f",
    )


def test_a_cache_before_another_lake_is_on_no_way_to_this_one() -> None:
    other = replace(cache("OTHER", "WEST", "site", ""), mode="translating", federation="aaa", paths=("/lake",))
    for site in (None, "NORTH", "WEST"):
        assert route(site, (*CHAIN, other), "A", "B") == route(site, CHAIN, "A", "B")
    found = endpoints(*CHAIN, other)
    assert caches_at(found, []) == list(CHAIN)
    assert caches_at(found, ["WEST"], federations=True) == [other]
    for place in ("OTHER", "WEST"):
        with pytest.raises(NotFoundError):
            caches_at(found, [place])
