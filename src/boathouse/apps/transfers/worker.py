"""The worker: claims files, runs their copies, writes back what became of them. One a process, beside the API.

It may be killed at any instant. What it held is then found by the next worker that looks: the lock of a dead worker
is free.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import ParamSpec, TypeVar

from sqlalchemy import Engine
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from boathouse.apps.transfers import upkeep
from boathouse.apps.transfers.copier import Copier
from boathouse.apps.transfers.events import CANCEL, WORK, Hub
from boathouse.apps.transfers.meter import Meter
from boathouse.apps.transfers.metrics import Metrics
from boathouse.apps.transfers.optimizer import Optimizer
from boathouse.apps.transfers.queue import Claim, Queue
from boathouse.apps.transfers.renewal import Renewal
from boathouse.apps.transfers.seal import Seal
from boathouse.apps.transfers.settings import Settings
from boathouse.apps.transfers.settlement import Settlement
from boathouse.apps.transfers.states import FileState
from boathouse.apps.transfers.storage import Storage
from boathouse.apps.transfers.stores import Stores
from boathouse.apps.transfers.tickets import Tickets
from boathouse.apps.transfers.work import Outcome, Revocations, Task, Token, Work

log = logging.getLogger(__name__)

_ROUND_S = 2.0
"""Longest time between two looks at the queue."""
_SHORTEST_S = 0.02
_CARE_S = 1.0
"""Shortest time between two looks at dead workers and at what is to be cleaned."""
_UPKEEP_S = 5.0
_MEASURE_S = 5.0
_DATABASE_RETRY_S = 0.5
_STOP_S = 5.0
"""How long copies that run may end by themselves when the service is stopped."""
_BATCH = 200
_LINGER_S = 0.1
"""How long outcomes wait at most for others to be written with, and free slots for others to be filled with."""
_ENOUGH = 0.75
"""Part of the running copies whose ends are written together: a transaction for one costs nearly as much, and with the
others under way storage has enough to do meanwhile."""
_PASSING = (OperationalError, InterfaceError, PoolTimeoutError)
"""What the database says when it is not there, or when two transactions were in each other's way."""
_P = ParamSpec("_P")
_T = TypeVar("_T")


