"""Threads that work on requests: one request in one transaction, or many of those that change nothing together.

A token by client credentials costs the issuer less than to hand it from thread to thread and to the database and back.
So what waits of these is taken together: one hand-over, one look at each client, one wait for the audit log.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

_LOG = logging.getLogger(__name__)

_TOGETHER = 2
"""Threads for work that is done together: one reads while the other waits for the disk."""
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
        together: does many pieces of work and gives the result of each. If it raises anything, none was done, and each
            is done by itself.
        single: does one piece of work.
    """

    def __init__(
        self, threads: int, together: Callable[[Sequence[Job[T]]], Sequence[R]], single: Callable[[T], R]
    ) -> None:
        self._together, self._single = together, single
        self._pool = ThreadPoolExecutor(threads, "request")
        self._outside = ThreadPoolExecutor(_OUTSIDE, "outside")
        self._queue: queue.SimpleQueue[_Item[T, R] | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._run, name="together", daemon=True) for _ in range(_TOGETHER)]
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

    async def together(self, work: T) -> R:
        """Have a piece of work done with others that wait."""
        loop = asyncio.get_running_loop()
        item: _Item[T, R] = _Item(work, contextvars.copy_context(), loop, loop.create_future())
        self._queue.put(item)
        return await item.done

    def close(self) -> None:
        """Do what waits, and end the threads."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()
        self._pool.shutdown()
        self._outside.shutdown()

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            items, last = [first], False
            while len(items) < _AT_MOST and not last:
                try:
                    waiting = self._queue.get_nowait()
                except queue.Empty:
                    break
                if waiting is None:
                    last = True
                else:
                    items.append(waiting)
            first.loop.call_soon_threadsafe(_deliver, items, self._results(items))
            if last:
                return

    def _results(self, items: Sequence[_Item[T, R]]) -> Sequence[R | Exception]:
        if len(items) > 1:
            try:
                return self._together([(item.work, item.context) for item in items])
            except Exception as error:  # noqa: BLE001 - one of them fails again by itself, and that is its answer
                _LOG.warning("%d requests could not be worked on together: %s", len(items), type(error).__name__)
        return [self._result(item) for item in items]

    def _result(self, item: _Item[T, R]) -> R | Exception:
        try:
            return item.context.run(self._single, item.work)
        except Exception as error:  # noqa: BLE001 - raised where it is waited for
            return error


def _deliver(items: Sequence[_Item[T, R]], results: Sequence[R | Exception]) -> None:
    for item, result in zip(items, results, strict=True):
        if item.done.done():
            # Whoever hung up meanwhile waits for nothing.
            continue
        if isinstance(result, Exception):
            item.done.set_exception(result)
        else:
            item.done.set_result(result)
