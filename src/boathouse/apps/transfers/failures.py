"""Why a copy failed: the class of the error, the side at fault, whether to try again, the cause word for word.

==============  ==========  =====================================================================================
class           tried again  what happened
==============  ==========  =====================================================================================
``auth``        no          a token was refused, or ran out and could not be exchanged
``source``      no          the source has no such file, or one of another size
``destination`` yes         the destination's server failed
``exists``      no          another file lies at the destination and may not be overwritten
``network``     yes         a server could not be reached; its storage element is paused, no attempt is counted
``checksum``    yes         the bytes that arrived, or those of the source, are not the expected ones
``space``       yes         the destination is full
``timeout``     yes         nothing moved for too long
``internal``    yes         a fault of the transfer service
==============  ==========  =====================================================================================
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from http import HTTPStatus

LONGEST_REASON = 2048
_QUERY = re.compile(r"(\b(?:https|davs|s3s|http)://[^\s?]*)\?\S*")


def printable(text: str) -> str:
    """Foreign words as one line that any log and database takes, without queries of URLs: they may be signatures."""
    if not text.isprintable():
        text = "".join(each if each.isprintable() else " " for each in text)
    return _QUERY.sub(r"\1?…", " ".join(text.split()))


class ErrorClass(StrEnum):
    """Kinds of failure; see the table of this module."""

    auth = "auth"
    source = "source"
    destination = "destination"
    exists = "exists"
    network = "network"
    checksum = "checksum"
    space = "space"
    timeout = "timeout"
    internal = "internal"

    @property
    def retryable(self) -> bool:
        """Whether another attempt can help."""
        return self not in {ErrorClass.auth, ErrorClass.source, ErrorClass.exists}


class Side(StrEnum):
    """Who is at fault."""

    SOURCE = "SOURCE"
    DESTINATION = "DESTINATION"
    TRANSFER = "TRANSFER"


@dataclass(frozen=True)
class Failure:
    """A failed attempt, and whose fault it was."""

    side: Side
    kind: ErrorClass
    cause: str
    """What was said or seen, word for word."""
    host: str = ""
    """The storage element that could not be reached, for ``network``."""
    retryable: bool | None = None
    """Overrides what the class says."""

    @property
    def again(self) -> bool:
        """Whether another attempt can help."""
        return self.kind.retryable if self.retryable is None else self.retryable

    @property
    def reason(self) -> str:
        """One line for the field ``reason``."""
        return f"{self.side} [{self.kind}] {printable(self.cause)}"[:LONGEST_REASON]

    @property
    def public(self) -> str:
        """The reason without names of files: what is told of an element to everybody who waits for it."""
        return f"{self.side} [{self.kind}] {_NAMES.sub('…', printable(self.cause))}"[:LONGEST_REASON]

    def because(self, more: str) -> Failure:
        """The same failure with more said about its cause."""
        return replace(self, cause=f"{self.cause}; {more}")


class CopyError(Exception):
    """Carries a :class:`Failure` out of the attempt; never leaves the worker."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.reason)
        self.failure = failure


_STATUS = {
    HTTPStatus.UNAUTHORIZED: ErrorClass.auth,
    HTTPStatus.FORBIDDEN: ErrorClass.auth,
    HTTPStatus.REQUEST_TIMEOUT: ErrorClass.timeout,
    HTTPStatus.GATEWAY_TIMEOUT: ErrorClass.timeout,
    HTTPStatus.SERVICE_UNAVAILABLE: ErrorClass.network,
    HTTPStatus.TOO_MANY_REQUESTS: ErrorClass.network,
    HTTPStatus.INSUFFICIENT_STORAGE: ErrorClass.space,
}
# Names of files say nothing about the fault, and may hold any word.
_NAMES = re.compile(r"\b(?:local|remote)=\S+|\bhttps?://\S+|(?<![\w'])/\S+")
_REMOTE_STATUS = re.compile(
    r"remote (?:host|server|side) (?:returned|failed with status code) '?(\d{3})", re.IGNORECASE
)
_UNREACHABLE = re.compile(
    r"could ?n[o']t (?:connect|resolve)|connection refused|no route to host|network is unreachable|name or service",
    re.IGNORECASE,
)
_BROKEN = re.compile(
    r"connection reset|partial file|transferred a partial|end of file|unexpected eof|broken pipe|empty reply|"
    r"server returned nothing|failure when receiving|recv failure|send failure",
    re.IGNORECASE,
)
_TLS = re.compile(r"ssl|tls|certificate", re.IGNORECASE)
_SPACE = re.compile(r"no space|disk full|quota|insufficient storage|out of space", re.IGNORECASE)
_WRITE = re.compile(r"filesystem write failure", re.IGNORECASE)
_TIMEOUT = re.compile(r"timed? ?out|timeout|stall|too slow|low speed", re.IGNORECASE)
_CHECKSUM = re.compile(r"checksum|digest", re.IGNORECASE)
_MISSING = re.compile(r"no such file|not found|does not exist", re.IGNORECASE)
_DENIED = re.compile(r"permission denied|not authori[sz]ed|forbidden|unauthori[sz]ed", re.IGNORECASE)


