"""What runs on workers: look at a file, or process one chunk of it."""

from __future__ import annotations

import difflib
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from boathouse.analysis import chunks
from boathouse.analysis.dataset import InputFile
from boathouse.analysis.events import Events
from boathouse.analysis.reader import Attempt, Reader
from boathouse.analysis.sources import Access
from boathouse.analysis.task import Output, Task, run
from boathouse.errors import AnalysisError


@dataclass(frozen=True)
class FileItem:
    """A file to look at."""

    task: Task
    file: InputFile
    access: Access | None
    chunk_entries: int
    share: float
    """Part of its chunks that the worker which looks at it is likely to be given."""


@dataclass(frozen=True)
class Survey:
    """What a file holds, and how it is to be split."""

    entries: int
    chunks: tuple[tuple[int, int], ...]
    failed: tuple[Attempt, ...]
    failing: Mapping[str, float]
    """Servers that fail, and until when that counts."""


@dataclass(frozen=True)
class ChunkItem:
    """A range of entries to process."""

    task: Task
    file: InputFile
    access: Access | None
    start: int
    stop: int
    entries: int
    """Entries of the whole file, as the survey found them."""
    failing: Mapping[str, float] = field(default_factory=dict)
    """Servers that failed in any worker's survey, and until when that counts."""


@dataclass(frozen=True)
class ChunkResult:
    """What came of one chunk."""

    events: int
    output: Output
    url: str
    failed: tuple[Attempt, ...]
    bytes_read: int
    read_s: float
    process_s: float


def survey(item: FileItem) -> Survey:
    """Count the entries of a file, check that it has the branches, and decide on chunks.

    The bytes of the chunks that are likely to be processed here are asked for, so that they come while other files are
    looked at.

    Raises:
        AnalysisError: it lacks the tree or a branch.
        StorageError: no replica could be read; its subclasses and ``AuthError`` where that is the reason.
    """

    def look(tree: Any) -> tuple[int, tuple[tuple[int, int], ...]]:
        _require_branches(tree, item.task, item.file.name)
        wanted = set(item.task.columns)
        clusters = tree.common_entry_offsets(filter_name=wanted.__contains__)
        return int(tree.num_entries), chunks.split(int(tree.num_entries), clusters, item.chunk_entries)

    reader = _reader(item.access)
    reading = reader.read(item.file, item.task.tree, look)
    entries, ranges = reading.answer
    for chunk in ranges[: math.ceil(item.share * len(ranges))]:
        reader.ask_ahead(reading.url, item.task.tree, item.task.columns, chunk)
    return Survey(entries, ranges, reading.failed, reader.failing.known)


def process(item: ChunkItem) -> ChunkResult:
    """Read the columns of one chunk and give them to the user's code.

    Raises:
        AnalysisError: the user's code raised an exception.
        StorageError: no replica could be read, or none has the entries that the survey found.
    """
    wanted = set(item.task.columns)

    def load(tree: Any) -> dict[str, Any]:
        if tree.num_entries != item.entries:
            msg = f"{tree.num_entries} entries instead of {item.entries}"
            raise ValueError(msg)
        columns: dict[str, Any] = tree.arrays(
            filter_name=wanted.__contains__, entry_start=item.start, entry_stop=item.stop, how=dict
        )
        short = {name: len(column) for name, column in columns.items() if len(column) != item.stop - item.start}
        if short or set(columns) != wanted:
            msg = f"columns {short or sorted(columns)} instead of {item.stop - item.start} entries of {sorted(wanted)}"
            raise ValueError(msg)
        return columns

    begin = time.perf_counter()
    reader = _reader(item.access)
    reader.failing.learn(item.failing)
    reading = reader.read(item.file, item.task.tree, load)
    middle = time.perf_counter()
    events = Events(reading.answer, count=item.stop - item.start)
    output = run(item.task, events)
    return ChunkResult(
        events=len(events),
        output=output,
        url=reading.url,
        failed=reading.failed,
        bytes_read=reading.bytes_read,
        read_s=middle - begin,
        process_s=time.perf_counter() - middle,
    )


def _require_branches(tree: Any, task: Task, where: str) -> None:
    have = tree.keys()
    missing = [column for column in task.columns if column not in have]
    if missing:
        near = {column: difflib.get_close_matches(column, have, n=3, cutoff=0.5) for column in missing}
        hints = [f"instead of {column}: {', '.join(names)}" for column, names in near.items() if names]
        raise AnalysisError(
            f"the tree {task.tree} lacks branches that {task.name} reads",
            expected=", ".join(missing),
            got=f"{len(have)} branches: {', '.join(have[:12])}{' ...' if len(have) > 12 else ''}",
            where=where,
            remedy="nearest names, " + "; ".join(hints) if hints else None,
        )


@lru_cache(maxsize=1)
def _reader(access: Access | None) -> Reader:
    return Reader(access)
