"""What a bare TLS connection over loopback costs, with nothing above it: a yardstick for encrypted transports."""

from __future__ import annotations

import socket
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

from boathouse.testing.pki import Authority

_ADDRESS = "127.0.0.1"
_BLOCK_BYTES = 4_000_000


def bare_tls_cpu_s(size_bytes: int) -> float:
    """Seconds of CPU, of both sides together, to send so many bytes from memory to memory."""
    with TemporaryDirectory() as directory, socket.create_server((_ADDRESS, 0)) as listener:
        chain, key = Authority(Path(directory)).certificate("bare", _ADDRESS)
        serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        serving.load_cert_chain(chain, key)
        trusting = ssl.create_default_context(cafile=Path(directory) / "ca.pem")
        with ThreadPoolExecutor(1) as pool:
            accepted = pool.submit(lambda: serving.wrap_socket(listener.accept()[0], server_side=True))
            plain = socket.create_connection(listener.getsockname())
            with trusting.wrap_socket(plain, server_hostname=_ADDRESS) as receiver, accepted.result() as sender:
                began = time.process_time()
                sent = pool.submit(_send, sender, size_bytes)
                _receive(receiver, size_bytes)
                sent.result()
                return time.process_time() - began


def _send(sender: ssl.SSLSocket, size_bytes: int) -> None:
    block = memoryview(bytes(_BLOCK_BYTES))
    for start in range(0, size_bytes, _BLOCK_BYTES):
        sender.sendall(block[: size_bytes - start])


def _receive(receiver: ssl.SSLSocket, size_bytes: int) -> None:
    block = memoryview(bytearray(_BLOCK_BYTES))
    left = size_bytes
    while left:
        got = receiver.recv_into(block[:left])
        assert got, "the connection ended early"
        left -= got
