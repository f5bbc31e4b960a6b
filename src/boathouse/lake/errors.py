"""Rucio's exceptions, as they come over the wire, mapped to ours by one table."""

from __future__ import annotations

import json
from collections.abc import Mapping

from boathouse.errors import (
    AuthError,
    BoathouseError,
    CatalogueError,
    ConflictError,
    InputError,
    NotFoundError,
    ServiceError,
)

_LOGIN = "boathouse login"

# Name of Rucio's exception -> our error and the remedy. Names that are missing here become CatalogueError.
_TABLE: Mapping[str, tuple[type[BoathouseError], str | None]] = {
    "AccessDenied": (AuthError, "ask a manager of the scope's group, or log in as somebody else: boathouse login"),
    "AccountNotFound": (NotFoundError, None),
    "CannotAuthenticate": (AuthError, _LOGIN),
    "CannotAuthorize": (AuthError, _LOGIN),
    "DataIdentifierAlreadyExists": (ConflictError, None),
    "DataIdentifierNotFound": (NotFoundError, "boathouse ls SCOPE, to see what there is"),
    "Duplicate": (ConflictError, None),
    "DuplicateContent": (ConflictError, None),
    "DuplicateRule": (ConflictError, "boathouse rule list DID, to see the rule that is there"),
    "FileAlreadyExists": (ConflictError, None),
    "FileConsistencyMismatch": (ConflictError, "give the new file another name"),
    "FileReplicaAlreadyExists": (ConflictError, None),
    "InsufficientAccountLimit": (CatalogueError, "free quota: boathouse rule list, boathouse rule remove ID"),
    "InsufficientTargetRSEs": (CatalogueError, "ask for fewer copies, or widen the RSE expression"),
    "InvalidMetadata": (InputError, None),
    "InvalidObject": (InputError, None),
    "InvalidRSEExpression": (InputError, "boathouse ls --rses, to see the RSEs and their attributes"),
    "InvalidReplicationRule": (InputError, None),
    "InputValidationError": (InputError, None),
    "KeyNotFound": (NotFoundError, None),
    "ReplicaNotFound": (NotFoundError, None),
    "RSENotFound": (NotFoundError, "boathouse ls --rses, to see the RSEs"),
    "RSEOverQuota": (CatalogueError, "free quota: boathouse rule list, boathouse rule remove ID"),
    "RSEWriteBlocked": (CatalogueError, "the RSE takes no writes at present: choose another"),
    "RuleNotFound": (NotFoundError, "boathouse rule list, to see the rules"),
    "ScopeNotFound": (NotFoundError, "boathouse ls, to see the scopes"),
    "ServiceUnavailable": (ServiceError, "boathouse status"),
    "DatabaseException": (ServiceError, "boathouse status"),
}


def from_response(status: int, headers: Mapping[str, str], body: bytes, *, where: str) -> BoathouseError:
    """The error that a refusal of the catalogue means.

    Args:
        status: HTTP status, not 2xx.
        headers: of the response; ``ExceptionClass`` and ``ExceptionMessage`` are Rucio's.
        body: of the response; JSON with the same two keys, or anything.
        where: the request, for the message.
    """
    details: dict[str, object] = {}
    try:
        parsed = json.loads(body)
        if isinstance(parsed, dict):
            details = parsed
    except ValueError:
        details = {}
    name = str(details.get("ExceptionClass") or headers.get("ExceptionClass") or "")
    message = str(details.get("ExceptionMessage") or headers.get("ExceptionMessage") or f"HTTP status {status}")
    first_line = message.strip().splitlines()[0] if message.strip() else f"HTTP status {status}"
    if name in _TABLE:
        kind, remedy = _TABLE[name]
        return kind(f"the catalogue says: {_plain(first_line)}", got=name, where=where, remedy=remedy)
    if status == 401:
        return AuthError("the catalogue refused the token", got=name or first_line, where=where, remedy=_LOGIN)
    if status >= 500:
        return ServiceError(f"the catalogue failed: {first_line}", got=name, where=where, remedy="boathouse status")
    return CatalogueError(f"the catalogue says: {first_line}", got=name or f"HTTP status {status}", where=where)


def _plain(message: str) -> str:
    """Rucio's sentence in our form: no database module name in front, no full stop at the end."""
    if message.startswith("(psycopg.errors."):
        return "it exists already"
    return message.strip().rstrip(".")
