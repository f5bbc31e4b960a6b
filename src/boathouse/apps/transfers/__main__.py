"""``python -m boathouse.apps.transfers --config FILE``: run the transfer service."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from boathouse.apps import serving
from boathouse.apps.transfers import database
from boathouse.apps.transfers.app import create
from boathouse.apps.transfers.settings import Settings
from boathouse.errors import BoathouseError


def main(arguments: list[str] | None = None) -> int:
    """Run until SIGTERM. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="boathouse.apps.transfers", description="The transfer service.")
    parser.add_argument("--config", type=Path, required=True, help="JSON file of settings")
    options = parser.parse_args(arguments)
    # These would repeat what we log ourselves, or the URLs of requests.
    serving.log_to_stderr(quiet=["uvicorn.access", "aiohttp.access", "alembic"])
    # Clients keep connections open; that these are closed at the end is no error.
    logging.getLogger("uvicorn.error").addFilter(lambda record: not record.getMessage().startswith("Cancel 0 running"))
    try:
        settings = serving.load(Settings, options.config)
        engine = database.connect(settings.database_url)
        database.migrate(engine)
    except BoathouseError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    serving.serve(create(settings, engine), settings)
    return 0


if __name__ == "__main__":
    sys.exit(main())
