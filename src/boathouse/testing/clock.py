"""A clock that stands still until a test moves it."""

from __future__ import annotations


class Clock:
    """Tells ``now``, in seconds, to whoever calls it.

    Args:
        now: what it tells first.
    """

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        """The time that it was set to."""
        return self.now
