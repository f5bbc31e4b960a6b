"""How a confidential client proves itself by HTTP Basic (RFC 6749, 2.3.1)."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Protocol
from urllib.parse import unquote_plus

from boathouse.apps.tokens.persistence.records import Client


class _WithHeaders(Protocol):
    @property
    def headers(self) -> Mapping[str, str]: ...


def client_secret_basic(query_client: Callable[[str], Client | None], request: _WithHeaders) -> Client | None:
    """The client whose name and secret are in the header; None if they are not, or are wrong.

    The standard wants both form-encoded before they are joined, which many clients forget: either is accepted.
    """
    pair = _pair(request.headers.get("authorization", ""))
    if pair is None:
        return None
    for client_id, secret in (pair, (unquote_plus(pair[0]), unquote_plus(pair[1]))):
        client = query_client(client_id) if client_id.isprintable() else None
        if client is not None and client.check_client_secret(secret):
            return client
    return None


def _pair(header: str) -> tuple[str, str] | None:
    kind, _, encoded = header.partition(" ")
    if kind.lower() != "basic":
        return None
    try:
        text = base64.b64decode(encoded.strip(), validate=True).decode("utf-8")
    except ValueError:
        return None
    client_id, _, secret = text.partition(":")
    return client_id, secret