def of_status(side: Side, status: int, text: str, host: str) -> Failure:
    """The failure that an answer of a storage element to one of our own requests means.

    Args:
        side: which of the two answered.
        status: HTTP status, not a success.
        text: the body, or what we asked for if there was none.
        host: the storage element, to be paused when it is not available.
    """
    kind = _STATUS.get(HTTPStatus(status)) if status in set(HTTPStatus) else None
    if kind is None and status == HTTPStatus.NOT_FOUND and side is Side.SOURCE:
        kind = ErrorClass.source
    if kind is None:
        kind = ErrorClass.space if _SPACE.search(_NAMES.sub("", text)) else _server_fault(side)
    again = None
    if kind is ErrorClass.source:
        # A source that lacks the file stays so; a source whose server failed may recover.
        again = status != HTTPStatus.NOT_FOUND
    return Failure(side, kind, f"HTTP {status} {text}".strip(), host=host, retryable=again)


def _server_fault(side: Side) -> ErrorClass:
    return ErrorClass.source if side is Side.SOURCE else ErrorClass.destination


def of_push(status: int, text: str, *, source_host: str, destination_host: str) -> Failure:
    """The failure that the *source* tells of a copy that it was asked to send: the same words, seen from there."""
    words = _NAMES.sub("", text)
    if _MISSING.search(words) and not _REMOTE_STATUS.search(words):
        return Failure(Side.SOURCE, ErrorClass.source, text, retryable=False)
    failure = of_copy(status, text, source_host=destination_host, destination_host=source_host)
    sides = {Side.SOURCE: Side.DESTINATION, Side.DESTINATION: Side.SOURCE}
    kinds = {ErrorClass.source: ErrorClass.destination, ErrorClass.destination: ErrorClass.source}
    if failure.side is Side.SOURCE and failure.kind is ErrorClass.network:
        # Told in another's words, which hold names that users chose: nobody else waits for it.
        failure = replace(failure, kind=ErrorClass.source, host="", retryable=True)
    side = sides.get(failure.side, failure.side)
    return replace(failure, side=side, kind=kinds.get(failure.kind, failure.kind), retryable=failure.again)


def of_copy(status: int, text: str, *, source_host: str, destination_host: str) -> Failure:
    """The failure that the destination tells of a third-party copy: its own, or what it saw of the source.

    Servers agree on no codes here, so their words decide. Examples are those of XRootD 6.2.0.

    Args:
        status: HTTP status of the COPY answer (202 when the failure came at the end of the stream).
        text: the body's outcome: ``failure: HTTP response code said error: remote host returned '404 Not Found'``.
        source_host: the storage element that was read from.
        destination_host: the one that was asked.
    """
    words = _NAMES.sub("", text)
    remote = _REMOTE_STATUS.search(words)
    if remote:
        return replace(of_status(Side.SOURCE, int(remote[1]), "", source_host), cause=text)
    for pattern, side, kind, host in (
        (_SPACE, Side.DESTINATION, ErrorClass.space, ""),
        (_WRITE, Side.DESTINATION, ErrorClass.destination, ""),
        (_UNREACHABLE, Side.SOURCE, ErrorClass.network, source_host),
        (_CHECKSUM, Side.TRANSFER, ErrorClass.checksum, ""),
        (_TIMEOUT, Side.TRANSFER, ErrorClass.timeout, ""),
        (_BROKEN, Side.SOURCE, ErrorClass.source, ""),
        (_DENIED, Side.DESTINATION, ErrorClass.auth, ""),
        (_TLS, Side.SOURCE, ErrorClass.source, ""),
        (_MISSING, Side.SOURCE, ErrorClass.source, ""),
    ):
        if pattern.search(words):
            again = True if pattern is _BROKEN or pattern is _TLS else None
            return Failure(side, kind, text, host=host, retryable=again)
    if status >= 300:
        return of_status(Side.DESTINATION, status, text, destination_host)
    return Failure(Side.TRANSFER, ErrorClass.destination, text or "the answer ended without an outcome")
