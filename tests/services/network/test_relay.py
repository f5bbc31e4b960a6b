"""The relay as it is run, between plain sockets: what ends, breaks or is not there is told at the other end."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import urllib3

from boathouse.testing.pki import Authority
from boathouse.testing.scratch import free_port
from boathouse.testing.wait import wait_for

FAR, HERE, BEHIND = "127.10.250.1", "127.0.0.1", "127.0.250.1"
"""Where the relay takes connections, where it answers about itself, and where nobody but a test listens."""
PATIENCE_S = 90.0


@dataclass(frozen=True)
class Running:
    """The relay, the port of the server that a test puts behind it, and one behind which there is nobody."""

    url: str
    ca: Path
    port: int
    nobody: int

    def counted(self) -> dict[str, int]:
        """Metrics by name with labels."""
        with urllib3.PoolManager(ssl_context=ssl.create_default_context(cafile=str(self.ca)), retries=False) as pool:
            text = pool.request("GET", f"{self.url}/metrics").data.decode()
        return {name: int(value) for name, value in re.findall(r"^(\w+\{.*\}) (\d+)$", text, re.MULTILINE)}

    def connect(self, port: int | None = None) -> socket.socket:
        return socket.create_connection((FAR, port or self.port), timeout=PATIENCE_S)


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    directory = tmp_path_factory.mktemp("relay")
    chain, key = Authority(directory).certificate("network", HERE)
    ports = {"SERVER": free_port(FAR), "NOBODY": free_port(FAR)}
    own = free_port(HERE)
    settings = {
        "listen_address": HERE,
        "port": own,
        "certificate": str(chain),
        "key": str(key),
        "window_bytes": 1_000_000,
        "links": [{"between": ["NORTH", "SOUTH"], "rtt_s": 0.004, "bandwidth_bit_s": 4_000_000_000}],
        "paths": [
            {
                "site": "NORTH",
                "element": name,
                "element_site": "SOUTH",
                "listen_address": FAR,
                "port": port,
                "element_address": BEHIND,
            }
            for name, port in ports.items()
        ],
    }
    (directory / "settings.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "boathouse.apps.network", "--config", str(directory / "settings.json")]
    with (directory / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            running = Running(f"https://{HERE}:{own}", directory / "ca.pem", ports["SERVER"], ports["NOBODY"])

            def answers() -> bool:
                assert process.poll() is None, (directory / "log").read_text()
                with suppress(urllib3.exceptions.HTTPError):
                    return running.counted() is not None
                return False

            wait_for("the relay answers", answers)
            yield running
        finally:
            process.terminate()
            # uvicorn ends by the signal that it was sent.
            assert process.wait(PATIENCE_S) == -signal.SIGTERM, (directory / "log").read_text()
    assert "Traceback" not in (directory / "log").read_text()


@contextmanager
def server(port: int, serve: Callable[[socket.socket], None]) -> Iterator[None]:
    """A server of one connection."""
    with socket.create_server((BEHIND, port)) as listener:
        listener.settimeout(PATIENCE_S)

        def once() -> None:
            accepted, _ = listener.accept()
            with accepted:
                accepted.settimeout(PATIENCE_S)
                serve(accepted)

        thread = threading.Thread(target=once)
        thread.start()
        try:
            yield
        finally:
            thread.join()


def read_all(connection: socket.socket) -> bytes:
    data = bytearray()
    while piece := connection.recv(262_144):
        data += piece
    return bytes(data)


def open_now(relay: Running) -> int:
    return sum(value for name, value in relay.counted().items() if name.startswith("boathouse_network_connections{"))


def test_one_direction_ends_and_the_other_goes_on(relay: Running) -> None:
    """The server answers only when it has heard all, long after the client had its last word."""
    content = os.urandom(3_000_000)
    before = relay.counted()

    def echo(accepted: socket.socket) -> None:
        accepted.sendall(read_all(accepted))

    with server(relay.port, echo), relay.connect() as client:
        client.sendall(content)
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == content
    counted = relay.counted()
    for way in ('from="NORTH",to="SOUTH"', 'from="SOUTH",to="NORTH"'):
        name = f'boathouse_network_bytes_total{{{way},element="SERVER"}}'
        assert counted[name] - before.get(name, 0) == len(content)
    wait_for("the connection is over", lambda: open_now(relay) == 0)


def test_many_connections_at_once_keep_their_bytes_apart(relay: Running) -> None:
    contents = [os.urandom(400_000) for _ in range(8)]
    received: list[bytes] = []

    with socket.create_server((BEHIND, relay.port)) as listener:
        listener.settimeout(PATIENCE_S)

        def serve() -> None:
            accepted, _ = listener.accept()
            with accepted:
                accepted.settimeout(PATIENCE_S)
                accepted.sendall(read_all(accepted)[::-1])

        def ask(content: bytes) -> None:
            with relay.connect() as client:
                client.sendall(content)
                client.shutdown(socket.SHUT_WR)
                received.append(read_all(client))

        threads = [threading.Thread(target=serve) for _ in contents]
        threads += [threading.Thread(target=ask, args=(content,)) for content in contents]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(received) == sorted(content[::-1] for content in contents)


def test_nobody_there_is_a_connection_that_is_reset(relay: Running) -> None:
    name = 'boathouse_network_refused_total{site="NORTH",element="NOBODY"}'
    before = relay.counted().get(name, 0)
    with relay.connect(relay.nobody) as client, pytest.raises(ConnectionResetError):
        client.recv(1)
    assert relay.counted()[name] == before + 1
    wait_for("the connection is over", lambda: open_now(relay) == 0)


def break_off(connection: socket.socket) -> None:
    """Close so that the other end is told of an error: socket(7), SO_LINGER."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()


def test_a_server_that_breaks_off_in_an_answer_is_a_reset_after_what_it_said(relay: Running) -> None:
    def half(accepted: socket.socket) -> None:
        accepted.sendall(b"half an ans")
        # So that none of it is lost in its own socket.
        assert accepted.recv(2) == b"go"
        break_off(accepted)

    with server(relay.port, half), relay.connect() as client:
        assert client.recv(11, socket.MSG_WAITALL) == b"half an ans"
        client.sendall(b"go")
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    wait_for("the connection is over", lambda: open_now(relay) == 0)


def test_a_client_that_vanishes_is_told_to_the_server(relay: Running) -> None:
    told: list[type[Exception]] = []

    def listen(accepted: socket.socket) -> None:
        assert accepted.recv(5, socket.MSG_WAITALL) == b"hello"
        accepted.sendall(b"x")
        try:
            accepted.recv(1)
        except OSError as error:
            told.append(type(error))

    with server(relay.port, listen), relay.connect() as client:
        client.sendall(b"hello")
        assert client.recv(1) == b"x"
        break_off(client)
    assert told == [ConnectionResetError]
    wait_for("the connection is over", lambda: open_now(relay) == 0)


def test_a_client_that_does_not_read_holds_up_the_server_and_loses_nothing(relay: Running) -> None:
    content = os.urandom(40_000_000)
    sent: list[int] = []

    def pour(accepted: socket.socket) -> None:
        accepted.settimeout(None)
        for start in range(0, len(content), 100_000):
            accepted.sendall(content[start : start + 100_000])
            sent.append(start)

    with server(relay.port, pour), relay.connect() as client:
        still = -1

        def stands_still() -> bool:
            nonlocal still
            before, still = still, len(sent)
            return still > 0 and before == still

        wait_for("the server is held up", stands_still, period_s=0.5)
        assert len(sent) < 400
        assert read_all(client) == content
