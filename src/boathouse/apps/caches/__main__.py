"""``python -m boathouse.apps.caches --config FILE``: run the care of caches."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from boathouse.apps import serving
from boathouse.apps.caches.app import Application
from boathouse.apps.caches.settings import Settings
from boathouse.errors import BoathouseError


def main(arguments: list[str] | None = None) -> int:
    """Run until SIGTERM. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="boathouse.apps.caches", description="The care of caches.")
    parser.add_argument("--config", type=Path, required=True, help="JSON file of settings")
    options = parser.parse_args(arguments)
    serving.log_to_stderr(quiet=["uvicorn.access"])
    try:
        settings = serving.load(Settings, options.config)
        application = Application(settings).create()
    except BoathouseError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    serving.serve(application, settings)
    return 0


if __name__ == "__main__":
    sys.exit(main())
