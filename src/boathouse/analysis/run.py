"""Run an analysis over a dataset: map over chunks, merge in order, account for every event."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from boathouse.analysis import chunks
from boathouse.analysis.dataset import Dataset
from boathouse.analysis.reader import Attempt
from boathouse.analysis.sources import Access
from boathouse.analysis.task import Output, Task
from boathouse.analysis.worker import ChunkItem, ChunkResult, FileItem, Survey, process, survey
from boathouse.compute.base import Backend
from boathouse.errors import AnalysisError
from boathouse.lake.failing import Failing

Progress = Callable[[int, int], None]
"""Called with events done and events in all."""

WORKER_MODULES = ("boathouse.analysis.worker",)
"""What a worker should import while it starts."""


@dataclass(frozen=True)
class FileAccount:
    """How many events of a file there are, and how many were processed: equal, or there is no result."""

    name: str
    expected: int
    read: int
    urls: tuple[str, ...]
    """Where its chunks were read."""


@dataclass(frozen=True)
class Histograms:
    """The result of a run."""

    dataset: Dataset
    task: Task
    output: Output
    accounts: tuple[FileAccount, ...]
    failed: tuple[Attempt, ...]
    """URLs that failed and were replaced by another."""
    chunks: int
    chunk_entries: int
    workers: int
    bytes_read: int
    wall_s: float
    read_s: float
    """Time in reading and decompressing, added up over workers."""
    process_s: float
    """Time in the user's code, added up over workers."""

    @property
    def events(self) -> int:
        """Events read, which are all of the dataset's."""
        return sum(account.read for account in self.accounts)


def run(
    task: Task,
    dataset: Dataset,
    backend: Backend,
    *,
    access: Access | None = None,
    chunk_entries: int = chunks.DEFAULT_ENTRIES,
    progress: Progress | None = None,
) -> Histograms:
    """Run an analysis over every event of a dataset.

    The result does not depend on the number of workers: chunks follow from the files, and are merged in their order.

    Args:
        task: the user's analysis.
        dataset: the files.
        backend: where chunks are processed.
        access: token and CA for remote files.
        chunk_entries: entries that a chunk should have at least.
        progress: called after each chunk.

    Raises:
        AnalysisError: the user's code failed, a branch is missing, or events were lost.
        StorageError: a file could not be read from any of its replicas.
        AuthError: the token was refused everywhere.
    """
    begin = time.perf_counter()
    surveys = _survey(task, dataset, backend, access, chunk_entries)
    failing = Failing()
    for found in surveys:
        failing.learn(found.failing)
    known = failing.known
    items = [
        ChunkItem(task, file, access, start, stop, found.entries, known)
        for file, found in zip(dataset.files, surveys, strict=True)
        for start, stop in found.chunks
    ]
    output, results = _merge(task, backend, items, sum(found.entries for found in surveys), progress)
    ordered = [results[index] for index in sorted(results)]
    return Histograms(
        dataset=dataset,
        task=task,
        output=output,
        accounts=_account(dataset, surveys, items, results),
        failed=(
            *(attempt for found in surveys for attempt in found.failed),
            *(attempt for result in ordered for attempt in result.failed),
        ),
        chunks=len(items),
        chunk_entries=chunk_entries,
        workers=backend.workers,
        bytes_read=sum(result.bytes_read for result in ordered),
        wall_s=time.perf_counter() - begin,
        read_s=sum(result.read_s for result in ordered),
        process_s=sum(result.process_s for result in ordered),
    )


def _survey(
    task: Task, dataset: Dataset, backend: Backend, access: Access | None, chunk_entries: int
) -> tuple[Survey, ...]:
    share = min(1.0, len(dataset.files) / backend.workers)
    items = [FileItem(task, file, access, chunk_entries, share) for file in dataset.files]
    found = dict(backend.apply(survey, items, [item.file.name for item in items]))
    return tuple(found[index] for index in range(len(items)))


def _merge(
    task: Task, backend: Backend, items: Sequence[ChunkItem], total: int, progress: Progress | None
) -> tuple[Output, dict[int, ChunkResult]]:
    """Process all chunks; what they gave by their place, and all of it merged.

    In the order of the events, whatever the order of completion: sums of weights depend on it.
    """
    output = Output(task)
    results: dict[int, ChunkResult] = {}
    waiting: dict[int, ChunkResult] = {}
    merged = done = 0
    if progress:
        progress(0, total)
    for index, result in backend.apply(process, items, [item.file.name for item in items]):
        results[index] = waiting[index] = result
        done += result.events
        while merged in waiting:
            output.merge(waiting.pop(merged).output)
            merged += 1
        if progress:
            progress(done, total)
    return output, results


def _account(
    dataset: Dataset, surveys: Sequence[Survey], items: Sequence[ChunkItem], results: dict[int, ChunkResult]
) -> tuple[FileAccount, ...]:
    """Compare, file by file, the events that there are with those that were processed.

    Raises:
        AnalysisError: they differ.
    """
    read = dict.fromkeys((file.name for file in dataset.files), 0)
    urls: dict[str, dict[str, None]] = {file.name: {} for file in dataset.files}
    for index, result in results.items():
        read[items[index].file.name] += result.events
        urls[items[index].file.name][result.url] = None
    accounts = tuple(
        FileAccount(file.name, found.entries, read[file.name], tuple(urls[file.name]))
        for file, found in zip(dataset.files, surveys, strict=True)
    )
    wrong = [account for account in accounts if account.expected != account.read]
    if wrong:
        raise AnalysisError(
            "not every event was processed exactly once",
            expected=", ".join(f"{account.expected} of {account.name}" for account in wrong),
            got=", ".join(str(account.read) for account in wrong),
            where=dataset.name,
        )
    return accounts
