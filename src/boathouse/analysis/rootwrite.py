"""ROOT files whose bytes depend on their content alone.

uproot writes correct files, but puts the time of day and a random UUID into each, writes counters as ``int32`` where
CMS has ``uint32``, and leaves the cluster size to a guess, which makes ROOT's parallel readers fetch baskets twice.
uproot has an option for the UUID only. This module is the one place that reaches behind its interface for the rest,
and its tests fail if a new uproot moves what is reached for.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import uproot
from numpy.typing import DTypeLike, NDArray

_DATE = dt.datetime(2012, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True)
class Branch:
    """Type of a branch; ``counter`` names the branch that counts its values where it is jagged."""

    dtype: DTypeLike
    counter: str | None = None


@dataclass(frozen=True)
class Jagged:
    """Values of a branch with a varying number of them an entry."""

    counts: NDArray[np.integer[Any]]
    values: NDArray[Any]


Batch = Mapping[str, "NDArray[Any] | Jagged"]
"""One cluster of a tree: the values of every branch but the counters, which follow from the others."""


@contextmanager
def recreate(path: Path, compression: uproot.compression.Compression | None = None) -> Iterator[Any]:
    """``uproot.recreate`` with a fixed date and UUID, so that the same content gives the same bytes.

    Not for several threads at once: the date is frozen for the whole process meanwhile. ZSTD 5 unless told otherwise;
    its code comes with the locked packages, whereas zlib is the interpreter's and differs from build to build. The name
    of the file is part of its content; the directory is not.
    """
    code = uproot._util.datetime_to_code  # noqa: SLF001
    uproot._util.datetime_to_code = lambda _: code(_DATE)  # noqa: SLF001
    try:
        with uproot.recreate(
            path, compression=compression or uproot.ZSTD(5), uuid_function=lambda: uuid.UUID(int=0)
        ) as file:
            yield file
    finally:
        uproot._util.datetime_to_code = code  # noqa: SLF001


def add_tree(
    file: Any, name: str, branches: Mapping[str, Branch], batches: Iterable[Batch], *, cluster_entries: int
) -> int:
    """Add a tree to a file from :func:`recreate`; return its number of entries.

    Args:
        file: what :func:`recreate` gave.
        name: name of the tree.
        branches: type of each branch, in order. Counters need not be named: they are made, as ``uint32``.
        batches: clusters in order, each of ``cluster_entries`` entries but for the last.
        cluster_entries: entries of a cluster, told to ROOT as ``TTree::fAutoFlush``.
    """
    types = {
        key: f"var * {np.dtype(branch.dtype).name}" if branch.counter else np.dtype(branch.dtype)
        for key, branch in branches.items()
    }
    counters = {key: branch.counter for key, branch in branches.items()}
    tree = file.mktree(name, types, counter_name=counters.__getitem__, initial_basket_capacity=64)
    writer = tree._cascading  # noqa: SLF001
    for branch in writer._branch_data:  # noqa: SLF001
        if branch["kind"] == "counter":
            branch["dtype"] = np.dtype(">u4")
            branch["fTitle"] = f"{branch['fName']}/i"
    writer._metadata["fAutoFlush"] = cluster_entries  # noqa: SLF001
    writer._needs_relocation_before_extend = True  # noqa: SLF001 - the header is out already: write it again
    for batch in batches:
        tree.extend(
            {
                key: ak.unflatten(values.values, values.counts) if isinstance(values, Jagged) else values
                for key, values in batch.items()
            }
        )
    return int(tree.num_entries)
