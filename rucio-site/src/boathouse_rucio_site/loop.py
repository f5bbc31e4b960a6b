"""One loop a daemon: work when woken, and now and then unasked; and the supervisor of all loops."""

from __future__ import annotations

import datetime as dt
import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from boathouse_rucio_site.errors import SiteError

HEARTBEAT_S = 30
"""Seconds between a daemon's heartbeats in the database; Rucio takes it for dead after ten times that."""
ERROR_WAIT_S = (1.0, 15.0)
"""Shortest and longest wait after a failed cycle."""
HUNG_S = 900.0
"""A cycle that takes longer than this counts as hung."""
FAILING_S = 60.0
"""A daemon whose cycles have failed for so long is reported."""
STOP_S = 4.0
"""Time for the loops to end."""

_log = logging.getLogger(__name__)

Cycle = Callable[[Any], "float | None"]
"""One round of work, given the heartbeat; answers in how many seconds it wants to be called again, if it knows."""


@dataclass
class Status:
    """What is told of a daemon."""

    cycles: int = 0
    restarts: int = 0
    last_cycle: str = ""
    """When the last cycle ended, ISO 8601."""
    last_duration_s: float = 0.0
    last_error: str = ""
    """Why the last cycle failed; empty if it did not."""
    failing_since: float | None = None
    """Monotonic time of the first failure in a row."""
    busy_since: float | None = None
    """Monotonic time at which the present cycle began."""


class Daemon:
    """A loop in a thread.

    Args:
        name: for logs and health.
        cycle: the work.
        topics: notifications that wake it.
        interval_s: longest time between two cycles.
        settle_s: after waking, wait so long for more to come; for work that nobody waits for.
        heartbeat: makes the context in which the loop runs; its value is given to each cycle.
        stop_work: asks a running cycle to end early.
    """

    def __init__(
        self,
        name: str,
        cycle: Cycle,
        *,
        topics: Sequence[str] = (),
        interval_s: float = 60.0,
        settle_s: float = 0.0,
        heartbeat: Callable[[], AbstractContextManager[Any]],
        stop_work: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self.topics = frozenset(topics)
        self.status = Status()
        self._cycle = cycle
        self._interval_s = interval_s
        self._settle_s = settle_s
        self._heartbeat = heartbeat
        self._stop_work = stop_work
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def alive(self) -> bool:
        """Whether its thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Start the thread; there is never more than one."""
        if self.alive:
            return
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Have a cycle run soon; a wake during a cycle causes another one."""
        self._wake.set()

    def ask_to_stop(self) -> None:
        """Have the loop end after, or within, the present cycle."""
        self._stop.set()
        self._stop_work()
        self._wake.set()

    def join(self, timeout_s: float) -> bool:
        """Wait for the end; whether it came."""
        if self._thread is not None:
            self._thread.join(timeout_s)
        return not self.alive

    def _run(self) -> None:
        try:
            with self._heartbeat() as heartbeat:
                self._loop(heartbeat)
        except Exception as error:  # noqa: BLE001 - the edge of the thread
            # Without its heartbeat (no database) a daemon must not work; the supervisor starts it again.
            _log.exception("%s ends", self.name)
            self.status.last_error = _one_line(error)

    def _loop(self, heartbeat: Any) -> None:
        error_wait = ERROR_WAIT_S[0]
        while not self._stop.is_set():
            self._wake.clear()
            delay = self._once(heartbeat)
            if self.status.last_error:
                delay, error_wait = error_wait, min(2 * error_wait, ERROR_WAIT_S[1])
            else:
                error_wait = ERROR_WAIT_S[0]
            woken = self._wake.wait(self._interval_s if delay is None else min(delay, self._interval_s))
            if woken and self._settle_s:
                self._stop.wait(self._settle_s)

    def _once(self, heartbeat: Any) -> float | None:
        status = self.status
        began = status.busy_since = time.monotonic()
        delay: float | None = None
        try:
            delay = self._cycle(heartbeat)
        except Exception as error:  # noqa: BLE001 - the edge of the loop: whatever it is, it is told, and tried again
            status.last_error = _one_line(error)
            # Of what is known to go wrong, an issuer that is away, one line says all.
            _log.error(
                "%s: this cycle failed: %s", self.name, status.last_error, exc_info=not isinstance(error, SiteError)
            )
            status.failing_since = status.failing_since or began
        else:
            status.last_error, status.failing_since = "", None
        status.cycles += 1
        status.last_duration_s = round(time.monotonic() - began, 4)
        status.last_cycle = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
        status.busy_since = None
        return delay


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:500]


class Supervisor:
    """Starts all daemons, restarts one whose thread has ended, wakes those that a topic concerns.

    Args:
        daemons: the daemons.
        stop: once it is set, :meth:`run` ends.
    """

    def __init__(self, daemons: Sequence[Daemon], stop: threading.Event) -> None:
        self.daemons = tuple(daemons)
        self._stop = stop

    def wake(self, topic: str) -> None:
        """Wake the daemons that listen to a topic."""
        for daemon in self.daemons:
            if topic in daemon.topics:
                daemon.wake()

    def wake_all(self) -> None:
        """Wake every daemon: something may have been missed."""
        for daemon in self.daemons:
            daemon.wake()

    def run(self, tell: Callable[[], None], check_s: float = 2.0) -> bool:
        """Keep all daemons running until they shall stop, then end them.

        Args:
            tell: called after each look at the daemons.
            check_s: seconds between two looks.

        Returns:
            Whether all ended in time.
        """
        for daemon in self.daemons:
            daemon.start()
        # Who waits for the first good report is not made to wait longer.
        period = min(0.1, check_s)
        while not self._stop.wait(period):
            period = min(1.5 * period, check_s)
            for daemon in self.daemons:
                if not daemon.alive:
                    daemon.status.restarts += 1
                    _log.error("%s: its thread has ended, restart %d", daemon.name, daemon.status.restarts)
                    daemon.start()
            tell()
        for daemon in self.daemons:
            daemon.ask_to_stop()
        deadline = time.monotonic() + STOP_S
        ended = [daemon.join(max(0.0, deadline - time.monotonic())) for daemon in self.daemons]
        late = [daemon.name for daemon, over in zip(self.daemons, ended, strict=True) if not over]
        if late:
            _log.warning("still busy after %.0f s, cut short: %s", STOP_S, ", ".join(late))
        return not late

    def report(self, listener_error: str | None) -> dict[str, Any]:
        """What :mod:`.health` tells."""
        now = time.monotonic()
        reasons = [f"the listener: {listener_error}"] if listener_error else []
        daemons = {}
        for daemon in self.daemons:
            status = daemon.status
            if not daemon.alive:
                reasons.append(f"{daemon.name} is dead")
            elif status.busy_since is not None and now - status.busy_since > HUNG_S:
                reasons.append(f"{daemon.name} hangs")
            elif status.failing_since is not None and now - status.failing_since > FAILING_S:
                reasons.append(f"{daemon.name}: {status.last_error}")
            daemons[daemon.name] = {
                "alive": daemon.alive,
                "busy": status.busy_since is not None,
                "cycles": status.cycles,
                "restarts": status.restarts,
                "last_cycle": status.last_cycle,
                "last_duration_s": status.last_duration_s,
                "last_error": status.last_error,
            }
        return {
            "ok": not reasons,
            "detail": "; ".join(reasons) or f"{len(self.daemons)} daemons work",
            "listener": listener_error,
            "daemons": daemons,
        }
