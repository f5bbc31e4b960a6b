"""What a copy left at its destination: removed, or looked at and kept if it is right after all."""

from __future__ import annotations

import logging

from boathouse.apps.transfers.attempt import Attempt, Done, Ledger, bare, still_ours, value
from boathouse.apps.transfers.failures import CopyError, ErrorClass, Failure, Side
from boathouse.apps.transfers.inspection import Inspection
from boathouse.apps.transfers.storage import Storage
from boathouse.apps.transfers.stores import is_signed

log = logging.getLogger(__name__)


class Aftercare:
    """Looks after destinations.

    Args:
        storage: who talks to storage elements.
        inspection: looks at what lies there.
        ledger: the queue.
    """

    def __init__(self, storage: Storage, inspection: Inspection, ledger: Ledger) -> None:
        self._storage = storage
        self._inspection = inspection
        self._ledger = ledger

    async def remove(self, attempt: Attempt) -> None:
        """Remove what a copy of ours left, if it is still ours to remove; if that fails, it is left for later."""
        work = attempt.work
        # Should this process be killed now, another one knows that it may remove it.
        await self._ledger.wrote(work)
        await still_ours(self._ledger.holds(work))
        try:
            await attempt.ask(
                f"DELETE {bare(work.dest_url)}",
                self._storage.delete(work.dest_url, value(attempt.dest_token)),
            )
        except CopyError as error:
            log.warning("%s partial destination not removed: %s", work.name, error.failure.reason)
        else:
            attempt.sent = False

    async def verify(self, attempt: Attempt) -> Done:
        """A dead worker's file: right and complete, or to be cleaned and tried again."""
        # The server goes on with the copy until its next marker finds nobody there.
        attempt.sent = attempt.work.overwrite or attempt.work.wrote
        await self._inspection.dest_token(attempt)
        if is_signed(value(attempt.dest_token)):
            attempt.sent = False
            raise CopyError(Failure(Side.TRANSFER, ErrorClass.internal, "the worker died while it copied"))
        found = await self._inspection.look_around(attempt)
        if found is not None and self._inspection.right(attempt, found):
            attempt.sent = False
            return Done(found.size_bytes or 0)
        cause = f"the worker died while it copied; the destination has {found or 'no such file'}"
        raise CopyError(Failure(Side.TRANSFER, ErrorClass.internal, cause))

    async def clean(self, attempt: Attempt) -> Done:
        """Remove what an aborted copy left, unless it is the right file after all and is to stay."""
        await self._inspection.dest_token(attempt)
        if is_signed(value(attempt.dest_token)):
            # S3 keeps nothing of a PUT that broke off.
            return Done(0, existed=True)
        if attempt.work.transient:
            await still_ours(self._ledger.holds(attempt.work))
            await self._storage.delete(attempt.work.dest_url, value(attempt.dest_token))
            log.info("%s removed from %s, where it was on its way", attempt.work.name, attempt.work.dest_host)
            return Done(0, existed=True)
        found = await self._inspection.look_around(attempt)
        if found is None or self._inspection.right(attempt, found):
            return Done(0, existed=True)
        if not attempt.wrote:
            # Whoever lets us replace a file gets another one for it, not a gap.
            return Done(0, existed=True)
        await still_ours(self._ledger.holds(attempt.work))
        await self._storage.delete(attempt.work.dest_url, value(attempt.dest_token))
        log.info("%s partial destination removed", attempt.work.name)
        return Done(0, existed=True)
