"""The process that keeps a session's token fresh until logout: ``python -m boathouse.lake.agent DIRECTORY``.

One agent a session: a second one finds the lock taken and leaves. It ends when the session's files are gone, when it
is told to (SIGTERM), when the issuer says that the refresh token is dead, or when the facility's CA bundle has been
gone for a minute, which is to say the facility itself. Every half minute it looks whether the key that signed the token
was withdrawn. While the issuer does not answer it tries again, at most once in
five seconds, at least once a minute.
"""

from __future__ import annotations

import fcntl
import logging
import math
import os
import signal
import ssl
import sys
import threading
import time
from logging.handlers import RotatingFileHandler
from pathlib import Path

from boathouse.errors import AuthError, BoathouseError
from boathouse.lake.session import Session

log = logging.getLogger("boathouse.agent")

_LOOK_S = 30.0
"""How often it looks whether the session is still there; a sleep of the machine is noticed as soon."""

_RETRY_S = (5.0, 60.0)

_GONE_S = 60.0
"""A facility whose CA bundle is missing for so long is gone; one that is only down keeps its files."""


def due_at(issued_at: float, expires_at: float) -> float:
    """When to renew a token: with a third of its life left."""
    return expires_at - (expires_at - issued_at) / 3


def keep_fresh(session: Session, stop: threading.Event, *, gone_s: float = _GONE_S) -> int:
    """Renew until told to stop, or until the session or its facility is gone; returns the exit status."""
    retry_s = _RETRY_S[0]
    seen = time.monotonic()
    while not stop.is_set() and session.exists:
        access = session.access
        now = time.time()
        if Path(session.record.ca_bundle).is_file():
            seen = time.monotonic()
        elif time.monotonic() - seen >= gone_s:
            log.warning("the facility is gone: there is no %s", session.record.ca_bundle)
            return 0
        if access is not None and now < due_at(access.issued_at, access.expires_at):
            stop.wait(min(_LOOK_S, due_at(access.issued_at, access.expires_at) - now))
            if stop.is_set() or not _withdrawn(session):
                continue
            log.warning("the key of the token was withdrawn")
            needed_s = math.inf
        else:
            life_s = access.expires_at - access.issued_at if access is not None else 0.0
            needed_s = life_s / 3 + 1.0
        try:
            # It has a patience of its own, and whoever has a token that serves shall not wait for it.
            renewed = session.renew(needed_s, patient=False)
        except AuthError as error:
            log.warning("the session is over: %s (%s)", error.what, error.got)
            return error.exit_code
        except BoathouseError as error:
            log.warning("cannot renew now: %s (%s); trying again in %.0f s", error.what, error.got, retry_s)
            stop.wait(retry_s)
            retry_s = min(retry_s * 2, _RETRY_S[1])
            continue
        retry_s = _RETRY_S[0]
        log.info("token renewed for %.0f s", renewed.expires_at - time.time())
        # A lifetime that makes the next renewal due at once must not become a busy loop.
        stop.wait(1.0)
    log.info("stopped")
    return 0


def _withdrawn(session: Session) -> bool:
    """Whether the token is worth nothing although it has not ended; no, as long as the issuer does not say so."""
    try:
        return session.exists and session.withdrawn()
    except (BoathouseError, OSError, ssl.SSLError):
        # That the issuer is down is said when the token is due.
        return False


def main(arguments: list[str]) -> int:
    """Run the agent of a session: in the background, or with ``--foreground`` as this very process."""
    directory = Path(arguments[0])
    if "--foreground" not in arguments and os.fork():
        # The caller gets its child back at once, and the agent gets init for a parent.
        os._exit(0)
    handler = RotatingFileHandler(directory / "agent.log", maxBytes=65536, backupCount=1)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    descriptor = os.open(directory / "agent.lock", os.O_RDWR | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "r+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return 0
        lock.truncate()
        lock.write(str(os.getpid()))
        lock.flush()
        return keep_fresh(Session.at(directory), stop)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
