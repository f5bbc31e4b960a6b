"""``python -m boathouse.apps.tokens``: serve, show and rotate the keys, check the audit log."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import signal
import socket
import sys
from pathlib import Path

import uvicorn

from boathouse.apps.tokens.app import build
from boathouse.apps.tokens.issuer import Issuer
from boathouse.apps.tokens.persistence import database
from boathouse.apps.tokens.settings import Settings, load
from boathouse.apps.tokens.signing import rotation
from boathouse.apps.tokens.signing.keys import KeyRing
from boathouse.apps.tokens.trail import audit, tracing
from boathouse.apps.tokens.trail.feed import News
from boathouse.errors import BoathouseError, ServiceError

_LOG = logging.getLogger("boathouse.tokens")


def serve(settings: Settings) -> None:
    """Serve until SIGTERM; on SIGHUP apply the seed again and read the certificate anew."""
    listener = _listener(settings)
    issuer = Issuer.open(settings)

    def on_start(loop: asyncio.AbstractEventLoop) -> None:
        loop.add_signal_handler(signal.SIGHUP, lambda: loop.run_in_executor(None, _reload, issuer, config))

    config = uvicorn.Config(
        build(issuer, on_start),
        ssl_certfile=str(settings.certificate),
        ssl_keyfile=str(settings.key),
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        timeout_keep_alive=60,
        # Clients keep idle connections open and answer no farewell: requests last milliseconds, so wait no longer.
        timeout_graceful_shutdown=1,
    )
    _Server(config).run(sockets=[listener])


def _listener(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.listen_address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if settings.share_port:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((settings.listen_address, settings.port))
    except OSError as error:
        where = f"{settings.listen_address}:{settings.port}"
        raise ServiceError("the issuer cannot listen", got=error.strerror, where=where) from error
    return listener


class _Server(uvicorn.Server):
    """Lets callers go who wait for news, so that none of them holds up the end."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End."""
        news: News = self.config.app.state.news  # type: ignore[union-attr]
        news.close()
        await super().shutdown(sockets)


def _reload(issuer: Issuer, config: uvicorn.Config) -> None:
    try:
        issuer.reload()
        if config.ssl is not None:
            config.ssl.load_cert_chain(issuer.settings.certificate, issuer.settings.key)
    except (BoathouseError, OSError) as error:
        _LOG.error("nothing was reloaded: %s", error)
    else:
        _LOG.info("seed and certificate reloaded")


def keys(settings: Settings) -> None:
    """Print the keys."""
    _print(rotation.describe(KeyRing(settings.keys_dir, settings.signing_algorithm)))


def _print(document: object) -> None:
    sys.stdout.write(json.dumps(document, indent=1) + "\n")


def check_audit(settings: Settings) -> None:
    """Check the chain of the audit log."""
    _LOG.info("%d audit records, none tampered with", audit.verify(database.connect(settings)))


_COMMANDS = {"serve": serve, "keys": keys, "audit-verify": check_audit}


def main() -> int:
    """Run a command.

    Returns:
        Exit status: 0, or that of the error.
    """
    parser = argparse.ArgumentParser(prog="boathouse.apps.tokens", description=__doc__)
    parser.add_argument("command", nargs="?", default="serve", choices=sorted((*_COMMANDS, "rotate")))
    parser.add_argument("--config", type=Path, required=True, help="settings file (JSON)")
    parser.add_argument("--activation", type=int, metavar="SECONDS", help="rotate: how soon the new key signs")
    parser.add_argument("--emergency", action="store_true", help="rotate: withdraw all other keys at once")
    arguments = parser.parse_args()
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(tracing.Named())
    form = "%(asctime)s %(levelname)s %(name)s [%(request)s]: %(message)s"
    logging.basicConfig(level=logging.INFO, format=form, handlers=[handler])
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        settings = load(arguments.config)
        if arguments.command != "rotate":
            _COMMANDS[arguments.command](settings)
        elif arguments.emergency:
            _print(rotation.withdraw(settings))
        else:
            _print(rotation.rotate(settings, arguments.activation))
    except BoathouseError as error:
        _LOG.error("%s", error)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
