"""A plain WebDAV server over TLS: it knows passwords, and no third-party copy.

Run with the Python of the peers: ``webdav.py ADDRESS PORT CHAIN KEY DIRECTORY``, with passwords by user as JSON in
standard input. Each request is a line in the output: method, path, status, user agent.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from typing import Any

from cheroot import wsgi
from cheroot.ssl.builtin import BuiltinSSLAdapter
from wsgidav.wsgidav_app import WsgiDAVApp


def told(application: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        def tell(status: str, *rest: Any) -> Any:
            seen = {"method": environ["REQUEST_METHOD"], "path": environ["PATH_INFO"], "status": int(status[:3])}
            sys.stdout.write(json.dumps({**seen, "agent": environ.get("HTTP_USER_AGENT", "")}) + "\n")
            sys.stdout.flush()
            return start(status, *rest)

        return application(environ, tell)

    return answer


def main() -> None:
    address, port, chain, key, directory = sys.argv[1:]
    users = {user: {"password": password} for user, password in json.load(sys.stdin).items()}
    application = WsgiDAVApp(
        {
            "provider_mapping": {"/": {"root": directory, "readonly": False}},
            "simple_dc": {"user_mapping": {"*": users}},
            "http_authenticator": {"accept_basic": True, "accept_digest": False, "default_to_digest": False},
            "verbose": 1,
            "logging": {"enable": False},
            "property_manager": True,
            "lock_storage": True,
        }
    )
    server = wsgi.Server((address, int(port)), told(application), numthreads=8)
    server.ssl_adapter = BuiltinSSLAdapter(chain, key)
    server.start()


if __name__ == "__main__":
    main()
