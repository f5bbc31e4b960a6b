"""The WLCG Common JWT Profile 1.3, section by section; :data:`PROFILE` names what its MUSTs are tested by.

A rule of the house compares the table with the tests: each named test exists and says its section.
"""

from __future__ import annotations

import json
import re
import time
from typing import Any
from urllib.parse import urlsplit

import pytest
import urllib3
from joserfc import jws, jwt
from joserfc.jwk import KeySet
from pydantic import ValidationError

from boathouse.apps.tokens.persistence.seedfile import Seed
from boathouse.apps.tokens.settings import Settings
from boathouse.testing.wait import wait_for

from .conftest import ALICE, BOB, STORAGE, CodeFlow, Issuer, Start

PROFILE = {
    "2.1.1 required claims": "test_2_1_1_every_required_claim_is_there",
    "2.1.1 subject": "test_2_1_1_a_subject_is_255_printable_ascii_characters_at_most",
    "2.1.1 subject is never given again": "test_2_1_1_a_subject_is_never_given_again",
    "2.1.1 version": "test_2_1_1_the_version_stays_1_0",
    "2.1.1 audience": "test_2_1_1_an_audience_is_one_string_or_an_array_byte_for_byte",
    "2.1.2 identity token": "test_2_1_2_an_identity_token_has_the_claims_of_the_profile",
    "2.1.2 groups in both tokens": "test_2_1_2_groups_are_in_both_tokens",
    "2.2.1 path": "test_2_2_1_a_storage_scope_without_a_path_is_never_issued",
    "2.2.1 normal form": "test_2_2_1_paths_are_absolute_and_in_normal_form",
    "2.2.1 segments": "test_2_2_1_a_path_covers_whole_segments",
    "2.2.1 modify": "test_2_2_1_modify_includes_create_and_stage_does_not_include_read",
    "2.2.2 groups": "test_2_2_2_a_group_fits_the_grammar",
    "2.2.4 hosts": "test_2_2_4_a_host_speaks_for_itself_only",
    "3.1 order": "test_3_1_groups_come_as_they_were_asked_for",
    "3.1 optional groups": "test_3_1_an_optional_group_is_named_only_when_asked_for",
    "3.1 not a member": "test_3_1_a_group_of_others_is_not_given_and_the_reply_says_so",
    "3.2 fewer scopes": "test_3_2_the_reply_tells_which_scopes_were_given",
    "3.4 asking for the profile": "test_3_4_the_profile_can_be_asked_for",
    "4.2 signature": "test_4_2_tokens_are_signed_with_a_named_key",
    "4.2 algorithms": "test_4_2_both_algorithms_verify_side_by_side",
    "4.2 transport": "test_4_2_nothing_is_spoken_without_tls",
    "4.2.1 discovery": "test_4_2_1_discovery_is_at_both_places",
    "4.3.1 lifetimes": "test_4_3_1_lifetimes_are_within_the_bounds",
    "4.3.1 keys": "test_4_3_1_keys_may_be_cached_six_hours_and_are_published_before_use",
    "4.3.1 not before": "test_4_3_1_tokens_are_backdated_by_a_minute",
    "4.3.2 revocation": "test_4_3_2_a_refresh_token_can_be_revoked",
    "4.3.2 grace": "test_4_3_2_a_rotated_refresh_token_works_for_its_grace",
    "5.2.3 openid": "test_5_2_3_an_identity_token_comes_with_openid",
    "5.2.4 offline access": "test_5_2_4_a_refresh_token_comes_with_offline_access",
}
"""What the profile demands of an issuer: section and subject, and the test of it. What it demands of those who check
tokens is in ``tests/unit/wlcg`` and, for storage, in ``tests/services/storage``."""

CLIENT = {"grant_type": "client_credentials"}


def claims_of(issuer: Issuer, token: str) -> dict[str, Any]:
    keys = KeySet.import_key_set(issuer.request("GET", "/jwk").json)  # type: ignore[arg-type]
    return dict(jwt.decode(token, keys, algorithms=["ES256", "RS256"]).claims)


def header_of(token: str) -> dict[str, Any]:
    return dict(jws.extract_compact(token.encode()).headers())


def issued(issuer: Issuer, scope: str, audience: str = STORAGE, client: str = "rucio") -> dict[str, Any]:
    return claims_of(issuer, issuer.token(client, **CLIENT, scope=scope, audience=audience)["access_token"])


def scope_of(issuer: Issuer, scope: str, client: str = "rucio") -> str:
    return str(issuer.token(client, **CLIENT, scope=scope, audience=STORAGE)["scope"])


