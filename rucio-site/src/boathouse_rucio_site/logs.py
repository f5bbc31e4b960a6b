"""One line an event on standard error, which the runner keeps in a file."""

from __future__ import annotations

import logging
import sys


def configure(level: int = logging.INFO) -> None:
    """Log to standard error; Rucio's chatter about having nothing to do is left out."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(threadName)s %(message)s"))
    handler.addFilter(_worth_reading)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in ("urllib3", "requests", "alembic", "dogpile.cache"):
        logging.getLogger(name).setLevel(logging.WARNING)


_IDLE = (
    "id not get any work",
    "Got 0 transfers",
    "Only 0 transfers",
    "Reaper started",
    "Minos started",
    "No bad replicas to process",
    "Refreshed topology object",
    "Nb workers on",
    "to process 0 DIDs",
    "0 files processed",
    "No subscriptions defined",
    "less than half of the bulk",
    "Polling ",
    "Using a token to delete",
    "Attempting to find algorithm",
    "not found in default location",
)


def _worth_reading(record: logging.LogRecord) -> bool:
    if record.levelno > logging.WARNING:
        return True
    message = record.getMessage()
    return not any(part in message for part in _IDLE)
