"""Errors of administration as HTTP replies, and their lines in the audit log."""

from __future__ import annotations

from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from boathouse.errors import AuthError, BoathouseError, ConflictError, InputError, NotFoundError, StateError

ERROR_SCHEMA = "urn:ietf:params:scim:api:messages:2.0:Error"
SCIM_JSON = "application/scim+json"
_STATUS = {InputError: 400, AuthError: 403, NotFoundError: 404, ConflictError: 409, StateError: 409}
_TYPES = {400: "invalidValue", 409: "uniqueness"}


def reply(http: HttpRequest, error: BoathouseError) -> Response:
    """The reply that an error means; for SCIM in its own form (RFC 7644, 3.12)."""
    status = _STATUS.get(type(error), 500)
    if http.url.path.startswith("/scim/"):
        document = {"schemas": [ERROR_SCHEMA], "status": str(status), "detail": str(error)}
        if status in _TYPES:
            document["scimType"] = _TYPES[status]
        return JSONResponse(document, status, media_type=SCIM_JSON)
    kept = {key: value for key, value in error.as_dict().items() if value is not None}
    return JSONResponse(kept, status)
