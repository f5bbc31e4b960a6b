"""Element and caches decide alike: for random rights and trees, over both protocols, whether a file is kept or not.

The caches of a chain, too: each layer, for readers who come to it and for those whom the layer before sends.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .conftest import Box
from .doors import CACHES, CHAIN, Door, servers
from .roots import NOT_AUTHORIZED, NOT_FOUND, Roots

DIRECTORIES, FILES = ("a", "ab", "b.a"), ("f", "fx")
CAPABILITIES = ("storage.read", "storage.read", "storage.read", "storage.create", "storage.modify", "storage.stage")

# Scopes end at directories, at files, above the tree, and at names that others begin with.
inside = st.lists(st.sampled_from(DIRECTORIES), max_size=2).map(tuple)
files = st.tuples(inside, st.sampled_from(FILES)).map(lambda parts: (*parts[0], parts[1]))
scopes = st.tuples(st.sampled_from(CAPABILITIES), st.one_of(inside, files))
TRIES = settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@dataclass(frozen=True)
class Tree:
    """A directory of its own at the element, and what people may do below it."""

    top: str
    kept: tuple[tuple[str, ...], ...]
    missing: tuple[str, ...]
    rights: tuple[tuple[tuple[str, tuple[str, ...]], ...], ...]
    root_first: bool
    """Which protocol brings a file into the caches."""

    def path(self, parts: Sequence[str]) -> str:
        return "/".join((self.top, *parts))

    def may_read(self, user: int, parts: tuple[str, ...]) -> bool:
        """By the meaning of the words: a scope opens what its path is or begins, name by name."""
        return any(name == "storage.read" and parts[: len(path)] == path for name, path in self.rights[user])


trees = st.builds(
    Tree,
    top=st.builds(lambda: f"/lake/{uuid.uuid4().hex[:10]}"),
    kept=st.lists(files, min_size=2, max_size=3, unique=True).map(tuple),
    missing=files.map(lambda parts: (*parts[:-1], "none")),
    rights=st.lists(st.lists(scopes, max_size=3).map(tuple), min_size=2, max_size=3).map(tuple),
    root_first=st.booleans(),
)


@pytest.fixture(scope="module")
def roots(box: Box) -> Iterator[Roots]:
    with Roots(box) as made:
        yield made


@pytest.fixture(scope="module")
def layered_roots(layered: Box) -> Iterator[Roots]:
    with Roots(layered) as made:
        yield made


@dataclass(frozen=True)
class Asking:
    """Reads as a person does."""

    box: Box
    roots: Roots
    tokens: tuple[str, ...]
    users: tuple[str, ...]

    def over_https(self, door: Door, user: int, path: str) -> tuple[str, str]:
        url = self.box.url(door.server, door.path(self.box, path))
        answer = self.box.http("GET", url, self.tokens[user], Range="bytes=0-99")
        words = {206: "read", 403: "denied", 404: "missing"}
        return words.get(answer.status, str(answer.status)), answer.text if answer.status == 206 else ""

    def over_root(self, door: Door, user: int, path: str) -> tuple[str, str]:
        answer = self.roots.ask(door, "read", path, self.tokens[user], user=self.users[user], size=100)
        words = {"ok": "read", str(NOT_AUTHORIZED): "denied", str(NOT_FOUND): "missing"}
        return words.get(answer.outcome, answer.outcome), answer.data


def check(box: Box, roots: Roots, tree: Tree, caches: Sequence[Door]) -> None:
    """Ask an element, and the caches before it in this order, for all files of a tree twice."""
    origin = Door(caches[0].element, caches[0].element, "element")
    for parts in tree.kept:
        box.put(origin.element, tree.path(parts), tree.path(parts).encode())
    asking = Asking(
        box,
        roots,
        tuple(
            box.token(" ".join(f"{name}:{tree.path(path)}" for name, path in granted), *servers(box))
            for granted in tree.rights
        ),
        tuple(uuid.uuid4().hex[:8] for _ in tree.rights),
    )
    protocols = (asking.over_root, asking.over_https) if tree.root_first else (asking.over_https, asking.over_root)
    # The second time whatever anybody may read is kept.
    for time in ("first", "second"):
        for parts in (*tree.kept, tree.missing):
            path = tree.path(parts)
            for user in range(len(tree.rights)):
                if not tree.may_read(user, parts):
                    wanted = ("denied", "")
                else:
                    wanted = ("missing", "") if parts == tree.missing else ("read", path)
                for door in (origin, *caches):
                    for ask in protocols:
                        assert ask(door, user, path) == wanted, (time, door.server, ask.__name__, tree.rights[user])


@TRIES
@given(tree=trees)
def test_a53_origin_and_caches_decide_alike(box: Box, roots: Roots, tree: Tree) -> None:
    check(box, roots, tree, [cache for cache in CACHES if cache.element == CACHES[0].element])


@settings(TRIES, max_examples=5)
@given(tree=trees, outwards=st.booleans())
def test_a53_origin_and_every_layer_decide_alike(
    layered: Box, layered_roots: Roots, tree: Tree, outwards: bool
) -> None:
    """Either all layers learn of a file at once, from the reader's side, or one after the other, from the lake's."""
    check(layered, layered_roots, tree, CHAIN[::-1] if outwards else CHAIN)
