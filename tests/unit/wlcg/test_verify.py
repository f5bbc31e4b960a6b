"""Every reason for which a token is refused; keys come from a set in memory."""

from __future__ import annotations

import base64
import hmac
import json
import time
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwk, jwt

from boathouse.errors import AuthError, InputError, ServiceError
from boathouse.wlcg import keycache
from boathouse.wlcg.keys import KeyCache
from boathouse.wlcg.verify import Verifier

ISSUER, AUDIENCE, NOW = "https://issuer.example", "storage.example", 1_800_000_000


def make_key(algorithm: str = "ES256") -> jwk.ECKey | jwk.RSAKey:
    key: jwk.ECKey | jwk.RSAKey
    key = jwk.ECKey.generate_key("P-256") if algorithm == "ES256" else jwk.RSAKey.generate_key(2048)
    key.ensure_kid()
    return key


KEY = make_key()


def jwks(*keys: jwk.ECKey | jwk.RSAKey | jwk.OctKey, **more: Any) -> dict[str, Any]:
    return {"keys": [{**key.as_dict(private=False), **more} for key in keys]}


class Keys(KeyCache):
    """A cache whose issuer is this test: it serves ``document`` or is down, and counts the requests."""

    def __init__(self, document: dict[str, Any] | None, seeded: Path | None = None) -> None:
        super().__init__(
            ISSUER, None, seeded=seeded, fetch=self.ask, clock=lambda: self.clock_s, wall=lambda: self.wall_s
        )
        self.clock_s = self.wall_s = 0.0
        self.document = document
        self.asked = 0

    def ask(self) -> tuple[dict[str, Any], float]:
        self.asked += 1
        if self.document is None:
            raise ServiceError("down")
        return self.document, 3600.0


def claims(**changes: Any) -> dict[str, Any]:
    complete = {
        "iss": ISSUER,
        "sub": "someone",
        "aud": AUDIENCE,
        "iat": NOW,
        "nbf": NOW - 60,
        "exp": NOW + 3600,
        "wlcg.ver": "1.0",
        "jti": "1",
        "client_id": "boathouse",
        "scope": "openid storage.read:/lake/cms",
        "wlcg.groups": ["/escape"],
    }
    return {name: value for name, value in (complete | changes).items() if value is not None}


def sign(key: jwk.ECKey | jwk.RSAKey = KEY, algorithm: str = "ES256", **changes: Any) -> str:
    return jwt.encode({"alg": algorithm, "kid": str(key.kid)}, claims(**changes), key, algorithms=[algorithm])


def verifier(keys: Keys | None = None) -> Verifier:
    return Verifier(ISSUER, AUDIENCE, None, clock=lambda: NOW, keys=keys or Keys(jwks(KEY)))


def test_a_good_token() -> None:
    found = verifier().verify(sign())
    assert (found.iss, found.sub, found.aud) == (ISSUER, "someone", (AUDIENCE,))
    assert found.scope == ("openid", "storage.read:/lake/cms")
    assert (found.groups, found.client_id, found.jti, found.exp) == (("/escape",), "boathouse", "1", NOW + 3600)
    assert found.raw["iat"] == NOW
    assert found.covers("storage.read:/lake/cms/file")
    assert not found.covers("storage.read:/lake/cmsx")
    assert not found.covers("fts")


