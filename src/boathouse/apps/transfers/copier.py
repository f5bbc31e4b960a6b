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
from dataclasses import replace
from datetime import UTC, datetime
from http import HTTPStatus

from boathouse.apps.transfers import checksums
from boathouse.apps.transfers.aftercare import Aftercare
from boathouse.apps.transfers.attempt import Attempt, Done, Ledger, LostError, bare, begin, still_ours, value
from boathouse.apps.transfers.conclusions import failed, settle_s
from boathouse.apps.transfers.failures import CopyError, ErrorClass, Failure, Side, of_copy, of_push
from boathouse.apps.transfers.inspection import CRC32C, Inspection, mismatches
from boathouse.apps.transfers.markers import Progress
from boathouse.apps.transfers.renewal import Renewal
from boathouse.apps.transfers.settings import Settings, StoreKind
from boathouse.apps.transfers.states import FileState
from boathouse.apps.transfers.storage import CopyAnswer, Found, Storage, UnreachedError, matches
from boathouse.apps.transfers.stores import is_signed
from boathouse.apps.transfers.work import Outcome, Task, Token, Work

log = logging.getLogger(__name__)

_COMPARED = "what was compared"
_TELL_S = 1.0
_NOTE_S = 0.2
"""A copy that is over before costs the database no line of its own."""
_NO_PULL = frozenset({HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED})
"""What a server answers to COPY that knows no third-party copy."""


