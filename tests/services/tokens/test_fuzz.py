"""Whatever is sent, the issuer answers with a refusal, never with a fault of its own."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .conftest import CALLBACK, DEVICE, EXCHANGE, Browser, Issuer, Start

NAMES = (
    *("grant_type", "client_id", "client_secret", "scope", "audience", "resource", "code", "redirect_uri", "state"),
    *("refresh_token", "device_code", "subject_token", "subject_token_type", "token", "token_type_hint", "user_code"),
    *("response_type", "code_challenge", "code_challenge_method", "nonce", "prompt", "max_age", "decision", "csrf"),
    *("username", "password", "next", "requested_token_type", "code_verifier"),
)
LIKELY = (
    *("authorization_code", "refresh_token", "client_credentials", DEVICE, EXCHANGE, "code", "S256", CALLBACK),
    *("boathouse", "rucio", "browser", "openid", "storage.read:/lake", "none", "login", "/authorize?x=1", "eyJ.e30.x"),
)
values = st.one_of(st.sampled_from(LIKELY), st.text(max_size=40))
forms = st.lists(st.tuples(st.sampled_from(NAMES), values), max_size=8)
TRIES = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def encoded(pairs: list[tuple[str, str]]) -> str:
    return urlencode([(name, value.encode("utf-8", "surrogatepass")) for name, value in pairs])


@pytest.fixture(scope="module")
def issuer(start_issuer: Start) -> Issuer:
    """One of its own: guesses lock it."""
    return start_issuer()


@pytest.mark.parametrize("path", ["/token", "/devicecode", "/revoke", "/introspect"])
@TRIES
@given(pairs=forms)
def test_forms(issuer: Issuer, path: str, pairs: list[tuple[str, str]]) -> None:
    for headers in ({}, {"Authorization": "Basic cnVjaW86c2VjcmV0LW9mLXJ1Y2lv"}):
        form = {"Content-Type": "application/x-www-form-urlencoded", **headers}
        answer = issuer.request("POST", path, body=encoded(pairs), headers=form)
        assert answer.status < 500, answer.text
        assert answer.status == 200 or answer.json["error"]


@pytest.mark.parametrize("path", ["/authorize", "/login", "/device", "/account"])
@TRIES
@given(pairs=forms)
def test_pages(issuer: Issuer, path: str, pairs: list[tuple[str, str]]) -> None:
    browser: Browser = issuer.browser("bob")
    answer = browser.get(f"{path}?{encoded(pairs)}")
    assert answer.status < 500, answer.text
    token = browser.cookies.get("__Host-csrf", "")
    headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        "Cookie": "; ".join(f"{name}={value}" for name, value in browser.cookies.items()),
    }
    wanted = [(name, value) for name, value in pairs if name not in ("csrf", "username", "password")]
    body = encoded([*wanted, ("csrf", token)])
    answer = issuer.request("POST", f"{path}?{encoded(pairs)}", body=body, headers=headers)
    assert answer.status < 500, answer.text


@TRIES
@given(header=st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60))
def test_authorization_headers(issuer: Issuer, header: str) -> None:
    for kind in ("", "Basic ", "Bearer "):
        for method, path in (("POST", "/token"), ("GET", "/userinfo")):
            headers = {"Authorization": kind + header, "Content-Type": "application/x-www-form-urlencoded"}
            body = "grant_type=client_credentials" if method == "POST" else None
            assert issuer.request(method, path, body=body, headers=headers).status in (400, 401)
