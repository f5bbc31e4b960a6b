"""``python -m bench [--quick] [NAME…]``: all benchmarks, or those whose name or id begins with one of the names."""

from __future__ import annotations

import argparse
import signal
import sys

from rich.console import Console

from bench import analysis, caches, files, imports, prestage, rules, tokens, transfers, up
from bench.harness import Benchmark, Effort, Row, report

BENCHMARKS: tuple[Benchmark, ...] = (
    up.BENCHMARK,
    tokens.BENCHMARK,
    imports.BENCHMARK,
    rules.BENCHMARK,
    analysis.BENCHMARK,
    caches.BENCHMARK,
    files.BENCHMARK,
    prestage.BENCHMARK,
    *transfers.BENCHMARKS,
)


def main(words: list[str]) -> int:
    """Run what was asked for; the exit status is 0 whether or not targets are met: figures are for people to judge."""
    parser = argparse.ArgumentParser(prog="bench", description="Measure beside the peers.")
    parser.add_argument("--quick", action="store_true", help="once and small, to see that it works")
    parser.add_argument("names", nargs="*", metavar="NAME", help="beginning of a benchmark's name or id")
    arguments = parser.parse_args(words)
    names, effort = arguments.names, Effort.quick if arguments.quick else Effort.full
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
        rows += benchmark.run(effort)
    report(rows)
    return 0


if __name__ == "__main__":
    # As Ctrl-C, so that whoever loses patience with a benchmark leaves no facility up.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main(sys.argv[1:]))
