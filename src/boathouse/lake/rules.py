"""Replication rules: add, look, change, remove; printed the way that Rucio's ``rule-info`` prints them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from boathouse.errors import ConflictError, InputError, TransferError
from boathouse.lake.names import Did
from boathouse.lake.rest import Json, Rest, did_path

OK = "OK"
STUCK = "STUCK"

_ID = re.compile(r"[0-9A-Fa-f]{32}")


@dataclass(frozen=True)
class Rule:
    """A replication rule: so many copies of a DID's files, at RSEs of an expression, until it expires.

    The fields are those of ``rucio rule-info``, in its order.
    """

    id: str
    account: str
    scope: str
    name: str
    rse_expression: str
    copies: int
    state: str
    """``OK``, ``REPLICATING``, ``STUCK``, ``SUSPENDED``, ``WAITING_APPROVAL`` or ``INJECT``."""
    locks_ok: int
    locks_replicating: int
    locks_stuck: int
    grouping: str
    expires_at: str | None
    """UTC, ``YYYY-MM-DD hh:mm:ss``, as the other times."""
    locked: bool
    weight: str | None
    created_at: str
    updated_at: str
    error: str | None
    subscription_id: str | None
    source_replica_expression: str | None
    activity: str
    comment: str | None
    ignore_quota: bool
    ignore_availability: bool
    purge_replicas: bool
    notification: str
    end_of_life: str | None
    child_rule_id: str | None

    @property
    def did(self) -> Did:
        """What the rule protects."""
        return Did(self.scope, self.name)

    @property
    def locks(self) -> str:
        """Numbers of locks OK, replicating and stuck: ``380/0/0``."""
        return f"{self.locks_ok}/{self.locks_replicating}/{self.locks_stuck}"

    @classmethod
    def from_document(cls, document: Json) -> Rule:
        """A rule from the catalogue's answer; keys that are unknown here are left out."""
        renamed = document | {
            "locks_ok": document["locks_ok_cnt"],
            "locks_replicating": document["locks_replicating_cnt"],
            "locks_stuck": document["locks_stuck_cnt"],
            "comment": document.get("comments"),
            "ignore_quota": document.get("ignore_account_limit", False),
            "end_of_life": utc(document.get("eol_at")),
            "expires_at": utc(document.get("expires_at")),
            "created_at": utc(document["created_at"]),
            "updated_at": utc(document["updated_at"]),
        }
        values: dict[str, Any] = {field.name: renamed.get(field.name) for field in fields(cls)}
        return cls(**values)


# Label of each line of `rucio rule-info` and where its value comes from.
_BLOCK: tuple[tuple[str, str], ...] = (
    ("Id", "id"),
    ("Account", "account"),
    ("Scope", "scope"),
    ("Name", "name"),
    ("RSE Expression", "rse_expression"),
    ("Copies", "copies"),
    ("State", "state"),
    ("Locks OK/REPLICATING/STUCK", "locks"),
    ("Grouping", "grouping"),
    ("Expires at", "expires_at"),
    ("Locked", "locked"),
    ("Weight", "weight"),
    ("Created at", "created_at"),
    ("Updated at", "updated_at"),
    ("Error", "error"),
    ("Subscription Id", "subscription_id"),
    ("Source replica expression", "source_replica_expression"),
    ("Activity", "activity"),
    ("Comment", "comment"),
    ("Ignore Quota", "ignore_quota"),
    ("Ignore Availability", "ignore_availability"),
    ("Purge replicas", "purge_replicas"),
    ("Notification", "notification"),
    ("End of life", "end_of_life"),
    ("Child Rule Id", "child_rule_id"),
)


def block(rule: Rule) -> str:
    """The 25 lines of ``rucio rule-info``."""
    return "\n".join(f"{label}: {getattr(rule, attribute)}" for label, attribute in _BLOCK)


def as_json(rule: Rule) -> Json:
    """The same 25 values as a JSON object, keyed by attribute; locks as three numbers."""
    document: Json = {attribute: getattr(rule, attribute) for _, attribute in _BLOCK}
    document["locks"] = {"ok": rule.locks_ok, "replicating": rule.locks_replicating, "stuck": rule.locks_stuck}
    return document


