"""The scope algebra against sets of single permissions, which is what scopes stand for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boathouse.errors import InputError
from boathouse.wlcg.scopes import Scope, covers, format_scopes, narrow, normalise_path, parse, path_contains

# A small world: every path that the strategies can name, as file and as directory.
NAMES = ("a", "ab", "b")
PATHS = ["/", *(f"/{x}{s}" for x in NAMES for s in ("", "/"))]
PATHS += [f"/{x}/{y}{s}" for x in NAMES for y in NAMES for s in ("", "/")]
CAPABILITIES = ("storage.read", "storage.create", "storage.modify", "storage.stage", "storage.poll")


def permissions(scope: Scope) -> set[tuple[str, str]]:
    """All (operation, place) pairs of a scope; a place is a path of the world, tested by its segments."""
    operations = {"storage.modify": {"create", "modify"}}.get(scope.name, {scope.name.partition(".")[2]})
    path = scope.path or "/"
    inside = set()
    for place in PATHS:
        segments, wanted = place.rstrip("/").split("/"), path.rstrip("/").split("/")
        below = segments[: len(wanted)] == wanted
        only_directory = path.endswith("/") and path != "/" and place == path.rstrip("/")
        if below and not only_directory:
            inside.add(place)
    return {(operation, place) for operation in operations for place in inside}


def all_permissions(scopes: tuple[Scope, ...]) -> set[tuple[str, str]]:
    return set().union(*map(permissions, scopes))


scopes = st.builds(Scope, st.sampled_from(CAPABILITIES), st.sampled_from(PATHS))
scope_lists = st.lists(scopes, max_size=5).map(tuple)


@given(scopes, scopes)
def test_one_scope_covers_another_as_the_sets_say(one: Scope, other: Scope) -> None:
    assert one.covers(other) == (permissions(one) >= permissions(other))


@given(scopes, scopes)
def test_intersection_is_the_intersection(one: Scope, other: Scope) -> None:
    both = one.intersection(other)
    assert (permissions(both) if both else set()) == permissions(one) & permissions(other)
    assert both == other.intersection(one)


@given(scope_lists, scope_lists)
def test_narrowing_loses_nothing_and_adds_nothing(granted: tuple[Scope, ...], wanted: tuple[Scope, ...]) -> None:
    result = narrow(granted, wanted)
    assert all_permissions(result) == all_permissions(granted) & all_permissions(wanted)
    assert all(covers(granted, scope) for scope in result)
    assert len(set(result)) == len(result)
    assert narrow(granted, result) == result


@given(scope_lists)
def test_text_and_back(given_scopes: tuple[Scope, ...]) -> None:
    assert parse(format_scopes(given_scopes)) == tuple(dict.fromkeys(given_scopes))


@given(st.text(max_size=30))
def test_normalising_is_idempotent_or_refuses(text: str) -> None:
    try:
        once = normalise_path(text)
    except InputError:
        return
    assert normalise_path(once) == once
    assert once.isascii()
    assert once.startswith("/")
    assert Scope.parse(f"storage.read:{once}").path == once


@pytest.mark.parametrize(
    ("path", "normal"),
    [
        ("/", "/"),
        ("//", "/"),
        ("/a//b/", "/a/b/"),
        ("/%7Ea", "/~a"),
        ("/a%3ab", "/a:b"),
        ("/a b", "/a%20b"),
        ("/a%20b", "/a%20b"),
        ("/bücher", "/b%C3%BCcher"),
        ("/a%2541", "/a%2541"),
    ],
)
def test_one_spelling(path: str, normal: str) -> None:
    assert normalise_path(path) == normal


@pytest.mark.parametrize(
    "path",
    ["", "a", "a/b", "/a/..", "/../a", "/./a", "/%2e%2e/a", "/a%2fb", "/a%5cb", "/a\\b", "/%00", "/%", "/%g1", "/%ff"],
)
def test_ambiguous_paths_are_refused(path: str) -> None:
    with pytest.raises(InputError):
        normalise_path(path)


def test_segments_not_prefixes() -> None:
    """WLCG profile 2.2.1."""
    assert path_contains("/foo/bar", "/foo/bar")
    assert path_contains("/foo/bar", "/foo/bar/qux")
    assert not path_contains("/foo/bar", "/foo/bargain")
    assert not path_contains("/foo/bar", "/foo")
    assert path_contains("/foo/bar/", "/foo/bar/qux")
    assert not path_contains("/foo/bar/", "/foo/bar")
    assert path_contains("/", "/anything")


def test_modify_is_a_superset_of_create_and_stage_implies_nothing() -> None:
    """WLCG profile 2.2.1."""
    assert Scope.parse("storage.modify:/a").covers(Scope.parse("storage.create:/a/b"))
    assert not Scope.parse("storage.create:/a").covers(Scope.parse("storage.modify:/a"))
    assert not Scope.parse("storage.stage:/a").covers(Scope.parse("storage.read:/a"))


@pytest.mark.parametrize(
    "text",
    [
        *(capability for capability in CAPABILITIES),
        "storage.read:",
        "storage.read:a",
        "compute.read:/x",
        "wlcg.groups:",
        "wlcg.groups:cms",
        "wlcg.groups:/",
        "wlcg.groups:/cms/",
        "wlcg.groups:/-cms",
        "wlcg.capabilityset",
        'a"b',
        "a\\b",
        "ä",
        "",
    ],
)
def test_malformed_scopes_are_refused(text: str) -> None:
    with pytest.raises(InputError):
        Scope.parse(text)


def test_other_scopes_are_words() -> None:
    assert parse("openid  fts openid wlcg:1.0 compute.read") == tuple(
        map(Scope, ("openid", "fts", "wlcg:1.0", "compute.read"))
    )
    assert not Scope("openid").covers(Scope("fts"))


def test_a_list_of_all_groups_covers_each() -> None:
    every, one = Scope.parse("wlcg.groups"), Scope.parse("wlcg.groups:/cms")
    assert every.covers(one)
    assert not one.covers(every)
    assert not one.covers(Scope.parse("wlcg.groups:/cms/it"))


def test_narrowing_keeps_the_wish_as_it_is_written() -> None:
    granted = parse("openid storage.read:/lake/cms storage.read:/lake/user.bob storage.create:/lake/cms")
    wanted = parse("storage.read:/ openid fts storage.read:/lake/cms/x storage.modify:/lake/cms")
    assert format_scopes(narrow(granted, wanted)) == (
        "storage.read:/lake/cms storage.read:/lake/user.bob openid storage.read:/lake/cms/x storage.create:/lake/cms"
    )
