"""A bearer token for workers: in a file of mode 0600 that is kept current while a job runs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Self

from boathouse import atomic
from boathouse.errors import BoathouseError

log = logging.getLogger(__name__)

_LOOK_EVERY_S = 15.0


class TokenFile:
    """Keeps the current token of a supplier in a file, replaced atomically, as long as the ``with`` block lasts.

    A token never goes into an environment variable or a command line, where other processes could see it, and never to
    a scheduler: workers read the file at each login and request.
    """

    def __init__(self, supplier: Callable[[], str], *, look_every_s: float = _LOOK_EVERY_S) -> None:
        """Prepare a token file.

        Args:
            supplier: gives the current token; renews it when it is about to end.
            look_every_s: seconds between two looks at the supplier.
        """
        self._supplier = supplier
        self._look_every_s = look_every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="token-file", daemon=True)
        self._directory: TemporaryDirectory[str] | None = None
        self._current = ""
        self.path = Path()

    def __enter__(self) -> Self:
        self._directory = TemporaryDirectory(prefix="boathouse-token-")
        self.path = Path(self._directory.name) / "token"
        try:
            self.refresh()
        except BaseException:
            self._directory.cleanup()
            raise
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if self._directory is not None:
            self._directory.cleanup()

    def refresh(self) -> None:
        """Ask the supplier, and write the file if the token is another.

        Raises:
            BoathouseError: the supplier has none.
        """
        token = self._supplier()
        if token == self._current:
            return
        atomic.write(self.path, token.encode("ascii"))
        self._current = token

    def _keep(self) -> None:
        while not self._stop.wait(self._look_every_s):
            try:
                self.refresh()
            except BoathouseError as error:
                # The token at hand may live on for long; if it ends, readers say so.
                log.warning("the token could not be renewed: %s", error.what)
