"""What the server does not take: other logins than tokens, and bodies without end."""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
import uuid

import pytest

LIMIT = 32 * 2**20


@pytest.mark.parametrize(
    "path",
    [
        *("userpass", "x509", "x509_proxy", "gss", "ssh", "ssh_challenge_token", "saml"),
        *(
            "oidc_token",
            "oidc_token/",
            "oidc_token?code=x",
            "oidc_refresh",
            "%6fidc_refresh",
        ),
    ],
)
def test_only_tokens_log_in(box, path):
    reply = box.connections.request(
        "GET",
        f"https://localhost:{box.context.ports['rucio']}/auth/{path}",
        headers={"X-Rucio-Account": "root", "X-Rucio-Username": "nobody", "X-Rucio-Password": "guess"},
    )
    assert reply.status == 404
    assert "X-Rucio-Auth-Token" not in reply.headers
    assert box.rows("SELECT count(*) FROM oauth_requests") == [(0,)]


def test_a_token_is_still_validated(box):
    assert box.call("GET", "/auth/validate", "bob").status == 200


def post(box, path, body, **headers):
    url = f"https://localhost:{box.context.ports['rucio']}{path}"
    return box.connections.request(
        "POST", url, body=body, headers={"X-Rucio-Auth-Token": box.token("bob"), "Accept": "*/*", **headers}
    )


def test_a_body_beyond_the_limit_is_refused(box):
    """By its announced length, before any of it is sent."""
    tls = ssl.create_default_context(cafile=str(box.context.layout.ca))
    connection = http.client.HTTPSConnection("localhost", box.context.ports["rucio"], context=tls, timeout=90)
    with contextlib.closing(connection):
        connection.putrequest("POST", "/replicas/list")
        connection.putheader("X-Rucio-Auth-Token", box.token("bob"))
        connection.putheader("Content-Length", str(LIMIT + 1))
        connection.endheaders()
        assert connection.getresponse().status == 413


def test_a_body_without_a_length_is_limited_too(box):
    def pieces():
        for _ in range(33):
            yield b" " * 2**20

    assert post(box, "/replicas/list", pieces()).status >= 400


def test_the_largest_bulk_fits(box):
    """A thousand files with names and comments as long as they may be."""
    files = [
        {
            "scope": "user.bob",
            "name": f"{uuid.uuid4().hex}{'n' * 218}",
            "bytes": 10,
            "adler32": "00000001",
            "meta": {"guid": uuid.uuid4().hex},
        }
        for _ in range(1000)
    ]
    body = json.dumps({"rse": "NORTH-DISK", "files": files}).encode()
    assert len(body) < LIMIT / 20
    reply = post(box, "/replicas/", body)
    assert reply.status == 201, reply.data
