"""Threads that work on requests: one request in one transaction, or many of one kind together.

A token costs the issuer less than to hand it from thread to thread and to the database and back. So what waits of one
kind is taken together: one hand-over, one look at each client, one wait for the audit log. One thread does so: while it
waits for the chain of records, for which others would wait too, more requests come, and the next lot is larger.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

_LOG = logging.getLogger(__name__)

_AT_MOST = 64
_OUTSIDE = 32
"""Threads that wait for other servers."""

T = TypeVar("T")
R = TypeVar("R")
E = TypeVar("E")


@dataclass(frozen=True)
class _Item(Generic[T, R]):
    work: T
    context: contextvars.Context
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[R]


Job = tuple[T, contextvars.Context]
"""A piece of work, and the context to do it in."""


class Workers(Generic[T, R]):
    """The threads of a process.

    Args:
        threads: pieces of work that are done at once by :meth:`alone`.
        single: does one piece of work.
        together: by kind, what does pieces of work of this kind and gives the result of each. If it raises anything,
            no result leaves, and each is done by itself: what of it was done already must bear to be done again.
    """

    def __init__(
        self, threads: int, single: Callable[[T], R], together: Mapping[str, Callable[[Sequence[Job[T]]], Sequence[R]]]
    ) -> None:
        self._single = single
        self._pool = ThreadPoolExecutor(threads, "request")
        self._outside = ThreadPoolExecutor(_OUTSIDE, "outside")
        self._queues: dict[str, queue.SimpleQueue[_Item[T, R] | None]] = {}
        self._threads = []
        for kind, work in together.items():
            waiting: queue.SimpleQueue[_Item[T, R] | None] = queue.SimpleQueue()
            self._queues[kind] = waiting
            self._threads.append(threading.Thread(target=self._run, args=(waiting, work), name=kind, daemon=True))
        for thread in self._threads:
            thread.start()

    async def alone(self, work: T) -> R:
        """Do one piece of work in a thread, in the context of the caller."""
        context = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(self._pool, context.run, self._single, work)

    async def outside(self, errand: Callable[[], E]) -> E:
        """Ask somebody else's server, in threads of their own: a slow one takes none of those that work here."""
        context = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(self._outside, context.run, errand)

    async def together(self, kind: str, work: T) -> R:
        """Have a piece of work done with others of its kind that wait."""
        loop = asyncio.get_running_loop()
        item: _Item[T, R] = _Item(work, contextvars.copy_context(), loop, loop.create_future())
        self._queues[kind].put(item)
        return await item.done

    def close(self) -> None:
        """Do what waits, and end the threads."""
        for waiting in self._queues.values():
            waiting.put(None)
        for thread in self._threads:
            thread.join()
        self._pool.shutdown()
        self._outside.shutdown()

    def _run(
        self, waiting: queue.SimpleQueue[_Item[T, R] | None], work: Callable[[Sequence[Job[T]]], Sequence[R]]
    ) -> None:
        while (first := waiting.get()) is not None:
            items, last = [first], False
            while len(items) < _AT_MOST and not last:
                try:
                    other = waiting.get_nowait()
                except queue.Empty:
                    break
                if other is None:
                    last = True
                else:
                    items.append(other)
            self._do(items, work)
            if last:
                return

    def _do(self, items: Sequence[_Item[T, R]], work: Callable[[Sequence[Job[T]]], Sequence[R]]) -> None:
        try:
            results = work([(item.work, item.context) for item in items])
        except Exception as error:  # noqa: BLE001 - one of them fails again by itself, and that is its answer
            _LOG.warning("%d requests could not be worked on together: %s", len(items), type(error).__name__)
            for item in items:
                self._pool.submit(self._do_alone, item)
        else:
            items[0].loop.call_soon_threadsafe(_deliver, items, results)

    def _do_alone(self, item: _Item[T, R]) -> None:
        result: R | Exception
        try:
            result = item.context.run(self._single, item.work)
        except Exception as error:  # noqa: BLE001 - raised where it is waited for
            result = error
        item.loop.call_soon_threadsafe(_deliver, [item], [result])


def _deliver(items: Sequence[_Item[T, R]], results: Sequence[R] | Sequence[R | Exception]) -> None:
    for item, result in zip(items, results, strict=True):
        if item.done.done():
            # Whoever hung up meanwhile waits for nothing.
            continue
        if isinstance(result, Exception):
            item.done.set_exception(result)
        else:
            item.done.set_result(result)
