"""What is refused, and with which words."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

import pytest

from boathouse.errors import AuthError

from .conftest import CALLBACK, DEVICE, PASSWORD, SECRETS, STORAGE, CodeFlow, Issuer, Start

CLIENT = {"grant_type": "client_credentials", "scope": "openid"}


@pytest.mark.parametrize(
    ("client", "form", "status", "error"),
    [
        pytest.param(None, CLIENT, 401, "invalid_client", id="nobody"),
        pytest.param("nobody", CLIENT, 401, "invalid_client", id="public-client-has-no-credentials"),
        pytest.param("boathouse", CLIENT, 401, "invalid_client", id="public-client-may-not"),
        pytest.param("plain", {"grant_type": "password"}, 400, "unsupported_grant_type", id="password"),
        pytest.param("plain", {"grant_type": 'x"\\'}, 400, "invalid_request", id="grant-with-quotes"),
        pytest.param("plain", {}, 400, "unsupported_grant_type", id="no-grant"),
        pytest.param("plain", CLIENT | {"scope": "storage.read"}, 400, "invalid_scope", id="no-path"),
        pytest.param("plain", CLIENT | {"scope": "storage.read:lake"}, 400, "invalid_scope", id="relative"),
        pytest.param("plain", CLIENT | {"scope": "storage.read:/lake/cms/.."}, 400, "invalid_scope", id="dot-dot"),
        pytest.param(
            "plain", CLIENT | {"scope": "storage.read:/lake/cms/%2e%2e/x"}, 400, "invalid_scope", id="escaped"
        ),
        pytest.param("plain", CLIENT | {"scope": "storage.read:/lake/cmsx"}, 400, "invalid_scope", id="segment"),
        pytest.param("plain", CLIENT | {"scope": "storage.modify:/lake/cms"}, 400, "invalid_scope", id="other"),
        pytest.param("plain", CLIENT | {"scope": 'open"id'}, 400, "invalid_scope", id="quote"),
        pytest.param("plain", CLIENT | {"scope": "scim:read"}, 400, "invalid_scope", id="not-its-own"),
        pytest.param("plain", CLIENT | {"audience": "a\x00b"}, 400, "invalid_request", id="nul"),
        pytest.param("plain", CLIENT | {"audience": "bücher"}, 400, "invalid_target", id="not-ascii"),
        pytest.param("plain", CLIENT | {"audience": "x" * 256}, 400, "invalid_target", id="long-audience"),
        pytest.param("plain", CLIENT | {"audience": "a b " * 65 + "c" * 9}, 200, "", id="repeated-audience-is-one"),
        pytest.param(
            "plain", CLIENT | {"audience": " ".join(map(str, range(65)))}, 400, "invalid_target", id="many-audiences"
        ),
        pytest.param(
            "plain", CLIENT | {"audience": "https://wlcg.cern.ch/jwt/v1/any"}, 400, "invalid_target", id="everybody"
        ),
        pytest.param("plain", {"grant_type": "refresh_token"}, 400, "unauthorized_client", id="grant-not-allowed"),
        pytest.param(
            "boathouse", {"grant_type": "refresh_token", "refresh_token": "x"}, 400, "invalid_grant", id="no-refresh"
        ),
        pytest.param("boathouse", {"grant_type": "refresh_token"}, 400, "invalid_request", id="refresh-missing"),
        pytest.param("boathouse", {"grant_type": DEVICE, "device_code": "x"}, 400, "invalid_grant", id="no-device"),
        pytest.param(
            "rucio", {"grant_type": "authorization_code", "code": "x"}, 400, "invalid_grant", id="unknown-code"
        ),
        pytest.param("rucio", {"grant_type": "authorization_code"}, 400, "invalid_request", id="no-code"),
    ],
)
def test_token_requests(issuer: Issuer, client: str | None, form: dict[str, str], status: int, error: str) -> None:
    answer = issuer.post("/token", client, **form)
    assert (answer.status, answer.json.get("error", "")) == (status, error), answer.text


@pytest.mark.parametrize("secret", ["", "wrong", "secret-of-rucio", "secret-of-plain\u00fc"])
@pytest.mark.parametrize("basic", [True, False])
def test_a_wrong_secret_is_refused(issuer: Issuer, secret: str, *, basic: bool) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    body = "grant_type=client_credentials&scope=openid"
    if basic:
        headers["Authorization"] = "Basic " + base64.b64encode(f"plain:{secret}".encode()).decode()
    else:
        body += f"&client_id=plain&client_secret={quote(secret)}"
    answer = issuer.request("POST", "/token", body=body.encode(), headers=headers)
    assert answer.json["error"] == "invalid_client"
    assert answer.status in (400, 401)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"grant_type=client_credentials&grant_type=password", 400),
        (b"grant_type=client_credentials&scope=%FF", 400),
        (b"\xff\xfe", 400),
        (b"&".join(b"a%d=1" % number for number in range(200)), 400),
        (b"x=" + b"1" * 70000, 413),
    ],
)
def test_malformed_bodies(issuer: Issuer, body: bytes, status: int) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = issuer.request("POST", "/token", body=body, headers=headers)
    assert (answer.status, answer.json["error"]) == (status, "invalid_request")


def test_a_body_without_a_length_is_bounded(issuer: Issuer) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Transfer-Encoding": "chunked"}
    body = (b"x" * 1000 for _ in range(200))
    answer = issuer.request("POST", "/token", body=body, headers=headers, chunked=True)
    assert answer.status == 413
    assert issuer.request("GET", "/health").status == 200


def test_a_body_that_is_no_form_is_no_request(issuer: Issuer) -> None:
    answer = issuer.request("POST", "/token", body=b"{}", headers={"Content-Type": "application/json"})
    assert answer.json["error"] == "unsupported_grant_type"


def test_a_long_url_is_refused(issuer: Issuer) -> None:
    assert issuer.request("GET", "/authorize?" + "x" * 17000).status == 414


def test_a_code_works_once_and_a_replay_revokes_what_it_gave(issuer: Issuer) -> None:
    flow = CodeFlow(issuer, "browser")
    code = flow.code()
    reply = issuer.token("browser", **flow.form, code=code)
    issuer.refused("browser", 400, "invalid_grant", **flow.form, code=code)
    form = {"grant_type": "refresh_token", "refresh_token": reply["refresh_token"]}
    issuer.refused("browser", 400, "invalid_grant", **form)


def test_a_code_is_for_its_client(issuer: Issuer) -> None:
    flow = CodeFlow(issuer, "browser")
    issuer.refused("rucio", 400, "invalid_grant", **flow.form, code=flow.code())


def test_pkce(issuer: Issuer) -> None:
    flow = CodeFlow(issuer, "browser")
    code = flow.code()
    issuer.refused("browser", 400, "invalid_grant", **flow.form | {"code_verifier": "z" * 43}, code=code)
    issuer.refused("browser", 400, "invalid_request", **flow.form | {"code_verifier": "short"}, code=code)
    form = {name: value for name, value in flow.form.items() if name != "code_verifier"}
    issuer.refused("browser", 400, "invalid_request", **form, code=code)
    assert issuer.token("browser", **flow.form, code=code)["access_token"]


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"code_challenge": "", "code_challenge_method": ""}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": ""}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"scope": "storage.read"}, "invalid_scope"),
        ({"scope": "fts"}, "invalid_scope"),
        ({"audience": "https://wlcg.cern.ch/jwt/v1/any"}, "invalid_target"),
        ({"prompt": "none"}, "login_required"),
    ],
)
def test_faults_of_an_authorization_request_go_back_to_the_client(
    issuer: Issuer, more: dict[str, str], error: str
) -> None:
    browser = issuer.browser(None if error == "login_required" else "bob")
    answer = browser.get(CodeFlow(issuer, "browser", more=more).path)
    assert answer.status == 302, answer.text
    assert answer.location.startswith(CALLBACK)
    assert (answer.parameters["error"], answer.parameters["state"]) == (error, "a state")


@pytest.mark.parametrize(
    "more",
    [
        {"redirect_uri": CALLBACK + "/"},
        {"redirect_uri": CALLBACK + "?x=1"},
        {"redirect_uri": "https://evil.example/callback"},
        {"redirect_uri": "javascript:alert(1)"},
        {"redirect_uri": 'https://evil.example/"\\'},
        {"client_id": "nobody"},
        {"client_id": ""},
        {"client_id": "boathouse"},
        {"redirect_uri": "https://evil.example", "response_type": "token"},
    ],
)
def test_faults_that_could_send_a_person_astray_end_on_a_page(issuer: Issuer, more: dict[str, str]) -> None:
    answer = issuer.browser("bob").get(CodeFlow(issuer, "rucio", more=more).path)
    assert answer.status == 400
    assert "Location" not in answer.headers
    assert "<script" not in answer.text


def test_refusal_by_the_person(issuer: Issuer) -> None:
    flow = CodeFlow(issuer, "browser", "openid email", more={"prompt": "consent"})
    answer = issuer.browser("bob").submit(flow.path, decision="deny")
    assert answer.parameters["error"] == "access_denied"


def test_a_device_code_expires(start_issuer: Start) -> None:
    issuer = start_issuer(device_lifetime_s=6, device_interval_s=5)
    begun = issuer.post("/devicecode", "boathouse", scope="openid").json
    assert begun["interval"] == 5
    form = {"grant_type": DEVICE, "device_code": begun["device_code"]}
    seen: set[str] = set()
    while "expired_token" not in seen:
        seen.add(issuer.post("/token", "boathouse", **form).json["error"])
    assert seen == {"authorization_pending", "slow_down", "expired_token"}
    page = issuer.browser("bob").get(f"/device?user_code={begun['user_code']}")
    assert page.status == 400


@pytest.mark.parametrize(
    ("scope", "status", "error"),
    [("storage.read:x", 400, "invalid_scope"), ("scim:read", 400, "invalid_scope"), ("openid", 200, "")],
)
def test_device_requests(issuer: Issuer, scope: str, status: int, error: str) -> None:
    answer = issuer.post("/devicecode", "boathouse", scope=scope)
    assert (answer.status, answer.json.get("error", "")) == (status, error)


def test_only_clients_with_the_grant_get_device_codes(issuer: Issuer) -> None:
    assert issuer.post("/devicecode", "browser", scope="openid").json["error"] == "unauthorized_client"
    assert issuer.post("/devicecode", "nobody", scope="openid").json["error"] == "invalid_client"


def test_public_clients_may_not_introspect(issuer: Issuer) -> None:
    assert issuer.post("/introspect", "boathouse", token="x").status in (400, 401)
    assert issuer.post("/introspect", "plain").json["error"] == "invalid_request"


def tampered(token: str, header: dict[str, str]) -> str:
    encoded = base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode()
    return ".".join([encoded, *token.split(".")[1:]])


def test_the_verifier_refuses_what_is_not_genuine(issuer: Issuer) -> None:
    token = issuer.token("plain", **CLIENT, audience=STORAGE)["access_token"]
    kid = json.loads(issuer.keys.joinpath("jwks.json").read_text())["keys"][0]["kid"]
    for header, reason in (
        ({"alg": "none", "kid": kid}, "algorithm 'none'"),
        ({"alg": "HS256", "kid": kid}, "algorithm 'HS256'"),
        ({"alg": "ES256", "kid": "other"}, "unknown kid 'other'"),
        ({"alg": "ES256"}, "no kid in the header"),
        ({"alg": "RS256", "kid": kid}, "malformed"),
    ):
        with pytest.raises(AuthError) as refusal:
            issuer.verify(tampered(token, header), STORAGE)
        assert reason in str(refusal.value.got)
        answer = issuer.post("/introspect", "plain", token=tampered(token, header))
        assert answer.json == {"active": False}
    with pytest.raises(AuthError, match="refused"):
        issuer.verify(token, "127.0.1.12")


def test_no_secret_is_in_the_log(issuer: Issuer) -> None:
    reply = issuer.device_login("bob", scope="openid offline_access")
    CodeFlow(issuer, "browser").tokens()
    for secret in (reply["access_token"], reply["refresh_token"], PASSWORD, *SECRETS.values(), "code=", "user_code="):
        assert secret not in issuer.log
