"""The contract of a place where work runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Sequence
from types import TracebackType
from typing import Self, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Backend(ABC):
    """Applies a function to many items, each in one of several worker processes.

    A backend is open from its construction until :meth:`close`, which a ``with`` statement calls. The function is
    importable (module level), and its items and results can be pickled; so can what it raises.
    """

    @property
    @abstractmethod
    def workers(self) -> int:
        """How many items are worked on at the same time.

        Returns:
            At least 1.

        Raises:
            Nothing.
        """

    @abstractmethod
    def apply(
        self, function: Callable[[Item], Result], items: Sequence[Item], subjects: Sequence[Hashable] | None = None
    ) -> Iterator[tuple[int, Result]]:
        """Apply ``function`` to every item.

        Args:
            function: what to do with an item.
            items: the items.
            subjects: what each item is about, as many as items. The worker that knew a subject last is given its items
                again where that leaves no other idle, since it may have kept things open; results never depend on it.

        A worker that dies takes nothing with it: its items are done again by another. Each item's result is returned
        exactly once. Leaving the iterator early cancels what has not begun.

        Returns:
            Pairs (index of the item, result), in the order of completion.

        Raises:
            ServiceError: workers died again and again, or none is left.
            Exception: what ``function`` raised; the items not done yet are cancelled.
        """

    @abstractmethod
    def close(self) -> None:
        """Stop the workers and free what they held. Does nothing the second time.

        Returns:
            When the workers are gone.

        Raises:
            Nothing.
        """

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
