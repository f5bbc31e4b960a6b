"""Keys in the cache of XRootD's token library."""

from __future__ import annotations

import importlib.util
import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from boathouse.wlcg import keycache

ISSUER = "https://localhost:1"
KEYS = {"keys": [{"kty": "EC", "kid": "one"}]}


def rows(directory):
    with closing(sqlite3.connect(keycache.database(directory))) as connection:
        return {issuer: json.loads(keys) for issuer, keys in connection.execute("SELECT issuer, keys FROM keycache")}


def test_a_row_that_outlives_the_facility(tmp_path):
    assert keycache.seed(tmp_path, ISSUER, KEYS)
    row = rows(tmp_path)[ISSUER]
    assert row["jwks"] == KEYS
    assert min(row["expires"], row["next_update"]) > time.time() + 5 * 365 * 86400


def test_twice_writes_once(tmp_path):
    keycache.seed(tmp_path, ISSUER, KEYS)
    before = keycache.database(tmp_path).read_bytes()
    assert not keycache.seed(tmp_path, ISSUER, KEYS)
    assert keycache.database(tmp_path).read_bytes() == before


def test_new_keys_replace_old_ones_of_that_issuer_only(tmp_path):
    keycache.seed(tmp_path, ISSUER, KEYS)
    keycache.seed(tmp_path, "https://other", KEYS)
    newer = {"keys": [{"kty": "EC", "kid": "two"}]}
    assert keycache.seed(tmp_path, ISSUER, newer)
    assert {issuer: row["jwks"] for issuer, row in rows(tmp_path).items()} == {ISSUER: newer, "https://other": KEYS}


@pytest.mark.parametrize("text", ["", "{}", '{"jwks": null, "expires": 0, "next_update": 0}'])
def test_a_remembered_failure_is_replaced(tmp_path, text):
    keycache.seed(tmp_path, ISSUER, KEYS)
    with closing(sqlite3.connect(keycache.database(tmp_path), isolation_level=None)) as connection:
        connection.execute("UPDATE keycache SET keys = ?", (text,))
    assert keycache.seed(tmp_path, ISSUER, KEYS)
    assert rows(tmp_path)[ISSUER]["jwks"] == KEYS


def test_what_was_seeded_is_read_until_it_expires(tmp_path):
    assert keycache.read(tmp_path, ISSUER) is None
    keycache.seed(tmp_path, ISSUER, KEYS)
    keycache.seed(tmp_path, "https://other", KEYS, expires=time.time() - 1)
    found = keycache.read(tmp_path, ISSUER)
    assert found is not None
    assert found.jwks == KEYS
    assert abs(found.written_at - time.time()) < 120
    assert keycache.read(tmp_path, "https://other") is None
    assert keycache.read(tmp_path, "https://unknown") is None
    keycache.database(tmp_path).write_bytes(b"half a file" * 1000)
    assert keycache.read(tmp_path, ISSUER) is None


def test_a_broken_file_is_made_anew(tmp_path):
    keycache.seed(tmp_path, ISSUER, KEYS)
    keycache.database(tmp_path).write_bytes(b"half a file" * 1000)
    assert keycache.seed(tmp_path, ISSUER, KEYS)
    assert rows(tmp_path)[ISSUER]["jwks"] == KEYS


def test_a_file_that_cannot_be_written_is_an_os_error(tmp_path):
    keycache.database(tmp_path).mkdir(parents=True)
    with pytest.raises(OSError, match="unable to open"):
        keycache.seed(tmp_path, ISSUER, KEYS)


def test_the_catalogues_reader_finds_what_is_written_here(tmp_path: Path) -> None:
    """It is of another distribution, which runs where this one is not."""
    path = Path(__file__).parents[3] / "rucio-site/src/boathouse_rucio_site/keycache.py"
    spec = importlib.util.spec_from_file_location("keycache_of_the_catalogue", path)
    assert spec is not None
    assert spec.loader is not None
    other = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(other)
    keycache.seed(tmp_path, ISSUER, KEYS)
    keycache.seed(tmp_path, "https://other", KEYS, expires=time.time() - 1)
    ours = keycache.read(tmp_path, ISSUER)
    assert ours is not None
    assert tuple(other.read(tmp_path, ISSUER)) == (ours.jwks, ours.written_at)
    assert other.read(tmp_path, "https://other") is None
