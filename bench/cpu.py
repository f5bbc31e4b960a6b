"""CPU time of processes that others started, from /proc: proc_pid_stat(5)."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def cpu_s(pids: Iterable[int]) -> float:
    """User and system time of processes and of their children, those that ended included."""
    parents = set(pids)
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name in the second field may hold spaces and brackets.
            fields = path.read_text().rpartition(") ")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(path.parent.name) in parents:
            ticks += sum(map(int, fields[11:15]))
        elif int(fields[1]) in parents:
            ticks += sum(map(int, fields[11:13]))
    return ticks * _TICK_S