def test_rs256_is_as_good() -> None:
    key = make_key("RS256")
    assert verifier(Keys(jwks(key))).verify(sign(key, "RS256")).sub == "someone"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"iss": ISSUER + "/"}, "issuer 'https://issuer.example/'"),
        ({"iss": None}, "issuer None"),
        ({"exp": NOW}, "expired 0 s ago"),
        ({"exp": None}, "no exp"),
        ({"exp": "soon"}, "exp is not a number"),
        ({"exp": True}, "exp is not a number"),
        ({"nbf": NOW + 61}, "not valid for another 61 s"),
        ({"aud": "other"}, "audience other"),
        ({"aud": None}, "audience none"),
        ({"aud": {"a": 1}}, "audience none"),
        ({"aud": ["https://wlcg.cern.ch/jwt/v1/any"]}, "audience https://wlcg.cern.ch/jwt/v1/any"),
        ({"aud": AUDIENCE.upper()}, "audience STORAGE.EXAMPLE"),
        ({"wlcg.ver": None}, "wlcg.ver None"),
        ({"wlcg.ver": "2.0"}, "wlcg.ver '2.0'"),
        ({"wlcg.ver": 1.0}, "wlcg.ver 1.0"),
        ({"sub": None}, "no sub"),
        ({"sub": 7}, "no sub"),
        ({"scope": "storage.read"}, "a storage scope without a path storage.read"),
        ({"scope": ["openid"]}, "scope is not a string"),
    ],
)
def test_wrong_claims(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(AuthError) as refusal:
        verifier().verify(sign(**changes))
    assert refusal.value.got == reason


@pytest.mark.parametrize("changes", [{"aud": ["x", AUDIENCE]}, {"wlcg.ver": "1.9"}, {"nbf": None}, {"scope": None}])
def test_unusual_but_right_claims(changes: dict[str, Any]) -> None:
    assert verifier().verify(sign(**changes)).sub == "someone"


def part(document: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ("", "not a JSON web token"),
        ("a.b.c", "not a JSON web token"),
        ("ä.ö.ü", "not a JSON web token"),
        (f"{part([])}.x.y", "not a JSON web token"),
        (f"{part({'alg': 'none', 'kid': 'x'})}.{part(claims())}.", "algorithm 'none'"),
        (f"{part({'alg': 'HS256', 'kid': 'x'})}.{part(claims())}.x", "algorithm 'HS256'"),
        (f"{part({'alg': 'ES256'})}.{part(claims())}.x", "no kid in the header"),
        (f"{part({'alg': 'ES256', 'kid': 'x'})}.{part(claims())}.x", "unknown kid 'x'"),
        (f"{part({'alg': ['ES256'], 'kid': 'x'})}.{part(claims())}.x", "algorithm ['ES256']"),
        ("x" * 20000, "20000 bytes"),
    ],
)
def test_what_is_no_token(token: str, reason: str) -> None:
    with pytest.raises(AuthError) as refusal:
        verifier().verify(token)
    assert refusal.value.got == reason


def test_a_foreign_signature() -> None:
    token = sign()
    stranger = make_key()
    forged = jwt.encode({"alg": "ES256", "kid": str(KEY.kid)}, claims(), stranger, algorithms=["ES256"])
    check = verifier()
    for bad in (forged, token[:-6] + "AAAAAA", f"{token.rpartition('.')[0]}.", token.replace(".", "..")):
        with pytest.raises(AuthError):
            check.verify(bad)


def test_an_rsa_public_key_is_no_hmac_secret() -> None:
    """The oldest trick against JWT: the public key as the secret of a symmetric signature."""
    key = make_key("RS256")
    signed = f"{part({'alg': 'HS256', 'kid': key.kid})}.{part(claims())}"
    digest = hmac.digest(key.as_pem(private=False), signed.encode(), "sha256")
    token = f"{signed}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"
    with pytest.raises(AuthError, match="refused"):
        verifier(Keys(jwks(key))).verify(token)


def test_keys_that_are_not_for_signatures_do_not_count() -> None:
    keys = Keys({"keys": [*jwks(KEY, use="enc")["keys"], *jwks(make_key())["keys"], {"kty": "new"}, 7]})
    with pytest.raises(AuthError) as refusal:
        verifier(keys).verify(sign())
    assert "unknown kid" in str(refusal.value.got)


def test_an_unknown_kid_reads_the_keys_but_not_all_the_time() -> None:
    keys = Keys(jwks(KEY))
    check = verifier(keys)
    check.verify(sign())
    new = make_key()
    for _ in range(5):
        with pytest.raises(AuthError, match="refused"):
            check.verify(sign(new))
    assert keys.asked == 1, "the first answer is a moment old"
    keys.document = jwks(KEY, new)
    keys.clock_s += 5
    assert check.verify(sign(new)).sub == "someone"
    assert keys.asked == 2


