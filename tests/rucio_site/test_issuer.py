"""Keys and tokens of an issuer that rotates its keys and goes down."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing

import jwt
import pytest
from boathouse_rucio_site import tokens
from boathouse_rucio_site.errors import TokenError
from boathouse_rucio_site.issuer import REFRESH_S, Issuer, Issuers, Kept
from boathouse_rucio_site.jwt import verify
from boathouse_rucio_site.keycache import Kept as KeptKeys
from boathouse_rucio_site.keycache import read
from cryptography.hazmat.primitives.asymmetric import ec

URL = "https://issuer.example.org"


class World:
    """An issuer without a network, and a clock."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.down = False
        self.fetches: list[str] = []
        self.keys: dict[str, ec.EllipticCurvePrivateKey] = {}
        self.rotate("one")

    def rotate(self, kid: str) -> None:
        self.keys = {kid: ec.generate_private_key(ec.SECP256R1())}

    def clock(self) -> float:
        return self.now

    def fetch(self, url: str) -> dict[str, object]:
        self.fetches.append(url)
        if self.down:
            raise TokenError("down")
        if url.endswith("openid-configuration"):
            return {"issuer": URL, "jwks_uri": f"{URL}/jwks", "token_endpoint": f"{URL}/token"}
        algorithm = jwt.algorithms.ECAlgorithm(jwt.algorithms.ECAlgorithm.SHA256)
        keys = [json.loads(algorithm.to_jwk(key.public_key())) | {"kid": kid} for kid, key in self.keys.items()]
        return {"keys": keys}

    def key_set(self) -> dict[str, object]:
        return self.fetch(f"{URL}/jwks")

    def issuer(self, kept: Kept = lambda _: None) -> Issuer:
        return Issuer(URL, fetch=self.fetch, clock=self.clock, wall=self.clock, kept=kept)

    def keep(self) -> KeptKeys:
        """The keys of this moment, as the keeper keeps them."""
        return KeptKeys(self.key_set(), self.now)

    def token(self, **claims: object) -> str:
        kid, key = next(iter(self.keys.items()))
        full = {"iss": URL, "sub": "s", "aud": "rucio", "exp": time.time() + 3600, **claims}
        return jwt.encode(full, key, algorithm="ES256", headers={"kid": kid})


@pytest.fixture
def world() -> World:
    return World()


def test_nothing_is_fetched_before_it_is_needed(world):
    world.issuer()
    assert world.fetches == []


def test_an_unknown_key_is_fetched_at_once(world):
    issuer = world.issuer()
    assert issuer.key("one") is not None
    world.now += 1
    world.rotate("two")
    assert issuer.key("two") is not None
    assert issuer.key("one") is None


def test_made_up_key_names_do_not_flood_the_issuer(world):
    issuer = world.issuer()
    issuer.key("one")
    before = len(world.fetches)
    for number in range(100):
        assert issuer.key(f"made-up-{number}") is None
    assert len(world.fetches) == before


def test_known_keys_stay_while_the_issuer_is_down(world):
    issuer = world.issuer()
    issuer.key("one")
    world.down = True
    world.now += 10 * REFRESH_S
    assert issuer.key("one") is not None


def test_an_issuer_down_at_first_is_asked_again(world):
    world.down = True
    issuer = world.issuer()
    assert issuer.key("one") is None
    world.down = False
    world.now += 5
    assert issuer.key("one") is not None


def test_keys_that_the_keeper_keeps_serve_while_the_issuer_is_down(world):
    kept = {URL: world.keep()}
    issuer = world.issuer(kept=kept.get)
    world.down = True
    assert issuer.key("one") is not None
    asked = len(world.fetches)
    assert issuer.key("one") is not None
    assert len(world.fetches) == asked, "they are good for a minute"
    # They say, too, what is no key any more.
    world.down = False
    world.rotate("two")
    kept[URL] = world.keep()
    world.down = True
    world.now += REFRESH_S + 1
    issuer.key("one")
    assert issuer.key("one") is None
    assert issuer.key("two") is not None


def test_keys_that_the_keeper_had_before_the_issuer_told_others_do_not_come_back(world):
    kept = {URL: world.keep()}
    issuer = world.issuer(kept=kept.get)
    world.now += 1
    world.rotate("two")
    assert issuer.key("two") is not None
    world.down = True
    world.now += REFRESH_S + 1
    assert issuer.key("two") is not None
    assert issuer.key("one") is None


def test_damaged_kept_keys_change_nothing(world):
    issuer = world.issuer(kept=lambda _: KeptKeys({"keys": [{"kty": "nonsense", "kid": "one"}]}, world.now))
    issuer.key("one")
    world.down = True
    world.now += REFRESH_S + 1
    assert issuer.key("one") is not None


