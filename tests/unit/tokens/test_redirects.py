"""Which redirect URIs may be registered, and when a request's is a registered one."""

from __future__ import annotations

import pytest

from boathouse.apps.tokens.protocol.redirects import fault, same

GOOD = (
    "https://hub.example.org/oauth_callback",
    "https://hub.example.org:8443/a/b?x=1",
    "https://[2001:db8::1]/callback",
    "http://localhost:4242",
    "http://localhost/callback",
    "http://127.0.0.1:8080",
    "http://[::1]:8080/callback",
    "edu.kit.data.oidc-agent:/redirect",
)
BAD = (
    "",
    "https://",
    "https:///path",
    "https:hub.example.org/callback",
    "https://user@hub.example.org/",
    "https://user:word@hub.example.org/",
    "https://hub.example.org/#fragment",
    "https://hub.example.org/a/../b",
    "https://hub.example.org/a/%2e%2e/b",
    "https://hub.example.org/%5c",
    "https://hub.example.org\\@evil.example/",
    "https://hub.example.org:99999/",
    "https://hub.example.org:x/",
    "https://hub.example.org:0/",
    "https://-hub.example.org/",
    "https://hüb.example.org/",
    "https://hub.example.org/ x",
    "https://hub.example.org/\r\nX: y",
    "https://*.example.org/",
    "http://hub.example.org/",
    "http://localhost.evil.example/",
    "http://127.0.0.1.evil.example/",
    "http://localhost@evil.example/",
    "http://127.1/",
    "http://0.0.0.0/",
    "http://2130706433/",
    "HTTP://hub.example.org/",
    "javascript:alert(1)",
    "data:text/html,x",
    "file:///etc/passwd",
    "agent:/redirect",
    "edu.kit.data.oidc-agent://host/redirect",
    "edu.kit.data.oidc-agent:redirect",
    "//hub.example.org/",
    "/callback",
    "https://hub.example.org/" + "x" * 2000,
)


@pytest.mark.parametrize("uri", GOOD)
def test_good_ones(uri: str) -> None:
    assert fault(uri) == ""


@pytest.mark.parametrize("uri", BAD)
def test_bad_ones(uri: str) -> None:
    assert fault(uri)


@pytest.mark.parametrize(
    ("registered", "asked", "is_same"),
    [
        ("http://localhost:8080/cb", "http://localhost:9999/cb", True),
        ("http://127.0.0.1/cb", "http://127.0.0.1:9999/cb", True),
        ("http://[::1]/cb", "http://[::1]:9999/cb", True),
        ("http://127.0.0.1/cb", "http://localhost:9999/cb", False),
        ("http://localhost:8080/cb", "http://localhost:8080/cb/", False),
        ("http://localhost:8080/cb", "http://localhost:8080/cb?x=1", False),
        ("http://localhost:8080/cb", "http://localhost:8080/cb#x", False),
        ("http://localhost:8080/cb", "http://evil.example@localhost:8080/cb", False),
        ("http://localhost:8080/cb", "http://localhost:8080@evil.example/cb", False),
        ("http://localhost:8080/cb", "https://localhost:8080/cb", False),
        ("https://localhost:8080/cb", "https://localhost:9999/cb", False),
        ("https://hub.example/cb", "https://HUB.example/cb", False),
        ("http://hub.example:1/cb", "http://hub.example:2/cb", False),
    ],
)
def test_sameness(registered: str, asked: str, *, is_same: bool) -> None:
    assert same(registered, asked) is is_same
