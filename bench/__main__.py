"""``python -m bench [NAME…]``: all benchmarks, or those whose name or id begins with one of the names given."""

from __future__ import annotations

import sys

from rich.console import Console

from bench import analysis, imports, rules, up
from bench.harness import Benchmark, Row, report

BENCHMARKS: tuple[Benchmark, ...] = (up.BENCHMARK, imports.BENCHMARK, rules.BENCHMARK, analysis.BENCHMARK)


def main(names: list[str]) -> int:
    """Run what was asked for; the exit status is 0 whether or not targets are met: figures are for people to judge."""
    chosen = [
        benchmark
        for benchmark in BENCHMARKS
        if not names or any(key.startswith(name) for name in names for key in (benchmark.name, *benchmark.ids))
    ]
    if not chosen:
        known = ", ".join(key for benchmark in BENCHMARKS for key in (benchmark.name, *benchmark.ids))
        Console(stderr=True).print(f"no benchmark of that name; there are {known}")
        return 2
    rows: list[Row] = []
    for benchmark in chosen:
        Console(stderr=True).print(f"measuring {benchmark.name} …")
        rows += benchmark.run()
    report(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