def groups_of(issuer: Issuer, scope: str) -> list[str]:
    reply = issuer.device_login("alice", scope=scope)
    return list(claims_of(issuer, reply["access_token"]).get("wlcg.groups", []))


def test_2_1_1_every_required_claim_is_there(issuer: Issuer) -> None:
    for claims in (
        issued(issuer, "storage.read:/lake"),
        claims_of(issuer, issuer.device_login("bob", scope="openid storage.read:/")["access_token"]),
    ):
        assert {"sub", "exp", "iss", "wlcg.ver", "aud", "iat", "jti", "nbf", "client_id", "scope"} <= set(claims)
        assert claims["iss"] == issuer.url
        assert all(isinstance(claims[name], int) for name in ("exp", "iat", "nbf"))


def test_2_1_1_a_subject_is_255_printable_ascii_characters_at_most() -> None:
    def user(sub: str) -> dict[str, Any]:
        return {"users": [{"login": "x", "sub": sub, "password": "y"}]}

    Seed.model_validate(user("s" * 255))
    for sub in ("", "s" * 256, "a b", "sübject", "a\n"):
        with pytest.raises(ValidationError):
            Seed.model_validate(user(sub))


def test_2_1_1_a_subject_is_never_given_again(issuer: Issuer) -> None:
    """The login of somebody who left is free; the subject stays in the table of people, switched off."""
    constraints = issuer.sql("SELECT contype FROM pg_constraint WHERE conrelid = 'users'::regclass")
    assert ("p",) in [(kind.decode() if isinstance(kind, bytes) else kind,) for (kind,) in constraints]
    with pytest.raises(ValidationError, match="occurs twice"):
        Seed.model_validate({"users": [{"login": login, "sub": BOB, "password": "y"} for login in ("bob", "eve")]})


def test_2_1_1_the_version_stays_1_0(issuer: Issuer) -> None:
    assert issued(issuer, "openid")["wlcg.ver"] == "1.0"


def test_2_1_1_an_audience_is_one_string_or_an_array_byte_for_byte(issuer: Issuer) -> None:
    assert issued(issuer, "openid", "https://se.example.org:1094")["aud"] == "https://se.example.org:1094"
    both = "https://SE.example.org https://se.example.org/"
    assert issued(issuer, "openid", both)["aud"] == both.split()
    said = issuer.refused("rucio", 400, "invalid_target", **CLIENT, audience="https://wlcg.cern.ch/jwt/v1/any")
    assert said == "The audience must be named; a token for everybody is not given"


def test_2_1_2_an_identity_token_has_the_claims_of_the_profile(issuer: Issuer) -> None:
    reply = CodeFlow(issuer, "browser", "openid profile email", more={"max_age": "3600"}).tokens("alice")
    claims = claims_of(issuer, reply["id_token"])
    assert {"sub", "exp", "iss", "wlcg.ver", "aud", "iat", "jti", "auth_time", "nonce"} <= set(claims)
    assert (claims["sub"], claims["aud"], claims["wlcg.ver"]) == (ALICE, "browser", "1.0")
    assert claims["email"] == "alice@example.org"
    assert "scope" not in claims


def test_2_1_2_groups_are_in_both_tokens(issuer: Issuer) -> None:
    reply = CodeFlow(issuer, "browser", "openid wlcg.groups").tokens("bob")
    for kind in ("access_token", "id_token"):
        assert claims_of(issuer, reply[kind])["wlcg.groups"] == ["/escape", "/escape/cms"]


@pytest.mark.parametrize("scope", ["storage.read", "storage.read:", "storage.create:relative", "storage.stage:"])
def test_2_2_1_a_storage_scope_without_a_path_is_never_issued(issuer: Issuer, scope: str) -> None:
    issuer.refused("rucio", 400, "invalid_scope", **CLIENT, scope=scope)


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ("storage.read:/lake/a%7Eb", "storage.read:/lake/a~b"),
        ("storage.read:/lake/%c3%bc", "storage.read:/lake/%C3%BC"),
        ("storage.read:/lake//cms", "storage.read:/lake/cms"),
        ("storage.read:/lake/cms/", "storage.read:/lake/cms/"),
    ],
)
def test_2_2_1_paths_are_absolute_and_in_normal_form(issuer: Issuer, asked: str, given: str) -> None:
    assert scope_of(issuer, asked) == given


