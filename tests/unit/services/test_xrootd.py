"""What the driver of storage elements plans."""

from __future__ import annotations

import configparser
import dataclasses
from pathlib import Path

import pytest

from boathouse import xrootd_versions
from boathouse.errors import HostError
from boathouse.facility.model import Facility
from boathouse.plan.model import Layout, ProbeKind
from boathouse.plan.service import Context, Programs
from boathouse.services.xrootd import (
    StorageElements,
    copy_unit_name,
    key_cache_directory,
    unit_name,
)

DOCUMENT = {
    "name": "test",
    "vo": "escape",
    "sites": {
        "NORTH": {"storage": {"NORTH-DISK": {"qos": "FAST"}, "NORTH_RAW": {"qos": "B", "deterministic": False}}},
        "SOUTH": {
            "storage": {
                "SOUTH": {"qos": "SAFE", "prefix": "/store/lake", "address": "192.0.2.7", "extra_config": "xrd.x 1"}
            }
        },
    },
}
PROGRAMS = Programs(
    Path("/env/bin/python"), Path("/r/python"), Path("/c"), Path("/pg"), Path("/xrootd/bin"), xrootd_version="6.2.0"
)


def make_context(document=DOCUMENT, version="6.2.0"):
    facility = Facility.model_validate(document)
    requests = StorageElements().ports(facility)
    return Context(
        facility=facility,
        layout=Layout(Path("/state")),
        programs=dataclasses.replace(PROGRAMS, xrootd_version=version),
        ports={"tokens": 1500, **{request.key: 2000 + number for number, request in enumerate(requests)}},
        addresses={request.key: request.address for request in requests},
    )


@pytest.fixture
def context():
    return make_context()


@pytest.fixture
def units(context):
    return {unit.name: unit for unit in StorageElements().plan(context).units}


def text(unit, name):
    return next(file.text for file in unit.files if file.path.name == name)


def test_two_ports_an_element_on_an_address_of_its_own(context):
    requests = StorageElements().ports(context.facility)
    assert {request.key: request.address for request in requests} == {
        "NORTH-DISK.https": "127.0.1.11",
        "NORTH-DISK.root": "127.0.1.11",
        "NORTH_RAW.https": "127.0.1.12",
        "NORTH_RAW.root": "127.0.1.12",
        "SOUTH.https": "192.0.2.7",
        "SOUTH.root": "192.0.2.7",
        "NORTH-DISK.copy.https": "127.1.1.11",
        "NORTH-DISK.copy.root": "127.1.1.11",
        "NORTH_RAW.copy.https": "127.1.1.12",
        "NORTH_RAW.copy.root": "127.1.1.12",
        "SOUTH.copy.https": "127.1.1.13",
        "SOUTH.copy.root": "127.1.1.13",
    }


def test_a_unit_and_a_copy_door_an_element(context, units):
    rses = tuple(context.facility.storage)
    assert list(units) == [name(rse) for rse in rses for name in (unit_name, copy_unit_name)]
    for unit in units.values():
        assert unit.needs == ("keeper",)
        assert unit.probe.kind is ProbeKind.https
        assert unit.probe.target == f"{unit.url}/static/health"
        assert key_cache_directory(context, unit.name) in unit.directories
        assert unit.env["XDG_CACHE_HOME"] == str(key_cache_directory(context, unit.name))


def test_the_program_gets_its_sockets(units):
    command = units["se-north-disk"].command
    assert command[:5] == (
        "/env/bin/python",
        "-m",
        "boathouse.services.listen",
        "127.0.1.11:2001",
        "127.0.1.11:2000",
    )
    assert command[-4:-1] == ("--", "/xrootd/bin/xrootd", "-c")


def options(unit, name):
    return {word.removeprefix(f"--{name}=") for word in unit.command if word.startswith(f"--{name}=")}


def test_a_server_is_confined_to_its_own_files(context, units):
    for rse in ("north-disk", "north_raw", "south"):
        for name in (f"se-{rse}", f"copy-{rse}"):
            unit = units[name]
            assert options(unit, "run") == {"/xrootd"}
            read, write = options(unit, "read"), options(unit, "write")
            assert {path for path in read if path.startswith("/state/pki/")} == {
                "/state/pki/ca.pem",
                "/state/pki/hashed",
                "/state/pki/hashed-public",
                f"/state/pki/{name}.pem",
                f"/state/pki/{name}.key",
            }
            assert {path for path in read if not path.startswith("/state/pki/")} == {
                f"/state/config/{name}",
                f"/state/run/{name}",
            }
            assert {path for path in write if path.startswith("/state/data/")} == {
                f"/state/data/se-{rse}",
                f"/state/data/se-{rse}/{'store/lake' if rse == 'south' else 'lake'}",
            }
            # And one for its sockets; keys and tokens that it is given it cannot change.
            (passing,) = {path for path in write if not path.startswith("/state/data/")}
            assert passing.startswith("/state/run/")
            assert not str(key_cache_directory(context, name)).startswith(passing)
            assert line(unit, "all.adminpath").split()[1] == line(unit, "all.pidpath").split()[1] == passing


def test_a_program_in_bin_opens_no_more_than_the_system(context):
    context = dataclasses.replace(context, programs=dataclasses.replace(PROGRAMS, xrootd_bin=Path("/bin")))
    assert options(StorageElements().plan(context).units[0], "run") == set()


def test_the_prefix_is_all_that_is_exported(units):
    for name, prefix in (("se-north-disk", "/lake"), ("se-south", "/store/lake")):
        exports = [line for line in text(units[name], "xrootd.cfg").splitlines() if line.startswith("all.export")]
        assert exports == [f"all.export {prefix}"]
        assert Path(f"/state/data/{name}{prefix}") in units[name].directories


