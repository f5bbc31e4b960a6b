"""Bad inputs over the whole surface, each with its exact refusal: the table is in ``bad_inputs``."""

from __future__ import annotations

import base64
import hmac
import json
import re
import time
from html import unescape
from typing import Any

import pytest
from joserfc import jwk, jws, jwt

from .bad_inputs import CASES, DEVICE, FORM, Case
from .conftest import SECRETS, STORAGE, Answer, Browser, CodeFlow, Issuer, Start


@pytest.fixture(scope="module")
def issuer(start_issuer: Start) -> Issuer:
    """One of its own: wrong device codes lock a person out after a while."""
    return start_issuer()


def encoded(part: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


def forged(issuer: Issuer, held: str) -> dict[str, str]:
    """Variations of a live token that look like it."""
    kid, now = str(jws.extract_compact(held.encode()).headers()["kid"]), int(time.time())
    ring = json.loads((issuer.keys / "keyring.json").read_text())["keys"]
    (entry,) = (key["jwk"] for key in ring if key["jwk"]["kid"] == kid)
    own, foreign = jwk.ECKey.import_key(entry), jwk.ECKey.generate_key("P-256")
    claims = dict(jwt.decode(held, own, algorithms=["ES256"]).claims)
    _, payload, signature = held.split(".")

    def signed(key: jwk.ECKey, **changed: Any) -> str:
        return jwt.encode({"alg": "ES256", "kid": kid}, {**claims, **changed}, key, algorithms=["ES256"])

    # The public key as an HMAC secret: libraries refuse to make such a token.
    symmetric = f"{encoded({'alg': 'HS256', 'kid': kid})}.{payload}"
    digest = hmac.digest(own.as_pem(private=False), symmetric.encode(), "sha256")
    symmetric += "." + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    return {
        "unsigned": f"{encoded({'alg': 'none', 'kid': kid})}.{payload}.",
        "empty_signature": f"{encoded({'alg': 'ES256', 'kid': kid})}.{payload}.",
        "symmetric": symmetric,
        "foreign_key": signed(foreign),
        "other_payload": f"{encoded({'alg': 'ES256', 'kid': kid})}.{encoded({**claims, 'sub': 'root'})}.{signature}",
        "expired": signed(own, exp=now - 1),
        "other_issuer": signed(own, iss="https://evil.example"),
    }


def device(issuer: Issuer) -> dict[str, Any]:
    return issuer.post("/devicecode", "boathouse", scope="openid").json


@pytest.fixture(scope="module")
def material(issuer: Issuer) -> dict[str, str]:
    """What the placeholders of the table stand for."""
    held = issuer.device_login("bob", scope="openid offline_access storage.read:/")
    other = issuer.device_login("bob", scope="openid offline_access")
    issuer.post("/revoke", "boathouse", token=other["access_token"])
    issuer.post("/revoke", "boathouse", token=other["refresh_token"])
    late = issuer.device_login("bob", scope="openid offline_access")["refresh_token"]
    issuer.sql("UPDATE refresh_tokens SET expires_at = 1 WHERE hash = sha256(%s::bytea)", late.encode())
    flow = CodeFlow(issuer, "browser", scope="openid")
    used, expired = flow.code("bob"), flow.code("bob")
    identity = issuer.token("browser", **flow.form, code=used)["id_token"]
    issuer.sql("UPDATE codes SET expires_at = 1 WHERE hash = sha256(%s::bytea)", expired.encode())
    waiting, refused, over = device(issuer), device(issuer), device(issuer)
    issuer.browser("bob").submit(f"/device?user_code={refused['user_code']}", decision="deny")
    issuer.sql("UPDATE devices SET expires_at = 1 WHERE user_code = %s", over["user_code"])
    challenge = re.search("code_challenge=([^&]+)", flow.path)
    assert challenge
    return {
        **forged(issuer, held["access_token"]),
        "access": held["access_token"],
        "refresh": held["refresh_token"],
        "identity": identity,
        "revoked": other["access_token"],
        "revoked_refresh": other["refresh_token"],
        "expired_refresh": late,
        "own": issuer.device_login("bob", scope="openid", audience=issuer.url)["access_token"],
        "without_openid": issuer.device_login("bob", scope="profile")["access_token"],
        "of_bounded": issuer.token("bounded", grant_type="client_credentials", audience=STORAGE)["access_token"],
        "code": flow.code("bob"),
        "used_code": used,
        "expired_code": expired,
        "verifier": flow.verifier,
        "challenge": challenge[1],
        "device_code": waiting["device_code"],
        "user_code": waiting["user_code"],
        "refused_device": refused["device_code"],
        "expired_device": over["device_code"],
    }


def filled(text: str, material: dict[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda match: material.get(match[1], match[0]), text)


def sent(issuer: Issuer, case: Case, material: dict[str, str]) -> Answer:
    headers = {name: filled(value, material) for name, value in case.headers.items()}
    body = case.body if isinstance(case.body, bytes) else filled(case.body, material).encode()
    if case.client in SECRETS:
        pair = f"{case.client}:{SECRETS[case.client]}".encode()
        headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
    elif case.client:
        body += f"&client_id={case.client}".encode()
    if case.login:
        browser: Browser = issuer.browser(case.login)
        headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    if case.body and not case.headers:
        headers["Content-Type"] = FORM
    with_body = case.method in ("POST", "PUT", "PATCH")
    path = filled(case.path, material)
    return issuer.request(case.method, path, body=body if with_body else None, headers=headers)


def refusal(answer: Answer) -> str:
    """Status, error and description, wherever they are: in JSON, in a redirect, on a page."""
    said: list[str] = [str(answer.status)]
    if answer.status in (302, 303):
        said += [answer.parameters.get(name, "") for name in ("error", "error_description")]
    elif "json" in answer.headers.get("Content-Type", ""):
        said += [str(answer.json.get(name, "")) for name in ("error", "error_description", "what", "detail")]
    elif answer.headers.get("Content-Type", "").startswith("text/html"):
        page = re.search(r'<p[^>]* role="(?:alert|status)">([^<]*)</p>', answer.text)
        said.append(unescape(page[1]) if page else "")
    return " ".join(filter(None, said))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_bad_request_gets_its_refusal(issuer: Issuer, material: dict[str, str], case: Case) -> None:
    answer = sent(issuer, case, material)
    assert refusal(answer) == case.refusal
    if answer.status in (302, 303):
        assert answer.location.startswith("https://localhost:20499/callback?"), "only to the proved redirect URI"
    assert "X-Header" not in answer.headers


def test_the_table_is_long_and_its_names_are_unique() -> None:
    names = [case.name for case in CASES]
    assert len(names) == len(set(names)) >= 100


def test_the_live_ones_among_the_material_still_work(issuer: Issuer, material: dict[str, str]) -> None:
    """None of the bad requests used up or revoked what it borrowed, and each was refused for its own reason."""
    bearer = {"Authorization": f"Bearer {material['access']}"}
    assert issuer.request("GET", "/userinfo", headers=bearer).status == 200
    issuer.token("boathouse", grant_type="refresh_token", refresh_token=material["refresh"])
    waiting = {"grant_type": DEVICE, "device_code": material["device_code"]}
    assert issuer.post("/token", "boathouse", **waiting).json["error"] == "authorization_pending"
    flow = CodeFlow(issuer, "browser", verifier=material["verifier"])
    assert issuer.token("browser", **flow.form, code=material["code"])["access_token"]