def utc(text: str | None) -> str | None:
    """A time of the catalogue (``Fri, 20 Nov 2026 18:30:07 UTC``) as ``2026-11-20 18:30:07``; ``None`` stays."""
    if text is None:
        return None
    when: datetime = parsedate_to_datetime(text.replace(" UTC", " GMT"))
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


class Rules:
    """Requests about rules. One object serves many threads."""

    def __init__(self, rest: Rest) -> None:
        self._rest = rest

    def add(
        self,
        dids: Sequence[Did],
        rse_expression: str,
        *,
        account: str,
        copies: int = 1,
        lifetime_s: float | None = None,
        grouping: str = "DATASET",
        activity: str | None = None,
        comment: str | None = None,
        source_replica_expression: str | None = None,
        asynchronous: bool = False,
        purge_replicas: bool = False,
        repeatable: bool = False,
    ) -> list[str]:
        """Ask for copies of each DID at RSEs of an expression; returns the rules' ids.

        ``repeatable`` tells that a request whose answer was lost may be sent again, though it then conflicts with
        itself.

        Raises:
            ConflictError: the account has the same rule already.
            NotFoundError: no such DID.
            InputError: the expression is malformed or matches no RSE.
            CatalogueError: too few RSEs, or no quota there.
        """
        document: Json = {
            "dids": [{"scope": did.scope, "name": did.name} for did in dids],
            "account": account,
            "copies": copies,
            "rse_expression": rse_expression,
            "grouping": grouping,
            "lifetime": None if lifetime_s is None else int(lifetime_s),
            "activity": activity,
            "comment": comment,
            "source_replica_expression": source_replica_expression,
            "asynchronous": asynchronous,
            "purge_replicas": purge_replicas,
        }
        try:
            ids: list[str] = self._rest.call("POST", "/rules/", document, repeatable=repeatable, timeout_s=600.0)
        except ConflictError as error:
            if not repeatable:
                self._explain(error, dids, (account, rse_expression, copies))
            raise
        return ids

    def _explain(self, error: ConflictError, dids: Sequence[Did], wanted: tuple[str, str, int]) -> None:
        """Name the rule that is there already, of the same account, expression and number of copies."""
        for did in dids:
            for rule in self.of(did):
                if (rule.account, rule.rse_expression, rule.copies) == wanted:
                    error.what = f"the same rule is there already: {rule.id}"
                    error.where = f"{did} {rule.rse_expression}"
                    error.remedy = f"boathouse rule show {rule.id}"
                    return

    def get(self, rule_id: str) -> Rule:
        """A rule by its id.

        Raises:
            NotFoundError: there is none.
        """
        return Rule.from_document(self._rest.call("GET", f"/rules/{_checked(rule_id)}", {"estimate_ttc": False}))

    def why(self, rule_id: str) -> Json:
        """What the files that a rule waits for wait for: for the rule's owner and administrators.

        Returns:
            ``files``, up to twenty, each with ``scope``, ``name``, ``rse``, ``lock`` (its state), ``request`` (the
            catalogue's) and ``transfer`` (what the transfer service tells of the last job for it, as ``transfer why``
            does); and ``left_out``, how many more there are.

        Raises:
            NotFoundError: there is no such rule.
            AuthError: it is somebody else's.
        """
        found: Json = self._rest.call("GET", f"/rules/{_checked(rule_id)}/why", timeout_s=120.0)
        return found

    def of(self, did: Did) -> list[Rule]:
        """Rules on exactly this DID, oldest first."""
        return _sorted(self._rest.lines("GET", f"/dids{did_path(did)}/rules"))

    def of_account(self, account: str) -> list[Rule]:
        """Rules of an account, oldest first."""
        return _sorted(self._rest.lines("GET", f"/accounts/{account}/rules"))

    def every(self) -> list[Rule]:
        """All rules, oldest first."""
        return _sorted(self._rest.lines("GET", "/rules/"))

    def ensure(
        self,
        dids: Sequence[Did],
        rse_expression: str,
        *,
        account: str,
        copies: int = 1,
        lifetime_s: float | None = None,
        activity: str | None = None,
    ) -> None:
        """Like :meth:`add`, but leaves DIDs alone that the account's same rule protects already."""
        options: dict[str, Any] = {"copies": copies, "lifetime_s": lifetime_s, "activity": activity}
        try:
            self.add(dids, rse_expression, account=account, repeatable=True, **options)
        except ConflictError:
            if len(dids) == 1:
                return
            for did in dids:
                self.ensure([did], rse_expression, account=account, **options)

    def update(self, rule_id: str, **options: Any) -> None:
        """Change ``lifetime`` (seconds from now), ``comment``, ``activity``, ``locked``, ``boost_rule`` and others."""
        self._rest.call("PUT", f"/rules/{_checked(rule_id)}", {"options": options})

    def remove(self, rule_id: str, *, now: bool = False) -> None:
        """Let a rule end: the catalogue does so after an hour; with ``now``, in about a second.

        Raises:
            NotFoundError: there is no such rule.
        """
        if now:
            self.update(rule_id, lifetime=1)
        else:
            self._rest.call("DELETE", f"/rules/{_checked(rule_id)}", {"purge_replicas": None})

    def move(self, rule_id: str, rse_expression: str) -> str:
        """Ask for another quality of service or place: a new rule, after whose completion the old one ends.

        The old copies are kept until the new ones are verified; the old rule names the new one as its child.

        Returns:
            The id of the new rule.

        Raises:
            ConflictError: such a rule is there already, or this one is being moved.
            InputError: the expression is malformed or matches no RSE.
            NotFoundError: there is no such rule.
        """
        new: str = self._rest.call("POST", f"/rules/{_checked(rule_id)}/move", {"rse_expression": rse_expression})
        return new

    def wait(self, rule_id: str, *, timeout_s: float = 3600.0, report: Callable[[Rule], None] | None = None) -> Rule:
        """Wait until a rule is OK.

        ``report`` is called with the rule whenever its state or its locks have changed.

        Raises:
            TransferError: the rule is STUCK and stays so, or time is up.
        """
        deadline = time.monotonic() + timeout_s
        pause_s, stuck_since, last = 0.2, None, ""
        while True:
            rule = self.get(rule_id)
            if report is not None and (seen := f"{rule.state} {rule.locks}") != last:
                last = seen
                report(rule)
            if rule.state == OK:
                return rule
            now = time.monotonic()
            stuck_since = (stuck_since or now) if rule.state == STUCK else None
            if (stuck_since is not None and now - stuck_since > 120) or now > deadline:
                raise TransferError(
                    f"the rule is {rule.state} and not OK",
                    expected=f"all locks OK within {timeout_s:.0f} s",
                    got=f"locks OK/REPLICATING/STUCK {rule.locks}; {rule.error or 'no reason given'}",
                    where=rule_id,
                    remedy=f"boathouse rule why {rule_id}",
                )
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.3, 2.0)


def _checked(rule_id: str) -> str:
    """The id itself, if it is one.

    Raises:
        InputError: it is not.
    """
    if not _ID.fullmatch(rule_id):
        raise InputError(
            "not the id of a rule", expected="32 hexadecimal digits", got=repr(rule_id), remedy="boathouse rule list"
        )
    return rule_id.lower()


def _sorted(documents: Iterator[Json]) -> list[Rule]:
    return sorted((Rule.from_document(line) for line in documents), key=lambda rule: (rule.created_at, rule.id))


def table_row(rule: Rule) -> tuple[str, ...]:
    """A rule as a line of ``rucio list-rules``: the state carries its locks, as in ``OK[1/0/0]``."""
    return (
        rule.id,
        rule.account,
        str(rule.did),
        f"{rule.state}[{rule.locks}]",
        rule.rse_expression,
        str(rule.copies),
        rule.expires_at or "-",
        rule.created_at,
    )


TABLE_HEAD = (
    "ID",
    "ACCOUNT",
    "SCOPE:NAME",
    "STATE[OK/REPL/STUCK]",
    "RSE_EXPRESSION",
    "COPIES",
    "EXPIRES (UTC)",
    "CREATED (UTC)",
)
