"""What passes between the queue and those who work on it: a claimed file, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from boathouse.apps.transfers.failures import Failure
from boathouse.apps.transfers.states import FileState


@dataclass(frozen=True)
class Token:
    """A bearer token for one host, opened for use. Its text is never logged or shown."""

    token_id: int
    job_id: str
    host: str
    value: str = field(repr=False)
    expires_at: datetime | None
    owner: str
    """Subject of whoever submitted the job."""
    origin: str = field(default="", repr=False)
    """The token that was submitted, :func:`unsigned`, if this one was got in exchange: who revokes it means both."""
    denied: str = ""
    """Why it counts no more, once that was seen, whatever the issuer's list says later."""


class Revocations(Protocol):
    """What is known of tokens that their issuer has revoked."""

    @property
    def informed(self) -> bool:
        """Whether the issuer's list has come, so that :meth:`denied` answers at once."""

    def denied(self, token: str) -> str | None:
        """Why a token counts no more; None if it does. Before the list has come this may wait for it.

        Args:
            token: a bearer token, or one that is :func:`unsigned`; one of another issuer is never denied.
        """


def unsigned(token: str) -> str:
    """All that a token says, without the signature: it can still be looked up, and opens nothing."""
    said, dot, _ = token.rpartition(".")
    return said + dot


def denied(revocations: Revocations, token: Token) -> str | None:
    """Why a token counts no more, by itself or because of what it was exchanged for; None if it does."""
    if token.denied:
        return token.denied
    return revocations.denied(token.value) or (revocations.denied(token.origin) if token.origin else None)


class Task(StrEnum):
    """What is to be done with a claimed file."""

    copy = "copy"
    """Copy it."""
    verify = "verify"
    """Its worker died: look whether the copy was completed, and if not give it back."""
    clean = "clean"
    """Remove what an ended or aborted copy left at the destination."""


@dataclass(frozen=True)
class Work:
    """One claimed file."""

    task: Task
    file_id: int
    job_id: str
    attempt: int
    """Number of this attempt; no update of an older one is taken."""
    spent: int
    """Attempts that count and were made before."""
    attempts: int
    """How many may be made."""
    source_url: str
    dest_url: str
    source_host: str
    dest_host: str
    source_token: Token | None
    dest_token: Token | None
    overwrite: bool
    verify: bool
    checksum: str | None
    size_bytes: int | None
    wrote: bool
    """Whether what lies at the destination is known to be ours."""
    alternatives: bool
    """Whether there are sources that were not tried yet."""
    transient: bool = False
    """Whether the file is to be removed when its job has ended, if it is ours."""
    pull: bool = True
    """Whether the destination may be asked to fetch the file."""
    push: bool = True
    """Whether the source may be asked to send it."""
    vo: str = ""
    """Whose it is, for metrics."""

    @property
    def name(self) -> str:
        """The file in a log line."""
        return f"file={self.file_id} job={self.job_id} attempt={self.attempt}"


@dataclass(frozen=True)
class Step:
    """One question to a storage element, and its answer: a link of the causal chain."""

    at: datetime
    asked: str
    answered: str

    def as_dict(self) -> dict[str, str]:
        """For the database and the API."""
        return {"at": self.at.isoformat(timespec="milliseconds"), "asked": self.asked, "answered": self.answered}


@dataclass(frozen=True)
class Outcome:
    """What became of a claimed file."""

    work: Work
    state: FileState
    """FINISHED, FAILED or SUBMITTED (to be tried again); CANCELED when the attempt was told to stop."""
    started: datetime
    failure: Failure | None = None
    size_bytes: int = 0
    seconds: float = 0.0
    steps: tuple[Step, ...] = ()
    delay_s: float = 0.0
    """For SUBMITTED: not to be tried again before."""
    spend: bool = True
    """Whether the attempt counts against the limit."""
    failover: bool = False
    """For FAILED: whether the next source may be tried."""
    clean_in_s: float | None = None
    """If something partial may lie at the destination: when to look."""
    wrote: bool = False
    """Whether what may lie at the destination is known to be ours."""
    existed: bool = False
    """For FINISHED: the right file was there already."""
    dest_file: dict[str, object] | None = None
    """What lies at the destination, for FTS3's ``dst_file`` report."""
