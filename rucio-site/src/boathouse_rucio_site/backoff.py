"""When a failed transfer is tried again: later and later, so that a storage element that is down can come back."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Mapping
from typing import Any

# Rucio gives up after the third repetition; the judge then repairs the rule.
DELAYS_S = (0.0, 5.0, 20.0, 60.0)
"""Seconds for which the n-th repetition of a request is held back."""

FAILED_DURING_SUBMISSION_DELAY = dt.timedelta(seconds=60)
"""Replaces the finisher's two hours after which a request that was being submitted is taken as failed."""


class Backoff:
    """Holds back repetitions, counted from when they were first seen: Rucio keeps no time of its own for them."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[str, float] = {}

    def split(self, requests: Mapping[str, Any]) -> tuple[dict[str, Any], float | None]:
        """Requests that are due, by id, and the seconds until the first of the others is."""
        now = self._clock()
        self._seen = {request_id: self._seen.get(request_id, now) for request_id in requests}
        due: dict[str, Any] = {}
        waits: list[float] = []
        for request_id, request in requests.items():
            delay = DELAYS_S[min(request.retry_count or 0, len(DELAYS_S) - 1)]
            wait = self._seen[request_id] + delay - now
            if wait > 0:
                waits.append(wait)
            else:
                due[request_id] = request
        return due, min(waits, default=None)
