"""What the catalogue (Rucio) says of files that caches keep: whose path it is, and the checksum."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import urllib3

from boathouse.apps.caches.settings import Settings
from boathouse.errors import AuthError, ServiceError
from boathouse.wlcg import http
from boathouse.wlcg.clientcred import ClientCredentials

_AUDIENCE = "rucio"
_SCOPE = "openid profile"
_BATCH = 500
_TIMEOUT = urllib3.Timeout(connect=5.0, read=120.0)
_NOT_DETERMINISTIC = "deterministic=False"

Did = tuple[str, str]


class Catalogue:
    """A Rucio server, asked as the facility's operator.

    Args:
        settings: of the service.
    """

    def __init__(self, settings: Settings) -> None:
        self._url = settings.catalogue.rstrip("/")
        self._prefixes = settings.prefixes
        self._pool = http.pool(settings.ca_file)
        self._client = ClientCredentials(settings.issuer, settings.client_id, settings.client_secret, settings.ca_file)

    def checksums(self, paths: Sequence[str]) -> dict[str, str]:
        """The adler32 of the files at these paths; those that it does not know are left out.

        Where a path follows from a name, as on deterministic elements, that is seen from the path itself; for all
        others the catalogue is asked which file is registered there.

        Raises:
            AuthError: the issuer or the catalogue refuses.
            ServiceError: one of them does not answer.
        """
        dids = {path: did for path in paths if (did := did_of(path, self._prefixes)) is not None}
        rest = [path for path in paths if path not in dids]
        dids |= self._registered(rest) if rest else {}
        known = self._known(set(dids.values()))
        return {path: known[did] for path, did in dids.items() if did in known}

    def _known(self, dids: Iterable[Did]) -> dict[Did, str]:
        found = {}
        for batch in _batches(sorted(dids)):
            body = {"dids": [{"scope": scope, "name": name} for scope, name in batch]}
            for line in self._lines("POST", "/dids/bulkmeta", body):
                if line.get("adler32"):
                    found[line["scope"], line["name"]] = str(line["adler32"])
        return found

    def _registered(self, paths: Sequence[str]) -> dict[str, Did]:
        """Files of elements that keep paths as they were registered, by path."""
        found: dict[str, Did] = {}
        for rse in self._lines("GET", f"/rses/?expression={_NOT_DETERMINISTIC}"):
            name = str(rse["rse"])
            about = next(iter(self._lines("GET", f"/rses/{name}")))
            bases = [
                f"{protocol['scheme']}://{protocol['hostname']}:{protocol['port']}" for protocol in about["protocols"]
            ]
            for batch in _batches(paths) if bases else ():
                urls = {f"{bases[0]}{path}": path for path in batch}
                for line in self._lines("POST", "/replicas/dids", {"pfns": list(urls), "rse": name}):
                    found |= {urls[url]: (did["scope"], did["name"]) for url, did in line.items() if url in urls}
        return found

    def _lines(self, method: str, path: str, document: Any = None) -> Iterator[Mapping[str, Any]]:
        url = self._url + path
        headers = {"X-Rucio-Auth-Token": self._client.token(_AUDIENCE, _SCOPE)}
        body = None
        if document is not None:
            headers["Content-Type"] = "application/json"
            body = json.dumps(document).encode()
        try:
            answer = self._pool.request(method, url, headers=headers, body=body, timeout=_TIMEOUT)
        except urllib3.exceptions.HTTPError as error:
            raise ServiceError("the catalogue cannot be reached", got=str(error), where=url) from error
        if answer.status in (401, 403):
            raise AuthError("the catalogue refused", got=f"HTTP status {answer.status}", where=url)
        if answer.status == 404:
            return
        if answer.status >= 300:
            raise ServiceError("the catalogue failed", got=f"HTTP status {answer.status}", where=url)
        yield from (json.loads(line) for line in answer.data.splitlines() if line)


def did_of(path: str, prefixes: Iterable[str]) -> Did | None:
    """The file whose path this is by Rucio's algorithm ``hash``; None if no file's is.

    ``scope/xx/yy/name`` with the first two bytes of the MD5 of ``scope:name``; the dots in the scopes of people and
    groups are directories.
    """
    for prefix in prefixes:
        if not path.startswith(f"{prefix}/"):
            continue
        parts = path.removeprefix(f"{prefix}/").split("/")
        for place in range(1, len(parts) - 2):
            scope, name = ".".join(parts[:place]), "/".join(parts[place + 2 :])
            digest = hashlib.md5(f"{scope}:{name}".encode(), usedforsecurity=False).hexdigest()
            if (digest[0:2], digest[2:4]) == (parts[place], parts[place + 1]):
                return scope, name
    return None


def _batches(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (items[start : start + _BATCH] for start in range(0, len(items), _BATCH))
