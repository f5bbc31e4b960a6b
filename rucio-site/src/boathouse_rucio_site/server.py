"""Rucio's REST server: ``python -m boathouse_rucio_site.server --config rucio.cfg``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from granian.constants import Interfaces
from granian.log import LogLevels
from granian.server import Server

from boathouse_rucio_site import settings
from boathouse_rucio_site.errors import SiteError

STOP_S = 4
"""Time for a worker to end."""


def serve(config: Path) -> None:
    """Make database and lake ready, then serve over TLS until SIGTERM.

    This process imports Rucio, which takes seconds, and the workers are forked from it: they begin at once.

    Raises:
        SiteError: the configuration, the description of the lake, the database or the installed Rucio is not as it
            should be.
    """
    options = settings.load(config)
    _prepare(config)
    Server(
        "boathouse_rucio_site.wsgi:application",
        address=options.address,
        port=options.port,
        interface=Interfaces.WSGI,
        workers=options.workers,
        blocking_threads=options.threads,
        backlog=1024,
        websockets=False,
        log_level=LogLevels.warning,
        ssl_cert=options.certificate,
        ssl_key=options.key,
        respawn_failed_workers=True,
        workers_kill_timeout=STOP_S,
    ).serve()


def _prepare(config: Path) -> None:
    # Only now: importing Rucio reads its configuration.
    from boathouse_rucio_site import patches  # noqa: PLC0415

    patches.apply()
    import rucio.web.rest.flaskapi.v1.main  # noqa: F401, PLC0415 - the workers' application
    from rucio.db.sqla.session import get_engine  # noqa: PLC0415

    from boathouse_rucio_site import bootstrap, cache  # noqa: PLC0415

    bootstrap.run(config)
    # Workers share no connection, and what was read before the lake was ready is old.
    get_engine().dispose()
    cache.flush()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Serve Rucio's REST interface over TLS.")
    parser.add_argument("--config", type=Path, required=True, help="rucio.cfg")
    arguments = parser.parse_args()
    try:
        serve(arguments.config)
    except SiteError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
