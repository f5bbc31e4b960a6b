"""The key ring through a rotation, on a clock of the test's own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from boathouse.apps.tokens.files import create_once
from boathouse.apps.tokens.signing.keys import KeyRing, SigningKey
from boathouse.errors import StateError
from boathouse.testing.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock(1_800_000_000.0)


def kids(ring: KeyRing) -> list[str]:
    return [key["kid"] for key in ring.jwks()["keys"]]


def test_a_rotation_from_beginning_to_end(tmp_path: Path, clock: Clock) -> None:
    ring = KeyRing(tmp_path / "keys", "ES256", clock=clock)
    old = ring.active()
    new = ring.rotate(activation_s=100, token_lifetime_s=3600)
    assert kids(ring) == [old.kid, new.kid]
    assert ring.active().kid == old.kid, "the new key is only published"
    clock.now += 100
    assert ring.active().kid == new.kid
    assert kids(ring) == [old.kid, new.kid], "tokens of the old key still live"
    clock.now += 3600 + 300
    assert kids(ring) == [new.kid]
    newest = ring.rotate(activation_s=100, token_lifetime_s=3600)
    stored = json.loads((tmp_path / "keys" / "keyring.json").read_text())["keys"]
    assert [entry["jwk"]["kid"] for entry in stored] == [new.kid, newest.kid], "the dead key is forgotten"


def test_two_rotations_in_a_row_lose_no_key(tmp_path: Path, clock: Clock) -> None:
    ring = KeyRing(tmp_path / "keys", "ES256", clock=clock)
    first = ring.active()
    second, third = ring.rotate(100, 3600), ring.rotate(100, 3600)
    clock.now += 100
    assert ring.active().kid in (second.kid, third.kid)
    assert kids(ring) == [first.kid, second.kid, third.kid]
    clock.now += 3900
    assert ring.active().kid == third.kid
    assert kids(ring) == [third.kid]


def test_another_process_sees_the_rotation(tmp_path: Path, clock: Clock) -> None:
    one, other = (KeyRing(tmp_path / "keys", "ES256", clock=clock, look_again_s=0) for _ in range(2))
    assert kids(one) == kids(other)
    one.rotate(0, 3600)
    assert other.active().kid == one.active().kid


def test_only_public_halves_are_published(tmp_path: Path, clock: Clock) -> None:
    ring = KeyRing(tmp_path / "keys", "RS256", clock=clock)
    ring.publish()
    (key,) = json.loads(ring.jwks_path.read_text())["keys"]
    assert set(key) == {"kty", "n", "e", "kid", "use", "alg"}
    assert ring.jwks_path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("content", ["", "{}", '{"keys": [{"jwk": {}}]}'])
def test_a_damaged_ring_is_not_replaced(tmp_path: Path, content: str) -> None:
    (tmp_path / "keyring.json").write_text(content)
    with pytest.raises(StateError, match="damaged"):
        KeyRing(tmp_path, "ES256")
    assert (tmp_path / "keyring.json").read_text() == content


def test_a_file_is_made_once(tmp_path: Path) -> None:
    assert create_once(tmp_path / "key", b"one") == b"one"
    assert create_once(tmp_path / "key", b"two") == b"one"
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_a_key_that_is_old_enough_is_followed_by_the_next_one(tmp_path: Path, clock: Clock) -> None:
    one, other = (KeyRing(tmp_path / "keys", "ES256", clock=clock, look_again_s=0) for _ in range(2))
    old = one.active()
    assert one.rotate_if_due(1000, 100, 50) is None
    clock.now += 900
    new = one.rotate_if_due(1000, 100, 50)
    assert new is not None
    assert other.rotate_if_due(1000, 100, 50) is None, "of two processes one rotates"
    assert (one.active().kid, new.signs_from) == (old.kid, old.signs_from + 1000)
    clock.now += 100
    assert one.active().kid == new.kid
    assert one.rotate_if_due(1000, 100, 50) is None


def test_another_algorithm_takes_over_as_in_a_rotation(tmp_path: Path, clock: Clock) -> None:
    before = KeyRing(tmp_path / "keys", "ES256", clock=clock)
    ring = KeyRing(tmp_path / "keys", "RS256", clock=clock)
    new = ring.rotate_if_due(1000, 100, 50)
    assert new is not None
    assert [key["alg"] for key in ring.jwks()["keys"]] == ["ES256", "RS256"]
    assert ring.active().kid == before.active().kid
    clock.now += 100
    assert ring.active().kid == new.kid


def test_withdrawn_keys_go_when_the_new_one_signs(tmp_path: Path, clock: Clock) -> None:
    ring = KeyRing(tmp_path / "keys", "ES256", clock=clock)
    first = ring.active()
    waiting = ring.rotate(1000, 3600)
    new, old = ring.withdraw(3)
    assert [key.kid for key in old] == [first.kid, waiting.kid]
    assert ring.active().kid == first.kid
    assert kids(ring) == [first.kid, waiting.kid, new.kid]
    clock.now += 3
    assert (ring.active().kid, kids(ring)) == (new.kid, [new.kid])
    assert ring.publish()
    assert not ring.publish()
    assert [key["kid"] for key in json.loads(ring.jwks_path.read_text())["keys"]] == [new.kid]


def test_withdrawn_keys_are_remembered_until_what_they_signed_is_denied(tmp_path: Path, clock: Clock) -> None:
    one = KeyRing(tmp_path / "keys", "ES256", clock=clock)
    _, old = one.withdraw(3)
    denied: list[str] = []

    def deny(keys: tuple[SigningKey, ...]) -> None:
        denied.extend(key.kid for key in keys)

    def fail(keys: tuple[SigningKey, ...]) -> None:
        raise ConnectionError

    assert one.settle(1, deny) == (), "they still sign"
    clock.now += 3
    assert one.settle(1, deny) == (), "some process may still sign with them"
    clock.now += 1
    with pytest.raises(ConnectionError):
        one.settle(1, fail)
    # Whoever made the keys worthless is gone: another process ends it, also after a rotation.
    other = KeyRing(tmp_path / "keys", "ES256", clock=clock, look_again_s=0)
    other.rotate(0, 3600)
    assert old[0].kid not in kids(other)
    assert [key.kid for key in other.settle(1, deny)] == denied == [old[0].kid]
    assert other.settle(1, deny) == one.settle(1, deny) == ()
    assert denied == [old[0].kid], "once"
