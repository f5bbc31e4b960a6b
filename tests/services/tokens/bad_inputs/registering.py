"""Programs that register themselves."""

from __future__ import annotations

from .case import (
    CONTROL,
    EXCHANGE,
    FORM,
    JSON,
    NO_METADATA,
    NO_SUCH_GRANT,
    NO_TOKEN,
    NO_URI,
    REGISTRATION,
    Case,
    bearer,
    raw,
    registration,
)

HALF = "400 invalid_request A text holds a zero character or half a character"

CASES: tuple[Case, ...] = (
    # Registration
    registration("client-credentials", NO_SUCH_GRANT, grant_types=["client_credentials"]),
    registration("token-exchange", NO_SUCH_GRANT, grant_types=["authorization_code", EXCHANGE]),
    registration("password", NO_SUCH_GRANT, grant_types=["password"]),
    registration("implicit", NO_SUCH_GRANT, grant_types=["implicit"], response_types=["token"]),
    registration("no-grant", f"{NO_METADATA} Wrong type, value or length: grant_types", grant_types=[]),
    registration("response-type", f"{NO_METADATA} The only response_type is code", response_types=["token"]),
    registration(
        "no-redirect", "400 invalid_redirect_uri The grant authorization_code needs redirect_uris", redirect_uris=[]
    ),
    registration(
        "redirect-plain-http",
        f"{NO_URI} plain http is for the addresses of one's own machine only",
        redirect_uris=["http://evil.example/"],
    ),
    registration(
        "redirect-script",
        f"{NO_URI} its scheme is neither https nor a domain name written backwards",
        redirect_uris=["javascript:alert(1)"],
    ),
    registration(
        "redirect-fragment",
        f"{NO_URI} it is empty, too long, has a fragment or holds what no URI may hold",
        redirect_uris=["https://hub.example/#x"],
    ),
    registration("redirect-wildcard", f"{NO_URI} it names no host", redirect_uris=["https://*.example/"]),
    registration("redirect-user", f"{NO_URI} it names a user or port 0", redirect_uris=["https://user@hub.example/"]),
    registration(
        "redirect-dot-dot",
        f"{NO_URI} it has a '.' or '..' segment or a backslash",
        redirect_uris=["https://hub.example/a/%2e%2e/b"],
    ),
    registration(
        "redirect-look-alike-of-loopback",
        f"{NO_URI} plain http is for the addresses of one's own machine only",
        redirect_uris=["http://localhost.evil.example/"],
    ),
    registration("redirect-no-string", f"{NO_METADATA} Wrong type, value or length: redirect_uris", redirect_uris=[1]),
    registration(
        "redirect-no-list",
        f"{NO_METADATA} Wrong type, value or length: redirect_uris",
        redirect_uris="https://hub.example/",
    ),
    registration(
        "many-redirects",
        f"{NO_METADATA} Wrong type, value or length: redirect_uris",
        redirect_uris=[f"https://hub.example/{n}" for n in range(21)],
    ),
    registration(
        "name-of-another", f"{NO_METADATA} The client_name is that of another client", client_name="Boathouse"
    ),
    registration("name-line-break", f"{NO_METADATA} Wrong type, value or length: client_name", client_name="a\nb"),
    registration(
        "name-right-to-left", f"{NO_METADATA} Wrong type, value or length: client_name", client_name="a\u202eb"
    ),
    registration("name-long", f"{NO_METADATA} Wrong type, value or length: client_name", client_name="x" * 101),
    registration("scope-malformed", f"{NO_METADATA} A scope is malformed", scope="storage.read"),
    registration(
        "scope-of-administrators", f"{NO_METADATA} None of the scopes can be registered", scope="scim:read scim:write"
    ),
    registration(
        "authentication-by-key",
        f"{NO_METADATA} Wrong type, value or length: token_endpoint_auth_method",
        token_endpoint_auth_method="private_key_jwt",
    ),
    raw("register-not-json", "400 invalid_request The body is not JSON", "{", "application/json", REGISTRATION),
    raw("register-a-list", "400 invalid_request The body is not a JSON object", "[]", "application/json", REGISTRATION),
    raw("register-deep", "400 invalid_request The body is not JSON", "[" * 60000, "application/json", REGISTRATION),
    raw(
        "register-a-form", "400 invalid_request The body must be application/json", "client_name=x", FORM, REGISTRATION
    ),
    raw(
        "register-not-utf-8",
        "400 invalid_request The body is not JSON",
        b'{"client_name": "\xff"}',
        "application/json",
        REGISTRATION,
    ),
    raw("register-surrogate", HALF, b'{"redirect_uris": ["https://a/"], "client_name": "\\ud800"}', JSON, REGISTRATION),
    raw("register-nul", HALF, b'{"redirect_uris": ["https://a/"], "software_id": "\\u0000"}', JSON, REGISTRATION),
    raw("register-nul-in-what-is-let-go", HALF, b'{"jwks": {"\\u0000": 1}}', JSON, REGISTRATION),
    Case("configuration-nul", CONTROL, "DELETE", f"{REGISTRATION}/x%00"),
    Case("configuration-nobody", NO_TOKEN, "GET", f"{REGISTRATION}/x"),
    bearer("configuration-unknown", NO_TOKEN, "Bearer x", f"{REGISTRATION}/x"),
    bearer("configuration-of-a-client-of-the-seed", NO_TOKEN, "Bearer x", f"{REGISTRATION}/rucio"),
    bearer("configuration-with-an-access-token", NO_TOKEN, "Bearer {access}", f"{REGISTRATION}/boathouse", "DELETE"),
)
