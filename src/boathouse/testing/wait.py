"""Waiting for a condition, never for a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_for(what: str, condition: Callable[[], T], *, timeout_s: float = 60.0, period_s: float = 0.05) -> T:
    """Ask until the answer is true, and return it. The time is for a busy machine: an idle one hardly needs any of it.

    Raises:
        AssertionError: it is still not true after ``timeout_s`` seconds; the last answer is in the message.
    """
    deadline = time.monotonic() + timeout_s
    pause = threading.Event()
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            msg = f"{what}: not so after {timeout_s:.0f} s; last answer {answer!r}"
            raise AssertionError(msg)
        pause.wait(period_s)
