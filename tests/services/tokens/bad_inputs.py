"""The table of bad inputs: what is sent, and the exact refusal.

``{name}`` in a value stands for what the test made for it (:func:`test_bad_inputs.material`): tokens that are forged,
expired, revoked or meant for somebody else, codes that were used.
"""

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


CASES: tuple[Case, ...] = (
    # Paths that say something else than they seem to (WLCG profile 2.2.1)
    service("path-dot-dot", NO_DOTS, scope=f"{CMS}/../magic"),
    service("path-dot-dot-at-the-end", NO_DOTS, scope=f"{CMS}/.."),
    service("path-dot", NO_DOTS, scope="storage.read:/lake/./cms"),
    service("path-escaped-dot-dot", NO_DOTS, scope=f"{CMS}/%2e%2e/magic"),
    service("path-escaped-dot-dot-upper", NO_DOTS, scope=f"{CMS}/%2E%2E/magic"),
    service("path-half-escaped-dot-dot", NO_DOTS, scope=f"{CMS}/.%2e/magic"),
    service("path-escaped-dot", NO_DOTS, scope="storage.read:/lake/%2e/cms"),
    service("path-escaped-slash", NO_STRANGE, scope=f"{CMS}%2f..%2fmagic"),
    service("path-escaped-backslash", NO_STRANGE, scope=f"{CMS}%5c..%5cmagic"),
    service("path-escaped-nul", NO_STRANGE, scope=f"{CMS}%00"),
    service("path-escaped-line-break", NO_STRANGE, scope=f"{CMS}%0a"),
    service("path-escaped-delete", NO_STRANGE, scope=f"{CMS}%7f"),
    service("path-overlong-utf-8", NO_UTF_8, scope=f"{CMS}%c0%ae%c0%ae/magic"),
    service("path-half-a-character", NO_UTF_8, scope=f"{CMS}%c3"),
    service("path-surrogate", NO_UTF_8, scope=f"{CMS}%ed%a0%80"),
    service("path-bad-escape", NO_ESCAPE, scope=f"{CMS}%2"),
    service("path-not-hexadecimal", NO_ESCAPE, scope=f"{CMS}%zz"),
    service("path-right-to-left", NO_STRANGE, scope=f"{CMS}%e2%80%ae"),
    service("path-no-width", NO_STRANGE, scope=f"{CMS}%e2%80%8b"),
    service(
        "path-relative",
        "400 invalid_scope not a path that a scope can carry; expected an absolute path",
        scope="storage.read:lake/cms",
    ),
    service("path-none", NO_PATH, scope="storage.read"),
    service("path-empty", NO_PATH, scope="storage.read:"),
    service("path-with-a-host", NOT_ITS_OWN, scope="storage.read://evil.example/lake/cms"),
    service("path-neighbour", NOT_ITS_OWN, scope="storage.read:/lake/cmsx"),
    service("path-neighbour-with-two-slashes", NOT_ITS_OWN, scope="storage.read://lake//cmsx"),
    service("path-escaped-twice", NOT_ITS_OWN, scope=f"{CMS}%252f"),
    service("path-other-case", NOT_ITS_OWN, scope="storage.read:/lake/CMS"),
    service("path-look-alike", NOT_ITS_OWN, scope="storage.read:/lake/%D1%81ms"),
    # Other scopes
    service("scope-other-capability", NOT_ITS_OWN, scope="storage.modify:/lake/cms"),
    service("scope-other-case", NOT_ITS_OWN, scope="Storage.Read:/lake/cms"),
    service("scope-unknown-capability", NOT_ITS_OWN, scope="storage.write:/lake/cms"),
    service(
        "scope-compute-with-a-path",
        "400 invalid_scope a compute scope with a path; expected compute.read",
        scope="compute.read:/x",
    ),
    service("scope-quote", NO_SCOPE, scope='open"id'),
    service("scope-backslash", NO_SCOPE, scope="open\\id"),
    service("scope-tab", CONTROL, scope="openid\tprofile"),
    service("scope-line-break", CONTROL, scope="openid\r\nX-Header: 1"),
    service("scope-full-width", NO_SCOPE, scope="\uff4fpenid"),
    service("scope-no-width", CONTROL, scope="open\u200bid"),
    service("scope-administration", NOT_ITS_OWN, scope="scim:write iam:admin.write"),
    service("scope-everything", NOT_ITS_OWN, scope="*"),
    service("scope-group-malformed", NO_GROUP, scope="wlcg.groups:/escape/../cms"),
    service("scope-group-empty", NO_GROUP, scope="wlcg.groups:"),
    service("scope-host-of-others", NOT_ITS_OWN, scope="host.auth"),
    # Audiences
    service("audience-everybody", EVERYBODY, audience="https://wlcg.cern.ch/jwt/v1/any"),
    service("audience-everybody-among-others", EVERYBODY, audience="rucio https://wlcg.cern.ch/jwt/v1/any"),
    service("audience-quote", BAD_AUDIENCE, audience='a"b'),
    service("audience-not-ascii", BAD_AUDIENCE, audience="b\u00fccher"),
    service("audience-line-break", CONTROL, audience="a\nb"),
    service("audience-long", BAD_AUDIENCE, audience="x" * 256),
    service("audience-many", BAD_AUDIENCE, audience=" ".join(map(str, range(65)))),
    token(
        "bounded",
        "audience-not-in-the-list",
        "400 invalid_target The client may not ask for tokens for 127.0.2.11",
        {"grant_type": "client_credentials", "audience": "127.0.2.11"},
    ),
    token(
        "bounded",
        "audience-one-not-in-the-list",
        "400 invalid_target The client may not ask for tokens for other",
        "grant_type=client_credentials&audience=rucio&audience=other",
    ),
    # Grants and parameters
    token("plain", "grant-none", NO_GRANT, {}),
    token("plain", "grant-empty", NO_GRANT, {"grant_type": ""}),
    token("plain", "grant-unknown", NO_GRANT, {"grant_type": "implicit"}),
    token("plain", "grant-password", NO_GRANT, {"grant_type": "password", "username": "bob", "password": "x"}),
    token("plain", "grant-assertion", NO_GRANT, {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer"}),
    token("plain", "grant-other-case", NO_GRANT, {"grant_type": "Client_Credentials"}),
    token("plain", "grant-quotes", "400 invalid_request Malformed grant_type", {"grant_type": '"\\'}),
    token(
        "plain",
        "grant-not-allowed",
        "400 unauthorized_client The client is not authorized to use 'grant_type=refresh_token'",
        {**REFRESHED, "refresh_token": "x"},
    ),
    token(
        "plain",
        "grant-twice",
        "400 invalid_request Multiple values of parameter grant_type",
        "grant_type=client_credentials&grant_type=password",
    ),
    token(
        "plain",
        "scope-twice",
        "400 invalid_request Multiple values of parameter scope",
        "grant_type=client_credentials&scope=openid&scope=storage.read:/",
    ),
    token(
        "plain",
        "client-twice",
        "400 invalid_request Multiple values of parameter client_id",
        "grant_type=client_credentials&client_id=plain&client_id=rucio",
    ),
    token("browser", "grant-of-services", NO_CLIENT, {"grant_type": "client_credentials"}),
    # Clients
    token("", "client-none", NO_CLIENT, {"grant_type": "client_credentials"}),
    token("", "client-unknown", NO_CLIENT, {"grant_type": "client_credentials", "client_id": "nobody"}),
    token("", "client-without-its-secret", NO_CLIENT, {"grant_type": "client_credentials", "client_id": "plain"}),
    token("", "client-empty-secret", NO_CLIENT, "grant_type=client_credentials&client_id=plain&client_secret="),
    token("", "client-wrong-secret", NO_CLIENT, "grant_type=client_credentials&client_id=plain&client_secret=wrong"),
    token(
        "",
        "client-secret-of-others",
        NO_CLIENT,
        "grant_type=client_credentials&client_id=plain&client_secret=secret-of-rucio",
    ),
    token("", "client-nul", CONTROL, {"grant_type": "client_credentials", "client_id": "plain\0"}),
    token("", "client-sql", NO_CLIENT, {"grant_type": "client_credentials", "client_id": "' OR 1=1 --"}),
    basic("basic-not-base64", NO_CLIENT, "Basic !!!"),
    basic("basic-empty", NO_CLIENT, "Basic"),
    basic("basic-no-colon", NO_CLIENT, "Basic cGxhaW4="),
    basic("basic-nul", NO_CLIENT, "Basic cGxhaW4AOng="),
    basic("bearer-at-the-token-endpoint", NO_CLIENT, "Bearer {access}"),
    # Codes
    token("browser", "code-unknown", NO_CODE, {**CODE, "code": "x"}),
    token("browser", "code-missing", "400 invalid_request Missing 'code' in request.", CODE),
    token("browser", "code-replayed", NO_CODE, {**CODE, "code": "{used_code}"}),
    token("browser", "code-expired", NO_CODE, {**CODE, "code": "{expired_code}"}),
    token("rucio", "code-of-another-client", NO_CODE, {**CODE, "code": "{code}"}),
    token(
        "browser",
        "code-other-redirect",
        "400 invalid_grant Invalid 'redirect_uri' in request.",
        {**CODE, "code": "{code}", "redirect_uri": f"{CALLBACK}/"},
    ),
    token(
        "browser",
        "code-no-redirect",
        "400 invalid_grant Invalid 'redirect_uri' in request.",
        {**CODE, "code": "{code}", "redirect_uri": ""},
    ),
    token(
        "browser",
        "pkce-missing",
        "400 invalid_request Missing 'code_verifier'",
        {**CODE, "code": "{code}", "code_verifier": ""},
    ),
    token(
        "browser",
        "pkce-wrong",
        "400 invalid_grant Code challenge failed.",
        {**CODE, "code": "{code}", "code_verifier": "y" * 43},
    ),
    token(
        "browser",
        "pkce-the-challenge-itself",
        "400 invalid_grant Code challenge failed.",
        {**CODE, "code": "{code}", "code_verifier": "{challenge}"},
    ),
    token("browser", "pkce-short", NO_VERIFIER, {**CODE, "code": "{code}", "code_verifier": "short"}),
    token("browser", "pkce-long", NO_VERIFIER, {**CODE, "code": "{code}", "code_verifier": "y" * 129}),
    token("browser", "pkce-strange-characters", NO_VERIFIER, {**CODE, "code": "{code}", "code_verifier": "!" * 43}),
    # Refresh tokens
    token("boathouse", "refresh-missing", "400 invalid_request Missing 'refresh_token' in request.", REFRESHED),
    token("boathouse", "refresh-unknown", "400 invalid_grant", {**REFRESHED, "refresh_token": "x"}),
    token("boathouse", "refresh-with-an-access-token", "400 invalid_grant", {**REFRESHED, "refresh_token": "{access}"}),
    token("boathouse", "refresh-revoked", "400 invalid_grant", {**REFRESHED, "refresh_token": "{revoked_refresh}"}),
    token("boathouse", "refresh-expired", "400 invalid_grant", {**REFRESHED, "refresh_token": "{expired_refresh}"}),
    token("browser", "refresh-of-another-client", "400 invalid_grant", {**REFRESHED, "refresh_token": "{refresh}"}),
    token(
        "boathouse",
        "refresh-wider",
        "400 invalid_scope A scope was asked for that the refresh token does not cover",
        {**REFRESHED, "refresh_token": "{refresh}", "scope": "storage.modify:/"},
    ),
    token("boathouse", "refresh-dot-dot", NO_DOTS, {**REFRESHED, "refresh_token": "{refresh}", "scope": f"{CMS}/.."}),
    token("boathouse", "refresh-for-everybody", EVERYBODY, {**REFRESHED, "refresh_token": "{refresh}", "aud": ANY}),
    # Device codes
    token(
        "boathouse", "device-missing", "400 invalid_request Missing 'device_code' in payload", {"grant_type": DEVICE}
    ),
    token(
        "boathouse",
        "device-unknown",
        "400 invalid_grant Unknown device code",
        {"grant_type": DEVICE, "device_code": "x"},
    ),
    token(
        "boathouse",
        "device-waiting",
        "400 authorization_pending",
        {"grant_type": DEVICE, "device_code": "{device_code}"},
    ),
    token(
        "boathouse",
        "device-with-the-user-code",
        "400 invalid_grant Unknown device code",
        {"grant_type": DEVICE, "device_code": "{user_code}"},
    ),
    token(
        "boathouse",
        "device-refused",
        "400 access_denied The resource owner or authorization server denied the request",
        {"grant_type": DEVICE, "device_code": "{refused_device}"},
    ),
    token(
        "boathouse", "device-expired", "400 expired_token", {"grant_type": DEVICE, "device_code": "{expired_device}"}
    ),
    token(
        "bounded",
        "device-of-another-client",
        "400 unauthorized_client",
        {"grant_type": DEVICE, "device_code": "{device_code}"},
    ),
    at(
        "/devicecode",
        "browser",
        "device-client-without-the-grant",
        "400 unauthorized_client The client is not authorized to use device codes",
        scope="openid",
    ),
    at(
        "/devicecode",
        "nobody",
        "device-client-unknown",
        "400 invalid_client The client does not exist on this server.",
        scope="openid",
    ),
    at(
        "/devicecode",
        "boathouse",
        "device-scope-malformed",
        "400 invalid_scope not a path that a scope can carry; expected an absolute path",
        scope="storage.read:x",
    ),
    at("/devicecode", "boathouse", "device-scope-of-administrators", NOT_ITS_OWN, scope="scim:read"),
    at(
        "/devicecode",
        "boathouse",
        "device-scope-long",
        "400 invalid_scope The scope is too long",
        scope=" ".join(f"{CMS}/{n}" for n in range(400)),
    ),
    at("/devicecode", "boathouse", "device-for-everybody", EVERYBODY, scope="openid", audience=ANY),
    Case(
        "device-page-wrong-code",
        "400 No device waits with this code. It may have expired: start again on the device.",
        "GET",
        "/device?user_code=ABCD-EFGH",
        login="bob",
    ),
    Case("device-page-foreign-form", FOREIGN_FORM, "POST", "/device", login="bob", body="user_code=ABCD-EFGH&csrf=x"),
    # Exchange
    exchange("no-subject", NO_LIVE_TOKEN, subject_token=""),
    exchange("no-type", "400 invalid_request Only access tokens can be exchanged", subject_token_type=""),
    exchange(
        "refresh-token-type",
        "400 invalid_request Only access tokens can be exchanged",
        subject_token="{refresh}",
        subject_token_type=REFRESH,
    ),
    exchange("refresh-token-as-access-token", NO_LIVE_TOKEN, subject_token="{refresh}"),
    exchange("identity-token", NO_LIVE_TOKEN, subject_token="{identity}"),
    exchange("wants-a-refresh-token", "400 invalid_request Only access tokens are given", requested_token_type=REFRESH),
    exchange(
        "actor-token",
        "400 invalid_request The actor is the client; actor_token is not supported",
        actor_token="{access}",
        actor_token_type=ACCESS,
    ),
    exchange("unsigned", NO_LIVE_TOKEN, subject_token="{unsigned}"),
    exchange("empty-signature", NO_LIVE_TOKEN, subject_token="{empty_signature}"),
    exchange("symmetric", NO_LIVE_TOKEN, subject_token="{symmetric}"),
    exchange("foreign-key", NO_LIVE_TOKEN, subject_token="{foreign_key}"),
    exchange("other-payload", NO_LIVE_TOKEN, subject_token="{other_payload}"),
    exchange("expired", NO_LIVE_TOKEN, subject_token="{expired}"),
    exchange("other-issuer", NO_LIVE_TOKEN, subject_token="{other_issuer}"),
    exchange("revoked", NO_LIVE_TOKEN, subject_token="{revoked}"),
    exchange(
        "not-for-this-client",
        "400 unauthorized_client The client may not exchange tokens of the client that this one is for",
        subject_token="{of_bounded}",
    ),
    exchange(
        "wider",
        "400 invalid_scope None of the scopes is covered by the subject token and the client",
        scope="storage.modify:/lake/cms",
    ),
    exchange("dot-dot", NO_DOTS, scope=f"{CMS}/../magic"),
    exchange(
        "of-others",
        "400 invalid_scope None of the scopes is covered by the subject token and the client",
        scope="storage.read:/lake/magic",
    ),
    exchange("for-everybody", EVERYBODY, audience=ANY),
    token("boathouse", "exchange-by-a-public-client", NO_CLIENT, {"grant_type": EXCHANGE, "subject_token": "x"}),
    # Userinfo and introspection: tokens that are not live ones of ours
    Case("userinfo-nobody", NO_TOKEN, "GET", "/userinfo"),
    bearer("userinfo-no-token", NO_TOKEN, "Bearer"),
    bearer("userinfo-nonsense", NO_TOKEN, "Bearer x"),
    bearer("userinfo-basic", NO_TOKEN, "Basic e2FjY2Vzc306eA=="),
    bearer("userinfo-unsigned", NO_TOKEN, "Bearer {unsigned}"),
    bearer("userinfo-symmetric", NO_TOKEN, "Bearer {symmetric}"),
    bearer("userinfo-foreign-key", NO_TOKEN, "Bearer {foreign_key}"),
    bearer("userinfo-other-payload", NO_TOKEN, "Bearer {other_payload}"),
    bearer("userinfo-expired", NO_TOKEN, "Bearer {expired}"),
    bearer("userinfo-other-issuer", NO_TOKEN, "Bearer {other_issuer}"),
    bearer("userinfo-identity-token", NO_TOKEN, "Bearer {identity}"),
    bearer("userinfo-refresh-token", NO_TOKEN, "Bearer {refresh}"),
    bearer("userinfo-revoked", NO_TOKEN, "Bearer {revoked}"),
    bearer("userinfo-without-openid", "403 insufficient_scope", "Bearer {without_openid}"),
    Case("userinfo-token-in-the-query", NO_TOKEN, "GET", "/userinfo?access_token={access}"),
    at("/introspect", "boathouse", "introspect-public-client", NO_CLIENT, token="x"),
    at("/introspect", "plain", "introspect-no-token", "400 invalid_request Missing token"),
    at("/introspect", "", "introspect-nobody", NO_CLIENT, token="{access}"),
    at("/revoke", "boathouse", "revoke-no-token", "400 invalid_request Missing token"),
    at(
        "/revoke",
        "",
        "revoke-nobody",
        f"{NO_CLIENT[:-1]}, 'none')",
        token="{access}",
    ),
    at("/revoke", "rucio", "revoke-of-another-client", "400 invalid_grant", token="{access}"),
    # The authorization page
    authorization("no-client", f"{WRONG} Missing 'client_id' parameter.", client_id=""),
    authorization("unknown-client", f"{WRONG} The client does not exist on this server.", client_id="nobody"),
    authorization("client-nul", f"{WRONG} A parameter holds a control character", client_id="browser\0"),
    authorization(
        "redirect-other-path",
        f"{WRONG} Redirect URI https://localhost:20499/callback/x is not supported by client.",
        redirect_uri=f"{CALLBACK}/x",
    ),
    authorization(
        "redirect-query",
        f"{WRONG} Redirect URI https://localhost:20499/callback?x=1 is not supported by client.",
        redirect_uri=f"{CALLBACK}?x=1",
    ),
    authorization(
        "redirect-fragment",
        f"{WRONG} Redirect URI https://localhost:20499/callback#x is not supported by client.",
        redirect_uri=f"{CALLBACK}#x",
    ),
    authorization(
        "redirect-other-case",
        f"{WRONG} Redirect URI HTTPS://LOCALHOST:20499/CALLBACK is not supported by client.",
        redirect_uri=CALLBACK.upper(),
    ),
    authorization(
        "redirect-dot-dot",
        f"{WRONG} Redirect URI https://localhost:20499/callback/../callback is not supported by client.",
        redirect_uri=f"{CALLBACK}/../callback",
    ),
    authorization(
        "redirect-user",
        f"{WRONG} Redirect URI https://localhost:20499@evil.example/callback is not supported by client.",
        redirect_uri="https://localhost:20499@evil.example/callback",
    ),
    authorization(
        "redirect-backslash",
        f"{WRONG} Malformed redirect_uri",
        redirect_uri="https://evil.example\\@localhost:20499/callback",
    ),
    authorization(
        "redirect-other-port",
        f"{WRONG} Redirect URI https://localhost:20500/callback is not supported by client.",
        redirect_uri="https://localhost:20500/callback",
    ),
    authorization(
        "redirect-plain-http",
        f"{WRONG} Redirect URI http://localhost:20499/callback is not supported by client.",
        redirect_uri="http://localhost:20499/callback",
    ),
    authorization(
        "redirect-line-break",
        f"{WRONG} A parameter holds a control character",
        redirect_uri=f"{CALLBACK}\r\nX-Header: 1",
    ),
    authorization(
        "redirect-script",
        f"{WRONG} Redirect URI javascript:alert(1) is not supported by client.",
        redirect_uri="javascript:alert(1)",
    ),
    authorization(
        "redirect-twice",
        f"{WRONG} Multiple values of parameter redirect_uri",
        more="&redirect_uri=https://evil.example",
    ),
    authorization("client-twice", f"{WRONG} Multiple values of parameter client_id", more="&client_id=rucio"),
    authorization("state-twice", f"{WRONG} Multiple values of parameter state", more="&state=b"),
    authorization("token-response", "302 unsupported_response_type token", response_type="token"),
    authorization("no-response-type", "302 unsupported_response_type", response_type=""),
    authorization("two-response-types", "302 unsupported_response_type code token", response_type="code token"),
    authorization(
        "pkce-none",
        "302 invalid_request A public client must send a code_challenge",
        code_challenge="",
        code_challenge_method="",
    ),
    authorization(
        "pkce-plain", "302 invalid_request Unsupported 'code_challenge_method'", code_challenge_method="plain"
    ),
    authorization(
        "pkce-no-method", "302 invalid_request Only code_challenge_method S256 is supported", code_challenge_method=""
    ),
    authorization(
        "pkce-unknown-method", "302 invalid_request Unsupported 'code_challenge_method'", code_challenge_method="S512"
    ),
    authorization("pkce-short", BACK_NO_CHALLENGE, code_challenge="short"),
    authorization("pkce-long", BACK_NO_CHALLENGE, code_challenge="x" * 129),
    authorization("pkce-padded", BACK_NO_CHALLENGE, code_challenge="x" * 42 + "="),
    authorization("scope-malformed", BACK_NO_SCOPE, scope="storage.read"),
    authorization("scope-of-others", BACK_NO_SCOPE, scope="fts"),
    authorization("scope-dot-dot", BACK_NO_SCOPE, scope=f"{CMS}/%2e%2e"),
    authorization(
        "for-everybody",
        "302 invalid_target The audience must be named; a token for everybody is not given",
        audience=ANY,
    ),
    authorization("prompt-none-signed-out", "302 login_required", login="", prompt="none"),
    authorization("prompt-none-and-more", "302 invalid_request Invalid 'prompt' parameter.", prompt="none login"),
    authorization("prompt-none-unconsented", "302 consent_required", prompt="none", scope="openid email"),
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
    raw(
        "register-surrogate",
        f"{NO_METADATA} Wrong type, value or length: client_name",
        b'{"redirect_uris": ["https://a/"], "client_name": "\\ud800"}',
        JSON,
        REGISTRATION,
    ),
    raw(
        "register-nul",
        f"{NO_METADATA} Wrong type, value or length: software_id",
        b'{"redirect_uris": ["https://a/"], "software_id": "\\u0000"}',
        JSON,
        REGISTRATION,
    ),
    Case("configuration-nul", NO_TOKEN, "DELETE", f"{REGISTRATION}/x%00"),
    Case("configuration-nobody", NO_TOKEN, "GET", f"{REGISTRATION}/x"),
    bearer("configuration-unknown", NO_TOKEN, "Bearer x", f"{REGISTRATION}/x"),
    bearer("configuration-of-a-client-of-the-seed", NO_TOKEN, "Bearer x", f"{REGISTRATION}/rucio"),
    bearer("configuration-with-an-access-token", NO_TOKEN, "Bearer {access}", f"{REGISTRATION}/boathouse", "DELETE"),
    # Bodies, headers, methods
    raw("body-not-ascii", "400 invalid_request The parameters are malformed: UnicodeDecodeError", b"\xff\xfe"),
    raw(
        "body-not-utf-8",
        "400 invalid_request The parameters are malformed: UnicodeDecodeError",
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
