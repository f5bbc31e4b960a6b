"""What the driver of caches plans."""

from __future__ import annotations

import configparser
import json
from pathlib import Path

import pytest

from boathouse.facility.model import Facility
from boathouse.lake.names import Did, hash_path
from boathouse.plan.model import Layout
from boathouse.plan.service import Context, Programs
from boathouse.services.keeper import Keeper
from boathouse.services.xcache import Caches, token_file, token_scope, unit_name, upstream_audiences
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
                "SITE": {"upstreams": ["SOME"]},
                "NODE": {"level": "node", "upstreams": ["SITE"]},
                "OPEN": {"mode": "group", "group": "cms", "networks": ["10.0.0.0/23", "192.0.2.7/32"]},
                "CLAIM": {"mode": "group", "group": "magic", "upstreams": ["ONE"]},
            },
        },
    },
    "groups": {"cms": {}, "magic": {"embargoed": True}, "lst": {"embargoed": True}},
    "scopes": {
        "cms": {"group": "cms"},
        "magic": {"group": "magic"},
        "lst": {"group": "lst"},
        "group.x": {"group": "cms"},
    },
    "users": {"alice": {"groups": ["magic"]}},
}


@pytest.fixture
def document():
    return DOCUMENT


@pytest.fixture
def context(document):
    facility = Facility.model_validate(document)
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


def test_a71_a_chained_cache_reads_from_its_parent_alone_and_keeps_the_paths(context, units):
    for name, parent in (("SITE", "SOME"), ("NODE", "SITE")):
        config = lines(units[unit_name(name)])
        host = f"{context.addresses[f'{parent}.root']}:{context.ports[f'{parent}.root']}"
        assert [line for line in config if line.startswith(("pss.origin", "pss.permit"))] == [
            f"pss.origin roots://{host}"
        ]
        assert [line for line in config if line.startswith("all.export")] == [
            line for line in lines(units["cache-some"]) if line.startswith("all.export /root")
        ]
        assert upstream_audiences(context, name) == (context.addresses[f"{parent}.root"],)
    endpoints = {endpoint.name: endpoint for endpoint in Caches().plan(context).caches}
    assert endpoints["NODE"].origins == endpoints["SOME"].origins
    assert [endpoints[name].parent for name in ("NODE", "SITE", "SOME")] == ["SITE", "SOME", ""]
    assert units["cache-node"].title == "XCache NODE, in front of SITE"


def test_a52_a_cache_that_lets_in_a_network_has_nothing_that_is_embargoed(context, units):
    text = "".join(file.text for file in units["cache-open"].files)
    assert "/lake/cms" in text
    assert not any(name in text + token_scope(context, "OPEN") for name in ("magic", "lst", "alice", "ztn", "authz"))
    assert token_scope(context, "OPEN").split()[:2] == ["storage.read:/lake/cms", "storage.read:/lake/group/x"]
    allowed = [line for line in lines(units["cache-open"]) if line.startswith("xrd.allow")]
    assert allowed[:3] == [f"xrd.allow host {address}" for address in ("127.0.1.18", "127.0.0.1", "10.0.0.0")]
    assert allowed[-2:] == [f"xrd.allow host {address}" for address in ("10.0.1.255", "192.0.2.7")]
    assert len(allowed) == 2 + 512 + 1


def test_a74_a_cache_that_lets_in_by_claim_has_what_the_group_may_read(context, units):
    text = "".join(file.text for file in units["cache-claim"].files)
    assert "lst" not in text + token_scope(context, "CLAIM")
    assert lines(units["cache-claim"], "authdb") == [
        "g /escape/magic "
        + " ".join(
            f"/{scheme}:/127.0.1.11:2001/lake/{path}/ rl"
            for scheme in ("roots", "root")
            for path in ("cms", "magic", "group/x", "group.x")
        )
    ]
    endpoint = Caches().plan(context).caches[-1]
    assert (endpoint.mode, endpoint.schemes) == ("group", ("root",))
    assert endpoint.paths == ("/lake/cms", "/lake/magic", "/lake/group/x", "/lake/group.x", *endpoint.paths[4:])


