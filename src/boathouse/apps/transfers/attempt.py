"""What is known while an attempt goes on, and what it tells the queue meanwhile."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol, TypeVar

from boathouse.apps.transfers import checksums
from boathouse.apps.transfers.checksums import Algorithm, Checksum
from boathouse.apps.transfers.failures import CopyError, printable
from boathouse.apps.transfers.storage import CopyAnswer, Found
from boathouse.apps.transfers.work import Step, Token, Work

_LONGEST_ANSWER = 500
_T = TypeVar("_T")


class Ledger(Protocol):
    """What the copier tells the queue while it works; each answers whether the file is still this worker's."""

    async def progress(self, work: Work, transferred_bytes: int) -> bool:
        """Note how far the copy is."""

    async def wrote(self, work: Work) -> bool:
        """Note that what lies at the destination is ours."""

    async def holds(self, work: Work) -> bool:
        """Ask only."""


class LostError(Exception):
    """The file is not ours any more: it was canceled, or another worker took it over."""


@dataclass
class Attempt:
    """What is known while an attempt goes on."""

    work: Work
    algorithm: Algorithm | None
    checksum: Checksum | None
    size_bytes: int | None
    steps: list[Step] = field(default_factory=list)
    source_token: Token | None = None
    dest_token: Token | None = None
    in_the_way: Found | None = None
    """A file at the destination that may not be overwritten."""
    wrote: bool = False
    """Whether what lies at the destination is known to be ours."""
    sent: bool = False
    """Whether a COPY was sent and its end is not known: something of ours may lie, or still grow, there."""

    def note(self, asked: str, answered: str) -> None:
        """Add a link to the causal chain."""
        self.steps.append(Step(datetime.now(UTC), asked, printable(answered)[:_LONGEST_ANSWER]))

    async def ask(self, asked: str, question: Awaitable[_T]) -> _T:
        """Ask a storage element, and note what was asked and answered.

        Raises:
            CopyError: it did not answer, or refused.
        """
        try:
            answer = await question
        except CopyError as error:
            self.note(asked, error.failure.reason)
            raise
        self.note(asked, _words(answer))
        return answer


@dataclass(frozen=True)
class Done:
    """An attempt that came to its end."""

    size_bytes: int
    existed: bool = False
    """Whether the right file was there already."""


def begin(work: Work) -> Attempt:
    """An attempt at a claimed file, of which nothing is known yet but what the client said."""
    algorithm, checksum = checksums.parse(work.checksum)
    if not work.verify:
        return Attempt(work, None, None, work.size_bytes, wrote=work.wrote)
    # A client that wants a check and names no checksum gets the one that all storage of the field knows.
    algorithm = algorithm or checksums.ALGORITHMS["adler32"]
    return Attempt(work, algorithm, checksum, work.size_bytes, wrote=work.wrote)


async def still_ours(answer: Awaitable[bool]) -> None:
    """Go on only with a file that is still this worker's.

    Raises:
        LostError: it is not.
    """
    if not await answer:
        raise LostError


def value(token: Token | None) -> str | None:
    """The text of a token, if there is one."""
    return token.value if token else None


def bare(url: str) -> str:
    """A URL without its query, which may hold a signature."""
    return url.partition("?")[0]


def _words(answer: object) -> str:
    match answer:
        case None:
            return "nothing is there"
        case CopyAnswer():
            moved = f", {answer.progress.markers} markers, {answer.progress.connections}" if answer.accepted else ""
            return f"HTTP {answer.status} {answer.text or 'no outcome'}{moved}"
        case _:
            return str(answer)
