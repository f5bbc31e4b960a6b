from __future__ import annotations

from boathouse.facility.model import Facility
from boathouse.plan.addresses import addresses, far_addresses


def facility(**sites: dict[str, object]) -> Facility:
    return Facility.model_validate({"name": "small", "vo": "escape", "sites": sites})


def test_each_storage_element_and_cache_has_an_address_of_its_own() -> None:
    found = addresses(
        facility(
            CNAF={"storage": {"CNAF-STORM": {"qos": "FAST"}}, "caches": {"CNAF-XCACHE": {}}},
            PIC={"storage": {"PIC-DCACHE": {"qos": "B"}}},
        )
    )
    assert found == {"CNAF-STORM": "127.0.1.11", "CNAF-XCACHE": "127.0.1.12", "PIC-DCACHE": "127.0.1.13"}


def test_a_site_that_joins_at_the_end_moves_no_other() -> None:
    first = {"CNAF": {"storage": {"CNAF-STORM": {"qos": "FAST"}}}}
    before = addresses(facility(**first))
    after = addresses(facility(**first, SARA={"storage": {"SARA-DCACHE": {"qos": "B"}}}))
    assert before.items() <= after.items()


def test_an_address_in_the_file_wins() -> None:
    found = addresses(facility(CNAF={"storage": {"CNAF-STORM": {"qos": "FAST", "address": "127.9.9.9"}}}))
    assert found == {"CNAF-STORM": "127.9.9.9"}


def test_many_elements_stay_on_the_loopback_network() -> None:
    storage = {f"RSE-{n}": {"qos": "A"} for n in range(600)}
    found = addresses(facility(CNAF={"storage": storage}))
    assert len(set(found.values())) == 600
    assert all(address.startswith("127.0.") and 1 <= int(address.split(".")[3]) <= 250 for address in found.values())


def test_what_is_far_is_seen_in_a_network_of_the_sites_own() -> None:
    sites = {name: {"storage": {f"{name}-RSE": {"qos": "A", "address": "127.9.9.9"}}} for name in ("CNAF", "PIC")}
    document = {"name": "small", "vo": "escape", "sites": sites, "network": {"default": {"rtt": "20 ms"}}}
    far = far_addresses(Facility.model_validate(document))
    assert far == {("CNAF", "PIC-RSE"): "127.10.1.12", ("PIC", "CNAF-RSE"): "127.11.1.11"}
    assert far_addresses(facility(**sites)) == {}
