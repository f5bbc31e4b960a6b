"""Administration over HTTP: JSON that no table can hold, with a token that counts."""

from __future__ import annotations

from .case import CONTROL, JSON, Case

HALF_SAID = "a text holds a zero character or half a character"
HALF = f"400 InputError {HALF_SAID}"
NO_FORM = "400 InputError the body must be application/json or application/scim+json"
OWN = {"Authorization": "Bearer {own}"}


def posted(name: str, refusal: str, body: str | bytes, path: str = "/iam/scope_policies", kind: str = JSON) -> Case:
    """JSON with a person's own token for the issuer, which is refused before anybody asks what the person may."""
    return Case(f"administration-{name}", refusal, path=path, body=body, headers={**OWN, "Content-Type": kind})


CASES: tuple[Case, ...] = (
    posted("nul", HALF, '{"rule": "\\u0000"}'),
    posted("nul-in-a-name", HALF, '{"\\u0000": 1}'),
    posted("nul-deep-down", HALF, '{"scopes": [[{"a": ["\\u0000"]}]]}'),
    posted("half-a-character", HALF, '{"rule": "\\ud800"}'),
    posted("second-half-of-a-character", HALF, '{"description": "\\udc00x"}'),
    posted("scim-half-a-character", f"400 {HALF_SAID}", '{"userName": "\\udfff"}', "/scim/Users"),
    posted("not-json", "400 InputError the body is not JSON", "{"),
    posted("deep", "400 InputError the body is not JSON", "[" * 60000),
    posted("a-list", "400 InputError the body is not a JSON object", "[]"),
    posted("not-utf-8", "400 InputError the body is not JSON", b'{"rule": "\xff"}'),
    posted("a-form", NO_FORM, "a=b", kind="text/plain"),
    Case("administration-path-nul", CONTROL, "GET", "/scim/Users/x%00", headers=OWN),
    Case("administration-query-nul", CONTROL, "GET", "/iam/accounts?search=%00", headers=OWN),
    Case("administration-reason-nul", CONTROL, "DELETE", "/scim/Users/x?reason=%00", headers=OWN),
)
