"""Keys of another issuer: followed, kept through an outage and a restart, and gone when nobody vouches for them."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from boathouse.errors import ServiceError
from boathouse.run.local.account import Account
from boathouse.run.local.trusted import EXPIRY_S, TrustedIssuer, TrustedKeys
from boathouse.wlcg import keycache

ME = Account("me", 0, 0, switch=False)
URL = "https://aai.example"


class World:
    """An issuer without a network, a clock, and two storage servers."""

    def __init__(self, directory: Path) -> None:
        self.now = 1_000_000.0
        self.keys: list[str] | None = ["one"]
        self.asked = 0
        self.caches = [directory / "a", directory / "b"]
        self.issuer = TrustedIssuer(URL, None, 300.0, directory / "kept.json")

    def fetch(self) -> dict[str, Any]:
        self.asked += 1
        if self.keys is None:
            raise ServiceError("down")
        return {"keys": [{"kid": kid} for kid in self.keys]}

    def keeper(self) -> TrustedKeys:
        return TrustedKeys(self.issuer, self.caches, ME, fetch=self.fetch, clock=lambda: self.now)

    def seeded(self, cache: Path) -> tuple[list[str], float] | None:
        path = keycache.database(cache)
        if not path.exists():
            return None
        with closing(sqlite3.connect(path)) as connection:
            row = connection.execute("SELECT keys FROM keycache WHERE issuer = ?", (URL,)).fetchone()
        entry = json.loads(row[0])
        return [key["kid"] for key in entry["jwks"]["keys"]], entry["expires"]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_every_server_gets_the_keys_with_an_end(world: World) -> None:
    world.keeper().keep()
    assert [world.seeded(cache) for cache in world.caches] == [(["one"], world.now + EXPIRY_S)] * 2


def test_a_rotation_is_followed_and_an_old_key_goes(world: World) -> None:
    keeper = world.keeper()
    keeper.keep()
    world.keys = ["one", "two"]
    keeper.keep()
    assert world.asked == 1, "not asked before its time"
    world.now += 300
    keeper.keep()
    assert world.seeded(world.caches[0]) == (["one", "two"], world.now + EXPIRY_S)
    world.keys = ["two"]
    world.now += 300
    keeper.keep()
    assert world.seeded(world.caches[1]) == (["two"], world.now + EXPIRY_S)


def test_the_end_moves_as_long_as_the_issuer_answers(world: World) -> None:
    keeper = world.keeper()
    for _ in range(30):
        keeper.keep()
        world.now += 300
    found = world.seeded(world.caches[0])
    assert found is not None
    assert world.now + EXPIRY_S - found[1] < 4200


def test_an_outage_leaves_the_last_keys_also_to_a_new_keeper(world: World) -> None:
    world.keeper().keep()
    world.keys = None
    world.now += 3600
    for cache in world.caches:
        keycache.database(cache).unlink()
    again = world.keeper()
    again.keep()
    assert world.seeded(world.caches[0]) == (["one"], world.now - 3600 + EXPIRY_S)
    world.keys = ["two"]
    world.now += 5
    again.keep()
    assert world.seeded(world.caches[0]) == (["two"], world.now + EXPIRY_S)


def test_keys_that_have_ended_are_given_to_nobody(world: World) -> None:
    world.keeper().keep()
    world.keys = None
    world.now += EXPIRY_S
    for cache in world.caches:
        keycache.database(cache).unlink()
    world.keeper().keep()
    assert world.seeded(world.caches[0]) is None


def test_a_silent_issuer_is_asked_every_five_seconds(world: World) -> None:
    world.keys = None
    keeper = world.keeper()
    for _ in range(11):
        keeper.keep()
        world.now += 1
    assert world.asked == 3
