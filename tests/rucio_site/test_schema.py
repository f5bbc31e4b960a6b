"""Names that are refused since, as paths, they would lead elsewhere; and everything that embeds them."""

from __future__ import annotations

import pytest
from rucio.common.exception import InvalidObject
from rucio.common.schema import validate_schema

COLLECTIONS = ["/a", "/DoubleMuon/Run2016B-v1/NANOAOD", "/a..b", "/" + "A" * 249]
GOOD = ["f", "a.root", "a/b.root", "a..b", "a/..b", "a/b..", "a/...", "2026_run-3/x.y", "A" * 250]
BAD = [
    *(".", "..", "../f", "a/..", "a/../f", "a/./f", "a//f", "a/", "/", "//f", "-f"),
    *("//a/b", "/a//b", "/a/", "/./a", "/../a", "/a/..", "/-f", "/%2e%2e/a", "/" + "A" * 250),
    *("%2e%2e/f", "a/%2e%2e/f", "a%2f..%2ff", "a/%252e", "a\\..\\f", "a\n", "a/..\n", "a?b", "a#b", "A" * 251),
]
CHECKSUM = "00000001"


FILES_ONLY = ("cache_add_replicas", "cache_delete_replicas")
"""Where nothing but a file can stand."""


def embedded(name: str) -> dict[str, object]:
    did = {"scope": "cms", "name": name}
    return {
        "name": name,
        "did": did,
        "dids": [{**did, "type": "FILE", "bytes": 1, "adler32": CHECKSUM}],
        "attachment": {"scope": "cms", "name": "dataset", "dids": [did]},
        "attachments": [{"scope": "cms", "name": "dataset", "dids": [did]}],
        "collection": {**did, "type": "DATASET"},
        "collections": [{**did, "type": "DATASET"}],
        "rule": {"dids": [did], "copies": 1, "rse_expression": "*"},
        "cache_add_replicas": {
            "files": [{**did, "bytes": 1, "adler32": CHECKSUM}],
            "rse": "NORTH",
            "lifetime": 1,
            "operation": "add_replicas",
        },
        "cache_delete_replicas": {"files": [did], "rse": "NORTH", "operation": "delete_replicas"},
    }


@pytest.mark.parametrize("name", GOOD)
def test_good_names(name):
    for schema, value in embedded(name).items():
        validate_schema(schema, value)


@pytest.mark.parametrize("name", COLLECTIONS)
def test_names_of_collections_may_begin_with_a_slash(name):
    for schema, value in embedded(name).items():
        if schema in FILES_ONLY:
            with pytest.raises(InvalidObject):
                validate_schema(schema, value)
        else:
            validate_schema(schema, value)


@pytest.mark.parametrize("name", BAD)
def test_bad_names_are_refused_wherever_they_are(name):
    for schema, value in embedded(name).items():
        with pytest.raises(InvalidObject):
            validate_schema(schema, value)


@pytest.mark.parametrize("scope", ["cms", "user.alice", "user.a.b", "a..b", "group_1"])
def test_good_scopes(scope):
    validate_schema("scope", scope)
    validate_schema("did", {"scope": scope, "name": "f"})


@pytest.mark.parametrize("scope", [".", "..", "user..alice", "user.", "group..", "cms\n", "a/b", "%2e%2e"])
def test_bad_scopes(scope):
    with pytest.raises(InvalidObject):
        validate_schema("scope", scope)
    with pytest.raises(InvalidObject):
        validate_schema("did", {"scope": scope, "name": "f"})
