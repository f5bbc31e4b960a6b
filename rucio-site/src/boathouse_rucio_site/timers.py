"""When a daemon is wanted next, asked of the database: the first expiry of a rule, of a DID, of a replica."""

from __future__ import annotations

import datetime as dt
from typing import Any

from rucio.db.sqla import models
from rucio.db.sqla.constants import DatabaseOperationType, ReplicaState, RequestState, RuleState
from rucio.db.sqla.session import db_session
from sqlalchemy import func, null, select
from sqlalchemy.sql.expression import false

OVERDUE_S = 2.0
"""What is overdue could not be done just now (a lock): look again after so long."""
DELETE_AGAIN_S = 10
"""A deletion that failed is repeated after so long."""

_DELETABLE = (ReplicaState.AVAILABLE, ReplicaState.UNAVAILABLE, ReplicaState.BAD)
"""Rucio's reaper passes over the others, whatever their tombstones say, but for those that it deletes already."""


def _seconds(statement: Any, later_s: float = 0.0) -> float | None:
    """Seconds until the time that a statement gives, and so many later."""
    with db_session(DatabaseOperationType.READ) as session:
        first: dt.datetime | None = session.execute(statement).scalar()
    if first is None:
        return None
    # A tenth more, for the daemons ask for what is strictly past.
    return max(OVERDUE_S, (first - dt.datetime.now(dt.UTC).replace(tzinfo=None)).total_seconds() + later_s + 0.1)


def _exists(statement: Any) -> bool:
    with db_session(DatabaseOperationType.READ) as session:
        return session.execute(statement.limit(1)).first() is not None


def next_rule_expiry_s() -> float | None:
    """Seconds until a rule expires that can be deleted then."""
    rule = models.ReplicationRule
    return _seconds(
        select(func.min(rule.expires_at)).where(
            rule.expires_at.is_not(null()), rule.locked == false(), rule.child_rule_id == null()
        )
    )


def next_did_expiry_s() -> float | None:
    """Seconds until a DID expires."""
    did = models.DataIdentifier
    return _seconds(select(func.min(did.expired_at)).where(did.expired_at.is_not(null())))


def next_deletion_s() -> float | None:
    """Seconds until the reaper takes a replica: at its tombstone, or some time after a deletion that failed."""
    replica = models.RSEFileAssociation
    unlocked = (replica.tombstone.is_not(null()), replica.lock_cnt == 0)
    # Two questions, for each has an index: of tombstones the first, of states the few that are being deleted.
    first = _seconds(select(func.min(replica.tombstone)).where(*unlocked, replica.state.in_(_DELETABLE)))
    begun = select(func.min(replica.updated_at)).where(*unlocked, replica.state == ReplicaState.BEING_DELETED)
    again = _seconds(begun, later_s=DELETE_AGAIN_S)
    return min((due for due in (first, again) if due is not None), default=None)


def stuck_rules() -> bool:
    """Whether a rule is stuck."""
    return _exists(select(models.ReplicationRule.id).where(models.ReplicationRule.state == RuleState.STUCK))


def injectable_rules() -> bool:
    """Whether a rule waits for being injected."""
    return _exists(select(models.ReplicationRule.id).where(models.ReplicationRule.state == RuleState.INJECT))


def updated_dids() -> bool:
    """Whether a DID waits for the evaluation of its rules."""
    return _exists(select(models.UpdatedDID.id))


def requests_in(*states: RequestState) -> bool:
    """Whether a request is in one of these states, locked or not.

    Rucio passes over rows that somebody holds a lock on, and then looks as if there were nothing to do.
    """
    return _exists(select(models.Request.id).where(models.Request.state.in_(states)))
