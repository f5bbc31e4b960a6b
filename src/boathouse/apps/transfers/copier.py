"""One attempt to copy one file: what is asked, in which order, and what the answers mean.

The destination is asked to copy with ``Overwrite: F`` first. A server that creates the file exclusively thereby
also refuses a second writer, whoever that is, and a file that is there already costs no question beforehand. Only
when the copy is refused do we look: the right file is a success, another one may be replaced if the client allows
it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Protocol, TypeVar

from boathouse.apps.transfers import checksums
from boathouse.apps.transfers.checksums import Algorithm, Checksum
from boathouse.apps.transfers.failures import CopyError, ErrorClass, Failure, Side, of_copy, of_push, printable
from boathouse.apps.transfers.markers import Progress
from boathouse.apps.transfers.renewal import Renewal
from boathouse.apps.transfers.settings import Settings, StoreKind
from boathouse.apps.transfers.states import FileState
from boathouse.apps.transfers.storage import CopyAnswer, Found, Storage, UnreachedError, matches
from boathouse.apps.transfers.stores import is_signed
from boathouse.apps.transfers.work import Outcome, Step, Task, Token, Work

log = logging.getLogger(__name__)

# Rucio knows this sentence, and then compares the file that is there.
EXISTS = "Destination file exists and overwrite is not enabled"
_CRC32C = checksums.ALGORITHMS["crc32c"]
_COMPARED = "what was compared"
_TELL_S = 1.0
_LONGEST_ANSWER = 500
_NO_PULL = frozenset({HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED})
"""What a server answers to COPY that knows no third-party copy."""
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
class _Attempt:
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
    sent: bool = False
    """Whether a COPY was sent and its end is not known: something of ours may lie, or still grow, there."""

    def note(self, asked: str, answered: str) -> None:
        self.steps.append(Step(datetime.now(UTC), asked, printable(answered)[:_LONGEST_ANSWER]))


@dataclass(frozen=True)
class _Done:
    size_bytes: int
    existed: bool = False


class Copier:
    """Copies, verifies and cleans claimed files; the same for every kind of storage.

    Args:
        storage: who talks to storage elements.
        renewal: who renews tokens.
        ledger: the queue.
        settings: limits, and the storage elements that the facility knows.
        denied: why a token was revoked at its issuer, if it was; it may take a while.
    """

    def __init__(
        self,
        storage: Storage,
        renewal: Renewal,
        ledger: Ledger,
        settings: Settings,
        denied: Callable[[str], str | None] = lambda _: None,
    ) -> None:
        self._denied = denied
        self._storage = storage
        self._renewal = renewal
        self._ledger = ledger
        self._limits = settings.limits
        self._elements = settings.elements
        self._stores = storage.stores

    async def run(self, work: Work) -> Outcome:
        """Work on a claimed file until its outcome is known. Cancel the task to stop it: that is an outcome too."""
        started = datetime.now(UTC)
        clock = asyncio.get_running_loop().time
        begun = clock()
        attempt = _begin(work)
        steps = {Task.copy: self._copy, Task.verify: self._verify, Task.clean: self._clean}
        try:
            result = await self._bounded(attempt, steps[work.task])
        except CopyError as error:
            outcome = self._failed(attempt, error.failure)
        except (LostError, asyncio.CancelledError):
            # Of a file that is still ours this says: start again, nothing was wrong with it.
            outcome = Outcome(work, FileState.SUBMITTED, started, clean_in_s=self._settle(attempt), spend=False)
        except Exception as error:
            # A fault of ours must not take the worker down; it is told, and tried again within bounds.
            log.exception("%s internal fault", work.name)
            failure = Failure(Side.TRANSFER, ErrorClass.internal, f"{type(error).__name__}: {error}")
            outcome = self._failed(attempt, failure)
        else:
            outcome = Outcome(work, FileState.FINISHED, started, size_bytes=result.size_bytes, existed=result.existed)
        return replace(outcome, started=started, seconds=clock() - begun, steps=tuple(attempt.steps))

    async def _bounded(self, attempt: _Attempt, step: Callable[[_Attempt], Awaitable[_Done]]) -> _Done:
        try:
            async with asyncio.timeout(self._limits.copy_s):
                return await step(attempt)
        except TimeoutError as error:
            cause = f"not at an end after {self._limits.copy_s:.0f} s"
            raise CopyError(Failure(Side.TRANSFER, ErrorClass.timeout, cause)) from error

    async def _copy(self, attempt: _Attempt) -> _Done:
        work = attempt.work
        await asyncio.to_thread(self._require_unrevoked, work)
        await self._dest_token(attempt)
        await self._source_token(attempt)
        if attempt.size_bytes is None or (attempt.algorithm and attempt.checksum is None):
            await self._ask_source(attempt)
        return await (self._copy_to_store if self._to_store(work) else self._copy_to_element)(attempt)

    async def _copy_to_store(self, attempt: _Attempt) -> _Done:
        await self._for_store(attempt)
        if is_signed(_value(attempt.dest_token)):
            return await self._send_signed(attempt)
        return await self._push(attempt, "it is a store")

    async def _copy_to_element(self, attempt: _Attempt) -> _Done:
        work = attempt.work
        if not work.overwrite or work.transient:
            found = await self._look_around(attempt)
            if found is not None and (not work.overwrite or self._right(attempt, found)):
                return self._already_there(attempt, found)
            if found is None:
                await self._still_ours(self._ledger.wrote(work))
        if not work.pull:
            return await self._push(attempt, "the operator has the destination fetch nothing")
        answer = await self._pull(attempt, overwrite=False)
        if answer.status in _NO_PULL:
            return await self._push(attempt, f"HTTP {answer.status} {answer.text}")
        if not answer.accepted:
            found = await self._look_around(attempt)
            if found is not None and self._right(attempt, found):
                return _Done(found.size_bytes or 0, existed=True)
            if found is not None and work.overwrite:
                answer = await self._pull(attempt, overwrite=True)
        if answer.succeeded:
            return await self._check(attempt)
        failure = of_copy(answer.status, answer.text, source_host=work.source_host, destination_host=work.dest_host)
        failure = await self._seen(attempt, failure)
        if answer.accepted:
            await self._remove(attempt)
        raise CopyError(await self._whose_bytes(attempt, failure))

    async def _for_store(self, attempt: _Attempt) -> None:
        """Make sure that the source has the right bytes, and have it tell a checksum that S3 knows as well."""
        if attempt.checksum is None or attempt.algorithm in (_CRC32C, checksums.ALGORITHMS["md5"]):
            return
        self._require_right(await self._look_at_source(attempt, attempt.algorithm), attempt)
        store = self._stores.at(attempt.work.dest_url)
        if store is not None and store.kind is StoreKind.s3:
            found = await self._look_at_source(attempt, _CRC32C)
            if found.checksum is not None:
                attempt.algorithm, attempt.checksum = _CRC32C, found.checksum

    @staticmethod
    def _require_right(found: Found, attempt: _Attempt) -> None:
        wrong = matches(found, size_bytes=attempt.size_bytes, checksum=attempt.checksum)
        if wrong:
            cause = "; ".join(f"{name} mismatch: {difference}" for name, difference in wrong.items())
            raise CopyError(Failure(Side.SOURCE, ErrorClass.checksum, cause, retryable=False))

    async def _send_signed(self, attempt: _Attempt) -> _Done:
        """Have the source send the file to a URL that somebody signed.

        It is good for writing only, so nothing can be looked at before or after. A PUT to S3 is taken whole or not at
        all, and says how long it is; that the source has as many bytes is asked before.
        """
        self._require_right(await self._look_at_source(attempt, None), attempt)
        work = attempt.work
        answer = await self._ask(attempt, overwrite=True, push=True)
        attempt.sent = False
        if not answer.succeeded:
            hosts = {"source_host": work.source_host, "destination_host": work.dest_host}
            raise CopyError(of_push(answer.status, answer.text, **hosts))
        attempt.note(_COMPARED, "checked at the source only: a signed URL to write to lets nobody look")
        return _Done(attempt.size_bytes or 0)

    async def _push(self, attempt: _Attempt, why: str) -> _Done:
        """Have the source send the file, where the destination does not fetch. Looks first: PUT overwrites.

        A source that the facility does not know is not asked: it would get the destination's token.
        """
        work = attempt.work
        attempt.sent = False
        if not work.push or work.source_host not in self._elements:
            cause = f"the destination does not fetch, and the source may not be asked to send: {why}"
            raise CopyError(Failure(Side.DESTINATION, ErrorClass.destination, cause, retryable=False))
        found = await self._look_around(attempt)
        if found is not None and (not work.overwrite or self._right(attempt, found)):
            return self._already_there(attempt, found)
        if found is None:
            await self._still_ours(self._ledger.wrote(work))
            await self._storage.make_room(work.dest_url, _value(attempt.dest_token))
        answer = await self._ask(attempt, overwrite=work.overwrite, push=True)
        if answer.succeeded:
            return await self._check(attempt)
        if answer.accepted:
            await self._remove(attempt)
        hosts = {"source_host": work.source_host, "destination_host": work.dest_host}
        raise CopyError(await self._whose_bytes(attempt, of_push(answer.status, answer.text, **hosts)))

    def _require_unrevoked(self, work: Work) -> None:
        """Begin nothing with a token that its issuer has revoked: storage would take it until it ends."""
        for side, token in ((Side.DESTINATION, work.dest_token), (Side.SOURCE, work.source_token)):
            if token is not None and (why := self._denied(token.value)):
                raise CopyError(Failure(side, ErrorClass.auth, f"the token for {token.host} counts no more: {why}"))

    def _to_store(self, work: Work) -> bool:
        """Whether the destination is storage of somebody else's, which knows no third-party copy."""
        return self._stores.at(work.dest_url) is not None

    def _at_store(self, work: Work) -> bool:
        """Whether one of the ends is."""
        return self._to_store(work) or self._stores.at(work.source_url) is not None

    async def _source_token(self, attempt: _Attempt) -> None:
        token, margin = attempt.source_token or attempt.work.source_token, self._limits.token_margin_s
        asked = self._to_store(attempt.work)
        attempt.source_token = await self._renewal.usable(token, Side.SOURCE, margin, asked=asked)

    async def _dest_token(self, attempt: _Attempt) -> None:
        token, margin = attempt.dest_token or attempt.work.dest_token, self._limits.token_margin_s
        attempt.dest_token = await self._renewal.usable(token, Side.DESTINATION, margin, asked=True)

    async def _ask_source(self, attempt: _Attempt) -> None:
        """Let the source say what the client did not: size and checksum."""
        open_choice = attempt.work.checksum is None and self._at_store(attempt.work)
        if open_choice and attempt.algorithm:
            # S3 has none of the field's own checksum; this one both may know.
            attempt.algorithm = _CRC32C
        found = await self._look_at_source(attempt, attempt.algorithm)
        attempt.size_bytes = found.size_bytes if attempt.size_bytes is None else attempt.size_bytes
        attempt.checksum = attempt.checksum or found.checksum
        if open_choice and attempt.checksum is None:
            attempt.algorithm = None
        if attempt.checksum is None and attempt.work.checksum and attempt.algorithm:
            cause = f"the source does not tell its {attempt.algorithm.name} checksum, and no value was given"
            raise CopyError(Failure(Side.SOURCE, ErrorClass.checksum, cause, retryable=False))

    async def _look_at_source(self, attempt: _Attempt, algorithm: Algorithm | None) -> Found:
        work = attempt.work
        found = await self._noted(
            attempt,
            f"HEAD {_bare(work.source_url)}",
            self._storage.look(
                Side.SOURCE, work.source_url, _value(attempt.source_token), algorithm, attempt.size_bytes
            ),
        )
        if found is None:
            raise CopyError(Failure(Side.SOURCE, ErrorClass.source, f"no such file: {_bare(work.source_url)}"))
        return found

    async def _look(self, attempt: _Attempt, algorithm: Algorithm | None) -> Found | None:
        work = attempt.work
        return await self._noted(
            attempt,
            f"HEAD {_bare(work.dest_url)}" + (f" for its {algorithm.name}" if algorithm else ""),
            self._storage.look(
                Side.DESTINATION, work.dest_url, _value(attempt.dest_token), algorithm, attempt.size_bytes
            ),
        )

    async def _look_around(self, attempt: _Attempt) -> Found | None:
        """Look at a destination that somebody may still write: sizes first, since a checksum costs the reader time."""
        found = await self._look(attempt, None)
        if found is None or attempt.algorithm is None or found.size_bytes != attempt.size_bytes:
            return found
        return await self._look(attempt, attempt.algorithm)

    def _right(self, attempt: _Attempt, found: Found) -> bool:
        """Whether a file is known to be the wanted one: size and checksum, or size alone if no more was asked."""
        if matches(found, size_bytes=attempt.size_bytes, checksum=attempt.checksum) or attempt.size_bytes is None:
            return False
        return attempt.checksum is not None and found.checksum is not None

    def _already_there(self, attempt: _Attempt, found: Found) -> _Done:
        if self._right(attempt, found):
            return _Done(found.size_bytes or 0, existed=True)
        attempt.in_the_way = found
        raise CopyError(Failure(Side.DESTINATION, ErrorClass.exists, f"{EXISTS}: {found}"))

    async def _pull(self, attempt: _Attempt, *, overwrite: bool) -> CopyAnswer:
        return await self._ask(attempt, overwrite=overwrite, push=False)

    async def _ask(self, attempt: _Attempt, *, overwrite: bool, push: bool) -> CopyAnswer:
        """Have one of the two copy, and follow it to its end."""
        work = attempt.work
        clock = asyncio.get_running_loop().time
        told = clock()

        async def moved(progress: Progress) -> None:
            # Servers send a first marker at once: a small file is over before anybody asks how far it is.
            nonlocal told
            if clock() - told < _TELL_S:
                return
            told = clock()
            await self._still_ours(self._ledger.progress(work, progress.transferred_bytes))
            # The check at the end needs a token that lives, however long the copy takes.
            await self._dest_token(attempt)

        attempt.sent = True
        ways = f"{_bare(work.dest_url)} from {_bare(work.source_url)}"
        if push:
            ways = f"{_bare(work.source_url)} to {_bare(work.dest_url)}"
        asked = f"COPY {ways}, Overwrite: {'T' if overwrite else 'F'}"
        copying = self._storage.copy(
            work.dest_url,
            _value(attempt.dest_token),
            work.source_url,
            _value(attempt.source_token),
            overwrite=overwrite,
            checksum=attempt.checksum,
            moved=moved,
            push=push,
        )
        try:
            answer = await self._noted(attempt, asked, copying)
        except UnreachedError:
            attempt.sent = False
            raise
        attempt.sent = answer.accepted
        return answer

    async def _check(self, attempt: _Attempt) -> _Done:
        """Compare what arrived; remove it if it is not what was wanted."""
        found = await self._look(attempt, attempt.algorithm)
        if found is None:
            cause = "the destination told of success, and has no such file"
            raise CopyError(Failure(Side.DESTINATION, ErrorClass.destination, cause))
        wrong = matches(found, size_bytes=attempt.size_bytes, checksum=attempt.checksum)
        if attempt.checksum is not None and found.checksum is None and not self._to_store(attempt.work):
            wrong = {**wrong, "checksum": "not told by the destination"}
        if attempt.work.verify and self._at_store(attempt.work):
            attempt.note(_COMPARED, _compared(attempt, found))
        if not wrong:
            return _Done(found.size_bytes or 0)
        await self._remove(attempt)
        cause = "; ".join(f"{name} mismatch: {difference}" for name, difference in wrong.items())
        failure = Failure(Side.DESTINATION, ErrorClass.checksum, cause)
        raise CopyError(await self._whose_bytes(attempt, failure))

    async def _whose_bytes(self, attempt: _Attempt, failure: Failure) -> Failure:
        """For wrong bytes: whether the source has them already. It is asked only then."""
        if failure.kind is not ErrorClass.checksum:
            return failure
        try:
            found = await self._look_at_source(attempt, attempt.algorithm)
        except CopyError as error:
            return failure.because(f"the source could not be compared: {error.failure.cause}")
        wrong = matches(found, size_bytes=attempt.size_bytes, checksum=attempt.checksum)
        if not wrong:
            return failure
        cause = "; ".join(f"{name} mismatch: {difference}" for name, difference in wrong.items())
        return Failure(Side.SOURCE, ErrorClass.checksum, f"{cause}; {failure.cause}", retryable=False)

    async def _seen(self, attempt: _Attempt, failure: Failure) -> Failure:
        """For a source that cannot be reached, as the destination says: whether we see that too.

        A storage element is paused for everybody, and the destination's words hold names that its users chose.
        """
        if failure.kind is not ErrorClass.network or failure.side is not Side.SOURCE:
            return failure
        try:
            await self._look_at_source(attempt, None)
        except CopyError as error:
            if error.failure.kind is ErrorClass.network:
                return error.failure.because(failure.cause)
        return replace(failure, kind=ErrorClass.source, host="", retryable=True)

    async def _remove(self, attempt: _Attempt) -> None:
        """Remove what a copy of ours left, if it is still ours to remove; if that fails, it is left for later."""
        work = attempt.work
        await self._still_ours(self._ledger.holds(work))
        try:
            await self._noted(
                attempt,
                f"DELETE {_bare(work.dest_url)}",
                self._storage.delete(work.dest_url, _value(attempt.dest_token)),
            )
        except CopyError as error:
            log.warning("%s partial destination not removed: %s", work.name, error.failure.reason)
        else:
            attempt.sent = False

    async def _verify(self, attempt: _Attempt) -> _Done:
        """A dead worker's file: right and complete, or to be cleaned and tried again."""
        # The server goes on with the copy until its next marker finds nobody there.
        attempt.sent = attempt.work.overwrite or attempt.work.wrote
        await self._dest_token(attempt)
        if is_signed(_value(attempt.dest_token)):
            attempt.sent = False
            raise CopyError(Failure(Side.TRANSFER, ErrorClass.internal, "the worker died while it copied"))
        found = await self._look_around(attempt)
        if found is not None and self._right(attempt, found):
            attempt.sent = False
            return _Done(found.size_bytes or 0)
        cause = f"the worker died while it copied; the destination has {found or 'no such file'}"
        raise CopyError(Failure(Side.TRANSFER, ErrorClass.internal, cause))

    async def _clean(self, attempt: _Attempt) -> _Done:
        """Remove what an aborted copy left, unless it is the right file after all and is to stay."""
        await self._dest_token(attempt)
        if is_signed(_value(attempt.dest_token)):
            # S3 keeps nothing of a PUT that broke off.
            return _Done(0, existed=True)
        if attempt.work.transient:
            await self._still_ours(self._ledger.holds(attempt.work))
            await self._storage.delete(attempt.work.dest_url, _value(attempt.dest_token))
            log.info("%s removed from %s, where it was on its way", attempt.work.name, attempt.work.dest_host)
            return _Done(0, existed=True)
        found = await self._look_around(attempt)
        if found is None or self._right(attempt, found):
            return _Done(0, existed=True)
        if not (attempt.work.overwrite or attempt.work.wrote):
            return _Done(0, existed=True)
        await self._still_ours(self._ledger.holds(attempt.work))
        await self._storage.delete(attempt.work.dest_url, _value(attempt.dest_token))
        log.info("%s partial destination removed", attempt.work.name)
        return _Done(0, existed=True)

    def _failed(self, attempt: _Attempt, failure: Failure) -> Outcome:
        """What to do after a failure: try again, take the next source, or give up."""
        work = attempt.work
        now = datetime.now(UTC)
        clean = self._settle(attempt)
        if work.task is Task.clean:
            return Outcome(work, FileState.FAILED, now, failure, clean_in_s=self._limits.clean_again_s)
        elsewhere = work.alternatives and failure.side is not Side.DESTINATION and work.task is Task.copy
        if failure.kind is ErrorClass.network and not elsewhere:
            # Its storage element is paused; waiting for it costs no attempt.
            return Outcome(work, FileState.SUBMITTED, now, failure, spend=False, clean_in_s=clean)
        if failure.again and not elsewhere and work.spent + 1 < work.attempts:
            delay = self._limits.retry_delay_s * 4**work.spent
            return Outcome(work, FileState.SUBMITTED, now, failure, delay_s=delay, clean_in_s=clean)
        report = _dest_file(attempt.in_the_way) if attempt.in_the_way else None
        return Outcome(work, FileState.FAILED, now, failure, failover=elsewhere, clean_in_s=clean, dest_file=report)

    def _settle(self, attempt: _Attempt) -> float | None:
        return self._limits.settle_s if attempt.sent else None

    @staticmethod
    async def _noted(attempt: _Attempt, asked: str, question: Awaitable[_T]) -> _T:
        try:
            answer = await question
        except CopyError as error:
            attempt.note(asked, error.failure.reason)
            raise
        attempt.note(asked, _words(answer))
        return answer

    @staticmethod
    async def _still_ours(answer: Awaitable[bool]) -> None:
        if not await answer:
            raise LostError


