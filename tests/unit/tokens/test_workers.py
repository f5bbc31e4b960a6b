"""Work that is done together, and what becomes of it when one piece of it fails."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Sequence

import pytest

from boathouse.apps.tokens.workers import Job, Workers
from boathouse.testing.wait import wait_for

NAME: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="-")


class Doubling:
    """Doubles numbers; none of a batch with a 13 in it, and that one never."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.names: list[str] = []
        self.gate = threading.Event()

    def together(self, jobs: Sequence[Job[int]]) -> list[int]:
        self.batches.append(len(jobs))
        assert self.gate.wait(10)
        for _, context in jobs:
            self.names.append(context.run(NAME.get))
        return [self.double(number) for number, _ in jobs]

    def double(self, number: int) -> int:
        if number == 13:
            raise ValueError(number)
        return 2 * number


async def all_of(workers: Workers[int, int], numbers: Sequence[int]) -> list[int | BaseException]:
    async def one(number: int) -> int:
        NAME.set(str(number))
        return await workers.together("numbers", number)

    return await asyncio.gather(*(one(number) for number in numbers), return_exceptions=True)


@pytest.mark.parametrize("last", [7, 13])
async def test_what_waits_is_done_together_and_a_failure_is_its_own(last: int) -> None:
    doubling = Doubling()
    workers: Workers[int, int] = Workers(2, doubling.double, {"numbers": doubling.together})
    try:
        # The thread is busy with one piece of work while the others come.
        first = asyncio.ensure_future(all_of(workers, [1]))
        await asyncio.to_thread(wait_for, "the thread is busy", lambda: doubling.batches == [1])
        rest = asyncio.ensure_future(all_of(workers, [3, 4, 5, last]))
        await asyncio.to_thread(wait_for, "the others wait", lambda: workers._queues["numbers"].qsize() == 4)
        doubling.gate.set()
        assert await first == [2]
        *good, end = await rest
        assert good == [6, 8, 10]
        if last == 13:
            assert isinstance(end, ValueError)
        else:
            assert end == 14
        assert doubling.batches == [1, 4]
        assert {"3", "4"} <= set(doubling.names), "each in its own context"
        assert await workers.alone(21) == 42
    finally:
        await asyncio.to_thread(workers.close)


async def test_one_kind_does_not_wait_for_another() -> None:
    slow, quick = Doubling(), Doubling()
    quick.gate.set()
    workers: Workers[int, int] = Workers(2, slow.double, {"slow": slow.together, "quick": quick.together})
    try:
        waits = asyncio.ensure_future(workers.together("slow", 1))
        assert await workers.together("quick", 2) == 4
        assert not waits.done()
        slow.gate.set()
        assert await waits == 2
    finally:
        await asyncio.to_thread(workers.close)
