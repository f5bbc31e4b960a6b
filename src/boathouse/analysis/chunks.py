"""Splitting files into chunks: ranges of entries that are read, processed and, if need be, repeated as one."""

from __future__ import annotations

from collections.abc import Sequence

DEFAULT_ENTRIES = 200_000
"""Below it the cost of a task shows; far above it workers wait for the last one."""


def split(entries: int, clusters: Sequence[int], wanted: int = DEFAULT_ENTRIES) -> tuple[tuple[int, int], ...]:
    """Ranges [start, stop) that cover all entries once, in order.

    They end where clusters end, so that no basket is read twice; a cluster much larger than a chunk is cut all the
    same. The result depends on the file and ``wanted`` only, never on the number of workers.

    Args:
        entries: entries of the file.
        clusters: entries at which clusters begin or end, in any order.
        wanted: entries that a chunk should have at least, unless the file ends before.
    """
    edges = [*sorted({edge for edge in clusters if 0 < edge < entries}), entries]
    chunks: list[tuple[int, int]] = []
    start = 0
    for edge in edges:
        if edge - start < wanted and edge < entries:
            continue
        while edge - start >= 2 * wanted:
            chunks.append((start, start + wanted))
            start += wanted
        if edge > start:
            chunks.append((start, edge))
            start = edge
    return tuple(chunks)
