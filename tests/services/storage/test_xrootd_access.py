"""What a storage element lets whom do: verbs, audiences, scopes, forged and old tokens, and no way around TLS."""

from __future__ import annotations

import socket
import ssl
import zlib
from contextlib import closing

import pytest

from .doors import SERVERS


def test_put_get_head_range(box, fresh_path, content):
    token = box.token("storage.create:/lake/cms storage.read:/lake/cms", "NORTH-DISK")
    url = box.url("NORTH-DISK", fresh_path)
    assert box.http("PUT", url, token, content).status == 201
    assert box.http("GET", url, token).body == content
    assert box.http("GET", url, token, Range="bytes=10-19").body == content[10:20]
    head = box.http("HEAD", url, token)
    assert (head.status, head.headers["content-length"]) == (200, str(len(content)))


def test_put_makes_parent_directories(box, fresh_path):
    token = box.token("storage.create:/lake/cms storage.read:/lake/cms", "NORTH-DISK")
    url = box.url("NORTH-DISK", f"{fresh_path}/aa/bb/file")
    assert box.http("PUT", url, token, b"x").status == 201
    assert box.http("GET", url, token).body == b"x"


def test_webdav_verbs(box, fresh_path):
    token = box.token("storage.modify:/lake/cms storage.read:/lake/cms", "NORTH-DISK")
    directory, file = box.url("NORTH-DISK", fresh_path), box.url("NORTH-DISK", f"{fresh_path}/file")
    assert box.http("MKCOL", directory, token).status == 201
    assert box.http("PUT", file, token, b"content").status == 201
    listing = box.http("PROPFIND", directory, token, Depth="1")
    assert listing.status == 207
    assert f"{fresh_path}/file" in listing.text
    assert box.http("MOVE", file, token, Destination=f"{file}.moved").status == 201
    assert box.http("HEAD", file, token).status == 404
    assert box.http("DELETE", f"{file}.moved", token).status == 200
    assert box.http("HEAD", f"{file}.moved", token).status == 404


@pytest.mark.parametrize("depth", ["/lake", "/lake/"])
def test_prefix_exists_from_the_start(box, depth):
    token = box.token("storage.read:/lake/ storage.modify:/lake/", "NORTH-DISK")
    assert box.http("HEAD", box.url("NORTH-DISK", depth), token).status == 200


def test_a22_adler32_keeps_its_leading_zeros(box, fresh_path, content):
    checksum = f"{zlib.adler32(content):08x}"
    assert checksum.startswith("0")
    box.put("NORTH-DISK", fresh_path, content)
    token = box.token("storage.read:/lake/cms", "NORTH-DISK")
    head = box.http("HEAD", box.url("NORTH-DISK", fresh_path), token, Want_Digest="adler32")
    assert head.headers["digest"] == f"adler32={checksum}"
    query = box.client(
        "xrdfs", box.context.url("NORTH-DISK.root", "roots"), "query", "checksum", fresh_path, token=token
    )
    assert query.stdout.split() == ["adler32", checksum]


def test_crc32c_is_offered_too(box, fresh_path):
    box.put("NORTH-DISK", fresh_path, b"123456789")
    token = box.token("storage.read:/lake/cms", "NORTH-DISK")
    path = f"{fresh_path}?cks.type=crc32c"
    query = box.client("xrdfs", box.context.url("NORTH-DISK.root", "roots"), "query", "checksum", path, token=token)
    assert query.stdout.split() == ["crc32c", "e3069283"]


def test_root_protocol_copies_both_ways(box, fresh_path, content, tmp_path):
    (tmp_path / "in").write_bytes(content)
    token = box.token("storage.modify:/lake/cms storage.read:/lake/cms", "NORTH-DISK")
    remote = f"{box.context.url('NORTH-DISK.root', 'root')}/{fresh_path}"
    up = box.client("xrdcp", "-s", str(tmp_path / "in"), remote, token=token)
    assert up.returncode == 0, up.stderr
    down = box.client("xrdcp", "-s", remote, str(tmp_path / "out"), token=token)
    assert down.returncode == 0, down.stderr
    assert (tmp_path / "out").read_bytes() == content


SCOPES = {
    "no scope": "",
    "another scope's": "storage.read:/lake/magic",
    "of a longer name": "storage.read:/lake/cms2",
    "of a shorter name": "storage.read:/lake/cm",
    "for writing": "storage.create:/lake/cms",
    "for computing": "compute.read",
}


