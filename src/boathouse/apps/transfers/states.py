"""The states of files and jobs, as FTS3 names them, and how a job's state follows from its files.

A file::

    SUBMITTED ──claimed──> ACTIVE ──copied and checked──> FINISHED
        ↑                    │ ├──refused, or tried too often──> FAILED
        └──will be retried───┘ └──by its owner──> CANCELED
    NOT_USED ──the source before it failed, or the hop before it finished──> SUBMITTED

``READY`` is a state of FTS3 between SUBMITTED and ACTIVE; it is accepted in filters, and no file rests in it.
"""

from __future__ import annotations

from enum import StrEnum


class FileState(StrEnum):
    """State of one file of a job, for one source."""

    SUBMITTED = "SUBMITTED"
    """Waits for a free slot on its link, or for the time of its next attempt."""
    READY = "READY"
    """Never stored; known because clients filter by it."""
    ACTIVE = "ACTIVE"
    """A worker copies it, or checks what an attempt left."""
    FINISHED = "FINISHED"
    """The destination holds the right bytes."""
    FAILED = "FAILED"
    """Given up; the reason says why."""
    CANCELED = "CANCELED"
    """Ended by its owner, or too long in the queue."""
    NOT_USED = "NOT_USED"
    """An alternative source, or a later hop, that has not been needed."""


class JobState(StrEnum):
    """State of a job."""

    SUBMITTED = "SUBMITTED"
    """No file was started yet."""
    READY = "READY"
    """Never stored; known because clients filter by it."""
    ACTIVE = "ACTIVE"
    """A file was started, and not all are at their end."""
    FINISHED = "FINISHED"
    """Every file finished."""
    FINISHEDDIRTY = "FINISHEDDIRTY"
    """Some files finished, some did not."""
    FAILED = "FAILED"
    """No file finished."""
    CANCELED = "CANCELED"
    """Ended by its owner."""


class JobType(StrEnum):
    """How the files of a job hang together (FTS3's letters)."""

    N = "N"
    """Files are independent, with one source each."""
    R = "R"
    """Files have alternative sources."""
    H = "H"
    """Files are hops of one way: each is copied from where the one before was copied to, when that is done."""


JOB_TERMINAL = frozenset({JobState.FINISHED, JobState.FINISHEDDIRTY, JobState.FAILED, JobState.CANCELED})


def job_state(elements: int, finished: int, failed: int, canceled: int, *, started: bool) -> JobState:
    """A job's state from the counts of its elements (destinations).

    Args:
        elements: how many there are.
        finished: how many of them finished.
        failed: how many failed.
        canceled: how many were canceled.
        started: whether any file was ever started.
    """
    if finished + failed + canceled < elements:
        return JobState.ACTIVE if started else JobState.SUBMITTED
    if finished == elements:
        return JobState.FINISHED
    if finished:
        return JobState.FINISHEDDIRTY
    return JobState.FAILED if failed else JobState.CANCELED
