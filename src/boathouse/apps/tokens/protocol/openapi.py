"""The issuer's surface as an OpenAPI document, made from its routes and from what is said of them here.

Every route is in it: what programs use with its parameters and replies, and the pages with the statuses that they may
have. A test compares, and another one sends what the document allows and forbids.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.routing import Route

from boathouse.apps.tokens.persistence.records import GRANTS

PATH = "/openapi.json"

_FORM = "application/x-www-form-urlencoded"
_JSON = "application/json"
_SCIM = "application/scim+json"
_STATUS = {
    200: "what was asked for",
    201: "made",
    204: "done, nothing to tell",
    302: "back to the client, with a code or an error",
    303: "to another page",
    400: "the request is wrong",
    401: "nobody known asks",
    403: "not allowed",
    404: "no such thing",
    405: "not a method of this place",
    409: "it is there already, or changed meanwhile",
    412: "it changed meanwhile",
    413: "the body is too long",
    414: "the URL is too long",
    415: "not a kind of body that is read",
    429: "too often",
    503: "not now: try again",
}
_ANYWHERE = (400, 413, 414, 503)
"""Statuses of every request that is malformed or too long, or that comes while the database is down."""
_PAGE = (200, 302, 303, 401, 403, 404, 409, 429)
_INTERFACE = (200, 201, 204, 401, 403, 404, 409, 412, 415, 429)


def _object(required: str = "", **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required.split()}


_TEXT = {"type": "string"}
_NUMBER = {"type": "integer"}
_TRUTH = {"type": "boolean"}
_LIST = {"type": "array", "items": _TEXT}

SCHEMAS: Mapping[str, dict[str, Any]] = {
    "Error": _object("error", error=_TEXT, error_description=_TEXT),
    "Token": _object(
        "access_token token_type expires_in scope",
        access_token=_TEXT,
        token_type={"const": "Bearer"},
        expires_in=_NUMBER,
        scope=_TEXT,
        refresh_token=_TEXT,
        id_token=_TEXT,
        issued_token_type=_TEXT,
    ),
    "DeviceCode": _object(
        "device_code user_code verification_uri expires_in",
        device_code=_TEXT,
        user_code=_TEXT,
        verification_uri=_TEXT,
        verification_uri_complete=_TEXT,
        expires_in=_NUMBER,
        interval=_NUMBER,
    ),
    "Introspection": _object("active", active=_TRUTH, sub=_TEXT, scope=_TEXT, client_id=_TEXT, exp=_NUMBER),
    "Person": _object("sub", sub=_TEXT, name=_TEXT, email=_TEXT, **{"wlcg.groups": _LIST}),
    "Metadata": _object("issuer token_endpoint jwks_uri", issuer=_TEXT, token_endpoint=_TEXT, jwks_uri=_TEXT),
    "Keys": _object("keys", keys={"type": "array", "items": _object("kty kid alg use", kid=_TEXT)}),
    "Client": _object(
        "client_id registration_client_uri grant_types",
        client_id=_TEXT,
        client_secret=_TEXT,
        registration_access_token=_TEXT,
        registration_client_uri=_TEXT,
        redirect_uris=_LIST,
        grant_types=_LIST,
        scope=_TEXT,
    ),
    "ClientMetadata": _object(
        client_name={"type": "string", "maxLength": 100},
        redirect_uris={"type": "array", "items": {"type": "string", "format": "uri"}},
        grant_types={"type": "array", "items": {"enum": list(GRANTS)}},
        response_types=_LIST,
        token_endpoint_auth_method={"enum": ["client_secret_basic", "client_secret_post", "none"]},
        scope=_TEXT,
    ),
    "Denials": _object("version denied", version=_NUMBER, denied={"type": "array"}),
    "Health": _object("status", status=_TEXT),
    "Anything": {},
}


@dataclass(frozen=True)
class Operation:
    """What one method of one place takes and gives."""

    summary: str
    reply: str
    """Name of the schema of a good reply."""
    statuses: Sequence[int]
    form: Mapping[str, Any] | None = None
    """Fields of the body."""
    body: str = ""
    """Name of the schema of a JSON body."""
    query: Mapping[str, Any] | None = None


_ASKED = {"scope": _TEXT, "audience": _TEXT, "client_id": _TEXT, "client_secret": _TEXT}
_ABOUT = {"token": _TEXT, "token_type_hint": _TEXT}
_DISCOVERY = Operation("What the issuer says of itself (OpenID Connect Discovery, RFC 8414)", "Metadata", (200,))
_USERINFO = Operation("Who the token speaks for (OpenID Connect Core, 5.3)", "Person", (200, 401, 403))
_CONFIGURATION = "/iam/api/client-registration/{client_id}"

OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("GET", "/.well-known/openid-configuration"): _DISCOVERY,
    ("GET", "/.well-known/oauth-authorization-server"): _DISCOVERY,
    ("GET", "/jwk"): Operation("The public keys (RFC 7517)", "Keys", (200,)),
    ("GET", "/health"): Operation("Whether tokens can be issued now", "Health", (200,)),
    ("GET", PATH): Operation("This document", "Anything", (200,)),
    ("POST", "/token"): Operation(
        "Tokens for a grant (RFC 6749, 3.2; RFC 8628, 3.4; RFC 8693, 2)",
        "Token",
        (200, 401),
        form={
            "grant_type": {"enum": list(GRANTS)},
            **_ASKED,
            **dict.fromkeys(("code", "redirect_uri", "code_verifier", "refresh_token", "device_code"), _TEXT),
            **dict.fromkeys(("subject_token", "subject_token_type", "requested_token_type"), _TEXT),
        },
    ),
    ("POST", "/devicecode"): Operation("A device code (RFC 8628, 3.1)", "DeviceCode", (200, 401), form=_ASKED),
    ("POST", "/introspect"): Operation("Whether a token is live (RFC 7662)", "Introspection", (200, 401), form=_ABOUT),
    ("POST", "/revoke"): Operation("Revoke a token (RFC 7009)", "Anything", (200, 401), form=_ABOUT),
    ("GET", "/userinfo"): _USERINFO,
    ("POST", "/userinfo"): _USERINFO,
    ("GET", "/denials"): Operation(
        "Tokens that count no more before their end", "Denials", (200, 401), query={"after": _NUMBER}
    ),
    ("POST", "/iam/api/client-registration"): Operation(
        "Register a program (RFC 7591)", "Client", (201, 403, 429), body="ClientMetadata"
    ),
    ("GET", _CONFIGURATION): Operation("Read a registration (RFC 7592, 2.1)", "Client", (200, 401)),
    ("PUT", _CONFIGURATION): Operation(
        "Replace a registration (RFC 7592, 2.2)", "Client", (200, 401, 403), body="ClientMetadata"
    ),
    ("DELETE", _CONFIGURATION): Operation("Delete a registration (RFC 7592, 2.3)", "Anything", (204, 401)),
}


def document(routes: Iterable[Route], issuer: str) -> dict[str, Any]:
    """The document for these routes.

    Args:
        routes: of the application.
        issuer: its URL.
    """
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        for method in sorted((route.methods or set()) - {"HEAD"}):
            paths.setdefault(route.path, {})[method.lower()] = _operation(method, route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Token issuer of Boathouse", "version": "1"},
        "servers": [{"url": issuer}],
        "paths": paths,
        "components": {
            "schemas": dict(SCHEMAS),
            "securitySchemes": {
                "client": {"type": "http", "scheme": "basic"},
                "token": {"type": "http", "scheme": "bearer"},
            },
        },
    }


def _operation(method: str, route: Route) -> dict[str, Any]:
    described = OPERATIONS.get((method, route.path))
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": _TEXT} for name in sorted(route.param_convertors)
    ]
    if described is None:
        # A page, or an interface for administration with a description of its own (SCIM: RFC 7644).
        is_interface = route.path.startswith(("/scim/", "/iam/"))
        statuses = _INTERFACE if is_interface else _PAGE
        return {
            "summary": "An interface for administration" if is_interface else "A page for people",
            "parameters": parameters,
            "responses": _responses(statuses, {kind: {} for kind in (_JSON, _SCIM, "text/html", "text/css")}),
        }
    query = described.query or {}
    parameters += [{"name": name, "in": "query", "schema": schema} for name, schema in query.items()]
    operation: dict[str, Any] = {
        "summary": described.summary,
        "parameters": parameters,
        "responses": _responses(described.statuses, {_JSON: {"schema": _reference(described.reply)}}),
        "security": [{"client": []}, {"token": []}, {}],
    }
    if described.form is not None:
        operation["requestBody"] = {"content": {_FORM: {"schema": _object(**described.form)}}}
    if described.body:
        operation["requestBody"] = {"content": {_JSON: {"schema": _reference(described.body)}}}
    return operation


def _responses(statuses: Iterable[int], good: Mapping[str, Any]) -> dict[str, Any]:
    """Replies by status: those below 300 are ``good``, the others errors or redirects."""
    bad = {_JSON: {"schema": _reference("Error")}}
    found: dict[str, Any] = {}
    for status in sorted({*statuses, *_ANYWHERE}):
        found[str(status)] = {"description": _STATUS[status]}
        if status < 300 and status != 204:
            found[str(status)]["content"] = dict(good)
        elif status >= 400:
            found[str(status)]["content"] = bad if len(good) == 1 else dict(good)
    return found


def _reference(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