def test_tokens_and_tls_are_the_only_way_in(units):
    for unit in units.values():
        config = text(unit, "xrootd.cfg")
        for line in ("sec.protbind * only ztn", "xrootd.tls all", "ofs.authorize 1"):
            assert line in config.splitlines()
        assert [line for line in config.splitlines() if "XrdHttp:" in line and "protocol tls" not in line] == []


def test_the_audience_is_the_own_address(context, units):
    for name, address in (("se-north-disk", "127.0.1.11"), ("se-south", "192.0.2.7")):
        parser = configparser.ConfigParser()
        parser.read_string(text(units[name], "scitokens.cfg"))
        assert parser["Global"]["audience"] == address
        assert parser["Global"]["onmissing"] == "deny"
        issuer = parser["Issuer facility"]
        assert (issuer["issuer"], issuer["base_path"]) == (context.issuer, "/")
        assert issuer["authorization_strategy"] == "capability"


def test_only_the_copy_doors_copy_and_their_audience_is_their_own(units):
    for rse in ("north-disk", "north_raw", "south"):
        people, door = units[f"se-{rse}"], units[f"copy-{rse}"]
        assert "tpc" not in text(people, "xrootd.cfg").lower()
        assert "libXrdHttpTPC.so" in text(door, "xrootd.cfg")
        assert line(people, "oss.localroot") == line(door, "oss.localroot")
        assert line(people, "audience", "scitokens.cfg") != line(door, "audience", "scitokens.cfg")


def line(unit, start, name="xrootd.cfg"):
    (found,) = [each for each in text(unit, name).splitlines() if each.startswith(start)]
    return found


def test_the_operators_lines_come_last(units):
    assert text(units["se-south"], "xrootd.cfg").endswith("xrd.x 1\n")


def test_certificates_name_the_addresses(context):
    found = {item.name: item.addresses for item in StorageElements().plan(context).certificates}
    assert found == {
        "se-north-disk": ("127.0.1.11",),
        "copy-north-disk": ("127.1.1.11",),
        "se-north_raw": ("127.0.1.12",),
        "copy-north_raw": ("127.1.1.12",),
        "se-south": ("192.0.2.7",),
        "copy-south": ("127.1.1.13",),
    }


def test_a7_a8_endpoints_tell_which_elements_are_deterministic(context):
    found = {endpoint.rse: endpoint for endpoint in StorageElements().plan(context).storage}
    assert [endpoint.deterministic for endpoint in found.values()] == [True, False, True]
    south = found["SOUTH"]
    assert (south.site, south.qos, south.prefix, south.audience) == ("SOUTH", "SAFE", "/store/lake", "192.0.2.7")
    assert (south.https, south.root) == ("https://192.0.2.7:2004", "root://192.0.2.7:2005")


def test_an_ipv6_address_stands_in_brackets():
    document = {
        "name": "six",
        "vo": "escape",
        "sites": {"A": {"storage": {"SE": {"qos": "A", "address": "::1"}}}},
    }
    unit = StorageElements().plan(make_context(document)).units[0]
    assert unit.command[3:5] == ("[::1]:2001", "[::1]:2000")


def test_the_same_facility_gives_the_same_plan(context):
    assert StorageElements().plan(context) == StorageElements().plan(make_context())


@pytest.mark.parametrize("version", ["5.5.3", "5.9.2", "", "v5.8.1"])
def test_unsafe_servers_are_refused(version):
    with pytest.raises(HostError, match="must not guard") as caught:
        StorageElements().plan(make_context(version=version))
    assert caught.value.got == xrootd_versions.unsafe(version)


@pytest.mark.parametrize("version", ["5.9.3", "6.0", "v6.2.0", "5.10.0-1"])
def test_newer_servers_will_do(version):
    assert StorageElements().plan(make_context(version=version)).units


def scitokens(document, unit):
    (file,) = [
        file
        for one in StorageElements().plan(make_context(document)).units
        if one.name == unit
        for file in one.files
        if file.path.name == "scitokens.cfg"
    ]
    parser = configparser.ConfigParser()
    parser.read_string(file.text)
    return parser


def test_another_issuer_is_confined_to_its_paths():
    paths = ["/store/lake/a", "/store/lake/b"]
    both = {"url": "https://aai.example", "paths": paths}
    inside = {"url": "https://bbi.example", "paths": ["/store/lake/a"], "base_path": "/store/lake"}
    whole = {"url": "https://cci.example", "paths": ["/store/lake/a"], "base_path": "/store/lake/a"}
    document = {**DOCUMENT, "issuers": {"aai": both, "bbi": inside, "cci": whole}}
    parser = scitokens(document, unit_name("SOUTH"))
    assert parser["Issuer facility"]["issuer"] == "https://localhost:1500"
    assert dict(parser["Issuer trusted--aai"]) == {
        "issuer": "https://aai.example",
        "base_path": "/",
        "restricted_path": "/store/lake/a, /store/lake/b",
        "authorization_strategy": "capability",
    }
    assert parser["Issuer trusted--bbi"]["base_path"] == "/store/lake"
    assert parser["Issuer trusted--bbi"]["restricted_path"] == "/a"
    assert parser["Issuer trusted--cci"]["base_path"] == "/store/lake/a"
    assert "restricted_path" not in parser["Issuer trusted--cci"]
    assert scitokens(document, copy_unit_name("SOUTH")).sections() == ["Global", "Issuer facility"]
