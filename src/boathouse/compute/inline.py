"""No workers at all: everything in this process, one item after the other. For debugging, and for small inputs."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence

from boathouse.compute.base import Backend, Item, Result


class Inline(Backend):
    """Runs in the calling process, where a debugger and ``print`` reach the user's code."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        """Set variables in this process, as workers would have them; :meth:`close` puts back what was there."""
        self._before = {name: os.environ.get(name) for name in environment or {}}
        os.environ.update(environment or {})

    @property
    def workers(self) -> int:
        """One."""
        return 1

    def apply(
        self,
        function: Callable[[Item], Result],
        items: Sequence[Item],
        subjects: Sequence[Hashable] | None = None,  # noqa: ARG002 - there is only one place to go to
    ) -> Iterator[tuple[int, Result]]:
        """Apply to one item after the other, in order."""
        for index, item in enumerate(items):
            yield index, function(item)

    def close(self) -> None:
        """Put the environment back."""
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        self._before = {}
