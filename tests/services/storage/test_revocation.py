"""What somebody may no longer read is refused once the token has ended, however long a cache has kept it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator

import pytest

from boathouse.testing.wait import wait_for

from .conftest import Box
from .doors import CACHES, ELEMENTS, SERVERS, Door
from .roots import NOT_AUTHORIZED, Roots

LIVES_S, LATE_S = (4, 16, 64), 2
"""How long the old tokens live, the longer ones where reading takes long, and how long after its end a server may still
take one that it has seen."""
SECRET = "what was once for everybody"
DOORS = (*ELEMENTS, *CACHES)
UNDER_EMBARGO = "storage.read:/lake/cms"
"""What the issuer gives after it: all but the path that was taken away."""


@pytest.fixture(scope="module")
def roots(box: Box) -> Iterator[Roots]:
    with Roots(box) as made:
        yield made


@pytest.fixture
def path(box: Box) -> str:
    """A file of every element, whose path a group has lost."""
    path = f"/lake/magic/{uuid.uuid4().hex[:12]}"
    for element in ELEMENTS:
        box.put(element.element, path, SECRET.encode())
    return path


def over_https(box: Box, door: Door, path: str, token: str) -> tuple[int, str]:
    answer = box.http("GET", box.url(door.server, door.path(box, path)), token)
    return answer.status, answer.text if answer.status == 200 else ""


def test_c6_bytes_that_are_kept_are_refused_after_the_token_s_end(box: Box, roots: Roots, path: str) -> None:
    """The bound of a revocation is the life of the tokens that were given before: the next one lacks the path."""
    users = {door: uuid.uuid4().hex[:8] for door in DOORS}

    def old_token(life_s: int) -> str:
        """A token that was read with at every server before it ended; none if it ended too early."""
        token = box.token(f"{UNDER_EMBARGO} storage.read:/lake/magic", *SERVERS, life_s=life_s)
        users.update({door: uuid.uuid4().hex[:8] for door in DOORS})
        read = [
            (over_https(box, door, path, token)[1], roots.ask(door, "read", path, token, user=users[door]).data)
            for door in DOORS
        ]
        return token if read == [(SECRET, SECRET)] * len(DOORS) else ""

    old, ended = next((token, time.time() + life_s + LATE_S) for life_s in LIVES_S if (token := old_token(life_s)))
    new = box.token(UNDER_EMBARGO, *SERVERS)
    for door in DOORS:
        assert over_https(box, door, path, new) == (403, ""), door
        assert roots.ask(door, "read", path, new).errno == NOT_AUTHORIZED, door
    wait_for("the old token has ended", lambda: time.time() > ended)
    for door in DOORS:
        assert over_https(box, door, path, old) == (403, ""), door
        # Connections outlive the token that they began with; it opens nothing more on them.
        assert roots.ask(door, "read", path, old, user=users[door]).errno == NOT_AUTHORIZED, door
        assert not roots.ask(door, "read", path, old).ok, door


@pytest.mark.parametrize("cache", CACHES, ids=str)
def test_a_token_for_the_cache_alone_opens_what_is_kept(box: Box, path: str, cache: Door) -> None:
    """The page says so: the cache asks the element with the reader's own token, and only for what it has not."""
    own = box.token("storage.read:/lake/magic", cache.server)
    assert over_https(box, cache, path, own)[0] == 403
    assert over_https(box, cache, path, box.token("storage.read:/lake/magic", *SERVERS)) == (200, SECRET)
    assert over_https(box, cache, path, own) == (200, SECRET)
