"""What the driver of caches plans."""

from __future__ import annotations

import configparser
from pathlib import Path

import pytest

from boathouse.facility.model import Facility
from boathouse.lake.names import Did, hash_path
from boathouse.plan.model import Layout
from boathouse.plan.service import Context, Programs
from boathouse.services.xcache import Caches, token_file, unit_name, upstream_audiences
from boathouse.services.xrootd import StorageElements

DOCUMENT = {
    "name": "test",
    "vo": "escape",
    "sites": {
        "NORTH": {
            "storage": {"ONE": {"qos": "FAST"}, "TWO": {"qos": "B", "prefix": "/store"}, "THREE": {"qos": "A"}},
            "caches": {
                "ALL": {"extra_config": "pfc.trace info"},
                "SOME": {
                    "level": "region",
                    "upstreams": ["TWO"],
                    "size": "1 GiB",
                    "block_size": "128 KiB",
                    "prefetch": 8,
                },
            },
        },
    },
}


@pytest.fixture
def context():
    facility = Facility.model_validate(DOCUMENT)
    requests = (*StorageElements().ports(facility), *Caches().ports(facility))
    return Context(
        facility=facility,
        layout=Layout(Path("/state")),
        programs=Programs(Path("/p"), Path("/r"), Path("/c"), Path("/pg"), Path("/x"), xrootd_version="6.2.0"),
        ports={"tokens": 1500, **{request.key: 2000 + number for number, request in enumerate(requests)}},
        addresses={request.key: request.address for request in requests},
    )


@pytest.fixture
def units(context):
    return {unit.name: unit for unit in Caches().plan(context).units}


def lines(unit, name="xrootd.cfg"):
    return next(file.text for file in unit.files if file.path.name == name).splitlines()


def test_only_the_upstreams_are_reached_and_only_to_read(units):
    exports = [line for line in lines(units["cache-some"]) if line.startswith("all.export")]
    # The last is for eviction only: what is kept has this name, and nothing is read by it.
    assert exports == [
        *(f"all.export /{scheme}:/127.0.1.12:2003/store r/o" for scheme in ("roots", "root")),
        "all.export /store r/o",
    ]
    assert [line for line in lines(units["cache-some"]) if line.startswith("pss.permit")] == ["pss.permit 127.0.1.12"]


def test_scopes_count_below_every_upstream(units):
    parser = configparser.ConfigParser()
    parser.read_string("\n".join(lines(units["cache-all"], "scitokens.cfg")))
    paths = parser["Issuer facility"]["base_path"].split(", ")
    assert len(paths) == 6
    assert {path.split("/")[2] for path in paths} == {"127.0.1.11:2001", "127.0.1.12:2003", "127.0.1.13:2005"}
    assert parser["Global"]["audience"] == "127.0.1.14"


def test_only_the_care_of_caches_may_name_files_as_they_are_kept(context, units):
    parser = configparser.ConfigParser()
    parser.read_string("\n".join(lines(units["cache-some"], "scitokens.cfg")))
    assert parser["Issuer care"]["issuer"] == context.url("caches") != parser["Issuer facility"]["issuer"]
    assert parser["Issuer care"]["base_path"] == "/store"
    assert "/store" not in parser["Issuer facility"]["base_path"].split(", ")


def test_each_cache_tells_at_a_port_of_its_own(context, units):
    (told,) = [line for line in lines(units["cache-some"]) if line.startswith("xrootd.mongstream")]
    assert told.endswith(f"send json dflthdr noident 127.0.0.1:{context.ports['SOME.stream']}")
    assert context.ports["SOME.stream"] != context.ports["ALL.stream"]


def test_sizes_are_never_read_as_fractions(units):
    config = "\n".join(lines(units["cache-some"]))
    assert "pfc.diskusage 0.97 0.98 files 891289k 996147k 1048576k purgeinterval 60s" in config
    assert "pfc.blocksize 128k" in config
    assert "pfc.prefetch 8" in config
    assert "pfc.ram 1048576k" in config


def test_the_service_token(context, units):
    unit = units[unit_name("ALL")]
    assert unit.env["BEARER_TOKEN_FILE"] == str(token_file(context, "ALL")) == "/state/run/cache-all/token"
    assert upstream_audiences(context, "SOME") == ("127.0.1.12",)
    assert unit.needs == ("keeper",)
    assert unit.env["X509_CERT_DIR"] == str(context.layout.ca_directory)


def test_the_operators_lines_come_last(units):
    assert lines(units["cache-all"])[-1] == "pfc.trace info"


def test_endpoints(context):
    whole, some = Caches().plan(context).caches
    assert whole.upstreams == ("ONE", "TWO", "THREE")
    assert whole.origins == {rse: context.url(f"{rse}.root").removeprefix("https://") for rse in whole.upstreams}
    assert (some.name, some.site, some.level, some.audience) == ("SOME", "NORTH", "region", "127.0.1.15")
    assert (some.https, some.root) == ("https://127.0.1.15:2014", "root://127.0.1.15:2015")


def test_no_file_may_be_kept_under_the_name_of_a_record(units):
    (named,) = (line for line in lines(units["cache-some"]) if line.startswith("pfc.decisionlib"))
    patterns = lines(units["cache-some"], Path(named.split()[-1]).name)
    assert patterns[:3] == ["/*.cinfo", "/*/*.cinfo", "/*/*/*.cinfo"]
    # As deep as a file of the longest name in the scope with the most dots.
    deepest = f"/lake/{hash_path(Did('user.' + 'a.' * 9 + 'ab', 'a/' * 124 + 'b'))}"
    assert len(patterns) > deepest.count("/")
