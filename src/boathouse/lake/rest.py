"""Requests to the catalogue: the token header, JSON and JSON streams, its errors as ours."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode

import urllib3

from boathouse.lake.errors import from_response
from boathouse.lake.http import CONNECT_ONLY, PATIENT, Http
from boathouse.lake.names import Did

Json = dict[str, Any]


def did_path(did: Did) -> str:
    """``/scope/name`` for a URL, where slashes of the name are escaped: servers on the way may make one of two."""
    return f"/{quote(did.scope)}/{quote(did.name, safe='')}"


class Rest:
    """A Rucio server as plain requests; knows nothing of what they mean.

    Args:
        http: connections.
        url: of the server, without a final slash.
        token: gives the current bearer token, called for every request.
    """

    def __init__(self, http: Http, url: str, token: Callable[[], str]) -> None:
        self._http = http
        self._url = url.rstrip("/")
        self._token = token

    def call(
        self,
        method: str,
        path: str,
        document: Any = None,
        *,
        query: Mapping[str, str] | None = None,
        repeatable: bool = True,
        timeout_s: float = 120.0,
    ) -> Any:
        """One request; the answer's JSON, or its text where it is none.

        Raises:
            BoathouseError: the catalogue refused (:mod:`boathouse.lake.errors`) or did not answer.
        """
        response = self._send(method, path, document, query, repeatable=repeatable, timeout_s=timeout_s, stream=False)
        text = response.data.decode("utf-8", "replace")
        try:
            return json.loads(text) if text else None
        except ValueError:
            return text

    def lines(
        self, method: str, path: str, document: Any = None, *, query: Mapping[str, str] | None = None
    ) -> Iterator[Json]:
        """One request whose answer is a stream of JSON objects, one a line; yields them as they come.

        Raises:
            BoathouseError: as :meth:`call`; also when the stream breaks off.
        """
        response = self._send(method, path, document, query, repeatable=True, timeout_s=300.0, stream=True)
        try:
            rest = b""
            for block in response.stream(1 << 18):
                *whole, rest = (rest + block).split(b"\n")
                yield from (json.loads(line) for line in whole if line)
            if rest:
                yield json.loads(rest)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._http.unreachable(self._url, error) from error
        finally:
            response.release_conn()

    def _send(
        self,
        method: str,
        path: str,
        document: Any,
        query: Mapping[str, str] | None,
        *,
        repeatable: bool,
        timeout_s: float,
        stream: bool,
    ) -> urllib3.BaseHTTPResponse:
        url = self._url + path + (f"?{urlencode(query)}" if query else "")
        headers = {"X-Rucio-Auth-Token": self._token()}
        body = None
        if document is not None:
            body = json.dumps(document).encode()
            headers["Content-Type"] = "application/json"
        response = self._http.request(
            method,
            url,
            headers=headers,
            body=body,
            retry=PATIENT if repeatable else CONNECT_ONLY,
            timeout_s=timeout_s,
            stream=stream,
        )
        if response.status >= 300:
            raise from_response(response.status, response.headers, response.data, where=f"{method} {url}")
        return response