FOREIGN = DOCUMENT | {
    "sites": {"NORTH": {**DOCUMENT["sites"]["NORTH"], "caches": {
        "FAR": {"mode": "translating", "federation": "aaa"},
        "HOST": {"mode": "translating", "federation": "osdf"},
        "GRID": {"mode": "translating", "federation": "grid"},
    }}},
    "federations": {
        "aaa": {
            "url": "roots://aaa.example",
            "ca_file": "/ca.pem",
            "client": {
                "issuer": "https://iam.example", "ca_file": "/iam.pem", "id": "b", "secret_file": "/s", "audience": "y",
            },
            "everybody": ["/store/mc"],
            "rights": {"cms": ["/store", "/store/mc"], "magic": ["/magic"]},
        },
        "grid": {
            "url": "root://grid.example", "proxy_file": "/p", "ca_directory": "/etc/grid-security/certificates",
            "rights": {"cms": ["/x"]},
        },
        "osdf": {"url": "roots://osdf.example:4711/", "token_file": "/t", "rights": {"cms": ["/x"]}},
    },
}  # fmt: skip


@pytest.mark.parametrize("document", [FOREIGN])
def test_a76_a_cache_before_a_federation_follows_its_table(context, units):
    config = lines(units["cache-far"])
    assert [line for line in config if line.startswith("pss.origin")] == ["pss.origin roots://aaa.example:1094"]
    assert "pss.origin roots://osdf.example:4711" in lines(units["cache-host"])
    assert [line for line in config if line.startswith("all.export")] == [
        f"all.export {path} r/o" for path in ("/store/mc", "/store", "/magic")
    ]
    assert lines(units["cache-far"], "authdb") == [
        "g /escape /store/mc/ rl",
        "g /escape/cms /store/ rl /store/mc/ rl",
        "g /escape/magic /magic/ rl",
    ]
    # None whose token names paths gets in, and none whose token goes on.
    assert not any(word in line for line in config for word in ("header2cgi", "pss.permit"))
    assert "capability" not in "".join(lines(units["cache-far"], "scitokens.cfg"))
    far, host, _ = Caches().plan(context).caches
    assert (far.mode, far.schemes, far.upstreams, dict(far.origins)) == ("translating", ("root",), (), {})
    assert (far.federation, host.federation) == ("aaa", "osdf")


@pytest.mark.parametrize("document", [FOREIGN])
def test_a76_who_a_federation_is_and_what_it_is_shown(context, units):
    far, host = units["cache-far"], units["cache-host"]
    assert far.env["X509_CERT_FILE"] == str(context.config("cache-far", "federation-ca.pem"))
    assert lines(far, "federation-ca.pem") == ["${secret:federation-aaa-ca}"]
    assert "X509_CERT_DIR" not in far.env
    assert host.env["X509_CERT_DIR"] == str(context.layout.public_ca_directory)
    assert host.env["BEARER_TOKEN_FILE"] == "/state/run/cache-host/token"
    assert host.env["XrdSecPROTOCOL"] == "ztn"
    grid = units["cache-grid"]
    assert grid.env["XrdSecPROTOCOL"] == "gsi"
    assert grid.env["X509_USER_PROXY"] == "/state/run/cache-grid/token"
    assert grid.env["X509_CERT_DIR"] == "/etc/grid-security/certificates"
    assert "BEARER_TOKEN_FILE" not in grid.env
    assert [f"--read={grid.env['X509_CERT_DIR']}" in unit.command for unit in (grid, host)] == [True, False]
    keeper = json.loads(Keeper().plan(context).units[0].files[0].text)
    assert keeper["tokens"] == []
    assert keeper["credentials"] == [
        {
            "federation": "aaa",
            "paths": ["/state/run/cache-far/token"],
            "client": {
                "issuer": "https://iam.example",
                "id": "b",
                "secret": "/state/secrets/federation-aaa-client",
                "ca_file": "/state/secrets/federation-aaa-issuer-ca",
                "audience": "y",
                "scope": "storage.read:/",
            },
        },
        {"federation": "grid", "paths": ["/state/run/cache-grid/token"], "file": "/p", "proxy": True},
        {"federation": "osdf", "paths": ["/state/run/cache-host/token"], "file": "/t", "proxy": False},
    ]
    assert {(secret.name, str(secret.source)) for secret in Caches().plan(context).secrets} == {
        ("federation-aaa-ca", "/ca.pem"), ("federation-aaa-client", "/s"), ("federation-aaa-issuer-ca", "/iam.pem")
    }  # fmt: skip


def test_the_operators_lines_come_last(units):
    assert lines(units["cache-all"])[-1] == "pfc.trace info"


def test_endpoints(context):
    whole, some, *_ = Caches().plan(context).caches
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
