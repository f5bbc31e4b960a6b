"""What follows from a failed attempt: another one, the next source, or the end."""

from __future__ import annotations

from datetime import UTC, datetime

from boathouse.apps.transfers.attempt import Attempt
from boathouse.apps.transfers.failures import ErrorClass, Failure, Side
from boathouse.apps.transfers.settings import Limits
from boathouse.apps.transfers.states import FileState
from boathouse.apps.transfers.storage import Found
from boathouse.apps.transfers.work import Outcome, Task


def failed(attempt: Attempt, failure: Failure, limits: Limits) -> Outcome:
    """What to do after a failure: try again, take the next source, or give up."""
    work = attempt.work
    now = datetime.now(UTC)
    clean = settle_s(attempt, limits)
    if work.task is Task.clean:
        return Outcome(work, FileState.FAILED, now, failure, clean_in_s=limits.clean_again_s)
    elsewhere = work.alternatives and failure.side is not Side.DESTINATION and work.task is Task.copy
    if failure.kind is ErrorClass.network and not elsewhere:
        # Its storage element is paused; waiting for it costs no attempt.
        return Outcome(work, FileState.SUBMITTED, now, failure, spend=False, clean_in_s=clean)
    if failure.again and not elsewhere and work.spent + 1 < work.attempts:
        delay = limits.retry_delay_s * 4**work.spent
        return Outcome(work, FileState.SUBMITTED, now, failure, delay_s=delay, clean_in_s=clean)
    report = _dest_file(attempt.in_the_way) if attempt.in_the_way else None
    return Outcome(work, FileState.FAILED, now, failure, failover=elsewhere, clean_in_s=clean, dest_file=report)


def settle_s(attempt: Attempt, limits: Limits) -> float | None:
    """In how many seconds the destination is to be looked at, if something of ours may lie or still grow there."""
    return limits.settle_s if attempt.sent else None


def _dest_file(found: Found) -> dict[str, object]:
    """FTS3's report of a file at the destination; Rucio compares it with what it expects there."""
    return {
        "file_size": found.size_bytes,
        "checksum_type": found.checksum.algorithm.name.upper() if found.checksum else None,
        "checksum_value": found.checksum.hex if found.checksum else None,
        "file_on_disk": True,
        "file_on_tape": False,
    }
