"""What Prometheus may know: copies, bytes and durations by link, the queue, and what the operator decided.

Counters are of this process since its start; gauges are of the database, so that every worker tells the same.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from boathouse.apps.transfers.states import FileState
from boathouse.apps.transfers.work import Outcome, Task

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS_S = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3600.0)
"""Upper ends of the durations that are told apart, in seconds."""
RECENT_S = 600.0
_PART_S = 10.0
"""What happened in the last ten minutes is summed in parts of this length: a look costs by links, not by copies."""

Link = tuple[str, str]


@dataclass
class LinkState:
    """What a link did in the last ten minutes."""

    ended: Counter[str] = field(default_factory=Counter)
    """Attempts by ``finished``, ``existed`` or the class of their error."""
    size_bytes: int = 0
    """Of the files that were copied."""

    def add(self, other: LinkState) -> None:
        """Take what happened in another time into account as well."""
        self.ended.update(other.ended)
        self.size_bytes += other.size_bytes


@dataclass
class _Counted:
    """What was counted of a VO since the process began."""

    attempts: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """By source, destination and end."""
    size_bytes: Counter[Link] = field(default_factory=Counter)
    milliseconds: Counter[Link] = field(default_factory=Counter)
    durations: dict[Link, Counter[int]] = field(default_factory=dict)
    """By link: how many copies took so long, by the number of the bucket."""

    def add(self, other: _Counted) -> None:
        self.attempts.update(other.attempts)
        self.size_bytes.update(other.size_bytes)
        self.milliseconds.update(other.milliseconds)
        for link, counts in tuple(other.durations.items()):
            self.durations.setdefault(link, Counter()).update(counts)


@dataclass(frozen=True)
class Gauges:
    """What the database tells."""

    files: Iterable[Mapping[str, Any]] = ()
    """source_host, dest_host, file_state, count."""
    queue: Iterable[Mapping[str, Any]] = ()
    """vo_name, activity, file_state, count."""
    unreachable: Iterable[str] = ()
    """Hosts that are paused."""
    banned: Iterable[tuple[str, str]] = ()
    """Storage element and VO."""
    decided: Mapping[Link, int] = field(default_factory=dict)
    """The optimizer's number of copies by link."""


class Metrics:
    """Counters of this process.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counted: dict[str, _Counted] = {}
        self._recent: deque[tuple[float, dict[tuple[str, Link], LinkState]]] = deque()

    def count(self, outcome: Outcome) -> None:
        """Take an outcome into account."""
        work = outcome.work
        if work.task is Task.clean:
            return
        link = (work.source_host, work.dest_host)
        ended = "existed" if outcome.existed else str(outcome.state).lower()
        ended = str(outcome.failure.kind) if outcome.failure else ended
        copied = outcome.state is FileState.FINISHED and not outcome.existed
        state = self._part().setdefault((work.vo, link), LinkState())
        state.ended[ended] += 1
        state.size_bytes += outcome.size_bytes if copied else 0
        mine = self._counted.setdefault(work.vo, _Counted())
        mine.attempts[*link, ended] += 1
        if copied:
            mine.size_bytes[link] += outcome.size_bytes
            mine.milliseconds[link] += round(outcome.seconds * 1000)
            mine.durations.setdefault(link, Counter())[bisect_left(BUCKETS_S, outcome.seconds)] += 1

    def recent(self, vo: str | None = None) -> dict[Link, LinkState]:
        """What the copies of this process came to in the last ten minutes, by link: a VO's, or all."""
        since = self._clock() - RECENT_S
        found: dict[Link, LinkState] = {}
        for begun, part in tuple(self._recent):
            for (whose, link), state in tuple(part.items()):
                if begun >= since and vo in (None, whose):
                    found.setdefault(link, LinkState()).add(state)
        return found

    def _part(self) -> dict[tuple[str, Link], LinkState]:
        """Where what happens now is summed; parts that nobody asks for any more are dropped."""
        now = self._clock()
        if not self._recent or self._recent[-1][0] < now - _PART_S:
            self._recent.append((now, {}))
            while self._recent[0][0] < now - RECENT_S:
                self._recent.popleft()
        return self._recent[-1][1]

    def text(self, gauges: Gauges, running: int | None, vo: str | None = None) -> str:
        """All metrics in Prometheus's text format.

        Args:
            gauges: what the database tells.
            running: files that this process works on; not told if none.
            vo: whose copies are counted; all if none.
        """
        return "\n".join((*self._counters(vo), *_gauges(gauges, running))) + "\n"

    def _sum(self, vo: str | None) -> _Counted:
        total = _Counted()
        for whose, counted in tuple(self._counted.items()):
            if vo in (None, whose):
                total.add(counted)
        return total

    def _counters(self, vo: str | None) -> Iterator[str]:
        counted = self._sum(vo)
        yield from _head("attempts_total", "counter", "Attempts to copy a file, by how they ended.")
        for (source, destination, ended), count in sorted(counted.attempts.items()):
            yield _line("attempts_total", count, source=source, destination=destination, ended=ended)
        yield from _head("bytes_total", "counter", "Bytes of files that were copied.")
        for (source, destination), count in sorted(counted.size_bytes.items()):
            yield _line("bytes_total", count, source=source, destination=destination)
        yield from _head("duration_seconds", "histogram", "Time that a copy took, from its start to the check.")
        for link, counts in sorted(counted.durations.items()):
            labels, total = {"source": link[0], "destination": link[1]}, 0
            for number, end in enumerate((*BUCKETS_S, None)):
                total += counts[number]
                yield _line("duration_seconds_bucket", total, **labels, le="+Inf" if end is None else f"{end:g}")
            yield _line("duration_seconds_sum", counted.milliseconds[link] / 1000, **labels)
            yield _line("duration_seconds_count", total, **labels)


def _gauges(gauges: Gauges, running: int | None) -> Iterator[str]:
    yield from _head("files", "gauge", "Files of a link that wait, are copied, or left something to be removed.")
    for row in gauges.files:
        labels = {"source": row["source_host"], "destination": row["dest_host"], "state": row["file_state"]}
        yield _line("files", row["count"], **labels)
    yield from _head("queue", "gauge", "Files of a VO and an activity that wait or are copied.")
    for row in gauges.queue:
        yield _line("queue", row["count"], vo=row["vo_name"], activity=row["activity"], state=row["file_state"])
    yield from _head("link_limit", "gauge", "Copies that the optimizer lets a link run at once.")
    for (source, destination), active in sorted(gauges.decided.items()):
        yield _line("link_limit", active, source=source, destination=destination)
    yield from _head("unreachable", "gauge", "Storage elements that are paused since they cannot be reached.")
    for host in sorted(gauges.unreachable):
        yield _line("unreachable", 1, host=host)
    yield from _head("banned", "gauge", "Storage elements that are banned, by VO.")
    for storage, vo in sorted(gauges.banned):
        yield _line("banned", 1, storage=storage, vo=vo)
    if running is not None:
        yield from _head("running", "gauge", "Files that this worker is at work on.")
        yield _line("running", running)


def _head(name: str, kind: str, text: str) -> tuple[str, str]:
    return f"# HELP boathouse_transfer_{name} {text}", f"# TYPE boathouse_transfer_{name} {kind}"


def _line(metric: str, value: float, **labels: str) -> str:
    def quoted(text: str) -> str:
        return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")

    inside = ",".join(f'{name}="{quoted(text)}"' for name, text in labels.items())
    return f"boathouse_transfer_{metric}{'{' + inside + '}' if inside else ''} {value}"
