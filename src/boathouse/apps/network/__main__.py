"""``python -m boathouse.apps.network --config FILE``: run the relay between the sites."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from boathouse.apps import serving
from boathouse.apps.network.app import create
from boathouse.apps.network.relay import Relay
from boathouse.apps.network.settings import Settings
from boathouse.errors import BoathouseError


def main(arguments: list[str] | None = None) -> int:
    """Run until SIGTERM. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="boathouse.apps.network", description="The relay between the sites.")
    parser.add_argument("--config", type=Path, required=True, help="JSON file of settings")
    options = parser.parse_args(arguments)
    serving.log_to_stderr()
    try:
        settings = serving.load(Settings, options.config)
        relay = Relay(settings)
    except BoathouseError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    serving.serve(create(relay), settings)
    return 0


if __name__ == "__main__":
    sys.exit(main())
