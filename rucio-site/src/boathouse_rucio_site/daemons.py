"""All of Rucio's daemons in one process: ``python -m boathouse_rucio_site.daemons --config rucio.cfg``."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from pathlib import Path

from boathouse_rucio_site import health, logs, settings
from boathouse_rucio_site.errors import SiteError

_log = logging.getLogger(__name__)


def run(config: Path) -> bool:
    """Run until SIGTERM or SIGINT.

    Returns:
        Whether every daemon ended in time.

    Raises:
        SiteError: the configuration or the installed Rucio is not as it should be.
    """
    options = settings.load(config)
    # Only now: importing Rucio reads its configuration.
    from boathouse_rucio_site import patches  # noqa: PLC0415

    patches.apply()
    logs.configure()
    from rucio.core.request import TransferStatsManager  # noqa: PLC0415

    from boathouse_rucio_site import (  # noqa: PLC0415
        cache,
        conveying,
        database,
        denials,
        events,
        jwt,
        loop,
        pool,
        transfertool,
        work,
    )

    pool.watch()
    # Nobody shows tokens here, but those that the daemons hold die with a key that is withdrawn.
    denials.lists.follow(jwt.issuers())
    topology = conveying.TopologyCache()
    stop = threading.Event()

    def heard(topic: str) -> None:
        if topic == events.CONFIGURATION:
            cache.flush()
            topology.forget()
            transfertool.forget()
        else:
            supervisor.wake(topic)

    def connected() -> None:
        heard(events.CONFIGURATION)
        supervisor.wake_all()

    def tell() -> None:
        try:
            health.write(options.report, supervisor.report(listener.error))
        except OSError as error:
            # A full disk: the report grows old, which says it.
            _log.warning("cannot write %s: %s", options.report, error)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if not database.wait_until_made(stop):
        return True
    with TransferStatsManager() as stats:
        supervisor = loop.Supervisor(work.daemons(options, topology, stats), stop)
        listener = events.Listener(heard, connected)
        listener.start()
        _log.info("%d daemons start", len(supervisor.daemons))
        ended = supervisor.run(tell)
        listener.stop()
    _log.info("the daemons have ended")
    return ended


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Run all of Rucio's daemons.")
    parser.add_argument("--config", type=Path, required=True, help="rucio.cfg")
    arguments = parser.parse_args()
    try:
        run(arguments.config)
    except SiteError as error:
        sys.exit(str(error))
    logging.shutdown()
    # Threads of a cycle that was cut short may be in a system call; the database rolls their work back.
    os._exit(0)


if __name__ == "__main__":
    main()
