"""What links moved since the last look: one process's counts, for the optimizer and for limits on rates."""

from __future__ import annotations

import time
from dataclasses import dataclass

from boathouse.apps.transfers.failures import ErrorClass
from boathouse.apps.transfers.scheduler import Link
from boathouse.apps.transfers.states import FileState
from boathouse.apps.transfers.work import Outcome, Task, Work

_NOT_THE_LINKS = frozenset({ErrorClass.auth, ErrorClass.exists})


@dataclass
class Sample:
    """What one link did in an interval."""

    bytes: int = 0
    finished: int = 0
    failed: int = 0
    sizes: float = 0.0
    squares: float = 0.0


class Meter:
    """Counts for one worker; it lives in the event loop."""

    def __init__(self) -> None:
        self._samples: dict[Link, Sample] = {}
        self._seen: dict[int, int] = {}
        self._since = time.monotonic()

    def moved(self, work: Work, transferred_bytes: int) -> None:
        """Take a marker into account: so many bytes of a file have moved so far."""
        before = self._seen.get(work.file_id, 0)
        self._seen[work.file_id] = max(transferred_bytes, before)
        self._of(work).bytes += max(transferred_bytes - before, 0)

    def ended(self, outcome: Outcome) -> None:
        """Take the end of an attempt into account."""
        work = outcome.work
        seen = self._seen.pop(work.file_id, 0)
        if work.task is not Task.copy or outcome.existed:
            return
        if outcome.state is FileState.FINISHED:
            sample = self._of(work)
            sample.bytes += max(outcome.size_bytes - seen, 0)
            sample.finished += 1
            sample.sizes += outcome.size_bytes
            sample.squares += float(outcome.size_bytes) ** 2
        elif outcome.failure is not None and _blames_link(outcome):
            self._of(work).failed += 1

    def take(self) -> tuple[float, dict[Link, Sample]]:
        """The seconds since the last call, and what moved in them; counting starts anew."""
        now = time.monotonic()
        seconds, self._since = now - self._since, now
        samples, self._samples = self._samples, {}
        return seconds, samples

    def _of(self, work: Work) -> Sample:
        return self._samples.setdefault((work.source_host, work.dest_host), Sample())


def _blames_link(outcome: Outcome) -> bool:
    """Whether a failure says something of the link: a refused token or a missing file does not."""
    failure = outcome.failure
    return failure is not None and failure.kind not in _NOT_THE_LINKS and failure.again
