"""How an element gets at a file for which requests are signed: by a ticket, and a redirect of this service.

A signature is for one verb, and XRootD asks for the size of a file (HEAD) before it fetches it (GET). So an element
is sent to this service first, with a ticket in a header. What it asks there is answered (HEAD) or redirected to a URL
that is signed at that moment (GET, PUT); the bytes go between element and store. Neither ticket nor signature stands in
a URL that the element writes to its log, and the ticket does not go on to the store: libcurl keeps it from other
hosts.
"""

from __future__ import annotations

import contextlib
import itertools
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

PATH = "/signed"


@dataclass(frozen=True)
class Ticket:
    """Good while the copy goes on for which it was made."""

    at: str
    """Where the element asks."""
    value: str = field(repr=False)
    method: str
    """``GET`` or ``PUT``."""
    url: str
    """Of the file, without a signature."""
    credential: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)
    """What the element brings, and the signature is for."""


class Tickets:
    """The tickets of this process.

    Args:
        url: of this service, as elements reach it.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._numbers = itertools.count(1)
        self._known: dict[str, Ticket] = {}

    @contextlib.contextmanager
    def issue(
        self, method: str, url: str, credential: str, headers: Mapping[str, str] | None = None
    ) -> Iterator[Ticket]:
        """A ticket that is good inside the ``with``."""
        at = f"{self._url}{PATH}/{next(self._numbers)}"
        ticket = Ticket(at, secrets.token_urlsafe(32), method, url, credential, headers or {})
        self._known[ticket.value] = ticket
        try:
            yield ticket
        finally:
            del self._known[ticket.value]

    def find(self, authorization: str | None) -> Ticket | None:
        """The ticket that a request brings, if it is good."""
        kind, _, value = (authorization or "").partition(" ")
        return self._known.get(value.strip()) if kind.lower() == "bearer" else None
