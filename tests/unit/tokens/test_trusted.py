"""What scopes of another issuer mean here."""

from __future__ import annotations

import pytest

from boathouse.apps.tokens.signing.trusted import Trusted, TrustedIssuer
from boathouse.wlcg.scopes import format_scopes, parse

URL = "https://aai.example"


@pytest.mark.parametrize(
    ("base_path", "paths", "given", "meant"),
    [
        ("/", ["/lake/a"], "storage.read:/", "storage.read:/lake/a"),
        ("/", ["/lake/a"], "storage.read:/lake/a/b", "storage.read:/lake/a/b"),
        ("/", ["/lake/a"], "storage.read:/lake", "storage.read:/lake/a"),
        ("/", ["/lake/a"], "storage.read:/lake/ab", ""),
        ("/", ["/lake/a"], "storage.read:/a", ""),
        ("/", ["/lake/a", "/lake/b"], "storage.modify:/lake", "storage.modify:/lake/a storage.modify:/lake/b"),
        ("/lake", ["/lake/a"], "storage.read:/a/x", "storage.read:/lake/a/x"),
        ("/lake", ["/lake/a"], "storage.read:/lake/a", ""),
        ("/lake/a", ["/lake/a"], "storage.create:/", "storage.create:/lake/a"),
        ("/", ["/lake/a"], "openid fts offline_access scim:read compute.read", ""),
    ],
)
def test_scopes_are_cut_down_to_the_paths(base_path: str, paths: list[str], given: str, meant: str) -> None:
    issuer = TrustedIssuer(name="aai", url=URL, base_path=base_path, paths=tuple(paths))
    assert format_scopes(issuer.scopes(parse(given))) == meant


@pytest.mark.parametrize("token", ["", "a", "a.b.c", "..", "eyJhbGciOiJub25lIn0.e30.", "é.é.é"])
def test_what_is_no_token_of_a_trusted_issuer_is_nothing(token: str) -> None:
    assert Trusted([TrustedIssuer(name="aai", url=URL, paths=("/lake/a",))], ["host"]).read(token) is None
