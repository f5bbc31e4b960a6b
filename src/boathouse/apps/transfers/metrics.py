"""What Prometheus may know: counts of copies and bytes by link and error class, and the state of the queue."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from boathouse.apps.transfers.states import FileState
from boathouse.apps.transfers.work import Outcome, Task

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Counters of this process."""

    def __init__(self) -> None:
        self._attempts: Counter[tuple[str, str, str]] = Counter()
        self._bytes: Counter[tuple[str, str]] = Counter()
        self._seconds: Counter[tuple[str, str]] = Counter()

    def count(self, outcome: Outcome) -> None:
        """Take an outcome into account."""
        work = outcome.work
        if work.task is Task.clean:
            return
        link = (work.source_host, work.dest_host)
        ended = "existed" if outcome.existed else str(outcome.state).lower()
        self._attempts[*link, str(outcome.failure.kind) if outcome.failure else ended] += 1
        if outcome.state is FileState.FINISHED and not outcome.existed:
            self._bytes[link] += outcome.size_bytes
            self._seconds[link] += round(outcome.seconds * 1000)

    def text(self, gauges: Iterable[Mapping[str, Any]], unreachable: Iterable[str], unclosed: int) -> str:
        """All metrics in Prometheus's text format.

        Args:
            gauges: rows with source_host, dest_host, file_state and count.
            unreachable: hosts that are paused.
            unclosed: copies that this process runs.
        """
        lines = [
            "# HELP boathouse_transfer_attempts_total Attempts to copy a file, by how they ended.",
            "# TYPE boathouse_transfer_attempts_total counter",
            *(
                f"boathouse_transfer_attempts_total{_labels(source=a, destination=b, ended=ended)} {count}"
                for (a, b, ended), count in sorted(self._attempts.items())
            ),
            "# HELP boathouse_transfer_bytes_total Bytes of files that were copied.",
            "# TYPE boathouse_transfer_bytes_total counter",
            *(
                f"boathouse_transfer_bytes_total{_labels(source=a, destination=b)} {count}"
                for (a, b), count in sorted(self._bytes.items())
            ),
            "# HELP boathouse_transfer_seconds_total Time that those copies took.",
            "# TYPE boathouse_transfer_seconds_total counter",
            *(
                f"boathouse_transfer_seconds_total{_labels(source=a, destination=b)} {count / 1000}"
                for (a, b), count in sorted(self._seconds.items())
            ),
            "# HELP boathouse_transfer_files Files that wait, are copied, or left something to be removed.",
            "# TYPE boathouse_transfer_files gauge",
            *(
                "boathouse_transfer_files"
                + _labels(source=row["source_host"], destination=row["dest_host"], state=row["file_state"])
                + f" {row['count']}"
                for row in gauges
            ),
            "# HELP boathouse_transfer_unreachable Storage elements that are paused since they cannot be reached.",
            "# TYPE boathouse_transfer_unreachable gauge",
            *(f"boathouse_transfer_unreachable{_labels(host=host)} 1" for host in sorted(unreachable)),
            "# HELP boathouse_transfer_running Files that this worker is at work on.",
            "# TYPE boathouse_transfer_running gauge",
            f"boathouse_transfer_running {unclosed}",
        ]
        return "\n".join(lines) + "\n"


def _labels(**values: str) -> str:
    def quoted(value: str) -> str:
        return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")

    return "{" + ",".join(f'{name}="{quoted(value)}"' for name, value in values.items()) + "}"
