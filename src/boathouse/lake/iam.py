"""The issuer's administration as its clients see it: requests, and its errors as ours."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from boathouse.errors import (
    AuthError,
    BoathouseError,
    ConflictError,
    InputError,
    NotFoundError,
    ServiceError,
    StateError,
)
from boathouse.lake.http import CONNECT_ONLY, PATIENT, Http
from boathouse.lake.tokens import Issuer
from boathouse.plan.model import Endpoints
from boathouse.wlcg.verify import life_of

SCOPE = "iam:admin.read iam:admin.write scim:read scim:write"
_ERRORS = {400: InputError, 401: AuthError, 403: AuthError, 404: NotFoundError, 409: ConflictError}
_PAGE = 1000


class Iam:
    """Administration of an issuer of ours.

    Args:
        url: of the issuer.
        http: connections.
        token: gives a bearer token for the issuer itself with the scopes of :data:`SCOPE`.
        reason: written into the audit log with every change.
    """

    def __init__(self, url: str, http: Http, token: Callable[[], str], *, reason: str = "") -> None:
        self._url = url
        self._http = http
        self._token = token
        self._reason = reason

    @classmethod
    def operator(cls, endpoints: Endpoints, secret: Path, *, reason: str = "") -> Iam:
        """Administration as the facility's operator.

        Args:
            endpoints: of the facility.
            secret: file of the client secret, ``secrets/client-operator`` in the state directory.
            reason: written into the audit log with every change.

        Raises:
            AuthError: the secret cannot be read; only the facility's owner may.
        """
        http = Http(endpoints.ca_bundle)
        issuer = Issuer(endpoints.issuer, http)
        token = issuer.client(endpoints.operator_id, secret, audiences=(endpoints.issuer,), scope=SCOPE)
        return cls(endpoints.issuer, http, token, reason=reason)

    @property
    def token_life_s(self) -> float:
        """How long tokens of this issuer live, in seconds; all live as long as the one for administration."""
        return life_of(self._token())

    def call(self, method: str, path: str, document: Any = None, /, **query: str) -> Any:
        """One request.

        Args:
            method: of HTTP.
            path: below the issuer's URL, its parts already quoted; see :func:`part`.
            document: sent as JSON.
            query: parameters; empty ones are left out.

        Returns:
            The reply's JSON; None if it has none.

        Raises:
            BoathouseError: the issuer refused, with its own words, or does not answer.
        """
        if method != "GET" and self._reason:
            query["reason"] = self._reason
        kept = {name: value for name, value in query.items() if value != ""}
        url = f"{self._url}{path}{'?' + urlencode(kept) if kept else ''}"
        headers = {"Authorization": f"Bearer {self._token()}", "Accept": "application/json"}
        if document is not None:
            headers["Content-Type"] = "application/json"
        body = None if document is None else json.dumps(document).encode()
        retry = PATIENT if method == "GET" else CONNECT_ONLY
        response = self._http.request(method, url, headers=headers, body=body, retry=retry, timeout_s=300.0)
        reply = _json(response.data)
        if response.status >= 400:
            raise _error(response.status, reply, f"{self._url}{path}")
        return reply

    def every(self, path: str, /, **query: str) -> Iterator[dict[str, Any]]:
        """All resources of a list, page by page."""
        start = 1
        while True:
            reply = self.call("GET", path, startIndex=str(start), count=str(_PAGE), **query)
            yield from reply["Resources"]
            start += len(reply["Resources"])
            if start > reply["totalResults"] or not reply["Resources"]:
                return


def part(name: str) -> str:
    """A name as one part of a path."""
    return quote(name, safe="")


def _json(data: bytes) -> Any:
    try:
        return json.loads(data) if data else None
    except ValueError:
        return None


def _error(status: int, reply: Any, url: str) -> BoathouseError:
    said = reply if isinstance(reply, dict) else {}
    known = _ERRORS.get(status, ServiceError)
    if said.get("error") == StateError.__name__:
        known = StateError
    what = said.get("what") or said.get("detail") or said.get("error_description") or "the issuer failed"
    facts = {name: said.get(name) for name in ("expected", "got", "where", "remedy")}
    if not said:
        facts["got"] = f"HTTP status {status}"
    if facts["where"] is None:
        facts["where"] = url
    return known(str(what), **facts)
