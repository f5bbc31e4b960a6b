"""``python -m bench.columns URL TOKEN_FILE CA``: read a few columns with uproot; prints the seconds that it took."""

from __future__ import annotations

import sys
import time

import uproot

from boathouse.analysis.sources import Access, source_for

COLUMNS = ("MET_pt", "Muon_pt")
"""Two of twenty."""


def read(url: str, access: Access) -> float:
    """Seconds from the opening of a file to the last value of the columns."""
    began = time.perf_counter()
    file = uproot.open({url: None}, handler=source_for(url), access=access)
    file["Events"].arrays(COLUMNS, how=dict)
    took = time.perf_counter() - began
    file.close()
    return took


if __name__ == "__main__":
    print(read(sys.argv[1], Access(sys.argv[2], sys.argv[3])))