def test_2_2_1_a_path_covers_whole_segments(issuer: Issuer) -> None:
    assert scope_of(issuer, "storage.read:/lake/cms/run1", "plain") == "storage.read:/lake/cms/run1"
    issuer.refused("plain", 400, "invalid_scope", **CLIENT, scope="storage.read:/lake/cmsx")


def test_2_2_1_modify_includes_create_and_stage_does_not_include_read(issuer: Issuer) -> None:
    assert scope_of(issuer, "storage.create:/lake/x", "transfers") == "storage.create:/lake/x"
    issuer.refused("transfers", 400, "invalid_scope", **CLIENT, scope="storage.stage:/lake/x")


@pytest.mark.parametrize("group", ["escape", "/", "/escape/", "/escape//cms", "/-x", "/escape/c+ms", "/é", "/a*"])
def test_2_2_2_a_group_fits_the_grammar(issuer: Issuer, group: str) -> None:
    answer = issuer.post("/devicecode", "boathouse", scope=f"openid wlcg.groups:{group}")
    assert (answer.status, answer.json["error"]) == (400, "invalid_scope")
    with pytest.raises(ValidationError):
        Seed.model_validate({"groups": [{"name": group}]})


def test_2_2_4_a_host_speaks_for_itself_only(issuer: Issuer) -> None:
    host = "host:node1.example.org"
    claims = issued(issuer, "host.auth", client=host)
    assert (claims["sub"], claims["scope"]) == (host, "host.auth")
    assert scope_of(issuer, "openid host.auth") == "openid", "another client may not, whatever its list says"
    assert issuer.device_login("bob", scope="openid host.auth")["scope"] == "openid"


def test_3_1_groups_come_as_they_were_asked_for(issuer: Issuer) -> None:
    assert groups_of(issuer, "wlcg.groups") == ["/escape", "/escape/cms", "/escape/magic"]
    asked = "wlcg.groups:/escape/magic wlcg.groups:/escape"
    assert groups_of(issuer, asked) == ["/escape/magic", "/escape", "/escape/cms"], "the default ones come last"
    asked = "wlcg.groups wlcg.groups:/escape/production wlcg.groups:/escape"
    assert groups_of(issuer, asked) == ["/escape", "/escape/cms", "/escape/magic", "/escape/production"]


def test_3_1_an_optional_group_is_named_only_when_asked_for(issuer: Issuer) -> None:
    assert "/escape/production" not in groups_of(issuer, "wlcg.groups")
    assert groups_of(issuer, "wlcg.groups:/escape/production")[0] == "/escape/production"
    assert groups_of(issuer, "openid") == []


def test_3_1_a_group_of_others_is_not_given_and_the_reply_says_so(issuer: Issuer) -> None:
    reply = issuer.device_login("bob", scope="openid wlcg.groups:/escape/magic wlcg.groups:/escape/cms")
    assert reply["scope"] == "openid wlcg.groups:/escape/cms"
    assert claims_of(issuer, reply["access_token"])["wlcg.groups"] == ["/escape/cms", "/escape"]


def test_3_2_the_reply_tells_which_scopes_were_given(issuer: Issuer) -> None:
    reply = issuer.device_login("bob", scope="openid storage.read:/ storage.read:/lake/magic")
    assert reply["scope"] == "openid storage.read:/lake/cms storage.read:/lake/user.bob"
    assert claims_of(issuer, reply["access_token"])["scope"] == reply["scope"]


@pytest.mark.parametrize("scope", ["wlcg", "wlcg:1.0"])
def test_3_4_the_profile_can_be_asked_for(issuer: Issuer, scope: str) -> None:
    assert issued(issuer, scope)["wlcg.ver"] == "1.0"


def test_4_2_tokens_are_signed_with_a_named_key(issuer: Issuer) -> None:
    reply = CodeFlow(issuer, "browser", "openid").tokens("bob")
    published = {key["kid"]: key["alg"] for key in issuer.request("GET", "/jwk").json["keys"]}
    for kind in ("access_token", "id_token"):
        header = header_of(reply[kind])
        assert header["alg"] in ("ES256", "RS256")
        assert published[header["kid"]] == header["alg"]
        assert header["typ"] == "JWT"


