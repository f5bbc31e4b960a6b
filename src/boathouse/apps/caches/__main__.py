"""``python -m boathouse.apps.caches --config FILE``: run the care of caches."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from pathlib import Path

import uvicorn

from boathouse.apps.caches import settings as settings_module
from boathouse.apps.caches.app import Application
from boathouse.errors import BoathouseError

_STOP_S = 1
"""How long requests may go on after SIGTERM."""


def main(arguments: list[str] | None = None) -> int:
    """Run until SIGTERM. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="boathouse.apps.caches", description="The care of caches.")
    parser.add_argument("--config", type=Path, required=True, help="JSON file of settings")
    options = parser.parse_args(arguments)
    _log_to_stderr()
    try:
        settings = settings_module.load(options.config)
        application = Application(settings).create()
    except BoathouseError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    uvicorn.run(
        application,
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
    logging.getLogger("uvicorn.access").setLevel(logging.WARNING)


if __name__ == "__main__":
    sys.exit(main())
