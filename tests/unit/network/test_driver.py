"""What the driver of the network plans, and what caches and readers make of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from boathouse.apps import serving
from boathouse.apps.network.settings import Settings
from boathouse.facility.model import Facility
from boathouse.plan.build import build, port_requests
from boathouse.plan.model import Layout, Plan
from boathouse.plan.service import Programs
from boathouse.services.registry import drivers

DOCUMENT = {
    "name": "far",
    "vo": "escape",
    "sites": {
        "CNAF": {"storage": {"CNAF-STORM": {"qos": "FAST"}}, "caches": {"CNAF-XCACHE": {}}},
        "DESY": {"storage": {"DESY-DCACHE": {"qos": "SAFE"}}},
        "PIC": {"storage": {"PIC-DCACHE": {"qos": "SAFE"}}},
    },
}
NETWORK = {
    "links": {
        "north": {"between": ["CNAF", "DESY"], "rtt": "20 ms", "bandwidth": "1 Gbit/s"},
        "beside": {"between": ["DESY", "PIC"]},
    },
    "default": {"rtt": "50 ms"},
    "window": "2 MB",
}


def plan(**changes: object) -> Plan:
    facility = Facility.model_validate({**DOCUMENT, **changes})
    requests = port_requests(facility, drivers())
    ports = {request.key: 20_000 + number for number, request in enumerate(requests) if not request.same_as}
    ports |= {request.key: ports[request.same_as] for request in requests if request.same_as}
    programs = Programs(Path("/p"), Path("/r"), Path("/c"), Path("/pg"), Path("/x"), xrootd_version="6.2.0")
    return build(facility, drivers(), layout=Layout(Path("/s")), programs=programs, ports=ports)


@pytest.fixture(scope="module")
def far() -> Plan:
    return plan(network=NETWORK)


def file_of(plan: Plan, unit: str, name: str) -> str:
    return next(file.text for file in plan.unit(unit).files if file.path.name == name)


@pytest.mark.parametrize("network", [None, {}, {"links": {"beside": {"between": ["CNAF", "DESY"]}}}])
def test_without_distance_there_is_no_unit_and_nothing_changes(network: object) -> None:
    assert plan(network=network) == plan()
    assert "network" not in {unit.name for unit in plan().units}


def test_the_relay_takes_the_settings(far: Plan, tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_text(file_of(far, "network", "settings.json"))
    loaded = serving.load(Settings, path)
    assert loaded.window_bytes == 2_000_000
    assert {(link.between, link.rtt_s, link.bandwidth_bit_s) for link in loaded.links} == {
        (("CNAF", "DESY"), 0.020, 10**9),
        (("CNAF", "PIC"), 0.050, None),
    }
    # DESY and PIC lie beside each other, for all that they are two sites.
    assert {(each.site, each.element) for each in loaded.paths} == {
        ("CNAF", "DESY-DCACHE"),
        ("CNAF", "PIC-DCACHE"),
        ("DESY", "CNAF-STORM"),
        ("DESY", "CNAF-XCACHE"),
        ("PIC", "CNAF-STORM"),
        ("PIC", "CNAF-XCACHE"),
    }
    assert len({(each.listen_address, each.port) for each in loaded.paths}) == len(loaded.paths) == 12
    own = next(each for each in loaded.paths if (each.site, each.element) == ("DESY", "CNAF-STORM"))
    assert (own.listen_address, own.element_address, own.element_site) == ("127.11.1.11", "127.0.1.11", "CNAF")


def test_certificates_hold_for_the_far_addresses_and_audiences_stay(far: Plan) -> None:
    addresses = {certificate.name: certificate.addresses for certificate in far.certificates}
    assert addresses["se-cnaf-storm"] == ("127.0.1.11", "127.11.1.11", "127.12.1.11")
    assert addresses["cache-cnaf-xcache"] == ("127.0.1.12", "127.11.1.12", "127.12.1.12")
    assert addresses["copy-cnaf-storm"] == ("127.1.1.11",)
    assert file_of(far, "se-cnaf-storm", "scitokens.cfg") == file_of(plan(), "se-cnaf-storm", "scitokens.cfg")
    assert [each.audience for each in far.endpoints.storage] == [each.audience for each in plan().endpoints.storage]


def test_a_cache_reaches_what_is_far_over_the_distance(far: Plan) -> None:
    (cache,) = far.endpoints.caches
    near = {each.rse: each.root.removeprefix("root://") for each in far.endpoints.storage}
    port = near["DESY-DCACHE"].partition(":")[2]
    assert cache.origins["CNAF-STORM"] == near["CNAF-STORM"]
    assert cache.origins["DESY-DCACHE"] == f"127.10.1.13:{port}"
    config = file_of(far, "cache-cnaf-xcache", "xrootd.cfg").splitlines()
    for address in ("127.0.1.13", "127.10.1.13"):
        assert f"all.export /roots:/{address}:{port}/lake r/o" in config
        assert f"pss.permit {address}" in config
    assert "pss.permit 127.10.1.11" not in config


def test_a_copy_comes_from_where_its_destination_sees_the_source(far: Plan) -> None:
    settings = json.loads(file_of(far, "transfers", "settings.json"))
    https = {each.rse: each.https.removeprefix("https://") for each in far.endpoints.storage}
    door = settings["doors"][https["DESY-DCACHE"]]
    assert settings["far"][door] == {https["CNAF-STORM"]: https["CNAF-STORM"].replace("127.0.1.11", "127.11.1.11")}
    assert json.loads(file_of(plan(), "transfers", "settings.json"))["far"] == {}


def test_a_reader_sees_what_is_far_at_the_relay(far: Plan) -> None:
    near, seen = far.endpoints, far.endpoints.seen_from("DESY")
    assert seen.storage[0].root == near.storage[0].root.replace("127.0.1.11", "127.11.1.11")
    assert seen.storage[0].https == near.storage[0].https.replace("127.0.1.11", "127.11.1.11")
    assert seen.caches[0].root == near.caches[0].root.replace("127.0.1.12", "127.11.1.12")
    assert seen.storage[1:] == near.storage[1:]
    assert near.seen_from(None) == near
    assert near.seen_from("CNAF").caches == near.caches
