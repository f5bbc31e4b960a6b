"""Who could do something on a path at some time: by the rules of then, and by tokens that were alive then.

The rules are replayed from the audit log, see :mod:`boathouse.apps.tokens.trail.history`. A token outlives a change of
the rules until it ends, since storage knows no more than what stands in it: who held one that covers the path could
use it, whatever the rules said meanwhile.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, select

from boathouse.apps.tokens.persistence import schema as t
from boathouse.apps.tokens.persistence.records import CLIENT
from boathouse.apps.tokens.persistence.store import LONGEST_LIFE_S
from boathouse.apps.tokens.rights.policies import Effect, Policy, allowed, deciding
from boathouse.apps.tokens.trail.history import State, began_ms, replay
from boathouse.errors import NotFoundError
from boathouse.wlcg.scopes import Scope, covers, parse


@dataclass(frozen=True)
class Entitled:
    """Somebody who could get a token for it."""

    kind: str
    """``person``, or ``client`` for a service with a token of its own."""
    name: str
    """Login or client."""
    sub: str
    because: tuple[str, ...]
    """The policies that decided, in words."""


@dataclass(frozen=True)
class Holding:
    """Somebody who held a token for it."""

    name: str
    sub: str
    client: str
    """For whom the token was issued."""
    jti: str
    audience: str
    scope: str
    issued_at: float
    """Seconds since the epoch."""
    expires_at: int


@dataclass(frozen=True)
class Answer:
    """Who could do it then."""

    scope: str
    at: float
    """Seconds since the epoch."""
    entitled: tuple[Entitled, ...]
    """By the rules of then."""
    holding: tuple[Holding, ...]
    """By tokens that were alive then, revoked ones too: storage does not hear of a revocation."""

    def as_dict(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)


def who_could(connection: Connection, scope: Scope, at: float) -> Answer:
    """Who could do it then.

    Args:
        connection: to the issuer's database.
        scope: a capability on a path: ``storage.read:/lake/cms/file``.
        at: seconds since the epoch.

    Raises:
        NotFoundError: the log tells nothing of that time.
    """
    at_ms = int(at * 1000)
    began = began_ms(connection)
    if began is None or at_ms < began:
        raise NotFoundError(
            "the audit log tells nothing of that time",
            expected=f"a time after {(began or 0) / 1000:.3f}" if began else "a log that tells of changes",
            got=f"{at:.3f}",
        )
    state = replay(connection, until_ms=at_ms)
    return Answer(str(scope), at, tuple(entitled(state, scope, int(at))), tuple(_holding(connection, scope, at_ms)))


def entitled(state: State, scope: Scope, at: int) -> Iterator[Entitled]:
    """Who could get a token with the whole scope: people by login, then clients with tokens of their own.

    Args:
        state: the rows of then.
        scope: a capability on a path.
        at: seconds since the epoch; memberships that ended before do not count.
    """
    rows: defaultdict[str, list[tuple[tuple[Any, ...], Any]]] = defaultdict(list)
    for (table, key), row in state.items():
        rows[table].append((key, row))
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for (sub, group), row in rows["members"]:
        if row["expires_at"] is None or row["expires_at"] > at:
            groups[sub].append(group)
    policies: defaultdict[tuple[str, str], list[Policy]] = defaultdict(list)
    for _, row in rows["policies"]:
        policy = Policy(Effect(row["effect"]), parse(row["scope"]), row["account"], row["grp"])
        policies[policy.account, "" if policy.account else policy.group].append(policy)
    for (sub,), row in sorted(rows["users"], key=lambda user: str(user[1]["login"])):
        if not row["active"] or row["suspended"]:
            continue
        whom = {"account": row["login"], "groups": tuple(groups[sub]), "admin": row["admin"]}
        own = [*policies[row["login"], ""], *policies["", ""]]
        own += [policy for group in groups[sub] for policy in policies["", group]]
        if allowed((scope,), **whom, policies=own) == (scope,):
            yield Entitled("person", row["login"], sub, deciding(scope, **whom, policies=own))
    for (client_id,), row in sorted(rows["clients"]):
        alive = row["active"] and not row["suspended"] and not row["public"] and CLIENT in row["grants"]
        if alive and covers(parse(row["scope"]), scope):
            yield Entitled("client", client_id, client_id, ("in the client's own list of scopes",))


def _holding(connection: Connection, scope: Scope, at_ms: int) -> Iterator[Holding]:
    log = t.audit
    issued = (
        select(log.c.at_ms, log.c.detail)
        .where(log.c.event == "token.issued", log.c.at_ms.between(at_ms - LONGEST_LIFE_S * 1000, at_ms))
        .order_by(log.c.seq)
    )
    for row in connection.execute(issued):
        detail = row.detail
        # Records of before this was noted tell no end: the longest life is assumed.
        end = detail.get("exp", row.at_ms // 1000 + LONGEST_LIFE_S)
        if end * 1000 > at_ms and covers(parse(detail["scope"]), scope):
            yield Holding(
                name=detail.get("login") or detail["sub"],
                sub=detail["sub"],
                client=detail["client"],
                jti=detail["jti"],
                audience=detail["audience"],
                scope=detail["scope"],
                issued_at=row.at_ms / 1000,
                expires_at=end,
            )
