"""How much of what anybody may cause is written down: the first of a kind, and how many more there were."""

from __future__ import annotations

import threading
from collections import Counter

FIELD_AT_MOST = 100
"""Characters kept of a field that a caller chose without proving who it is."""


class Sampler:
    """Admits the first events of each kind in a window and counts the others; the owner ends the windows.

    Args:
        at_most: events of a kind that are admitted in one window.
    """

    def __init__(self, at_most: int) -> None:
        self._at_most = at_most
        self._seen: Counter[str] = Counter()
        self._lock = threading.Lock()

    def admits(self, event: str) -> bool:
        """Whether this one is to be recorded; it is counted in any case."""
        with self._lock:
            self._seen[event] += 1
            return self._seen[event] <= self._at_most

    def end_window(self) -> dict[str, int]:
        """Begin a new window.

        Returns:
            How many events of each kind were not admitted in the one that ended, where there were any.
        """
        with self._lock:
            seen, self._seen = self._seen, Counter()
        return {event: count - self._at_most for event, count in seen.items() if count > self._at_most}
