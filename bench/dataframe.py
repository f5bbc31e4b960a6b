"""``python -m bench.dataframe LOCAL_FILE``: reads columns with ROOT's RDataFrame; ``bench.columns`` does with uproot.

For each URL that it is told on a line of its own it prints the seconds that the reading took. It needs ROOT and nothing
of Boathouse.
"""

from __future__ import annotations

import os
import sys
import time

import ROOT  # type: ignore[import-not-found]

COLUMNS = ("MET_pt", "Muon_pt")
"""Those of ``bench.columns``, which this interpreter cannot import."""


def read(url: str) -> float:
    """Seconds from the opening of a file to the last value of the columns."""
    began = time.perf_counter()
    events = ROOT.RDataFrame("Events", url)
    sums = [events.Sum(column) for column in COLUMNS]
    for each in sums:
        each.GetValue()
    return time.perf_counter() - began


def in_a_child(url: str) -> None:
    """As every client begins: with no connection open. ROOT is loaded already, and what it compiles is compiled."""
    child = os.fork()
    if child == 0:
        print(read(url), flush=True)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if status:
        sys.exit(f"{url} could not be read")


if __name__ == "__main__":
    read(sys.argv[1])
    for line in sys.stdin:
        in_a_child(line.strip())
