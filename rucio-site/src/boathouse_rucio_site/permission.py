"""Who may do what: Rucio asks :func:`has_permission` before each change.

Administrators (``root`` and accounts with the attribute ``admin``) may do everything. A member may write into scopes
of which the account is the owner, and into scopes owned by the account of a group to which it belongs (attribute
``group-<group>``); may attach data that it may read, and make rules on them for itself; and may change or delete its
own rules. Members add to what their colleagues have; all else is for the account that made a DID: taking out what it
holds, its status, its metadata, and to say that a replica is available. Scopes of a group whose account has the
attribute ``embargoed`` are closed to others, also where datasets and containers hold their files. What is not said
here, Rucio's generic policy answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from rucio.common.types import InternalScope
from rucio.core.account import has_account_attribute
from rucio.core.rule import get_rule
from rucio.db.sqla import models
from sqlalchemy import select, tuple_

from boathouse_rucio_site.content import misplaced, scopes_within
from boathouse_rucio_site.paths import is_plain_name

ADMIN = "admin"
"""Account attribute of administrators."""
EMBARGOED = "embargoed"
"""Attribute of a group's account whose data only its members may use."""

RULE_OPTIONS = frozenset(
    {
        "activity",
        "boost_rule",
        "comment",
        "eol_at",
        "lifetime",
        "meta",
        "purge_replicas",
        "source_replica_expression",
    }
)
"""What the owner of a rule may change. Locks, accounts and states concern others and stay with administrators."""

FACTS = frozenset({"adler32", "md5", "bytes"})
"""Metadata of a file that copies are checked against."""
STARTS = ("A", "C")
"""States in which people may register a replica: available, or announced (``COPYING``), as stock clients do it."""
AVAILABLE = "A"
"""The one state that people may change a replica to; all others end in the loss of a copy."""
ENDS = frozenset({"lifetime", "expired_at", "eol_at"})
"""Metadata of a DID after whose time Rucio deletes it, with all rules on it, whosever they are."""

Kwargs = Mapping[str, Any]
Check = Callable[[Any, Kwargs, Any], "str | None"]
"""Answers with the reason of a refusal, or ``None``."""


def group_attribute(group: str) -> str:
    """The account attribute of a group's members."""
    return f"group-{group}"


def has_permission(issuer: Any, action: str, kwargs: Kwargs, *, session: Any) -> Any:
    """Whether an account may do something.

    Args:
        issuer: the account that asks.
        action: Rucio's name of the action.
        kwargs: its arguments, scopes and accounts as Rucio's internal types.
        session: the database session.

    Returns:
        Rucio's ``PermissionResult`` with the reason of a refusal, or ``None`` where Rucio's generic policy decides.
    """
    from rucio.core.permission import PermissionResult  # noqa: PLC0415 - it imports this module

    # To ask for a token as an account is not yet to be it.
    if action.startswith("get_auth_token"):
        return None
    # Rucio holds no schema against these. Nobody may make names that, as paths, lead elsewhere.
    if action == "add_dids" and (unsafe := _unsafe_name(kwargs["dids"])):
        return PermissionResult(allowed=False, message=f"{unsafe} has empty, dot or escaped segments.")
    if is_admin(issuer, session=session):
        return PermissionResult(allowed=True)
    check = _MEMBERS.get(action)
    if check is None:
        return None
    refusal = check(issuer, kwargs, session)
    return PermissionResult(allowed=refusal is None, message=refusal or "")


def is_admin(account: Any, *, session: Any) -> bool:
    """Whether an account administers the lake."""
    return account.external == "root" or bool(has_account_attribute(account=account, key=ADMIN, session=session))


def why_not_write(account: Any, scope: Any, *, session: Any) -> str | None:
    """Why an account may not write into a scope, or ``None`` if it may."""
    owner = _owner(scope, session)
    if owner is None:
        return f"There is no scope {scope.external}."
    if owner == account or has_account_attribute(account=account, key=group_attribute(owner.external), session=session):
        return None
    return f"Scope {scope.external} belongs to {owner.external}, and {account.external} is not a member."


def why_not_read(account: Any, scope: Any, *, session: Any) -> str | None:
    """Why an account may not use the data of a scope, or ``None`` if it may."""
    owner = _owner(scope, session)
    if owner is None or not has_account_attribute(account=owner, key=EMBARGOED, session=session):
        return None
    refusal = why_not_write(account, scope, session=session)
    return None if refusal is None else f"{refusal} Its data are under embargo."


def why_not_use(account: Any, dids: Iterable[tuple[Any, str]], *, session: Any) -> str | None:
    """Why an account may not use DIDs with all that they hold, or ``None`` if it may.

    Args:
        account: the account that asks.
        dids: internal scope and name each.
        session: the database session.
    """
    known = list(dids)
    scopes = {scope for scope, _ in known} | scopes_within(known, session=session)
    return _first(why_not_read(account, scope, session=session) for scope in scopes)


