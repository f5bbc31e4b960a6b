"""``python -m boathouse.apps.transfers --config FILE``: run the transfer service."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from pathlib import Path

import uvicorn

from boathouse.apps.transfers import database
from boathouse.apps.transfers import settings as settings_module
from boathouse.apps.transfers.app import create
from boathouse.errors import BoathouseError

_STOP_S = 1
"""How long requests may go on after SIGTERM; clients that wait for a job ask again."""


def main(arguments: list[str] | None = None) -> int:
    """Run until SIGTERM. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="boathouse.apps.transfers", description="The transfer service.")
    parser.add_argument("--config", type=Path, required=True, help="JSON file of settings")
    options = parser.parse_args(arguments)
    _log_to_stderr()
    try:
        settings = settings_module.load(options.config)
        engine = database.connect(settings.database_url)
        database.migrate(engine)
    except BoathouseError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    uvicorn.run(
        create(settings, engine),
        host=settings.listen_address,
        port=settings.port,
        ssl_certfile=settings.certificate,
        ssl_keyfile=str(settings.key),
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_STOP_S,
        lifespan="on",
    )
    return 0


def _log_to_stderr() -> None:
    formatter = logging.Formatter("%(asctime)s.%(msecs)03dZ %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    # These would repeat what we log ourselves, or the URLs of requests.
    for name in ("uvicorn.access", "aiohttp.access", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Clients keep connections open; that these are closed at the end is no error.
    logging.getLogger("uvicorn.error").addFilter(lambda record: not record.getMessage().startswith("Cancel 0 running"))


if __name__ == "__main__":
    sys.exit(main())