@pytest.mark.parametrize("scope", SCOPES.values(), ids=SCOPES.keys())
def test_reading_needs_the_path_in_scope(box, fresh_path, scope):
    box.put("NORTH-DISK", fresh_path, b"secret")
    answer = box.http("GET", box.url("NORTH-DISK", fresh_path), box.token(scope, "NORTH-DISK"))
    assert answer.status == 403
    assert b"secret" not in answer.body


@pytest.mark.parametrize("verb", ["PUT", "DELETE", "MKCOL"])
def test_writing_needs_more_than_reading(box, fresh_path, verb):
    box.put("NORTH-DISK", fresh_path, b"kept")
    token = box.token("storage.read:/lake/cms", "NORTH-DISK")
    target = fresh_path if verb != "MKCOL" else f"{fresh_path}.new"
    assert box.http(verb, box.url("NORTH-DISK", target), token, b"" if verb == "PUT" else None).status == 403
    assert box.http("GET", box.url("NORTH-DISK", fresh_path), token).body == b"kept"


def test_create_does_not_overwrite_or_delete(box, fresh_path):
    box.put("NORTH-DISK", fresh_path, b"kept")
    token = box.token("storage.create:/lake/cms storage.read:/lake/cms", "NORTH-DISK")
    url = box.url("NORTH-DISK", fresh_path)
    assert box.http("PUT", url, token, b"changed").status == 403
    assert box.http("DELETE", url, token).status == 403
    assert box.http("GET", url, token).body == b"kept"


@pytest.mark.parametrize("path", ["/lake2/x", "/lakeX", "/lake2"])
def test_a_neighbour_of_the_prefix_stays_closed(box, path):
    token = box.token("storage.read:/lake storage.modify:/lake", "NORTH-DISK")
    assert box.http("PUT", box.url("NORTH-DISK", path), token, b"x").status == 403
    assert box.http("HEAD", box.url("NORTH-DISK", path), token).status == 403


@pytest.mark.parametrize("path", ["/lake/cms/../magic/x", "/lake/cms/%2e%2e/magic/x", "/../etc/passwd"])
def test_dots_lead_nowhere(box, path):
    box.put("NORTH-DISK", "/lake/magic/x", b"secret")
    token = box.token("storage.read:/lake/cms", "NORTH-DISK")
    host, port = box.context.addresses["NORTH-DISK.https"], box.context.ports["NORTH-DISK.https"]
    # urllib3 would tidy the path up before it is sent.
    tls = box.connections.connection_pool_kw["ssl_context"]
    plain = socket.create_connection((host, port))
    with closing(tls.wrap_socket(plain, server_hostname=host)) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
        answer = connection.recv(4096)
    assert answer.split()[1] in {b"403", b"404", b"400"}
    assert b"secret" not in answer


def test_no_token_no_entry(box, fresh_path):
    box.put("NORTH-DISK", fresh_path, b"secret")
    assert box.http("GET", box.url("NORTH-DISK", fresh_path)).status == 403
    assert box.client("xrdfs", box.context.url("NORTH-DISK.root", "roots"), "stat", fresh_path).returncode != 0


def test_every_element_checks_the_audience(box, fresh_path):
    token = box.token("storage.read:/ storage.modify:/", "NORTH-DISK", "SOUTH-DISK")
    for name, status in (("NORTH-DISK", 201), ("SOUTH-DISK", 201), ("NORTH_RAW", 403)):
        assert box.http("PUT", box.url(name, fresh_path), token, b"x").status == status, name


@pytest.mark.parametrize("audience", ["rucio", "https://wlcg.cern.ch/jwt/v1/other", "127.0.1", "127.0.1.110"])
def test_wrong_audiences(box, audience):
    token = box.token("storage.read:/", aud=audience)
    assert box.http("HEAD", box.url("NORTH-DISK", "/lake/"), token).status == 403


def test_expired_token(box):
    url = box.url("NORTH-DISK", "/lake/")
    assert box.http("HEAD", url, box.token("storage.read:/", "NORTH-DISK", life_s=-5)).status == 403


def test_token_not_valid_yet(box):
    token = box.token("storage.read:/", "NORTH-DISK", nbf=2_000_000_000, exp=2_000_000_600)
    assert box.http("HEAD", box.url("NORTH-DISK", "/lake/"), token).status == 403