def why_not_register(account: Any, rse: str, files: Iterable[Kwargs], *, session: Any) -> str | None:
    """Why an account may not register replicas, or ``None`` if it may.

    Args:
        account: the account that asks.
        rse: name of the RSE.
        files: ``scope`` and ``name`` as clients write them, ``state`` if it is not available yet, and ``pfn`` where
            the path is not made by Rucio.
        session: the database session.
    """
    known = list(files)
    refusal = _why_not_write_files(account, known, session=session)
    if refusal is not None:
        return refusal
    if any(file.get("state", AVAILABLE) not in STARTS for file in known):
        return "Only administrators may register replicas in other states than A and C."
    if (pfn := misplaced(rse, known, session=session)) is not None:
        return f"{pfn} is not plainly below the directory of its file's scope on {rse}."
    # A replica that was announced is made available later, which only the owner may do; rules would wait for it.
    announced = [file for file in known if file.get("state", AVAILABLE) != AVAILABLE]
    return _why_not_own_files(account, announced, "announce a replica of it", session=session)


def why_not_change_state(account: Any, files: Iterable[Kwargs], *, session: Any) -> str | None:
    """Why an account may not change the states of replicas, or ``None`` if it may.

    Args:
        account: the account that asks.
        files: ``scope``, ``name`` and ``state`` as clients write them.
        session: the database session.
    """
    known = list(files)
    refusal = _why_not_write_files(account, known, session=session)
    if refusal is not None:
        return refusal
    if any(file.get("state") != AVAILABLE for file in known):
        return "Only administrators may change replicas to other states than A."
    return _why_not_own_files(account, known, "make its replicas available", session=session)


def why_not_change(account: Any, scope: Any, name: str, what: str, *, session: Any) -> str | None:
    """Why an account may not do something with a DID that is for its owner, or ``None`` if it may."""
    refusal = why_not_write(account, scope, session=session)
    return refusal or _why_not_own(account, [(scope, name)], what, session=session)


def _why_not_write_files(account: Any, files: Iterable[Kwargs], *, session: Any) -> str | None:
    scopes = [InternalScope(scope, vo=account.vo) for scope in {str(file.get("scope", "")) for file in files}]
    return _first(why_not_write(account, scope, session=session) for scope in scopes)


def _why_not_own_files(account: Any, files: Iterable[Kwargs], what: str, *, session: Any) -> str | None:
    dids = [(InternalScope(str(file.get("scope", "")), vo=account.vo), str(file.get("name", ""))) for file in files]
    return _why_not_own(account, dids, what, session=session)


def _why_not_own(account: Any, dids: Iterable[tuple[Any, str]], what: str, *, session: Any) -> str | None:
    """Why an account may not do something with DIDs that is for their owners, or ``None`` if it may.

    DIDs that do not exist belong to nobody.
    """
    wanted, did = list(dids), models.DataIdentifier
    if not wanted:
        return None
    others = (
        select(did.name, did.account).where(tuple_(did.scope, did.name).in_(wanted), did.account != account).limit(1)
    )
    found = session.execute(others).first()
    if found is None:
        return None
    name, owner = found
    return f"{name} belongs to {owner.external}, who alone may {what}."


def why_not_attach(account: Any, contents: Iterable[Kwargs], *, session: Any) -> str | None:
    """Why an account may not attach something, or ``None`` if it may. The scopes attached to are not looked at.

    Args:
        account: the account that asks.
        contents: ``dids``, each with ``scope`` as clients write it and ``name``, and the ``rse`` on which they are to
            be registered by the way, if any.
        session: the database session.
    """
    dids: list[tuple[Any, str]] = []
    for content in contents:
        attached = content.get("dids") or ()
        if content.get("rse") and (refusal := why_not_register(account, content["rse"], attached, session=session)):
            return refusal
        dids += [(InternalScope(did["scope"], vo=account.vo), did["name"]) for did in attached]
    return why_not_use(account, dids, session=session) if dids else None


def _owner(scope: Any, session: Any) -> Any:
    return session.execute(select(models.Scope.account).where(models.Scope.scope == scope)).scalar_one_or_none()


def _first(reasons: Iterable[str | None]) -> str | None:
    return next((reason for reason in reasons if reason is not None), None)


def _unsafe_name(dids: Iterable[Kwargs]) -> str | None:
    names = (str(each["name"]) for did in dids for each in (did, *(did.get("dids") or ())))
    return next((name for name in names if not is_plain_name(name)), None)


def _always(issuer: Any, kwargs: Kwargs, session: Any) -> str | None:
    del issuer, kwargs, session
    return None


def _suspect(issuer: Any, kwargs: Kwargs, session: Any) -> str | None:
    del issuer, kwargs, session
    return "Only administrators may declare replicas suspicious."


