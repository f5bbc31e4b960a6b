"""The contract of a runner: something that makes a plan true."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from boathouse.plan.model import Plan


class UnitState(StrEnum):
    """State of a unit, and what each leads to; ``docs/topics/states.md`` tells the causes.

    ::

        stopped    -> preparing starting
        preparing  -> starting stopped
        starting   -> ready failing dead stopping
        ready      -> failing starting dead stopping
        failing    -> ready dead stopping
        dead       -> starting stopped
        stopping   -> stopped
    """

    stopped = "stopped"
    """Not running, and nobody asked it to."""
    preparing = "preparing"
    """Its files are written and its tasks run."""
    starting = "starting"
    """The process is up and has not yet answered its probe."""
    ready = "ready"
    """The probe is answered."""
    failing = "failing"
    """The process is up, but its probe is not answered in the time that it has to start; the reason says why."""
    dead = "dead"
    """The process ended by itself; the supervisor tries again with growing pauses."""
    stopping = "stopping"
    """Asked to end, not yet gone."""


@dataclass(frozen=True)
class Health:
    """What a unit is doing and why: never a bare word."""

    unit: str
    title: str
    state: UnitState
    detail: str
    """Reason in a few words: the probe's answer, the exit status, what it waits for."""
    since: float
    """When it entered this state or, for a running process, started: seconds since 1970, 0 if unknown."""
    pid: int = 0
    url: str = ""


Progress = Callable[[str, UnitState, str], None]
"""Called with a unit's name, its new state and the reason."""


class Runner(ABC):
    """Makes a plan true, and tells how far it is. A runner keeps what it knows in the state directory only."""

    @abstractmethod
    def apply(self, plan: Plan, progress: Progress | None = None) -> None:
        """Start what is not running, restart what has changed, leave alone what is right.

        Returns when every unit is ready. Idempotent. Killed half-way, the next call goes on from there.

        Raises:
            HostError: the machine lacks something; nothing was started.
            ServiceError: a unit did not become ready; its last log lines are in the error.
            StateError: somebody else is changing the same facility.
        """

    @abstractmethod
    def status(self, plan: Plan) -> tuple[Health, ...]:
        """Health of every unit, in start order; asks each one's probe once.

        Returns:
            One health a unit; a facility that is down gives ``stopped`` for all.

        Raises:
            StateError: the state directory cannot be read.
        """

    @abstractmethod
    def logs(self, plan: Plan, unit: str, *, lines: int, follow: bool) -> Iterator[str]:
        """The last lines of a unit's log, then new ones as they come if asked.

        Returns:
            Lines without their line ends.

        Raises:
            NotFoundError: there is no such unit.
        """

    @abstractmethod
    def stop(self, plan: Plan | None, progress: Progress | None = None) -> int:
        """Stop everything that :meth:`apply` started and nothing else. No-op if nothing runs.

        Returns:
            The number of processes that were stopped.

        Raises:
            ServiceError: a process could not be ended.
            StateError: somebody else is changing the same facility.
        """
