"""Tokens that are open for use, for a moment: claims that follow each other are mostly of the same jobs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable

from boathouse.apps.transfers.work import Token

KNOWN_S = 2.0
"""How long a token is taken for what the database holds. Another worker may have exchanged it meanwhile; whoever uses
it asks again where it would run out or does not fit."""


class OpenTokens:
    """Tokens by id as they were read a moment ago. Shared between threads.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._tokens: dict[int, tuple[float, Token]] = {}

    def now(self) -> float:
        """The time, for :meth:`keep`."""
        return self._clock()

    def known(self, token_ids: Collection[int]) -> dict[int, Token]:
        """Those of some tokens that are known."""
        oldest = self._clock() - KNOWN_S
        with self._lock:
            found = {token_id: self._tokens[token_id] for token_id in token_ids if token_id in self._tokens}
        return {token_id: token for token_id, (at, token) in found.items() if at >= oldest}

    def keep(self, tokens: Iterable[Token], *, asked_at: float) -> None:
        """Remember tokens as the database gave them, and forget those that nobody has asked for lately.

        Args:
            tokens: the tokens.
            asked_at: when the database was asked, by :meth:`now`; what is known since is newer.
        """
        oldest = self._clock() - KNOWN_S
        with self._lock:
            self._tokens = {token_id: each for token_id, each in self._tokens.items() if each[0] >= oldest}
            for token in tokens:
                at, _ = self._tokens.get(token.token_id, (asked_at, token))
                if at <= asked_at:
                    self._tokens[token.token_id] = asked_at, token
