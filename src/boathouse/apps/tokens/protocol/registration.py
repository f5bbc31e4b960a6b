"""Programs that register themselves (RFC 7591) and look after their registration (RFC 7592).

Anybody may register, so a registration is worth little: no grant that works without a person, never more scopes and
audiences than the client of all people has, and a name that is only its own claim, which the pages say. One that
nobody uses is forgotten.
"""

from __future__ import annotations

import hmac
import secrets
import unicodedata
import uuid
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from authlib.oauth2.base import OAuth2Error
from authlib.oauth2.rfc6749.errors import InvalidRequestError
from authlib.oauth2.rfc7591 import InvalidClientMetadataError, InvalidRedirectURIError
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from starlette.responses import JSONResponse, Response

from boathouse.apps.tokens.passwords import fingerprint, random_token
from boathouse.apps.tokens.persistence.records import CODE, REFRESH, Client, Registration
from boathouse.apps.tokens.protocol import redirects
from boathouse.apps.tokens.protocol.grants import PUBLIC
from boathouse.apps.tokens.texts import json_object
from boathouse.apps.tokens.web import Call
from boathouse.errors import InputError
from boathouse.wlcg.scopes import format_scopes, narrow, parse
from boathouse.wlcg.urns import DEVICE_GRANT

PATH = "/iam/api/client-registration"
"""Where INDIGO IAM has it."""

_AUTH_METHOD = "token_endpoint_auth_method"
_GRANTS = (CODE, REFRESH, DEVICE_GRANT)
_DEFAULT_SCOPE = "openid profile"
_FIXED = ("registration_access_token", "registration_client_uri", "client_secret_expires_at", "client_id_issued_at")


def _printable(text: str) -> str:
    if not text.isprintable():
        message = "a control character"
        raise ValueError(message)
    return text


_Text = Annotated[str, AfterValidator(_printable)]
_Short = Annotated[_Text, Field(max_length=255)]
_Url = Annotated[_Text, Field(max_length=2000)]


class _RefusedError(OAuth2Error):  # type: ignore[misc]
    """Nobody may register, or not now."""

    def __init__(self, status: int, error: str, description: str) -> None:
        super().__init__(description=description, status_code=status)
        self.error = error


