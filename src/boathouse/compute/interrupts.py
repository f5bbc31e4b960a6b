"""Ctrl-C where there are worker processes: a terminal sends it to all of them, and only the first shall act on it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from types import FrameType


@contextmanager
def deaf_children() -> Iterator[None]:
    """Have threads and processes that are started in this block, and what these start, never see Ctrl-C.

    The calling thread sees it after the block. To be used where no thread before has started a process; each starts
    with the signals held back that its parent holds back.
    """
    # It is started with the first process, and takes the hold away from the thread that does so.
    resource_tracker.ensure_running()
    # What this thread holds back another one takes, and this one would be interrupted all the same.
    with postponed():
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def postponed() -> Iterator[None]:
    """Take Ctrl-C only at the end of the block, so that nothing is left behind half ended."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pressed: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        pressed.append(number)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        signal.raise_signal(signal.SIGINT)
