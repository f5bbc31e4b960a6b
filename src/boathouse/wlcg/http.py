"""HTTPS to an issuer: certificates always verified, sizes bounded, errors in our own terms."""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import urllib3

from boathouse.errors import ServiceError

_LIMIT_BYTES = 1 << 20
_TIMEOUT = urllib3.Timeout(connect=3.0, read=10.0)
# A connection that the server closed while it idled is no outage: one more attempt opens a new one.
_RETRIES = urllib3.Retry(total=1, backoff_factor=0.1, allowed_methods=None, redirect=0, raise_on_status=False)


def pool(ca_file: Path | None) -> urllib3.PoolManager:
    """Connections that trust the CAs in ``ca_file`` (PEM), or those of the host if there is none given."""
    context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    return urllib3.PoolManager(ssl_context=context, timeout=_TIMEOUT, retries=_RETRIES, maxsize=8)


def request_json(
    connections: urllib3.PoolManager,
    method: str,
    url: str,
    *,
    form: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: urllib3.Timeout = _TIMEOUT,
) -> tuple[int, dict[str, Any], Mapping[str, str]]:
    """One request whose answer is a JSON object.

    Returns:
        Status, object (empty if the body is none), response headers.

    Raises:
        ServiceError: the server cannot be reached or its certificate is not trusted, or the answer is too long.
    """
    if not url.startswith("https://"):
        raise ServiceError("an issuer is only ever asked over TLS", expected="https://…", got=url)
    sent = {"Accept": "application/json", **(headers or {})}
    if form is not None:
        sent["Content-Type"] = "application/x-www-form-urlencoded"
    body = urlencode(form) if form is not None else None
    try:
        response = connections.request(method, url, body=body, headers=sent, timeout=timeout, preload_content=False)
        answer = response.read(_LIMIT_BYTES + 1)
        response.release_conn()
    except urllib3.exceptions.HTTPError as error:
        raise ServiceError("the issuer cannot be reached", got=str(error), where=url) from error
    if len(answer) > _LIMIT_BYTES:
        raise ServiceError("the issuer's answer is too long", expected=f"{_LIMIT_BYTES} bytes at most", where=url)
    try:
        document = json.loads(answer)
    except ValueError:
        document = None
    return response.status, document if isinstance(document, dict) else {}, response.headers


def discover(connections: urllib3.PoolManager, issuer: str) -> dict[str, Any]:
    """The issuer's metadata (OpenID Connect Discovery 1.0, section 4).

    Raises:
        ServiceError: it cannot be fetched, or it speaks for another issuer.
    """
    # An issuer may end with a slash, and is not the same without it.
    url = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
    status, document, _ = request_json(connections, "GET", url)
    if status != 200 or document.get("issuer") != issuer:
        raise ServiceError(
            "this is not the metadata of the issuer",
            expected=f"issuer {issuer}",
            got=f"status {status}, issuer {document.get('issuer')}",
            where=url,
        )
    return document