def _begin(work: Work) -> _Attempt:
    algorithm, checksum = checksums.parse(work.checksum)
    if not work.verify:
        return _Attempt(work, None, None, work.size_bytes)
    # A client that wants a check and names no checksum gets the one that all storage of the field knows.
    return _Attempt(work, algorithm or checksums.ALGORITHMS["adler32"], checksum, work.size_bytes)


def _compared(attempt: _Attempt, found: Found) -> str:
    """What was compared of a file that came from a store or went to one: not all of them tell checksums."""
    if attempt.checksum is not None and found.checksum is not None:
        return f"size and {attempt.checksum.algorithm.name}"
    wanted = attempt.algorithm.name if attempt.algorithm else "checksum"
    return f"checked by size only: {'the source' if attempt.checksum is None else 'the store'} tells no {wanted}"


def _value(token: Token | None) -> str | None:
    return token.value if token else None


def _words(answer: object) -> str:
    match answer:
        case None:
            return "nothing is there"
        case CopyAnswer():
            moved = f", {answer.progress.markers} markers, {answer.progress.connections}" if answer.accepted else ""
            return f"HTTP {answer.status} {answer.text or 'no outcome'}{moved}"
        case _:
            return str(answer)


def _dest_file(found: Found) -> dict[str, object]:
    """FTS3's report of a file at the destination; Rucio compares it with what it expects there."""
    return {
        "file_size": found.size_bytes,
        "checksum_type": found.checksum.algorithm.name.upper() if found.checksum else None,
        "checksum_value": found.checksum.hex if found.checksum else None,
        "file_on_disk": True,
        "file_on_tape": False,
    }


def _bare(url: str) -> str:
    """A URL without its query, which may hold a signature."""
    return url.partition("?")[0]
