from __future__ import annotations

import json

import pytest

from boathouse.errors import (
    AuthError,
    BoathouseError,
    CatalogueError,
    ConflictError,
    InputError,
    NotFoundError,
    ServiceError,
)
from boathouse.lake.errors import from_response


@pytest.mark.parametrize(
    ("name", "status", "kind"),
    [
        ("DataIdentifierNotFound", 404, NotFoundError),
        ("RSENotFound", 404, NotFoundError),
        ("RuleNotFound", 404, NotFoundError),
        ("DataIdentifierAlreadyExists", 409, ConflictError),
        ("DuplicateRule", 409, ConflictError),
        ("FileConsistencyMismatch", 412, ConflictError),
        ("InvalidRSEExpression", 400, InputError),
        ("AccessDenied", 401, AuthError),
        ("CannotAuthenticate", 401, AuthError),
        ("InsufficientAccountLimit", 409, CatalogueError),
        ("SomethingNew", 409, CatalogueError),
        ("SomethingNew", 500, ServiceError),
    ],
)
def test_a_name_of_the_catalogue_is_a_kind_of_ours(name: str, status: int, kind: type[BoathouseError]) -> None:
    body = json.dumps({"ExceptionClass": name, "ExceptionMessage": "A reason.\nAnd more."}).encode()
    error = from_response(status, {}, body, where="GET url")
    assert type(error) is kind
    assert error.got == name
    assert "eason" in error.what
    assert "\n" not in error.what
    assert error.where == "GET url"


def test_the_headers_tell_where_the_body_does_not() -> None:
    headers = {"ExceptionClass": "RSENotFound", "ExceptionMessage": "no such RSE"}
    assert isinstance(from_response(404, headers, b"", where="x"), NotFoundError)
    assert isinstance(from_response(404, headers, b"<html>", where="x"), NotFoundError)


def test_no_database_module_reaches_the_user() -> None:
    body = {"ExceptionClass": "DuplicateRule", "ExceptionMessage": "(psycopg.errors.UniqueViolation) duplicate key"}
    error = from_response(409, {}, json.dumps(body).encode(), where="x")
    assert "psycopg" not in str(error)


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff\xfe", b"not json"])
def test_an_answer_that_is_not_the_catalogues_is_still_an_error(body: bytes) -> None:
    assert isinstance(from_response(401, {}, body, where="x"), AuthError)
    assert isinstance(from_response(503, {}, body, where="x"), ServiceError)