def _write_scope(issuer: Any, kwargs: Kwargs, session: Any) -> str | None:
    return why_not_write(issuer, kwargs["scope"], session=session)


def _set_metadata(issuer: Any, kwargs: Kwargs, session: Any) -> str | None:
    keys = {str(key) for key in (*(kwargs.get("meta") or ()), kwargs.get("key"))}
    if facts := sorted(keys & FACTS):
        return f"Only administrators may change a file's {', '.join(facts)}."
    what = "let it end" if keys & ENDS else "change its metadata"
    refusal = _change(issuer, kwargs, what, session)
    return refusal or (_why_not_end(issuer, kwargs, session) if keys & ENDS else None)


def _change(issuer: Any, kwargs: Kwargs, what: str, session: Any) -> str | None:
    return why_not_change(issuer, kwargs["scope"], kwargs["name"], what, session=session)


def _detach(issuer: Any, kwargs: Kwargs, session: Any) -> str | None:
    return _change(issuer, kwargs, "take out what it holds", session)


def _set_status(issuer: Any, kwargs: Kwargs, session: Any) -> str | None:
    return _change(issuer, kwargs, "close and open it", session)


def _why_not_end(issuer: Any, kwargs: Kwargs, session: Any) -> str | None:
    """Why the owner of a DID may not say when it ends: it ends for everybody."""
    rule = models.ReplicationRule
    this = {"scope": kwargs["scope"], "name": kwargs["name"]}
    others = select(rule.account).filter_by(**this).where(rule.account != issuer).limit(1)
    other = session.execute(others).scalar_one_or_none()
    return None if other is None else f"{other.external} has a rule on it, which would end with it."


def _add_did(issuer: Any, kwargs: Kwargs, session: Any) -> str | None:
    if any(rule["account"] != issuer for rule in kwargs.get("rules") or ()):
        return "Rules may be made for one's own account only."
    return _write_scope(issuer, kwargs, session)


def _add_dids(issuer: Any, kwargs: Kwargs, session: Any) -> str | None:
    if any(rule["account"] != issuer for did in kwargs["dids"] for rule in did.get("rules") or ()):
        return "Rules may be made for one's own account only."
    return _attach_all(issuer, kwargs["dids"], session)


def _attach(issuer: Any, kwargs: Kwargs, session: Any) -> str | None:
    return _write_scope(issuer, kwargs, session) or why_not_attach(issuer, [kwargs["attachment"]], session=session)


def _attach_to_dids(issuer: Any, kwargs: Kwargs, session: Any) -> str | None:
    return _attach_all(issuer, kwargs["attachments"], session)


def _attach_all(issuer: Any, collections: Iterable[Kwargs], session: Any) -> str | None:
    known = list(collections)
    refusal = _first(why_not_write(issuer, scope, session=session) for scope in {each["scope"] for each in known})
    return refusal or why_not_attach(issuer, known, session=session)


def _add_rule(issuer: Any, kwargs: Kwargs, session: Any) -> str | None:
    if kwargs["account"] != issuer:
        return "Rules may be made for one's own account only."
    if kwargs["locked"]:
        return "Only administrators may lock a rule."
    return why_not_use(issuer, [(did["scope"], did["name"]) for did in kwargs["dids"]], session=session)


def _own_rule(issuer: Any, kwargs: Kwargs, session: Any) -> str | None:
    # A rule that does not exist raises RuleNotFound, which tells the caller more than a refusal.
    owner = get_rule(kwargs["rule_id"], session=session)["account"]
    return None if owner == issuer else f"The rule belongs to {owner.external}."


def _update_rule(issuer: Any, kwargs: Kwargs, session: Any) -> str | None:
    forbidden = sorted(set(kwargs["options"]) - RULE_OPTIONS)
    if forbidden:
        return f"Only administrators may change a rule's {', '.join(forbidden)}."
    return _own_rule(issuer, kwargs, session)


_MEMBERS: dict[str, Check] = {
    "add_did": _add_did,
    "add_dids": _add_dids,
    "attach_dids": _attach,
    "attach_dids_to_dids": _attach_to_dids,
    "detach_dids": _detach,
    "create_did_sample": _write_scope,
    "set_metadata": _set_metadata,
    "set_metadata_bulk": _set_metadata,
    "set_status": _set_status,
    # The scopes, states and paths of the files are checked in writing.py, where they are known.
    "add_replicas": _always,
    "update_replicas_states": _always,
    # Rucio takes paths or names here, and tells the policy neither.
    "declare_suspicious_file_replicas": _suspect,
    "add_rule": _add_rule,
    "del_rule": _own_rule,
    "reduce_rule": _own_rule,
    "move_rule": _own_rule,
    "update_rule": _update_rule,
    "list_requests": _always,
    "list_requests_history": _always,
    "get_request_history_by_did": _always,
    "get_request_metrics": _always,
}
