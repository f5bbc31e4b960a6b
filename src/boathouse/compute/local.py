"""Dask workers on this machine, closed to everybody else on it.

A plain ``LocalCluster`` listens on 127.0.0.1 without authentication: any other user of the machine could run code as
the owner. Here scheduler, workers and client speak TLS with a certificate that exists only in the memory of these
processes and is demanded from both sides. The HTTP servers that Dask always opens serve no page.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import tempfile
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from functools import partial
from multiprocessing.process import BaseProcess

import dask
import distributed
from distributed import Client, KilledWorker, LocalCluster, Security, as_completed, get_worker

from boathouse.compute.base import Backend, Item, Result
from boathouse.compute.interrupts import deaf_children, postponed
from boathouse.errors import ServiceError

_ADDRESS = "127.0.0.1"
_START_TIMEOUT_S = 60.0
_LOOK_EVERY_S = 0.1
_SETTINGS = {
    "distributed.nanny.pre-spawn-environ": {
        # Dask has workers give every freed buffer back to the kernel. An analysis frees and takes the same megabytes
        # for each chunk: getting them as zeroed pages again costs more than decompressing the data into them.
        "MALLOC_TRIM_THRESHOLD_": 1 << 30,
        "MALLOC_MMAP_THRESHOLD_": 1 << 25,
        "MALLOC_ARENA_MAX": 1,
        "OMP_NUM_THREADS": 1,
        "MKL_NUM_THREADS": 1,
        "OPENBLAS_NUM_THREADS": 1,
    },
    "distributed.scheduler.allowed-failures": 3,
    # A task that fills memory is restarted by the nanny; spilling event data to disk would only hide the mistake.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.comm.timeouts.connect": f"{_START_TIMEOUT_S}s",
}


class LocalDask(Backend):
    """One Dask worker process a core."""

    def __init__(
        self,
        workers: int | None = None,
        *,
        environment: Mapping[str, str] | None = None,
        preload: Sequence[str] = (),
    ) -> None:
        """Start the workers.

        Args:
            workers: processes; by default one for each core that this process may use.
            environment: variables for the workers.
            preload: modules that a worker imports while it starts, so that its first item need not wait for them.

        Raises:
            ServiceError: they did not start.
        """
        self._workers = workers or len(os.sched_getaffinity(0))
        self._homes: dict[Hashable, str] = {}
        self._stack = ExitStack()
        others = set(multiprocessing.active_children())
        started: Future[Client] = Future()
        start = partial(self._start, started, dict(environment or {}), tuple(preload))
        thread = threading.Thread(target=start, name="dask-start", daemon=True)
        try:
            with deaf_children():
                thread.start()
            self._client = started.result()
        except (OSError, RuntimeError, TimeoutError) as error:
            self._stack.close()
            raise ServiceError("the Dask workers did not start", got=str(error)) from error
        except KeyboardInterrupt:
            with postponed():
                _give_up(thread, others)
                self._stack.close()
            raise

    def _start(self, started: Future[Client], environment: dict[str, str], preload: Sequence[str]) -> None:
        """Start everything, in a thread of its own.

        Workers that took Ctrl-C for themselves would die in the middle of what the client is about to end in order;
        and the caller can be interrupted while it waits.
        """
        try:
            started.set_result(self._started(environment, preload))
        except BaseException as error:  # noqa: BLE001 - the thread that waits for it raises it
            started.set_exception(error)

    def _started(self, environment: dict[str, str], preload: Sequence[str]) -> Client:
        enter = self._stack.enter_context
        scratch = enter(tempfile.TemporaryDirectory(prefix="boathouse-dask-", ignore_cleanup_errors=True))
        settings = {**_SETTINGS, **_no_pages(), "distributed.worker.preload": list(preload)}
        # The scheduler has a directory too, which it would leave behind.
        enter(dask.config.set({**settings, "temporary-directory": scratch}))
        security = Security.temporary()
        cluster = enter(
            LocalCluster(
                n_workers=self._workers,
                threads_per_worker=1,
                processes=True,
                protocol="tls",
                security=security,
                host=_ADDRESS,
                dashboard_address=f"{_ADDRESS}:0",
                scheduler_kwargs={"dashboard": False},
                local_directory=scratch,
                env=environment,
                # What fails comes back as an exception of ours; Dask would print its own story beside it.
                silence_logs=logging.CRITICAL,
            )
        )
        client: Client = enter(Client(cluster, security=security, set_as_default=False))
        return client

    @property
    def workers(self) -> int:
        """Worker processes."""
        return self._workers

    def apply(
        self, function: Callable[[Item], Result], items: Sequence[Item], subjects: Sequence[Hashable] | None = None
    ) -> Iterator[tuple[int, Result]]:
        """Apply on the workers; Dask repeats the items of a worker that died."""
        futures = self._submitted(partial(_at_home, function), items, subjects)
        index_of = {future.key: index for index, future in enumerate(futures)}
        try:
            for future in as_completed(futures, loop=self._client.loop):
                index = index_of[future.key]
                home, result = future.result()
                if subjects is not None:
                    self._homes[subjects[index]] = home
                yield index, result
        except KilledWorker as error:
            raise ServiceError(
                "Dask workers died again and again on the same work",
                got=str(error),
                remedy="see whether the machine ran out of memory (dmesg), and run again with fewer --workers",
            ) from error
        finally:
            self._client.cancel(futures)

    def _submitted(
        self, task: Callable[[Item], tuple[str, Result]], items: Sequence[Item], subjects: Sequence[Hashable] | None
    ) -> list[distributed.Future[tuple[str, Result]]]:
        """One future an item. Those with a home go there first, as long as it has no more than its share of them."""
        share = -(-len(items) // self._workers)
        groups: dict[str | None, list[int]] = {}
        for index in range(len(items)):
            home = self._homes.get(subjects[index]) if subjects is not None else None
            wanted = groups.setdefault(home, [])
            (wanted if home is None or len(wanted) < share else groups.setdefault(None, [])).append(index)
        futures: dict[int, distributed.Future[tuple[str, Result]]] = {}
        for home, indices in groups.items():
            mapped = self._client.map(
                task,
                [items[index] for index in indices],
                pure=False,
                workers=[home] if home else None,
                allow_other_workers=home is not None,
            )
            futures.update(zip(indices, mapped, strict=True))
        return [futures[index] for index in range(len(items))]

    def close(self) -> None:
        """Stop client, scheduler and workers. Ctrl-C waits until that is done: it takes a second."""
        with postponed():
            self._stack.close()


def _at_home(function: Callable[[Item], Result], item: Item) -> tuple[str, Result]:
    """The result, and the address of the worker that it came from."""
    return get_worker().address, function(item)


def _give_up(thread: threading.Thread, others: set[BaseProcess]) -> None:
    """End a start that is under way: without its workers it fails at once."""
    # asyncio would report each of them.
    logger = logging.getLogger("asyncio")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        while thread.is_alive():
            for child in set(multiprocessing.active_children()) - others:
                child.kill()
            thread.join(_LOOK_EVERY_S)
    finally:
        logger.setLevel(before)


def _no_pages() -> dict[str, list[str]]:
    # New lists each time: Dask appends to the one that it is given.
    return {"distributed.scheduler.http.routes": [], "distributed.worker.http.routes": []}