class Copier:
    """Copies, verifies and cleans claimed files; the same for every kind of storage.

    Args:
        storage: who talks to storage elements.
        renewal: who renews tokens.
        ledger: the queue.
        settings: limits, and the storage elements that the facility knows.
    """

    def __init__(
        self,
        storage: Storage,
        renewal: Renewal,
        ledger: Ledger,
        settings: Settings,
    ) -> None:
        self._storage = storage
        self._renewal = renewal
        self._ledger = ledger
        self._inspection = Inspection(storage, renewal, settings.limits)
        self._aftercare = Aftercare(storage, self._inspection, ledger)
        self._limits = settings.limits
        self._elements = settings.elements
        self._stores = storage.stores
        self._noting: set[asyncio.Task[bool]] = set()

    async def run(self, work: Work) -> Outcome:
        """Work on a claimed file until its outcome is known. Cancel the task to stop it: that is an outcome too."""
        started = datetime.now(UTC)
        clock = asyncio.get_running_loop().time
        begun = clock()
        attempt = begin(work)
        steps = {Task.copy: self._copy, Task.verify: self._aftercare.verify, Task.clean: self._aftercare.clean}
        try:
            result = await self._bounded(attempt, steps[work.task])
        except CopyError as error:
            outcome = failed(attempt, error.failure, self._limits)
        except (LostError, asyncio.CancelledError):
            # Of a file that is still ours this says: start again, nothing was wrong with it.
            outcome = Outcome(
                work, FileState.SUBMITTED, started, clean_in_s=settle_s(attempt, self._limits), spend=False
            )
        except Exception as error:
            # A fault of ours must not take the worker down; it is told, and tried again within bounds.
            log.exception("%s internal fault", work.name)
            failure = Failure(Side.TRANSFER, ErrorClass.internal, f"{type(error).__name__}: {error}")
            outcome = failed(attempt, failure, self._limits)
        else:
            outcome = Outcome(work, FileState.FINISHED, started, size_bytes=result.size_bytes, existed=result.existed)
        outcome = replace(outcome, started=started, seconds=clock() - begun)
        return replace(outcome, steps=tuple(attempt.steps), wrote=attempt.wrote)

    async def _bounded(self, attempt: Attempt, step: Callable[[Attempt], Awaitable[Done]]) -> Done:
        try:
            async with asyncio.timeout(self._limits.copy_s):
                return await step(attempt)
        except TimeoutError as error:
            cause = f"not at an end after {self._limits.copy_s:.0f} s"
            raise CopyError(Failure(Side.TRANSFER, ErrorClass.timeout, cause)) from error

    async def _copy(self, attempt: Attempt) -> Done:
        work = attempt.work
        await self._require_unrevoked(work.dest_token, work.source_token)
        await self._usable_tokens(attempt)
        if attempt.size_bytes is None or (attempt.algorithm and attempt.checksum is None):
            await self._inspection.ask_source(attempt)
            # A server may have summed for hours.
            await self._usable_tokens(attempt)
        return await (self._copy_to_store if self._inspection.to_store(work) else self._copy_to_element)(attempt)

    async def _copy_to_store(self, attempt: Attempt) -> Done:
        await self._for_store(attempt)
        if is_signed(value(attempt.dest_token)):
            return await self._send_signed(attempt)
        return await self._push(attempt, "it is a store")

    async def _copy_to_element(self, attempt: Attempt) -> Done:
        work = attempt.work
        if not work.overwrite or work.transient:
            found = await self._inspection.look_around(attempt)
            if found is not None and (not work.overwrite or self._inspection.right(attempt, found)):
                return self._inspection.already_there(attempt, found)
            if found is None:
                await self._ours_from_here(attempt)
        if not work.pull:
            return await self._push(attempt, "the operator has the destination fetch nothing")
        answer = await self._pull(attempt, overwrite=False)
        if answer.status in _NO_PULL:
            return await self._push(attempt, f"HTTP {answer.status} {answer.text}")
        if not answer.accepted:
            found = await self._inspection.look_around(attempt)
            if found is not None and self._inspection.right(attempt, found):
                return Done(found.size_bytes or 0, existed=True)
            if found is not None and work.overwrite:
                await self._inspection.require_right_source(attempt)
                await self._usable_tokens(attempt)
                await self._ours_from_here(attempt)
                answer = await self._pull(attempt, overwrite=True)
            elif found is None and answer.status == HTTPStatus.CONFLICT:
                # Directories are missing, and this element makes none by itself (RFC 4918 section 9.8.5).
                await self._storage.make_collections(work.dest_url, value(attempt.dest_token))
                answer = await self._pull(attempt, overwrite=False)
        if answer.succeeded:
            return await self._check(attempt)
        failure = of_copy(answer.status, answer.text, source_host=work.source_host, destination_host=work.dest_host)
        failure = await self._inspection.seen(attempt, failure)
        if answer.accepted:
            await self._aftercare.remove(attempt)
        raise CopyError(await self._inspection.whose_bytes(attempt, failure))

    async def _for_store(self, attempt: Attempt) -> None:
        """Make sure that the source has the right bytes, and have it tell a checksum that S3 knows as well."""
        if attempt.checksum is None or attempt.algorithm in (CRC32C, checksums.ALGORITHMS["md5"]):
            return
        await self._inspection.require_right_source(attempt)
        store = self._stores.at(attempt.work.dest_url)
        if store is not None and store.kind is StoreKind.s3:
            found = await self._inspection.look_at_source(attempt, CRC32C)
            if found.checksum is not None:
                attempt.algorithm, attempt.checksum = CRC32C, found.checksum

    async def _send_signed(self, attempt: Attempt) -> Done:
        """Have the source send the file to a URL that somebody signed.

        It is good for writing only, so nothing can be looked at before or after. A PUT to S3 is taken whole or not at
        all, and says how long it is; that the source has as many bytes is asked before.
        """
        self._inspection.require_right(await self._inspection.look_at_source(attempt, None), attempt)
        await self._usable_tokens(attempt)
        work = attempt.work
        answer = await self._ask(attempt, overwrite=True, push=True)
        attempt.sent = False
        if not answer.succeeded:
            hosts = {"source_host": work.source_host, "destination_host": work.dest_host}
            raise CopyError(of_push(answer.status, answer.text, **hosts))
        attempt.note(_COMPARED, "checked at the source only: a signed URL to write to lets nobody look")
        return Done(attempt.size_bytes or 0)

    async def _push(self, attempt: Attempt, why: str) -> Done:
        """Have the source send the file, where the destination does not fetch. Looks first: PUT overwrites.

        A source that the facility does not know is not asked: it would get the destination's token.
        """
        work = attempt.work
        attempt.sent = False
        if not work.push or work.source_host not in self._elements:
            cause = f"the destination does not fetch, and the source may not be asked to send: {why}"
            raise CopyError(Failure(Side.DESTINATION, ErrorClass.destination, cause, retryable=False))
        found = await self._inspection.look_around(attempt)
        if found is not None and (not work.overwrite or self._inspection.right(attempt, found)):
            return self._inspection.already_there(attempt, found)
        if found is None:
            await self._storage.make_room(work.dest_url, value(attempt.dest_token))
        else:
            await self._inspection.require_right_source(attempt)
        await self._usable_tokens(attempt)
        await self._ours_from_here(attempt)
        answer = await self._ask(attempt, overwrite=work.overwrite, push=True)
        if answer.succeeded:
            return await self._check(attempt)
        if answer.accepted:
            await self._aftercare.remove(attempt)
        hosts = {"source_host": work.source_host, "destination_host": work.dest_host}
        raise CopyError(await self._inspection.whose_bytes(attempt, of_push(answer.status, answer.text, **hosts)))

    async def _ours_from_here(self, attempt: Attempt) -> None:
        """Note that what lies at the destination from now on is ours to remove, whatever becomes of this attempt."""
        attempt.wrote = True
        await still_ours(self._ledger.wrote(attempt.work))

    async def _usable_tokens(self, attempt: Attempt) -> None:
        """Have tokens that live long enough; those that came in the place of others are looked up as they were."""
        before = attempt.dest_token or attempt.work.dest_token, attempt.source_token or attempt.work.source_token
        await self._inspection.dest_token(attempt)
        await self._inspection.source_token(attempt)
        if (attempt.dest_token, attempt.source_token) != before:
            await self._require_unrevoked(attempt.dest_token, attempt.source_token)

    async def _require_unrevoked(self, destination: Token | None, source: Token | None) -> None:
        """Begin nothing with a token that its issuer has revoked: storage would take it until it ends."""
        for side, token in ((Side.DESTINATION, destination), (Side.SOURCE, source)):
            if token is not None and (why := await self._renewal.denied(token)):
                raise CopyError(Failure(side, ErrorClass.auth, f"the token for {token.host} counts no more: {why}"))

    async def _pull(self, attempt: Attempt, *, overwrite: bool) -> CopyAnswer:
        return await self._ask(attempt, overwrite=overwrite, push=False)

    async def _ask(self, attempt: Attempt, *, overwrite: bool, push: bool) -> CopyAnswer:
        """Have one of the two copy, and follow it to its end."""
        work = attempt.work
        loop = asyncio.get_running_loop()
        clock = loop.time
        told = clock()
        noting: asyncio.TimerHandle | None = None

        async def moved(progress: Progress) -> None:
            # Servers send a first marker at once: a small file is over before anybody asks how far it is.
            nonlocal told, noting
            if not attempt.wrote:
                # A file was in nobody's way: what the server writes is ours.
                attempt.wrote = True
                noting = loop.call_later(_NOTE_S, self._note, work)
            if clock() - told < _TELL_S:
                return
            told = clock()
            await still_ours(self._ledger.progress(work, progress.transferred_bytes))
            # The check at the end needs a token that lives, however long the copy takes.
            await self._inspection.dest_token(attempt)

        attempt.sent = True
        ways = f"{bare(work.dest_url)} from {bare(work.source_url)}"
        if push:
            ways = f"{bare(work.source_url)} to {bare(work.dest_url)}"
        asked = f"COPY {ways}, Overwrite: {'T' if overwrite else 'F'}"
        copying = self._storage.copy(
            work.dest_url,
            value(attempt.dest_token),
            work.source_url,
            value(attempt.source_token),
            overwrite=overwrite,
            checksum=attempt.checksum,
            ahead=self._limits.digest_from_bytes <= (attempt.size_bytes or 0) <= self._limits.digest_to_bytes,
            moved=moved,
            push=push,
        )
        try:
            answer = await attempt.ask(asked, copying)
        except UnreachedError:
            attempt.sent = False
            raise
        finally:
            if noting is not None:
                noting.cancel()
        attempt.sent = answer.accepted
        attempt.wrote = attempt.wrote or answer.accepted
        return answer

    def _note(self, work: Work) -> None:
        """Have the queue know that what lies at the destination is ours, should this process be killed."""
        task = asyncio.create_task(self._ledger.wrote(work))
        self._noting.add(task)
        task.add_done_callback(self._noting.discard)

    async def _check(self, attempt: Attempt) -> Done:
        """Compare what arrived; remove it if it is not what was wanted."""
        found = await self._inspection.look(attempt, attempt.algorithm)
        if found is None:
            cause = "the destination told of success, and has no such file"
            raise CopyError(Failure(Side.DESTINATION, ErrorClass.destination, cause))
        wrong = matches(found, size_bytes=attempt.size_bytes, checksum=attempt.checksum)
        if attempt.checksum is not None and found.checksum is None and not self._inspection.to_store(attempt.work):
            wrong = {**wrong, "checksum": "not told by the destination"}
        if attempt.work.verify and self._inspection.at_store(attempt.work):
            attempt.note(_COMPARED, _compared(attempt, found))
        if not wrong:
            return Done(found.size_bytes or 0)
        await self._aftercare.remove(attempt)
        failure = Failure(Side.DESTINATION, ErrorClass.checksum, mismatches(wrong))
        raise CopyError(await self._inspection.whose_bytes(attempt, failure))


def _compared(attempt: Attempt, found: Found) -> str:
    """What was compared of a file that came from a store or went to one: not all of them tell checksums."""
    if attempt.checksum is not None and found.checksum is not None:
        sized = None not in (attempt.size_bytes, found.size_bytes)
        return f"{'size and ' if sized else ''}{attempt.checksum.algorithm.name}"
    wanted = attempt.algorithm.name if attempt.algorithm else "checksum"
    return f"checked by size only: {'the source' if attempt.checksum is None else 'the store'} tells no {wanted}"
