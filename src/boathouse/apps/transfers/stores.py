"""Storage of others': S3 and plain WebDAV, which know no third-party copy. What opens them, and what they tell.

What opens a place is one text, kept sealed like a token: a bearer token; ``?`` and the query of a URL that somebody
signed; or ``=`` and the name of a store whose secret the service uses.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from boathouse.apps.transfers import signing
from boathouse.apps.transfers.checksums import Algorithm, Checksum, from_base64
from boathouse.apps.transfers.settings import Store, StoreKind

_LIFE_S = 900
"""How long a signed request may begin; S3 looks at its end only then."""
THERE = frozenset({200, 206, 416})
"""What a server says that was asked for the first byte of a file and has the file, be it an empty one."""
_MD5 = re.compile(r'"?([0-9a-f]{32})"?')
_PART = re.compile(r"bytes \d+-\d+/(\d+)")
_ERROR = re.compile(r"<Code>([^<]{1,100})</Code>(?:.*?<Message>([^<]{0,300}))?", re.DOTALL)
_XML = re.compile(r"<\?xml.*", re.DOTALL)


def signed(query: str) -> str:
    """What opens a place with a query that somebody signed."""
    return f"?{query}"


def own(name: str) -> str:
    """What opens a store with its secret."""
    return f"={name}"


def is_signed(credential: str | None) -> bool:
    """Whether it is a query that somebody signed."""
    return credential is not None and credential.startswith("?")


@dataclass(frozen=True)
class Asked:
    """A request that a server lets in. Its URL and headers are secrets."""

    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    of_s3: bool = False
    """Whether it is signed, as requests to S3 are."""


class Stores:
    """The stores that the settings name. Shared between threads.

    Args:
        stores: the stores.
    """

    def __init__(self, stores: Iterable[Store]) -> None:
        # The innermost one of two that hold a file.
        self._stores = sorted(stores, key=lambda store: -len(store.path))
        self.hosts = frozenset(store.host for store in self._stores)
        """``host:port`` of all stores."""

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._stores)

    def at(self, url: str) -> Store | None:
        """The store that holds a file, if there is one."""
        if not self._stores:
            return None
        parts = urlsplit(url)
        return next((store for store in self._stores if store.holds(parts.netloc, parts.path)), None)

    def ask(self, method: str, url: str, credential: str | None, headers: Mapping[str, str] | None = None) -> Asked:
        """A request with what opens its place.

        Args:
            method: the verb. To look is to get one byte where a URL is signed for one verb only, and at WebDAV servers:
                wsgidav answers a refused HEAD with a body, which spoils the connection.
            url: of a file.
            credential: what opens it, if anything does.
            headers: what else is said; names in small letters.

        Raises:
            LookupError: the store whose secret was to be used is not there any more.
        """
        more = dict(headers or {})
        if credential is None:
            return Asked(method, url, more)
        store = self.at(url)
        if method == "HEAD" and (is_signed(credential) or (store is not None and store.kind is StoreKind.webdav)):
            method, more = "GET", {**more, "range": "bytes=0-0"}
        if is_signed(credential):
            return Asked(method, url + credential, more, of_s3=True)
        if not credential.startswith("="):
            return Asked(method, url, {**more, "Authorization": f"Bearer {credential}"})
        if store is None or own(store.name) != credential or not store.secret:
            msg = f"there is no store {credential[1:]} any more that holds it and has a secret"
            raise LookupError(msg)
        if store.kind is StoreKind.s3:
            if method == "HEAD":
                more["x-amz-checksum-mode"] = "ENABLED"
            return Asked(method, _presigned(store, method, url, more), more, of_s3=True)
        return Asked(method, url, {**more, "Authorization": _basic(store)})


def _presigned(store: Store, method: str, url: str, headers: Mapping[str, str]) -> str:
    return signing.presign(
        method,
        url,
        access_key=store.user,
        secret_key=store.secret,
        region=store.region,
        life_s=_LIFE_S,
        # S3 refuses headers of its own that are not signed.
        headers={name: value for name, value in headers.items() if name.startswith("x-amz-")},
    )


def _basic(store: Store) -> str:
    if not store.user:
        return f"Bearer {store.secret}"
    return "Basic " + base64.b64encode(f"{store.user}:{store.secret}".encode()).decode()


def size(status: int, headers: Mapping[str, str]) -> int | None:
    """The size of a file of which the first byte was asked for: ``Content-Range`` tells it (RFC 9110 section 14.4).

    A file that has no first byte is empty (416). A server that sends it all in chunks tells none.
    """
    if status == 416:
        return 0
    found = _PART.fullmatch(headers.get("Content-Range", "").strip())
    if found:
        return int(found[1])
    length = headers.get("Content-Length", "")
    return int(length) if status == 200 and length.isdigit() else None


def checksum(headers: Mapping[str, str], algorithm: Algorithm) -> Checksum | None:
    """The checksum that S3 tells of a whole object.

    That is ``x-amz-checksum-crc32c``, unless it is one of checksums of parts; and for md5 the ``ETag``, which is that
    of an object that was put in one piece and is not encrypted with a key of its own.
    """
    told = headers.get("x-amz-checksum-crc32c", "")
    if algorithm.name == "crc32c" and "-" not in told and headers.get("x-amz-checksum-type", "") != "COMPOSITE":
        return from_base64(algorithm, told)
    etag = _MD5.fullmatch(headers.get("ETag", ""))
    is_md5 = not headers.get("x-amz-server-side-encryption", "").startswith("aws:kms")
    if algorithm.name == "md5" and etag and is_md5:
        return Checksum(algorithm, int(etag[1], 16))
    return None


def words(text: str) -> str:
    """What a store says of an error, without what it repeats of the request: parts of the signature are among that."""
    found = _ERROR.search(text)
    said = ": ".join(filter(None, found.groups())) if found else "an answer in XML"
    return _XML.sub(said, text)
