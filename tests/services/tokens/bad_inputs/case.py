"""One bad request and its refusal; how such are written down, and the refusals that occur often."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

DEVICE = "urn:ietf:params:oauth:grant-type:device_code"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS = "urn:ietf:params:oauth:token-type:access_token"
REFRESH = "urn:ietf:params:oauth:token-type:refresh_token"
CALLBACK = "https://localhost:20499/callback"
REGISTRATION = "/iam/api/client-registration"
FORM = "application/x-www-form-urlencoded"
JSON = "application/json"
ANY = "https://wlcg.cern.ch/jwt/v1/any"


@dataclass(frozen=True)
class Case:
    """One bad request."""

    name: str
    refusal: str
    """Status, error and description, or what the page says."""
    method: str = "POST"
    path: str = "/token"
    client: str = ""
    """Whose name and secret go into the header, if it has a secret; else the name goes into the form."""
    body: str | bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    login: str = ""
    """Who is signed in in the browser."""


def _encoded(form: Mapping[str, str] | str) -> str:
    return form if isinstance(form, str) else urlencode(form, safe="{}")


def token(client: str, name: str, refusal: str, form: Mapping[str, str] | str) -> Case:
    """A form at the token endpoint."""
    return Case(name, refusal, client=client, body=_encoded(form), headers={"Content-Type": FORM})


def service(name: str, refusal: str, **form: str) -> Case:
    """A request for client credentials by a client that may read ``/lake/cms`` and nothing else."""
    return token("plain", name, refusal, {"grant_type": "client_credentials", **form})


def exchange(name: str, refusal: str, **form: str) -> Case:
    """An exchange by the transfer service of a person's token."""
    given = {"grant_type": EXCHANGE, "subject_token": "{access}", "subject_token_type": ACCESS, **form}
    return token("transfers", f"exchange-{name}", refusal, {key: value for key, value in given.items() if value})


def at(path: str, client: str, name: str, refusal: str, **form: str) -> Case:
    """A form elsewhere."""
    return Case(name, refusal, path=path, client=client, body=_encoded(form), headers={"Content-Type": FORM})


def authorization(name: str, refusal: str, *, login: str = "bob", more: str = "", **changed: str) -> Case:
    """A request for the authorization page by a public client, with PKCE."""
    query = {
        "response_type": "code",
        "client_id": "browser",
        "redirect_uri": CALLBACK,
        "scope": "openid",
        "state": "a state",
        "code_challenge": "x" * 43,
        "code_challenge_method": "S256",
        **changed,
    }
    path = f"/authorize?{urlencode({key: value for key, value in query.items() if value})}{more}"
    return Case(f"authorize-{name}", refusal, method="GET", path=path, login=login)


def registration(name: str, refusal: str, **changed: Any) -> Case:
    """A registration of a native client."""
    document = {"client_name": "bad", "redirect_uris": ["edu.kit.data.oidc-agent:/redirect"], **changed}
    headers = {"Content-Type": "application/json"}
    return Case(f"register-{name}", refusal, path=REGISTRATION, body=json.dumps(document), headers=headers)


def bearer(name: str, refusal: str, value: str, path: str = "/userinfo", method: str = "GET") -> Case:
    """A request with an ``Authorization`` header."""
    return Case(name, refusal, method=method, path=path, headers={"Authorization": value})


def basic(name: str, refusal: str, value: str) -> Case:
    """Client credentials with an ``Authorization`` header."""
    headers = {"Authorization": value, "Content-Type": FORM}
    return Case(name, refusal, body="grant_type=client_credentials", headers=headers)


def raw(name: str, refusal: str, body: str | bytes, content_type: str = FORM, path: str = "/token") -> Case:
    """A body as it is."""
    return Case(name, refusal, path=path, body=body, headers={"Content-Type": content_type})


def method(verb: str, path: str) -> Case:
    """A method that an endpoint does not have."""
    return Case(f"{verb}-{path}", "405", method=verb, path=path)


NO_DOTS = "400 invalid_scope not a path that a scope can carry; expected no '.' or '..' segment"
NO_STRANGE = (
    "400 invalid_scope not a path that a scope can carry; expected no escaped slash, backslash or control character"
)
NO_UTF_8 = "400 invalid_scope not a path that a scope can carry; expected UTF-8 after decoding"
NO_ESCAPE = "400 invalid_scope not a path that a scope can carry; expected % followed by two hexadecimal digits"
NO_PATH = "400 invalid_scope a storage scope without a path; expected storage.read:/path (WLCG profile 2.2.1)"
NO_SCOPE = "400 invalid_scope not a scope; expected printable ASCII without space, quote, backslash"
NO_GROUP = "400 invalid_scope not a group; expected /vo/group of letters, digits, '_', '.', '-'"
NOT_ITS_OWN = "400 invalid_scope The client may ask for none of these scopes"
CONTROL = "400 invalid_request A parameter holds a control character"
EVERYBODY = "400 invalid_target The audience must be named; a token for everybody is not given"
BAD_AUDIENCE = "400 invalid_target Malformed audience"
NO_GRANT = "400 unsupported_grant_type"
NO_CLIENT = (
    "401 invalid_client The client cannot authenticate with methods: ('client_secret_basic', 'client_secret_post')"
)
NO_CODE = "400 invalid_grant Invalid 'code' in request."
NO_VERIFIER = "400 invalid_request Invalid 'code_verifier'"
NO_LIVE_TOKEN = "400 invalid_grant The subject token is not a live token of this issuer"
NO_TOKEN = "401 invalid_token"
FOREIGN_FORM = "403 This form is out of date or came from another site. Go back, reload the page, try again."
BACK_NO_SCOPE = "302 invalid_scope The requested scope is invalid, unknown, or malformed."
BACK_NO_CHALLENGE = "302 invalid_request Invalid 'code_challenge'"
NO_SUCH_GRANT = f"400 invalid_client_metadata Allowed grant_types are authorization_code, refresh_token, {DEVICE}"
WRONG = "400 The request of the application is wrong:"
NO_URI = "400 invalid_redirect_uri A redirect URI cannot be registered:"
NO_METADATA = "400 invalid_client_metadata"

CMS = "storage.read:/lake/cms"
REFRESHED = {"grant_type": "refresh_token"}
CODE = {"grant_type": "authorization_code", "redirect_uri": CALLBACK, "code_verifier": "{verifier}"}
