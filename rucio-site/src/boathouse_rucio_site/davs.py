"""Storage access of Rucio's own daemons: WebDAV with a bearer token over verified TLS.

The scheme is ``davs`` in the catalogue, which keeps these entries apart from those of clients (``https``), and
``https`` on the wire.
"""

from __future__ import annotations

import json
import os
import urllib.parse
from typing import Any

import requests
from rucio.common import exception
from rucio.rse.protocols import webdav

from boathouse_rucio_site import paths, tokens

TIMEOUT_S = (5.0, 60.0)
"""To connect and to answer."""
DELETED = (200, 202, 204)
"""Answers to DELETE that mean success (RFC 9110 section 9.3.5); XRootD says 200."""


class Default(webdav.Default):
    """Rucio's WebDAV protocol with TLS verified, and deletion by the rules of HTTP.

    The extended attribute ``remove_empty_directories`` lets it remove the directories that a deletion has emptied. It
    is for storage that refuses to delete a directory with content, as XRootD does; others delete the content too.
    """

    def connect(self, credentials: dict[str, Any] | None = None) -> None:
        """Make a session; nothing is sent yet.

        Raises:
            RSEAccessDenied: there is no token.
        """
        del credentials
        if not self.auth_token:
            raise exception.RSEAccessDenied("no token for this storage element: is the issuer up?")
        self.session = requests.Session()
        # A session would else prefer the environment's bundle to what is set here, and may read ~/.netrc.
        self.session.trust_env = False
        self.session.verify = os.environ.get("REQUESTS_CA_BUNDLE") or True
        self.session.headers["Authorization"] = f"Bearer {self.auth_token}"
        self._emptied: set[str] = set()

    def path2pfn(self, path: str) -> str:
        """The ``https`` URL of a PFN with scheme ``davs`` or ``https``, or of a path below the prefix.

        Raises:
            InvalidObject: it has dot segments. ``requests`` would resolve them, and so act on another file.
        """
        if path.startswith("davs://"):
            url = "https" + path.removeprefix("davs")
        elif path.startswith("https://"):
            url = path
        else:
            attributes = self.attributes
            prefix = attributes["prefix"].rstrip("/")
            url = f"https://{attributes['hostname']}:{attributes['port']}{prefix}/{path.lstrip('/')}"
        if paths.has_dot_segments(url):
            raise exception.InvalidObject(f"{url} has dot segments, written out or encoded: nothing is sent")
        return url

    def exists(self, pfn: str) -> bool:
        """Whether the file exists.

        Raises:
            ServiceUnavailable, RSEAccessDenied, ResourceTemporaryUnavailable: the storage cannot or will not say.
        """
        response = self._request("HEAD", pfn)
        if response.status_code == 404:
            return False
        self._raise_for(response)
        return True

    def delete(self, pfn: str) -> None:
        """Delete a file.

        Raises:
            SourceNotFound: there is none.
            ServiceUnavailable, RSEAccessDenied, ResourceTemporaryUnavailable: the storage cannot or will not.
        """
        response = self._request("DELETE", pfn)
        if response.status_code == 404:
            raise exception.SourceNotFound(pfn)
        if response.status_code not in DELETED:
            self._raise_for(response)
            raise exception.RucioException(f"DELETE {pfn}: status {response.status_code}")
        self._emptied.add(self.path2pfn(pfn).rsplit("/", 1)[0])

    def close(self) -> None:
        """Remove directories that have become empty, where the storage allows, and end the session."""
        if self._removes_directories():
            for directory in sorted(self._emptied):
                self._remove_upwards(directory)
        self.session.close()

    def _removes_directories(self) -> bool:
        extended = self.attributes.get("extended_attributes")
        if isinstance(extended, str):
            extended = json.loads(extended)
        return bool(isinstance(extended, dict) and extended.get("remove_empty_directories"))

    def _remove_upwards(self, directory: str) -> None:
        # Down to, but without, the directory of the scope: that one stays.
        depth = len(self.attributes["prefix"].strip("/").split("/")) + 1
        while len(urllib.parse.urlsplit(directory).path.strip("/").split("/")) > depth:
            try:
                response = self._request("DELETE", directory)
            except exception.ServiceUnavailable:
                return
            if response.status_code not in DELETED:
                # It has other content, or somebody else was first: both are fine.
                return
            directory = directory.rsplit("/", 1)[0]

    def _request(self, method: str, pfn: str) -> requests.Response:
        url = self.path2pfn(pfn)
        try:
            return self.session.request(method, url, timeout=TIMEOUT_S, allow_redirects=False)
        except requests.RequestException as error:
            raise exception.ServiceUnavailable(f"{method} {url}: {error}") from error

    def _raise_for(self, response: requests.Response) -> None:
        what = f"{response.request.method} {response.url}: status {response.status_code}"
        if response.status_code in {401, 403}:
            # Its key may have been withdrawn: the next attempt is made with a new one.
            tokens.source().forget(self.auth_token)
            raise exception.RSEAccessDenied(what)
        if response.status_code >= 500:
            raise exception.ResourceTemporaryUnavailable(what)
        if response.status_code >= 300:
            raise exception.RucioException(what)
