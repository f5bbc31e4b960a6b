"""What every benchmark shares: the row that it reports, the table for people, the file for machines."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table

OUTPUT = Path("build") / "bench.json"


@dataclass(frozen=True)
class Row:
    """One figure beside its peers of the same run, all in one unit.

    ``limit`` is what the machine could do at best, None where there is no such thing; ``target`` says in words what is
    aimed at, ``met`` whether it was reached.
    """

    id: str
    what: str
    unit: str
    better: Literal["higher", "lower"]
    ours: float
    target: str
    met: bool
    peers: Mapping[str, float] = field(default_factory=dict)
    limit: float | None = None


class Effort(Enum):
    """How much a benchmark does."""

    full = "full"
    """What its figures are taken from."""
    quick = "quick"
    """Once, and as little as goes: it shows that the benchmark works, and its figures mean nothing."""


@dataclass(frozen=True)
class Benchmark:
    """A named measurement: the ids of the rows that it makes, and the function that makes them.

    A quick one may leave rows out.
    """

    name: str
    ids: tuple[str, ...]
    run: Callable[[Effort], list[Row]]


def timed(work: Callable[[], object]) -> float:
    """Seconds of wall time that the work takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def median_of(times: int, work: Callable[[], float]) -> float:
    """The median of several measurements; these machines are shared and single figures jump."""
    return statistics.median(work() for _ in range(times))


def report(rows: list[Row]) -> None:
    """Print the table and write ``build/bench.json``."""
    OUTPUT.parent.mkdir(exist_ok=True)
    OUTPUT.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n", encoding="utf-8")
    table = Table("id", "what", "unit", "ours", "peers", "limit", "target", "met")
    for row in rows:
        peers = "\n".join(f"{name}: {value:.3g}" for name, value in row.peers.items())
        table.add_row(
            row.id,
            row.what,
            f"{row.unit} ({row.better} is better)",
            f"{row.ours:.3g}",
            peers,
            "" if row.limit is None else f"{row.limit:.3g}",
            row.target,
            "[green]yes[/green]" if row.met else "[red]no[/red]",
        )
    Console(width=160).print(table)
    Console().print(f"written to {OUTPUT}")