def test_a_new_key_under_an_old_name_is_found_once() -> None:
    keys = Keys(jwks(KEY))
    check = verifier(keys)
    check.verify(sign())
    other = jwk.ECKey.generate_key("P-256", {"kid": str(KEY.kid)})
    token = sign(other)
    keys.document = jwks(other)
    with pytest.raises(AuthError, match="refused"):
        check.verify(token)
    keys.clock_s += 5
    assert check.verify(token).sub == "someone"
    keys.clock_s += 5
    with pytest.raises(AuthError, match="refused"):
        check.verify(sign())


def test_cached_keys_serve_while_the_issuer_is_down() -> None:
    keys = Keys(jwks(KEY))
    check = verifier(keys)
    check.verify(sign())
    keys.document = None
    keys.clock_s = 2 * 86400.0
    assert check.verify(sign()).sub == "someone"
    asked = keys.asked
    check.verify(sign())
    assert keys.asked == asked, "no storm of requests on an issuer that is down"
    keys.clock_s += 1
    with pytest.raises(ServiceError, match="no key of the issuer"):
        check.verify(sign())


def test_no_keys_at_all_is_an_outage_not_a_refusal() -> None:
    for document in (None, {"keys": []}, {}):
        check = verifier(Keys(document))
        with pytest.raises(ServiceError):
            check.verify(sign())


def test_a_malformed_scope_in_the_question_is_our_fault() -> None:
    found = verifier().verify(sign())
    with pytest.raises(InputError):
        found.covers("storage.read")


def test_seeded_keys_serve_who_starts_while_the_issuer_is_away_and_as_long_as_it_is(tmp_path: Path) -> None:
    keys = Keys(None, tmp_path)
    check = verifier(keys)
    with pytest.raises(ServiceError):
        check.verify(sign())
    keycache.seed(tmp_path, ISSUER, jwks(KEY))
    keys.clock_s += 5
    assert check.verify(sign()).sub == "someone"
    asked = keys.asked
    check.verify(sign())
    assert keys.asked == asked, "they are good for a minute"
    for _ in range(5):
        keys.clock_s += 86400
        assert check.verify(sign()).sub == "someone"
    assert keys.asked == asked + 5, "the issuer is asked again now and then"
    # The keeper heard of a withdrawal; the issuer itself knows best.
    other = make_key()
    keycache.seed(tmp_path, ISSUER, jwks(other))
    keys.clock_s += 61
    with pytest.raises(AuthError, match="refused"):
        check.verify(sign())
    keys.document = jwks(KEY)
    keys.clock_s += 61
    assert check.verify(sign()).sub == "someone"
    with pytest.raises(AuthError):
        check.verify(sign(other))


def test_seeded_keys_from_before_the_issuer_told_others_do_not_come_back(tmp_path: Path) -> None:
    keycache.seed(tmp_path, ISSUER, jwks(KEY))
    new = make_key()
    keys = Keys(jwks(new), tmp_path)
    keys.wall_s = time.time() + 2
    check = verifier(keys)
    assert check.verify(sign(new)).sub == "someone"
    keys.document = None
    keys.clock_s += 3601
    assert check.verify(sign(new)).sub == "someone"
    with pytest.raises(AuthError, match="refused"):
        check.verify(sign())
    # The keeper heard of them, too.
    keycache.seed(tmp_path, ISSUER, jwks(new))
    keys.clock_s += 86400
    assert check.verify(sign(new)).sub == "someone"


def test_seeded_keys_that_have_expired_are_none(tmp_path: Path) -> None:
    keycache.seed(tmp_path, ISSUER, jwks(KEY), expires=time.time() - 1)
    with pytest.raises(ServiceError):
        verifier(Keys(None, tmp_path)).verify(sign())


def test_an_issuer_is_never_asked_without_tls() -> None:
    cache = KeyCache("http://issuer.example", None)
    cache.refresh()
    with pytest.raises(ServiceError):
        cache.get("x")