def test_kept_keys_are_read_until_they_expire(tmp_path, world):
    """In the form of XRootD's token library, which the keeper writes."""
    assert read(tmp_path, URL) is None
    path = tmp_path / "scitokens" / "scitokens_cpp.sqllite"
    path.parent.mkdir()
    rows = [
        (url, json.dumps({"jwks": world.key_set(), "expires": time.time() + life, "next_update": 315360007}))
        for url, life in ((URL, 60), ("https://other.example.org", -1))
    ]
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE keycache (issuer text UNIQUE PRIMARY KEY NOT NULL, keys text NOT NULL)")
        connection.executemany("INSERT INTO keycache VALUES (?, ?)", rows)
    assert read(tmp_path, URL) == KeptKeys(world.key_set(), 7)
    assert read(tmp_path, "https://other.example.org") is None
    assert read(tmp_path, "https://unknown.example.org") is None


def test_old_keys_are_forgotten_in_time(world):
    issuer = world.issuer()
    issuer.key("one")
    world.rotate("two")
    world.now += REFRESH_S + 1
    assert issuer.key("one") is None


def test_the_metadata_of_another_issuer_is_refused(world):
    issuer = Issuer("https://other.example.org", fetch=world.fetch, clock=world.clock)
    with pytest.raises(TokenError, match=r"is that of https://issuer\.example\.org"):
        issuer.endpoint("token_endpoint")


def test_only_listed_issuers_are_trusted(tmp_path):
    path = tmp_path / "idpsecrets.json"
    path.write_text(json.dumps({"a": {"issuer": URL}}))
    issuers = Issuers(path)
    assert issuers.get(URL).url == URL
    with pytest.raises(TokenError, match="not accepted"):
        issuers.get(URL + "/")


class FakeResponse:
    def __init__(self, status_code: int, document: object) -> None:
        self.status_code = status_code
        self._document = document

    def json(self) -> object:
        return self._document


@pytest.fixture
def source(world, monkeypatch):
    world.granted = []

    def post(url: str, **arguments: object) -> FakeResponse:
        if world.down:
            raise tokens.requests.ConnectionError("down")
        world.granted.append(arguments["data"])
        return FakeResponse(200, {"access_token": world.token()})

    monkeypatch.setattr(tokens.requests, "post", post)
    return tokens.TokenSource(world.issuer(), "rucio", "secret", 300.0)


def test_a_token_is_asked_for_once(source, world):
    assert source.get("a", "s") == source.get("a", "s")
    assert source.get("b", "s") != source.get("a", "s")
    assert len(world.granted) == 2
    assert world.granted[0] == {"grant_type": "client_credentials", "audience": "a", "scope": "s"}


def test_cached_tokens_go_with_their_key(source, world):
    first = source.get("a", "s")
    world.rotate("two")
    world.now += 60
    second = source.get("a", "s")
    assert second != first
    assert jwt.get_unverified_header(second)["kid"] == "two"


def test_cached_tokens_serve_while_the_issuer_is_down(source, world):
    first = source.get("a", "s")
    world.down = True
    world.now += 60
    assert source.get("a", "s") == first


def test_a_failure_is_not_remembered(source, world):
    world.down = True
    with pytest.raises(TokenError):
        source.get("a", "s")
    world.down = False
    assert source.get("a", "s")


def test_a_refused_token_is_forgotten(source):
    first = source.get("a", "s")
    source.forget(first)
    assert source.get("a", "s") != first


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"exp": time.time() - 100}, "expired"),
        ({"nbf": time.time() + 100}, "not yet valid"),
        ({"aud": "storage"}, "Audience"),
        ({"scope": "openid"}, "lacks the scope profile"),
    ],
)
def test_a_wrong_claim_is_told(world, claims, reason):
    class Trusted:
        def get(self, url: str) -> Issuer:
            return world.issuer()

    good = {"scope": "openid profile"}
    assert verify(world.token(**good), Trusted(), "rucio", frozenset({"openid", "profile"}))["sub"] == "s"
    with pytest.raises(TokenError, match=reason):
        verify(world.token(**{**good, **claims}), Trusted(), "rucio", frozenset({"openid", "profile"}))


def test_other_algorithms_are_refused(world):
    class Trusted:
        def get(self, url: str) -> Issuer:
            return world.issuer()

    claims = {"iss": URL, "sub": "s", "aud": "rucio", "exp": time.time() + 60}
    for token in (
        jwt.encode(claims, None, algorithm="none", headers={"kid": "one"}),
        jwt.encode(claims, "x" * 32, algorithm="HS256", headers={"kid": "one"}),
    ):
        with pytest.raises(TokenError):
            verify(token, Trusted(), "rucio", frozenset())
