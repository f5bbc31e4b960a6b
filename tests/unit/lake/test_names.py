from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boathouse.errors import InputError
from boathouse.lake.names import Did, hash_path
from boathouse.lake.rest import did_path

names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9.\-_]{0,80}", fullmatch=True)
scopes = st.from_regex(r"[a-zA-Z_\-.0-9]{1,25}", fullmatch=True)


@given(scopes, names)
def test_a_did_survives_text(scope: str, name: str) -> None:
    assert Did.parse(f"{scope}:{name}") == Did(scope, name)
    assert str(Did(scope, name)) == f"{scope}:{name}"


@pytest.mark.parametrize(
    "text",
    ["", "cms", ":", "cms:", ":name", "a b:c", "cms:a b", "cms:ä", "cms:a:b", "x" * 26 + ":a", "cms:" + "x" * 251],
)
def test_what_the_catalogue_would_refuse_is_refused_here(text: str) -> None:
    # case name-4
    with pytest.raises(InputError) as caught:
        Did.parse(text)
    assert caught.value.expected


@pytest.mark.parametrize("name", ["/DoubleMuon/Run2016B-v1/NANOAOD", "/a", "/a..b/c", "/" + "a" * 249])
def test_collections_may_be_called_as_in_cms_and_files_may_not(name: str) -> None:
    # cases name-2 name-3
    did = Did.parse(f"cms:{name}")
    assert did.name == name
    assert did_path(did) == "/cms/" + name.replace("/", "%2F")
    with pytest.raises(InputError, match="not a name for a file") as caught:
        did.checked_file()
    assert "its path is made of it" in str(caught.value.expected)


@pytest.mark.parametrize("name", ["a", "a.root", "a/b.root", "a..b", "a/..b", "a/b..", "a/...", "a" * 250])
def test_files_may_be_called_so(name: str) -> None:
    # case name-1
    assert Did("cms", name).checked_file() == Did.parse(f"cms:{name}")


@pytest.mark.parametrize(
    "name",
    [
        *(".", "..", "../f", "a/..", "a/../f", "a/./f", "a//f", "a/", "/", "//f", "-f", "/-f", "//a/b", "/a//b", "/a/"),
        *("/./a", "/../a", "/a/..", "a\n", "/a\n", "a\\b", "%2e%2e/f", "a?b", "/" + "a" * 250),
    ],
)
def test_names_that_lead_elsewhere_are_refused(name: str) -> None:
    # case name-4
    for check in (Did("cms", name).checked, Did("cms", name).checked_file):
        with pytest.raises(InputError, match="not a DID name"):
            check()


@given(scopes, names)
def test_a7_the_layout_of_algorithm_hash(scope: str, name: str) -> None:
    digest = hashlib.md5(f"{scope}:{name}".encode()).hexdigest()
    path = hash_path(Did(scope, name))
    assert path.endswith(f"/{digest[0:2]}/{digest[2:4]}/{name}")
    directory = path.removesuffix(f"/{digest[0:2]}/{digest[2:4]}/{name}")
    assert directory.replace("/", ".") == scope
    assert ("/" in directory) == (scope.startswith(("user", "group")) and "." in scope)
