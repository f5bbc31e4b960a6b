"""HTTPS servers of a test's own: for what no real server does when a test wants it."""

from __future__ import annotations

import http.server
import json
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from socketserver import BaseRequestHandler
from typing import Any


class Handler(http.server.BaseHTTPRequestHandler):
    """Says nothing in the test's output, and takes a client that goes away for what it is."""

    protocol_version = "HTTP/1.1"

    def handle_one_request(self) -> None:
        """Handle a request; the handshake is part of the first one."""
        try:
            super().handle_one_request()
        except (ssl.SSLError, ConnectionError):
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
        """Keep the test's output quiet."""

    def respond(self) -> None:
        """Answer a request of any method."""
        raise NotImplementedError

    def _any(self) -> None:
        self.respond()

    do_GET = do_HEAD = do_POST = do_DELETE = _any  # noqa: N815 - the names of the base class

    def body(self) -> bytes:
        """What the client sent."""
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def answer(self, document: object, status: int = 200) -> None:
        """Send a JSON document."""
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class HttpsServer:
    """A server in threads of this process, which may go and come back.

    Args:
        handler: makes the handler of a connection.
        address: where it listens.
        port: on which port.
        tls: certificate chain and key.
    """

    def __init__(
        self, handler: Callable[..., BaseRequestHandler], address: str, port: int, tls: tuple[Path, Path]
    ) -> None:
        self.url = f"https://{address}:{port}"
        self._handler: Any = handler
        self._address = (address, port)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(*tls)
        self._running: tuple[http.server.ThreadingHTTPServer, threading.Thread] | None = None

    def start(self) -> None:
        """Listen."""
        server = http.server.ThreadingHTTPServer(self._address, self._handler)
        # The handshake is the thread's of its connection: a slow client keeps nobody waiting.
        server.socket = self._context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        self._running = server, thread

    def stop(self) -> None:
        """Close the port; no-op if it is not open."""
        if self._running:
            server, thread = self._running
            server.shutdown()
            server.server_close()
            thread.join()
            self._running = None
