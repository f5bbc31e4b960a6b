"""``python -m boathouse.apps.network --config FILE``: run the relay between the sites."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from pathlib import Path

import uvicorn

from boathouse.apps.network import settings as settings_module
from boathouse.apps.network.app import create
from boathouse.apps.network.relay import Relay
from boathouse.errors import BoathouseError


def main(arguments: list[str] | None = None) -> int:
    """Run until SIGTERM. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="boathouse.apps.network", description="The relay between the sites.")
    parser.add_argument("--config", type=Path, required=True, help="JSON file of settings")
    options = parser.parse_args(arguments)
    _log_to_stderr()
    try:
        settings = settings_module.load(options.config)
        relay = Relay(settings)
    except BoathouseError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    uvicorn.run(
        create(relay),
        host=settings.listen_address,
        port=settings.port,
        ssl_certfile=settings.certificate,
        ssl_keyfile=str(settings.key),
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=1,
        lifespan="on",
    )
    return 0


def _log_to_stderr() -> None:
    formatter = logging.Formatter("%(asctime)s.%(msecs)03dZ %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.INFO, handlers=[handler])


if __name__ == "__main__":
    sys.exit(main())
