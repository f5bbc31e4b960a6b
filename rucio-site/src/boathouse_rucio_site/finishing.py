"""What ended transfers change in the catalogue, for many files of a rule in a few statements.

Rucio takes some fifteen statements a file, and writes a rule's row and a line of its history for each. Here the files
of a rule on an RSE are settled together, all but the last: that one goes through Rucio's own functions, which then see
the rule as if it were the last of a row. They decide on the rule's state, tell whoever waits for it and write history.
What is out of the ordinary (a replica that is missing, was bad or has a path of its own, a rule that reports its
progress) goes through them as well.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rucio.core import replica as replica_core
from rucio.db.sqla import models
from rucio.db.sqla.constants import BadFilesStatus, DatabaseOperationType, LockState, ReplicaState, RuleNotification
from rucio.db.sqla.session import db_session
from sqlalchemy import ColumnElement, and_, select, update

from boathouse_rucio_site import archive

Replica = dict[str, Any]


def update_bulk_replicas(replicas: list[Replica], *, logger: Callable[..., None] = logging.log) -> bool:
    """Replaces ``rucio.daemons.conveyor.finisher.__update_bulk_replicas``; one transaction.

    Args:
        replicas: ended transfers of one rule, as the finisher describes them.
        logger: takes a level, a format and its arguments.

    Returns:
        True.

    Raises:
        rucio.common.exception.ReplicaNotFound: a replica has gone; nothing is changed, the finisher takes them one by
            one.
        rucio.common.exception.DatabaseException: somebody else holds a row; nothing is changed.
    """
    with db_session(DatabaseOperationType.WRITE) as session:
        settled = {number for place in _places(replicas) for number in place.settle(session)}
        others = [replica for number, replica in enumerate(replicas) if number not in settled]
        replica_core.update_replicas_states(others, nowait=True, session=session)
        archive.archive_requests([each["request_id"] for each in replicas if not each["archived"]], session=session)
    for each in replicas:
        logger(
            logging.INFO,
            "HANDLED REQUEST %s DID %s:%s AT RSE %s STATE %s",
            *(each[key] for key in ("request_id", "scope", "name", "rse_id", "state")),
        )
    return True


@dataclass(frozen=True)
class _Place:
    """Files of one scope that have come to one RSE."""

    rse_id: str
    scope: Any
    numbers: Mapping[str, int]
    """Which of the finisher's replicas each name is."""

    def settle(self, session: Any) -> set[int]:
        """Settle all but those that Rucio is to see; the numbers of the settled."""
        names = self._ordinary(session)
        locks = self._open_locks(session, names)
        rules = _locked_rules(session, {lock.rule_id for lock in locks})
        names -= _for_rucio(locks, rules)
        if not names:
            return set()
        settled = [lock for lock in locks if lock.name in names]
        _count(rules, settled)
        session.execute(
            _quietly(update(models.ReplicaLock))
            .where(self._of(models.ReplicaLock, names), models.ReplicaLock.rule_id.in_(rules))
            .values(state=LockState.OK)
        )
        session.execute(
            _quietly(update(models.RSEFileAssociation))
            .where(self._of(models.RSEFileAssociation, names))
            .values(state=ReplicaState.AVAILABLE)
        )
        return {self.numbers[name] for name in names}

    def _ordinary(self, session: Any) -> set[str]:
        """Names of replicas that are there, and locked now, and were not declared bad."""
        row, bad = models.RSEFileAssociation, models.BadReplica
        there = select(row.name).where(self._of(row, self.numbers)).with_for_update(nowait=True)
        declared = select(bad.name).where(self._of(bad, self.numbers), bad.state == BadFilesStatus.BAD)
        return set(session.execute(there).scalars()) - set(session.execute(declared).scalars())

    def _open_locks(self, session: Any, names: set[str]) -> list[Any]:
        lock = models.ReplicaLock
        return list(
            session.execute(
                select(lock.name, lock.rule_id, lock.state)
                .where(self._of(lock, names), lock.state != LockState.OK)
                .with_for_update(nowait=True)
            )
        )

    def _of(self, table: Any, names: Iterable[str]) -> ColumnElement[bool]:
        return and_(table.rse_id == self.rse_id, table.scope == self.scope, table.name.in_(names))


def _places(replicas: list[Replica]) -> list[_Place]:
    found: dict[tuple[str, Any], dict[str, int]] = {}
    for number, each in enumerate(replicas):
        if each["state"] == ReplicaState.AVAILABLE and not each.get("path"):
            found.setdefault((each["rse_id"], each["scope"]), {})[each["name"]] = number
    return [_Place(rse_id, scope, numbers) for (rse_id, scope), numbers in found.items()]


def _locked_rules(session: Any, ids: set[Any]) -> dict[Any, Any]:
    rule = models.ReplicationRule
    found = session.execute(select(rule).where(rule.id.in_(ids)).with_for_update(nowait=True)).scalars()
    return {each.id: each for each in found}


def _for_rucio(locks: list[Any], rules: Mapping[Any, Any]) -> set[str]:
    """Of each rule the last file, and all files of those that report every step."""
    last = {lock.rule_id: lock.name for lock in locks}
    reporting = {number for number, rule in rules.items() if rule.notification == RuleNotification.PROGRESS}
    return {*last.values(), *(lock.name for lock in locks if lock.rule_id in reporting)}


def _count(rules: Mapping[Any, Any], locks: list[Any]) -> None:
    for (number, state), count in Counter((lock.rule_id, lock.state) for lock in locks).items():
        rule = rules[number]
        if state == LockState.REPLICATING:
            rule.locks_replicating_cnt -= count
        elif state == LockState.STUCK:
            rule.locks_stuck_cnt -= count
        rule.locks_ok_cnt += count


def _quietly(statement: Any) -> Any:
    """Nothing of what it changes is held as an object in this session."""
    return statement.execution_options(synchronize_session=False)
