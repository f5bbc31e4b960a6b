"""What a long command is doing now, and where its time went."""

from __future__ import annotations

import time

from rich.console import Console

from boathouse.units import format_seconds


class Phases:
    """Accounts for the time of a command by phases, and says each on a console that is no terminal.

    On a terminal a moving bar does that.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._since = self._began
        self._current: str | None = None
        self._spent_s: dict[str, float] = {}

    def begin(self, name: str, text: str | None = None) -> None:
        """Begin a phase and end the one before; a name that was there already takes the time of both."""
        self.end()
        self._current = name
        if text is not None and not self._console.is_terminal:
            self._console.print(f"{self._since - self._began:6.1f} s  {text}", markup=False)

    def end(self) -> None:
        """End the current phase."""
        now = time.monotonic()
        if self._current is not None:
            self._spent_s[self._current] = self._spent_s.get(self._current, 0.0) + now - self._since
        self._current, self._since = None, now

    def told(self, *, without: str) -> str:
        """All phases but one, in words: ``9.8 s in all: libraries 1.2 s, workers 3.0 s``."""
        total_s = sum(self._spent_s.values())
        others = (f"{name} {format_seconds(spent)}" for name, spent in self._spent_s.items() if name != without)
        return f"{format_seconds(total_s)} in all: {', '.join(others)}"
