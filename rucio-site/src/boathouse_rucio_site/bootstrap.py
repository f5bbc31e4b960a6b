"""Make database and lake ready, any number of times: ``python -m boathouse_rucio_site.bootstrap --config FILE``."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from pathlib import Path

from boathouse_rucio_site import logs, settings
from boathouse_rucio_site.errors import SiteError

_log = logging.getLogger(__name__)


def run(config: Path) -> int:
    """Make the tables if there are none, then make the catalogue agree with ``lake.json``.

    Returns:
        How many things of the lake were changed; 0 if all was as described.

    Raises:
        SiteError: the configuration, the description or the database is not as it should be.
    """
    options = settings.load(config)
    # Only now: importing Rucio reads its configuration.
    from boathouse_rucio_site import patches  # noqa: PLC0415

    patches.apply_cache()
    logs.configure()
    from boathouse_rucio_site import database, lake  # noqa: PLC0415

    began = time.monotonic()
    document = lake.read(options.lake)
    database.wait_until_reachable()
    database.ensure()
    changes = lake.synchronise(document)
    _log.info("the catalogue is as described, %d changes, %.1f s", changes, time.monotonic() - began)
    return changes


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Make database and lake ready.")
    parser.add_argument("--config", type=Path, required=True, help="rucio.cfg")
    arguments = parser.parse_args()
    try:
        run(arguments.config)
    except SiteError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