class Metadata(BaseModel):
    """What a program says of itself (RFC 7591, 2). Members that mean nothing to us are let go."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    redirect_uris: Annotated[list[_Url], Field(max_length=20)] = []
    token_endpoint_auth_method: Literal["client_secret_basic", "client_secret_post", "none"] = "client_secret_basic"  # noqa: S105 - a name
    grant_types: Annotated[list[_Short], Field(min_length=1, max_length=10)] = [CODE]
    response_types: Annotated[list[_Short], Field(max_length=10)] = ["code"]
    client_name: Annotated[_Text, Field(max_length=100)] = ""
    client_uri: _Url = ""
    contacts: Annotated[list[_Short], Field(max_length=10)] = []
    scope: Annotated[_Text, Field(max_length=4096)] = ""
    software_id: _Short = ""
    software_version: _Short = ""


def register(call: Call) -> Response:
    """The registration endpoint (RFC 7591, 3)."""
    try:
        bound = _bound(call)
        metadata = _metadata(call, _document(call), bound)
        _admit(call)
    except OAuth2Error as error:
        call.server.sample("client.registration-refused", reason=f"{error.error}: {error.get_error_description()}")
        raise
    client_id, key = str(uuid.uuid4()), random_token()
    secret = None if metadata[_AUTH_METHOD] == PUBLIC else secrets.token_urlsafe(32)
    call.store.register_client(
        _row(client_id, metadata, bound) | {"secret_hash": call.issuer.hasher.hash(secret) if secret else None},
        token_hash=fingerprint(key),
        metadata=metadata,
        address=call.address,
        expires_at=call.store.now + call.issuer.settings.registration_unused_s,
    )
    call.server.audit(
        "client.registered", client=client_id, name=metadata["client_name"], scope=metadata["scope"][:2000]
    )
    reply = _information(call, client_id, metadata, call.store.now)
    reply |= {"client_secret": secret, "client_secret_expires_at": 0} if secret else {}
    return JSONResponse(reply | {"registration_access_token": key}, 201)


def manage(call: Call) -> Response:
    """The configuration endpoint of one client (RFC 7592, 2); the secret is not told again, for it is not kept."""
    client_id = call.http.path_params["client_id"]
    found = _authenticated(call, client_id)
    if found is None:
        call.server.sample("client.registration-refused", client=client_id, reason="wrong registration_access_token")
        challenge = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
        return JSONResponse({"error": "invalid_token"}, 401, challenge)
    if call.http.method == "DELETE":
        call.store.unregister_client(client_id, call.store.now + 3600)
        call.server.audit("client.unregistered", client=client_id)
        return Response(status_code=204)
    if call.http.method == "GET":
        return JSONResponse(_information(call, client_id, found.metadata, found.registered_at))
    bound = _bound(call)
    metadata = _updated(call, client_id, found.metadata, bound)
    call.store.update_registration(_row(client_id, metadata, bound), metadata)
    call.server.audit("client.registration-changed", client=client_id, scope=metadata["scope"][:2000])
    return JSONResponse(_information(call, client_id, metadata, found.registered_at))


def _bound(call: Call) -> Client:
    """The client whose scopes and audiences nobody exceeds who registers.

    Raises:
        _RefusedError: the issuer takes no registrations.
    """
    name = call.issuer.settings.registration_bound
    client = call.store.client(name) if name else None
    if client is None:
        raise _RefusedError(403, "access_denied", "This issuer takes no registrations")
    return client


def _admit(call: Call) -> None:
    settings = call.issuer.settings
    unused, recent = call.store.count_registrations(call.address)
    if unused >= settings.registrations_unused_at_most or recent >= settings.registrations_per_hour:
        raise _RefusedError(429, "temporarily_unavailable", "Too many registrations; try again in an hour")


def _document(call: Call) -> dict[str, Any]:
    """The JSON object of a request.

    Raises:
        InvalidRequestError: there is none.
    """
    try:
        document = json_object(call.body, call.http.headers.get("content-type", ""), ("application/json",))
    except InputError as error:
        raise InvalidRequestError(error.what[0].upper() + error.what[1:]) from error
    return {name: value for name, value in document.items() if value is not None}


def _metadata(call: Call, document: Mapping[str, Any], bound: Client) -> dict[str, Any]:
    """The metadata as they will be kept (RFC 7591, 3.2.1: what differs from the wish, the reply tells).

    Raises:
        InvalidClientMetadataError: a member is wrong.
        InvalidRedirectURIError: a redirect URI is.
    """
    try:
        metadata = Metadata.model_validate(document)
    except ValidationError as error:
        names = ", ".join(sorted({str(fault["loc"][0]) for fault in error.errors()}))
        raise InvalidClientMetadataError(f"Wrong type, value or length: {names}") from error
    for grant in metadata.grant_types:
        if grant not in _GRANTS:
            raise InvalidClientMetadataError(f"Allowed grant_types are {', '.join(_GRANTS)}")
    if CODE in metadata.grant_types and "code" not in metadata.response_types:
        raise InvalidClientMetadataError("The only response_type is code")
    if CODE in metadata.grant_types and not metadata.redirect_uris:
        raise InvalidRedirectURIError("The grant authorization_code needs redirect_uris")
    for uri in metadata.redirect_uris:
        if why := redirects.fault(uri):
            raise InvalidRedirectURIError(f"A redirect URI cannot be registered: {why}")
    kept = metadata.model_dump()
    kept |= {"client_name": _name(call, metadata.client_name), "response_types": ["code"]}
    kept["scope"] = _scope(metadata, bound)
    return kept


def _scope(metadata: Metadata, bound: Client) -> str:
    """What is left of the wished scopes; those beyond the bound are let go, as INDIGO IAM does."""
    try:
        left = format_scopes(narrow(bound.scopes, parse(metadata.scope or _DEFAULT_SCOPE)))
    except InputError as error:
        raise InvalidClientMetadataError("A scope is malformed") from error
    if not left:
        raise InvalidClientMetadataError("None of the scopes can be registered")
    return left


def _name(call: Call, name: str) -> str:
    """The name, if it is not that of a client which somebody vouches for."""
    text = unicodedata.normalize("NFKC", name).strip()
    if text and call.store.is_vouched_name(text):
        raise InvalidClientMetadataError("The client_name is that of another client")
    return text


def _updated(call: Call, client_id: str, before: Mapping[str, Any], bound: Client) -> dict[str, Any]:
    """The metadata that replace those of before (RFC 7592, 2.2)."""
    document = _document(call)
    if document.get("client_id") != client_id:
        raise InvalidRequestError("The client_id must be that of the registration")
    if any(name in document for name in _FIXED):
        raise InvalidRequestError(f"Not to be sent: {', '.join(_FIXED)}")
    client = call.store.client(client_id)
    if (secret := document.get("client_secret")) is not None and not (
        client and isinstance(secret, str) and client.check_client_secret(secret)
    ):
        raise InvalidRequestError("The client_secret is not the one that was given")
    metadata = _metadata(call, document, bound)
    if (metadata[_AUTH_METHOD] == PUBLIC) != (before[_AUTH_METHOD] == PUBLIC):
        raise InvalidClientMetadataError("A client does not become public or confidential later; register another")
    return metadata


def _authenticated(call: Call, client_id: str) -> Registration | None:
    kind, _, key = call.http.headers.get("authorization", "").partition(" ")
    found = call.store.registration(client_id) if kind.lower() == "bearer" and client_id.isprintable() else None
    if found is None or not hmac.compare_digest(found.token_hash, fingerprint(key.strip())):
        return None
    return found


def _row(client_id: str, metadata: Mapping[str, Any], bound: Client) -> dict[str, Any]:
    return {
        "client_id": client_id,
        "name": metadata["client_name"],
        "grants": list(metadata["grant_types"]),
        "scope": metadata["scope"],
        "redirect_uris": list(metadata["redirect_uris"]),
        "bounded_by": bound.client_id,
    }


def _information(call: Call, client_id: str, metadata: Mapping[str, Any], registered_at: int) -> dict[str, Any]:
    """The client information response (RFC 7591, 3.2.1); members without a value are left out."""
    return {
        "client_id": client_id,
        "client_id_issued_at": registered_at,
        "registration_client_uri": f"{call.issuer.settings.issuer}{PATH}/{client_id}",
        **{name: value for name, value in metadata.items() if value},
    }
