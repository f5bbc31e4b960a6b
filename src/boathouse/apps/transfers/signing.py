"""URLs of S3 with a signature in the query: AWS Signature Version 4, "Authenticating Requests: Using Query Parameters".

A signature is for one verb, one file and a few minutes; whoever holds the URL needs nothing else.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import quote, unquote, urlsplit

_ALGORITHM = "AWS4-HMAC-SHA256"
_UNSIGNED = "UNSIGNED-PAYLOAD"
_SIGNATURES = frozenset({"x-amz-signature", "x-goog-signature", "signature", "temp_url_sig", "sig"})
"""Parameters that make a URL a secret: of S3, Google, S3's and Google's older form, Swift, Azure."""


def split(url: str) -> tuple[str, str]:
    """A URL without its query, and the query, if that holds a signature; else the URL and nothing."""
    bare, _, query = url.partition("?")
    names = {unquote(part.partition("=")[0]).lower() for part in query.split("&")}
    return (bare, query) if names & _SIGNATURES else (url, "")


def presign(
    method: str,
    url: str,
    *,
    access_key: str,
    secret_key: str,
    region: str,
    life_s: int,
    headers: Mapping[str, str] | None = None,
    now: datetime | None = None,
) -> str:
    """A URL with its signature.

    Args:
        method: the verb that it is good for.
        url: of the file, without a query.
        access_key: name of the key.
        secret_key: the key.
        region: as the store calls itself.
        life_s: how long requests may begin, in seconds, at most a week.
        headers: what the request must bring besides its host, names in small letters.
        now: beginning of its life.
    """
    moment = now or datetime.now(UTC)
    stamp, day = moment.strftime("%Y%m%dT%H%M%SZ"), moment.strftime("%Y%m%d")
    parts = urlsplit(url)
    signed = dict(sorted({"host": parts.netloc, **(headers or {})}.items()))
    scope = f"{day}/{region}/s3/aws4_request"
    query = "&".join(
        f"{name}={_encoded(value)}"
        for name, value in (
            ("X-Amz-Algorithm", _ALGORITHM),
            ("X-Amz-Credential", f"{access_key}/{scope}"),
            ("X-Amz-Date", stamp),
            ("X-Amz-Expires", str(life_s)),
            ("X-Amz-SignedHeaders", ";".join(signed)),
        )
    )
    # S3 takes a path as it is: no dots or slashes are folded.
    path = quote(unquote(parts.path, errors="surrogateescape"), safe="/-_.~", errors="surrogateescape")
    lines = "".join(f"{name}:{value.strip()}\n" for name, value in signed.items())
    request = "\n".join((method, path, query, lines, ";".join(signed), _UNSIGNED))
    words = "\n".join((_ALGORITHM, stamp, scope, hashlib.sha256(request.encode()).hexdigest()))
    key = f"AWS4{secret_key}".encode()
    for word in (day, region, "s3", "aws4_request"):
        key = _mac(key, word)
    return f"{parts.scheme}://{parts.netloc}{path}?{query}&X-Amz-Signature={_mac(key, words).hex()}"


def _mac(key: bytes, words: str) -> bytes:
    return hmac.new(key, words.encode(), hashlib.sha256).digest()


def _encoded(value: str) -> str:
    return quote(value, safe="-_.~")