class Worker:
    """Claims and runs copies until it is stopped. Make it inside the event loop.

    Args:
        settings: the service's settings.
        engine: the database.
        metrics: where copies are counted.
        revocations: which tokens count no more.
    """

    def __init__(self, settings: Settings, engine: Engine, metrics: Metrics, revocations: Revocations) -> None:
        seal = Seal(settings.store_key)
        self._settings = settings
        self._limits = settings.limits
        self._engine = engine
        self._metrics = metrics
        self._threads = ThreadPoolExecutor(4, "database")
        self._queue = Queue(engine, seal, settings.limits)
        self._settlement = Settlement(settings.limits, self._queue.worker)
        self.hub = Hub(settings.database_url.replace("+psycopg", "", 1), self._queue.worker)
        tickets = Tickets(f"https://{settings.listen_address}:{settings.port}")
        self.storage = Storage(settings.ca_file, settings.limits, Stores(settings.stores), tickets, settings.far)
        self._renewal = Renewal(settings, self._current, self._renewed, revocations)
        self._copier = Copier(self.storage, self._renewal, self, settings)
        self._meter = Meter()
        self._optimizer = Optimizer(engine, settings.limits)
        self._running: dict[int, tuple[Work, asyncio.Task[None]]] = {}
        self._done: asyncio.Queue[Outcome] = asyncio.Queue()
        self._wake = asyncio.Event()
        self._in_round = asyncio.Lock()
        self._linger: asyncio.TimerHandle | None = None
        self._enough = 1
        self._stopping = False
        self._care_at = 0.0
        self._loops: list[asyncio.Task[None]] = []

    @property
    def running(self) -> int:
        """How many files it works on."""
        return len(self._running)

    @property
    def number(self) -> int:
        """The worker's number in the database."""
        return self._queue.worker

    def start(self) -> None:
        """Begin to work."""
        self.hub.on(WORK, lambda _: self._wake.set())
        self.hub.on(CANCEL, self._stop_canceled)
        loops = (self.hub.run, self._rounds, self._upkeep_rounds, self._measure_rounds)
        self._loops = [asyncio.create_task(loop()) for loop in loops]
        for task in self._loops:
            task.add_done_callback(self._fell)

    def _fell(self, task: asyncio.Task[None]) -> None:
        """A loop that ends by a fault takes the process with it: a new one is better than half of one."""
        if not task.cancelled() and (fault := task.exception()):
            log.critical("the worker fell, the service ends", exc_info=fault)
            signal.raise_signal(signal.SIGTERM)

    async def stop(self) -> None:
        """Let copies end for a moment, stop the others so that any worker can start them again, and write all back.

        Nothing begins any more: what a round under way still takes is given back.
        """
        self._stopping = True
        self._wake.set()
        copies = [task for _, task in self._running.values()]
        log.info("stopping with %d copies running", len(copies))
        if copies:
            _, late = await asyncio.wait(copies, timeout=_STOP_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*copies, return_exceptions=True)
        async with self._in_round:
            while not self._done.empty():
                await self._round()
            for loop in self._loops:
                loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        await self.storage.close()
        await self._renewal.close()
        self._threads.shutdown()

    # What the copier tells the queue.

    async def progress(self, work: Work, transferred_bytes: int) -> bool:
        """Note how far a copy is."""
        self._meter.moved(work, transferred_bytes)
        return await self._patiently(self._queue.progress, work, transferred_bytes)

    async def wrote(self, work: Work) -> bool:
        """Note that what lies at the destination is ours."""
        return await self._patiently(self._queue.wrote, work)

    async def holds(self, work: Work) -> bool:
        """Whether the file is still this worker's."""
        return await self._patiently(self._queue.holds, work)

    async def _current(self, token: Token) -> Token | None:
        return await self._patiently(self._queue.current, token)

    async def _renewed(self, token: Token, value: str) -> Token:
        return await self._patiently(self._queue.renewed, token, value)

    async def _thread(self, call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: call(*args, **kwargs))

    async def _patiently(self, call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Call the database until it answers: what must be written is written when it is back."""
        while True:
            try:
                return await self._thread(call, *args, **kwargs)
            except _PASSING as error:
                log.warning("database: %s", _first_line(error))
                await asyncio.sleep(_DATABASE_RETRY_S)

    # The loops.

    async def _rounds(self) -> None:
        """Write what became of copies, then start others in their place, in turns: so both have many files to do."""
        await self.hub.connected.wait()
        seconds = 0.0
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(seconds, _ROUND_S)):
                    await self._wake.wait()
            self._wake.clear()
            async with self._in_round:
                seconds = await self._round()
            self._enough = max(1, round(_ENOUGH * len(self._running)))
            self._consider()

    async def _round(self) -> float:
        """Write what has ended, take what can be taken; returns the time to the next look, in seconds."""
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        ended = [self._done.get_nowait() for _ in range(self._done.qsize())]
        while len(ended) > _BATCH:
            await self._settle(ended[:_BATCH])
            ended = ended[_BATCH:]
        if self._stopping:
            await self._settle(ended)
            return _ROUND_S
        try:
            claim = await self._thread(self._turn, ended)
        except SQLAlchemyError as error:
            log.warning("no files claimed: %s", _first_line(error))
            # What has ended must be written, however long the database is away; a claim need not wait for it.
            await self._settle(ended)
            return _DATABASE_RETRY_S
        self._forget(ended)
        for work in claim.work:
            self._run(work)
        await self._care()
        return _ROUND_S if claim.next_s is None else max(claim.next_s, _SHORTEST_S)

    def _turn(self, ended: Sequence[Outcome]) -> Claim:
        """Write outcomes and take files in their place, at once: a commit is a disk write, for which storage waits."""
        free = self._limits.active - len(self._running) + len(ended)
        with self._engine.begin() as connection:
            if ended:
                # With room of its own this worker takes what is free now by itself; to call others each time would
                # have all workers ask after every copy of one.
                self._settlement.settle(connection, ended, call_others=len(self._running) >= self._limits.active)
            return self._queue.claim(connection, free)

    async def _care(self) -> None:
        """Take over from dead workers, and remove what was left, if it was not looked for just now."""
        now = asyncio.get_running_loop().time()
        if self._stopping or now < self._care_at:
            return
        self._care_at = now + _CARE_S
        try:
            for work in await self._thread(self._queue.adopt, tuple(self._running)):
                self._run(work)
            for work in await self._thread(self._queue.take_unclean, self._limits.active):
                self._run(work)
        except SQLAlchemyError as error:
            log.warning("nothing adopted or cleaned: %s", _first_line(error))

    def _run(self, work: Work) -> None:
        """Begin with a file, or give it back if the service stops: it was taken before that was known."""
        if self._stopping:
            self._never_begun(work)
            return
        log.debug("%s %s begins", work.name, work.task)
        task = asyncio.create_task(self._work(work))
        task.add_done_callback(lambda ended: self._never_begun(work) if ended.cancelled() else None)
        self._running[work.file_id] = (work, task)

    def _never_begun(self, work: Work) -> None:
        """Give a file back with which nothing was done; what a dead worker may have left of it is still to be seen."""
        log.info("%s %s given back", work.name, work.task)
        left = work.task is Task.verify and (work.overwrite or work.wrote)
        clean_in_s = self._limits.settle_s if left else None
        self._over(Outcome(work, FileState.SUBMITTED, datetime.now(UTC), clean_in_s=clean_in_s, spend=False))

    def _over(self, outcome: Outcome) -> None:
        """Have an outcome written: at once if there are many, or after a moment in which others may come."""
        self._done.put_nowait(outcome)
        self._consider()

    def _consider(self) -> None:
        """See whether a round is due for what has ended."""
        if self._done.qsize() >= self._enough or (self._stopping and not self._done.empty()):
            self._wake.set()
        elif not self._done.empty() and self._linger is None:
            self._linger = asyncio.get_running_loop().call_later(_LINGER_S, self._wake.set)

    async def _work(self, work: Work) -> None:
        outcome = await self._copier.run(work)
        self._metrics.count(outcome)
        self._meter.ended(outcome)
        link = f"{work.source_host} -> {work.dest_host}"
        reason = f": {outcome.failure.reason}" if outcome.failure else ""
        log.info("%s %s %s in %.3f s, %s%s", work.name, work.task, _ended(outcome), outcome.seconds, link, reason)
        self._over(outcome)

    def _stop_canceled(self, job_ids: tuple[str, ...]) -> None:
        for work, task in self._running.values():
            # A cleaning is no copy: it goes on. Without names, each copy asks at its next marker.
            if work.job_id in job_ids and work.task is not Task.clean:
                task.cancel()

    def _forget(self, ended: Sequence[Outcome]) -> None:
        """Count files no more as those that are worked on."""
        for outcome in ended:
            self._running.pop(outcome.work.file_id, None)

    async def _settle(self, ended: Sequence[Outcome]) -> None:
        """Write outcomes only. One that the database will not take must not hold up the others."""
        if not ended:
            return
        try:
            await self._patiently(self._write, ended)
        except SQLAlchemyError:
            if len(ended) > 1:
                for outcome in ended:
                    await self._settle([outcome])
                return
            # Its file is still ours in the database, and is looked at again in the next round.
            log.exception("%s outcome not taken by the database", ended[0].work.name)
        self._forget(ended)

    def _write(self, ended: Sequence[Outcome]) -> None:
        with self._engine.begin() as connection:
            self._settlement.settle(connection, ended, call_others=True)

    async def _upkeep_rounds(self) -> None:
        await self.hub.connected.wait()
        while True:
            try:
                if ended := await self._thread(upkeep.end_waiting, self._engine, self._limits):
                    log.info("%d files ended that waited too long", ended)
                if gone := await self._thread(upkeep.forget, self._engine, self._limits, self.number):
                    log.info("%d old jobs put into the archive", gone)
                soon = datetime.now(UTC) + timedelta(seconds=self._limits.renew_s)
                but = self._renewal.refused
                ending = await self._thread(self._queue.ending, soon, hosts=self._settings.elements, but=but)
                await self._renewal.ahead(ending)
            except SQLAlchemyError as error:
                log.warning("upkeep: %s", _first_line(error))
            await asyncio.sleep(_UPKEEP_S)

    async def _measure_rounds(self) -> None:
        await self.hub.connected.wait()
        while True:
            await asyncio.sleep(min(_MEASURE_S, self._limits.optimize_s))
            seconds, samples = self._meter.take()
            try:
                await self._thread(self._optimizer.record, self.number, seconds, samples)
                for (source, destination), active, why in await self._thread(self._optimizer.decide):
                    log.info("link %s -> %s may run %d copies: %s", source, destination, active, why)
            except SQLAlchemyError as error:
                log.warning("links not measured: %s", _first_line(error))


def _ended(outcome: Outcome) -> str:
    """How a task ended, in a log line."""
    if outcome.work.task is Task.clean:
        return "done" if outcome.state is FileState.FINISHED else "to be tried again"
    return outcome.state


def _first_line(error: SQLAlchemyError) -> str:
    return str(error).partition("\n")[0]
