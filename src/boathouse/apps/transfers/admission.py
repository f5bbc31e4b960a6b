"""Whether a job may come in: decided in the transaction that stores it, whatever was known when its request began.

A ban and a submission take turns by a lock of the database. Whoever bans waits for the jobs that are being stored, and
ends them with the others; a job that comes later sees the ban.
"""

from __future__ import annotations

from sqlalchemy import Connection, select, text

from boathouse.apps.transfers import policy, urls
from boathouse.apps.transfers.policy import BanStatus
from boathouse.apps.transfers.submission import Submission
from boathouse.apps.transfers.tables import banned_people
from boathouse.errors import AuthError

BAN_LOCK = 0x62616E73
"""This advisory lock is shared by those who store jobs; whoever bans has it alone."""


class BannedError(AuthError):
    """A person, or a storage element of the job, is banned."""


def alone(connection: Connection) -> None:
    """Until the end of the transaction no job is stored; those that are being stored are waited for."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": BAN_LOCK})


def require_welcome(connection: Connection, submission: Submission, *, owner: str, vo: str) -> None:
    """Make sure that nothing that the job needs is banned; no ban begins before the transaction's end.

    Raises:
        BannedError: its owner is, or a storage element for which new jobs do not wait.
    """
    # A statement of its own: what it waited for must be seen by the next ones.
    connection.execute(text("SELECT pg_advisory_xact_lock_shared(:lock)"), {"lock": BAN_LOCK})
    if connection.scalar(select(banned_people.c.subject).where(banned_people.c.subject == owner)) is not None:
        raise BannedError("The user has been banned")
    bans = [ban for ban in policy.bans(connection) if ban.status is not BanStatus.WAIT_AS]
    if not bans:
        return
    places = (place for each in submission.transfers for place in (*each.sources, each.destination))
    hosts = {urls.host_of(place.url) for place in places}
    for ban in bans:
        if any(ban.holds(host, vo) for host in hosts):
            raise BannedError(ban.words)
