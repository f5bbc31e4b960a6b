"""How long operations tell of their progress."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called with what came to be done since the last call, from any thread."""

    def __call__(self, *, size_bytes: int = 0, files: int = 0) -> None:
        """So many more bytes moved, so many more files finished."""


def silent(*, size_bytes: int = 0, files: int = 0) -> None:
    """Progress that nobody watches."""
