"""Uploads that end half-way: what stays, and that whoever may write can finish or remove it."""

from __future__ import annotations

import signal
import socket
from contextlib import closing

import pytest

from boathouse.testing.wait import wait_for


@pytest.fixture
def half_sent(box, fresh_path):
    """An upload of five megabytes of which half has arrived."""
    name, unit = "SOUTH-DISK", "se-south-disk"
    host, port = box.context.addresses[f"{name}.https"], box.context.ports[f"{name}.https"]
    token = box.token("storage.modify:/lake/cms", name)
    tls = box.connections.connection_pool_kw["ssl_context"]
    connection = tls.wrap_socket(socket.create_connection((host, port)), server_hostname=host)
    head = (
        f"PUT {fresh_path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5000000\r\nAuthorization: Bearer {token}\r\n\r\n"
    )
    file = box.data(unit) / fresh_path.lstrip("/")
    with closing(connection):
        connection.sendall(head.encode() + b"x" * 2_500_000)
        wait_for("half an upload", lambda: file.exists() and file.stat().st_size > 1_000_000)
        yield connection, file


def unless_held(reply):
    """Nothing but a writer who still counts may refuse the upload."""
    assert "already opened by 1 writer" in reply.text, reply
    return False


def finish(box, path):
    token = box.token("storage.modify:/lake/cms storage.read:/lake/cms", "SOUTH-DISK")
    url = box.url("SOUTH-DISK", path)

    def written() -> bool:
        reply = box.http("PUT", url, token, b"whole")
        return reply.status in {200, 201} or unless_held(reply)

    # The element refuses a second writer until it has noticed that the first one is gone.
    wait_for("the element to take the whole file", written)
    assert box.http("GET", url, token).body == b"whole"
    assert box.http("DELETE", url, token).status == 200


def test_writer_vanishes(box, half_sent, fresh_path):
    connection, _ = half_sent
    connection.close()
    finish(box, fresh_path)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_server_dies(box, half_sent, fresh_path, number):
    box.stop("se-south-disk", number=number)
    box.start("se-south-disk")
    finish(box, fresh_path)


def test_a_refused_overwrite_keeps_the_file(box, fresh_path, tmp_path):
    """With ``ofs.persist auto`` the file would be gone: the reason why it is off."""
    box.put("NORTH-DISK", fresh_path, b"kept")
    url = box.url("NORTH-DISK", fresh_path)
    token = box.token("storage.create:/lake/cms storage.read:/lake/cms", "NORTH-DISK")
    assert box.http("PUT", url, token, b"changed").status == 403
    (tmp_path / "changed").write_bytes(b"changed")
    remote = f"{box.context.url('NORTH-DISK.root', 'root')}/{fresh_path}"
    assert box.client("xrdcp", "-s", "-f", str(tmp_path / "changed"), remote, token=token).returncode != 0
    assert box.client("xrdcp", "-s", str(tmp_path / "changed"), remote, token=token).returncode != 0
    assert box.http("GET", url, token).body == b"kept"