def test_4_2_both_algorithms_verify_side_by_side(start_issuer: Start) -> None:
    """Keys of both kinds are published and verify; which one new keys are of is a setting."""
    issuer = start_issuer()
    elliptic = issuer.token("rucio", **CLIENT, scope="openid", audience=STORAGE)["access_token"]
    settings = json.loads(issuer.config.read_text())
    # The issuer runs on with the old setting and makes a key of its kind, which does not sign for two days.
    issuer.config.write_text(json.dumps(settings | {"signing_algorithm": "RS256", "key_activation_s": 0}))
    done = issuer.command("rotate")
    assert done.returncode == 0, done.stderr

    def signs_rsa() -> str | None:
        token: str = issuer.token("rucio", **CLIENT, scope="openid", audience=STORAGE)["access_token"]
        return token if header_of(token)["alg"] == "RS256" else None

    rsa = wait_for("the new key signs", signs_rsa)
    assert {key["alg"] for key in issuer.request("GET", "/jwk").json["keys"]} == {"ES256", "RS256"}
    for token in (elliptic, rsa):
        assert issuer.verify(token, STORAGE).sub == "rucio"
        assert issuer.post("/introspect", "rucio", token=token).json["active"] is True


def test_4_2_nothing_is_spoken_without_tls(issuer: Issuer) -> None:
    with pytest.raises(urllib3.exceptions.HTTPError):
        urllib3.PoolManager(retries=False).request("GET", issuer.url.replace("https:", "http:") + "/jwk")
    document = issuer.request("GET", "/.well-known/openid-configuration").json
    urls = [value for value in document.values() if isinstance(value, str) and "://" in value]
    assert {urlsplit(url).scheme for url in urls} == {"https"}


def test_4_2_1_discovery_is_at_both_places(issuer: Issuer) -> None:
    one, other = (
        issuer.request("GET", f"/.well-known/{name}") for name in ("openid-configuration", "oauth-authorization-server")
    )
    assert one.json == other.json
    assert one.json["issuer"] == issuer.url
    assert one.json["authorization_response_iss_parameter_supported"] is True


def test_4_3_1_lifetimes_are_within_the_bounds(issuer: Issuer) -> None:
    fields = Settings.model_fields
    assert 15 * 60 <= fields["token_lifetime_s"].default <= 6 * 3600
    assert 86400 <= fields["refresh_lifetime_s"].default <= 400 * 86400
    assert fields["key_activation_s"].default >= 2 * 86400
    settings = json.loads(issuer.config.read_text())
    for wrong in ({"token_lifetime_s": 6 * 3600 + 1}, {"refresh_lifetime_s": 400 * 86400 + 1}):
        with pytest.raises(ValidationError):
            Settings.model_validate(settings | wrong)
    claims = issued(issuer, "openid")
    assert claims["exp"] - claims["iat"] == 3600


def test_4_3_1_keys_may_be_cached_six_hours_and_are_published_before_use(issuer: Issuer) -> None:
    """When a new key begins to sign is tested in test_life.py."""
    found = re.search(r"max-age=(\d+)", issuer.request("GET", "/jwk").headers["Cache-Control"])
    assert found
    assert 3600 <= int(found[1]) <= 6 * 3600


def test_4_3_1_tokens_are_backdated_by_a_minute(issuer: Issuer) -> None:
    began = int(time.time())
    claims = issued(issuer, "openid")
    assert claims["iat"] - claims["nbf"] == 60
    assert began <= claims["iat"] <= time.time()


def test_4_3_2_a_refresh_token_can_be_revoked(issuer: Issuer) -> None:
    token = issuer.device_login("bob", scope="openid offline_access")["refresh_token"]
    assert issuer.post("/revoke", "boathouse", token=token).status == 200
    issuer.refused("boathouse", 400, "invalid_grant", grant_type="refresh_token", refresh_token=token)


def test_4_3_2_a_rotated_refresh_token_works_for_its_grace(issuer: Issuer) -> None:
    """That it does not any longer afterwards is tested in test_grants.py."""
    first = issuer.device_login("bob", scope="openid offline_access")["refresh_token"]
    form = {"grant_type": "refresh_token", "refresh_token": first}
    second = issuer.token("boathouse", **form)["refresh_token"]
    assert second != first
    assert issuer.token("boathouse", **form)["access_token"]
    assert Settings.model_fields["refresh_grace_s"].default == 86400


def test_5_2_3_an_identity_token_comes_with_openid(issuer: Issuer) -> None:
    assert "id_token" in CodeFlow(issuer, "browser", "openid").tokens("bob")
    assert "id_token" not in CodeFlow(issuer, "browser", "profile").tokens("bob")


def test_5_2_4_a_refresh_token_comes_with_offline_access(issuer: Issuer) -> None:
    assert "refresh_token" in CodeFlow(issuer, "browser", "openid offline_access").tokens("bob")
    assert "refresh_token" not in CodeFlow(issuer, "browser", "openid").tokens("bob")
