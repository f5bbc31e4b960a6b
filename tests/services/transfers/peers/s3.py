"""An S3 server over TLS that checks signatures: moto keeps the objects, botocore says what a signature must be.

Run with the Python of the peers: ``s3.py ADDRESS PORT CHAIN KEY``, with access and secret key as JSON in standard
input. Each request is a line in the output: method, path, status, user agent.
"""

from __future__ import annotations

import base64
import datetime as dt
import hmac
import io
import json
import sys
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from cheroot import wsgi
from cheroot.ssl.builtin import BuiltinSSLAdapter
from moto.moto_server.werkzeug_app import create_backend_app

Environ = dict[str, Any]


def fault(environ: Environ, keys: dict[str, str]) -> str | None:
    """Why S3 would refuse a request; None if it would not."""
    query = dict(parse_qsl(environ["QUERY_STRING"], keep_blank_values=True))
    given = query.pop("X-Amz-Signature", "")
    if not given:
        return "AccessDenied"
    if "HTTP_AUTHORIZATION" in environ:
        return "InvalidArgument"
    access_key, _, region, _, _ = query["X-Amz-Credential"].split("/")
    if access_key not in keys:
        return "InvalidAccessKeyId"
    begin = dt.datetime.strptime(query["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=dt.UTC)
    life_s = int(query["X-Amz-Expires"])
    if not begin - dt.timedelta(minutes=15) <= dt.datetime.now(dt.UTC) <= begin + dt.timedelta(seconds=life_s):
        return "AccessDenied: Request has expired"
    names = query["X-Amz-SignedHeaders"].split(";")
    sent = {name[5:].replace("_", "-").lower(): value for name, value in environ.items() if name.startswith("HTTP_")}
    if any(name.startswith("x-amz-") and name not in names for name in sent):
        return "AccessDenied: There were headers present in the request which were not signed"
    path = urlsplit(environ["REQUEST_URI"]).path
    request = AWSRequest(
        environ["REQUEST_METHOD"],
        f"https://{sent['host']}{path}",
        headers={name: sent[name] for name in names if name != "host"},
    )
    request.context["timestamp"] = query["X-Amz-Date"]
    signer = S3SigV4QueryAuth(Credentials(access_key, keys[access_key]), "s3", region, expires=life_s)
    signer._modify_request_before_signing(request)
    wanted = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
    return None if hmac.compare_digest(wanted, given) else "SignatureDoesNotMatch"


def crc32c(data: bytes) -> int:
    """CRC-32C (RFC 9260 appendix A): reflected polynomial 0x82F63B78."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


def checked(application: Callable[..., Iterable[bytes]], keys: dict[str, str]) -> Callable[..., Iterable[bytes]]:
    def answer(environ: Environ, start: Callable[..., Any]) -> Iterable[bytes]:
        def told(status: str, *rest: Any) -> Any:
            seen = {"method": environ["REQUEST_METHOD"], "path": environ["PATH_INFO"], "status": int(status[:3])}
            sys.stdout.write(json.dumps({**seen, "agent": environ.get("HTTP_USER_AGENT", "")}) + "\n")
            sys.stdout.flush()
            return start(status, *rest)

        if wrong := fault(environ, keys):
            code, _, message = wrong.partition(": ")
            body = (
                '<?xml version="1.0" encoding="UTF-8"?>\n'
                f"<Error><Code>{code}</Code><Message>{message or code}</Message>"
                f"<SignatureProvided>{environ['QUERY_STRING'][-64:]}</SignatureProvided></Error>"
            ).encode()
            told("403 Forbidden", [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
            return [b"" if environ["REQUEST_METHOD"] == "HEAD" else body]
        if crc := environ.get("HTTP_X_AMZ_CHECKSUM_CRC32C"):
            data = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            if base64.b64encode(crc32c(data).to_bytes(4, "big")).decode() != crc:
                told("400 Bad Request", [("Content-Length", "0")])
                return [b""]
            # S3 needs no second header to know the algorithm; moto does, and compares nothing.
            environ |= {"wsgi.input": io.BytesIO(data), "HTTP_X_AMZ_SDK_CHECKSUM_ALGORITHM": "CRC32C"}
        return application(environ, told)

    return answer


def main() -> None:
    address, port, chain, key = sys.argv[1:]
    keys = json.load(sys.stdin)
    application = create_backend_app("s3")
    server = wsgi.Server((address, int(port)), checked(application, keys), numthreads=8)
    server.ssl_adapter = BuiltinSSLAdapter(chain, key)
    server.start()


if __name__ == "__main__":
    main()
