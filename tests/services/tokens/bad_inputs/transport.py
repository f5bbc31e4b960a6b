"""Bodies, headers, methods, paths."""

from __future__ import annotations

import json

from .case import CONTROL, FOREIGN_FORM, NO_CLIENT, NO_GRANT, REGISTRATION, Case, method, raw

NO_TEXT = "400 invalid_request The parameters are malformed: UnicodeDecodeError"

CASES: tuple[Case, ...] = (
    # Bodies, headers, methods
    raw("body-not-ascii", NO_TEXT, b"\xff\xfe"),
    raw(
        "body-not-utf-8",
        NO_TEXT,
        b"grant_type=client_credentials&scope=%FF",
    ),
    raw(
        "body-many-fields",
        "400 invalid_request The parameters are malformed: ValueError",
        "&".join(f"a{n}=1" for n in range(200)),
    ),
    raw("body-long", "413 invalid_request The body is too long", "x=" + "1" * 70000),
    raw("body-nul", CONTROL, "grant_type=client_credentials%00"),
    raw("body-json", NO_GRANT, json.dumps({"grant_type": "client_credentials"}), "application/json"),
    raw("body-xml", NO_GRANT, "<grant/>", "text/xml"),
    raw("body-multipart", NO_GRANT, "--x", "multipart/form-data; boundary=x"),
    raw("body-empty", NO_GRANT, ""),
    raw("content-type-none", NO_GRANT, "grant_type=client_credentials", ""),
    Case("query-long", "414 invalid_request The URL is too long", "GET", "/authorize?" + "x" * 17000),
    Case(
        "query-instead-of-body",
        NO_CLIENT,
        path="/token?grant_type=client_credentials&client_id=plain&client_secret=secret-of-plain",
    ),
    Case("login-foreign-form", FOREIGN_FORM, path="/login", body="username=bob&password=x&csrf=y"),
    Case("login-next-nul", CONTROL, "GET", "/login?next=%00"),
    Case("login-client-nul", CONTROL, "GET", "/login?next=/account&client_id=%00"),
    Case(
        "login-next-not-utf-8",
        NO_TEXT,
        "GET",
        "/login?next=%ED%A0%80",
    ),
    Case("login-form-nul", CONTROL, path="/login", body="username=bob%00&password=x"),
    Case("account-form-nul", CONTROL, path="/account", body="do=join&notes=%00", login="bob"),
    Case("account-foreign-form", FOREIGN_FORM, path="/account", body="client_id=boathouse&csrf=y", login="bob"),
    method("GET", "/token"),
    method("PUT", "/token"),
    method("DELETE", "/token"),
    method("GET", "/introspect"),
    method("GET", "/revoke"),
    method("GET", "/devicecode"),
    method("POST", "/jwk"),
    method("POST", "/.well-known/openid-configuration"),
    method("PATCH", f"{REGISTRATION}/x"),
    method("TRACE", "/token"),
    Case("path-unknown", "404", "GET", "/nowhere"),
    Case("path-out-of-the-tree", "404", "GET", "/static/../keyring.json"),
    Case("path-escaped-out-of-the-tree", "404", "GET", "/static/%2e%2e/%2e%2e/keys/keyring.json"),
)