def test_token_of_another_issuer(box):
    token = box.token("storage.read:/", "NORTH-DISK", iss="https://localhost:1")
    assert box.http("HEAD", box.url("NORTH-DISK", "/lake/"), token).status == 403


def test_token_signed_with_another_key(box):
    key = type(box.key).generate_key("P-256", {"kid": "one"})
    token = box.token("storage.read:/", "NORTH-DISK", key=key)
    assert box.http("HEAD", box.url("NORTH-DISK", "/lake/"), token).status == 403


def test_token_with_a_symmetric_signature(box, symmetric_key):
    token = box.token("storage.read:/", "NORTH-DISK", alg="HS256", key=symmetric_key)
    assert box.http("HEAD", box.url("NORTH-DISK", "/lake/"), token).status == 403


def test_token_without_a_signature(box):
    head, body, _ = box.token("storage.read:/", "NORTH-DISK").split(".")
    unsigned = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0"
    for token in (f"{unsigned}.{body}.", f"{head}.{body}.", "abc.def.ghi"):
        assert box.http("HEAD", box.url("NORTH-DISK", "/lake/"), token).status == 403


BAD_LOGINS = {
    "expired": {"life_s": -5},
    "of another audience": {"aud": "127.0.0.9"},
    "without the scope": {"scope": "storage.read:/lake/magic"},
    "of another issuer": {"iss": "https://localhost:1"},
}


@pytest.mark.parametrize("bad", BAD_LOGINS.values(), ids=BAD_LOGINS.keys())
def test_root_protocol_checks_the_same(box, fresh_path, bad, tmp_path):
    box.put("NORTH-DISK", fresh_path, b"secret")
    token = box.token(**{"scope": "storage.read:/lake/cms", **bad})
    remote = f"{box.context.url('NORTH-DISK.root', 'root')}/{fresh_path}"
    assert box.client("xrdcp", "-s", remote, str(tmp_path / "out"), token=token).returncode != 0
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", SERVERS)
@pytest.mark.parametrize("port", ["https", "root"])
def test_no_port_speaks_plain_http(box, name, port):
    key = f"{name}.{port}"
    token = box.token("storage.read:/", name)
    with socket.create_connection((box.context.addresses[key], box.context.ports[key]), timeout=60) as plain:
        plain.sendall(f"GET /static/health HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
        answer = b""
        try:
            while chunk := plain.recv(4096):
                answer += chunk
        except ConnectionResetError:
            pass
    assert b"HTTP/" not in answer
    assert b"ok" not in answer


def test_only_the_own_address_listens(box):
    port = box.context.ports["NORTH-DISK.https"]
    for other in ("127.0.0.1", box.context.addresses["SOUTH-DISK.https"]):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((other, port), timeout=60)


def test_no_token_in_any_log(box, fresh_path):
    """Whoever reads the logs must not be able to act as a user."""
    token = box.token("storage.read:/lake/cms", "NORTH-DISK", "NORTH-CACHE")
    box.put("NORTH-DISK", fresh_path, b"x")
    for url in (box.url("NORTH-DISK", fresh_path), box.url("NORTH-DISK", "/lake/magic/none")):
        box.http("GET", url, token)
        box.http("GET", f"{url}?authz=Bearer%20{token}")
    box.http("GET", box.through_cache("NORTH-DISK", fresh_path), token)
    for name in box.servers:
        assert "eyJ" not in box.log(name), name


def test_space_is_reported(box):
    token = box.token("storage.read:/", "NORTH-DISK")
    answer = box.client("xrdfs", box.context.url("NORTH-DISK.root", "roots"), "query", "space", "/lake", token=token)
    assert "oss.free=" in answer.stdout


@pytest.mark.parametrize("server", SERVERS)
def test_the_cheapest_cipher_of_full_strength_is_chosen(box, server):
    address = box.context.addresses[f"{server}.https"]
    with (
        socket.create_connection((address, box.context.ports[f"{server}.https"]), timeout=60) as plain,
        ssl.create_default_context(cafile=str(box.context.layout.ca)).wrap_socket(
            plain, server_hostname=address
        ) as connection,
    ):
        assert connection.cipher() == ("TLS_AES_128_GCM_SHA256", "TLSv1.3", 128)
