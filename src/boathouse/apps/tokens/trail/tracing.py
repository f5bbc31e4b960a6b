"""One name for each request: in its reply, in every line of the log, and in the audit records."""

from __future__ import annotations

import logging
import secrets
from contextvars import ContextVar

HEADER = b"x-request-id"
"""The header of a reply that carries the name."""

_NOW: ContextVar[str] = ContextVar("request", default="-")


def begin() -> str:
    """Name the request that begins in this task; threads that work for it see the same name."""
    name = secrets.token_hex(8)
    _NOW.set(name)
    return name


def current() -> str:
    """The name of the request that is worked on; ``-`` outside of any."""
    return _NOW.get()


class Named(logging.Filter):
    """Gives each log record the name of its request, as ``%(request)s``."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the name; drops nothing."""
        record.request = current()
        return True
