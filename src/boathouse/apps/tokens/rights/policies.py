"""Scope policies: who may get which capability on which path. Pure functions.

A policy permits or denies scopes to one account, to a group, or to everybody. For one operation on one path the
account's own policies decide first, then those of its groups, then the default ones; the first level that says
anything decides, and within a level a denial wins. Nobody speaking means no, for storage; other scopes are left to
the client's own list unless a policy denies them.

A scope is issued only if *every* path below it is allowed: a denial also stops all scopes that contain the denied
path. A request for more is narrowed to the largest trees that are allowed (WLCG profile 3.2).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from boathouse.wlcg.scopes import CAPABILITY_SET, GROUPS, Scope, path_contains

_OPERATIONS = {"storage.modify": ("storage.create", "storage.modify")}
_WEAKER = {"storage.modify": "storage.create"}
_ADMIN = ("scim:", "iam:")


class Effect(StrEnum):
    """What a policy does."""

    permit = "PERMIT"
    deny = "DENY"


@dataclass(frozen=True, slots=True)
class Policy:
    """One rule; with neither ``account`` nor ``group`` it is a default for everybody."""

    effect: Effect
    scopes: tuple[Scope, ...]
    account: str = ""
    group: str = ""


def allowed(
    wanted: Iterable[Scope], *, account: str, groups: Sequence[str], admin: bool, policies: Iterable[Policy]
) -> tuple[Scope, ...]:
    """The most of what is wanted that the policies allow, in the order of the wish.

    Args:
        wanted: scopes that were asked for.
        account: login of the person.
        groups: all groups that the person belongs to.
        admin: whether administrative scopes may be given.
        policies: all policies that may concern the person; others are ignored.
    """
    levels = _levels(account, groups, policies)
    result: dict[Scope, None] = {}
    for wish in wanted:
        if wish.is_storage:
            result.update(dict.fromkeys(_trees(wish, levels)))
        elif _other(wish, levels, groups, admin=admin):
            result[wish] = None
    return tuple(result)


def expanded(wanted: Iterable[Scope], *, groups: Sequence[str], policies: Iterable[Policy]) -> tuple[Scope, ...]:
    """The wish with each capability set replaced by what it stands for (WLCG profile 3.3).

    ``wlcg.capabilityset:/vo/group`` stands for all that policies on the group permit, for its members; for nothing to
    anybody else. What of it is given is decided as for any other wish.

    Args:
        wanted: scopes that were asked for.
        groups: all groups that the person belongs to.
        policies: all policies that may concern the person.
    """
    result: dict[Scope, None] = {}
    rules = tuple(policies)
    for wish in wanted:
        if wish.name != CAPABILITY_SET:
            result[wish] = None
        elif wish.path in groups:
            for policy in rules:
                if policy.effect is Effect.permit and policy.group == wish.path and not policy.account:
                    result.update(dict.fromkeys(policy.scopes))
    return tuple(result)


_Level = tuple[Policy, ...]


def _levels(account: str, groups: Sequence[str], policies: Iterable[Policy]) -> tuple[_Level, _Level, _Level]:
    own: list[Policy] = []
    shared: list[Policy] = []
    default: list[Policy] = []
    for policy in policies:
        if policy.account:
            if policy.account == account:
                own.append(policy)
        elif policy.group:
            if policy.group in groups:
                shared.append(policy)
        else:
            default.append(policy)
    return tuple(own), tuple(shared), tuple(default)


def _other(wish: Scope, levels: Iterable[_Level], groups: Sequence[str], *, admin: bool) -> bool:
    if wish.name == GROUPS and wish.path is not None and wish.path not in groups:
        return False
    for level in levels:
        effects = {policy.effect for policy in level if wish in policy.scopes}
        if effects:
            return Effect.deny not in effects
    return admin or not wish.name.startswith(_ADMIN)


def _trees(wish: Scope, levels: Sequence[_Level]) -> list[Scope]:
    """The largest allowed scopes within one storage scope.

    Decisions change only at paths that policies name, so it is enough to look at those and at the wish itself.
    """
    marks = _marks(wish.path or "/", levels)
    result: list[Scope] = []
    for name in filter(None, (wish.name, _WEAKER.get(wish.name))):
        operations = _OPERATIONS.get(name, (name,))
        good = {mark: all(_decide(operation, mark, levels) for operation in operations) for mark in marks}
        for mark in marks:
            scope = Scope(name, mark)
            whole = all(good[inner] for inner in marks if path_contains(mark, inner))
            if whole and not any(other.covers(scope) for other in result):
                result.append(scope)
    return result


def _marks(top: str, levels: Iterable[_Level]) -> list[str]:
    """The paths within a tree at which a decision may change, its top first."""
    named = {scope.path for level in levels for policy in level for scope in policy.scopes if scope.path}
    return sorted({path for path in named if path_contains(top, path)} | {top})


def _decide(operation: str, path: str, levels: Iterable[_Level]) -> bool:
    effects = {policy.effect for policy, _ in _speaking(operation, path, levels)}
    return Effect.permit in effects and Effect.deny not in effects


def _speaking(operation: str, path: str, levels: Iterable[_Level]) -> list[tuple[Policy, Scope]]:
    """What the first level that says anything about one operation on one path says."""
    for level in levels:
        said = [
            (policy, scope)
            for policy in level
            for scope in policy.scopes
            if operation in _OPERATIONS.get(scope.name, (scope.name,))
            and scope.path is not None
            and path_contains(scope.path, path)
        ]
        if said:
            return said
    return []


def deciding(
    wish: Scope, *, account: str, groups: Sequence[str], admin: bool, policies: Iterable[Policy]
) -> tuple[str, ...]:
    """Why :func:`allowed` gives a scope, or does not, in words: the policies that decide, each once.

    Args:
        wish: one scope.
        account: login of the person.
        groups: all groups that the person belongs to.
        admin: whether administrative scopes may be given.
        policies: as for :func:`allowed`.
    """
    levels = _levels(account, groups, policies)
    if not wish.is_storage:
        return _why_other(wish, levels, groups, admin=admin)
    reasons: dict[str, None] = {}
    top = wish.path or "/"
    for operation in _OPERATIONS.get(wish.name, (wish.name,)):
        for mark in _marks(top, levels):
            said = _speaking(operation, mark, levels)
            denials = [one for one in said if one[0].effect is Effect.deny]
            if mark == top and not said:
                reasons[f"no policy permits {operation} on {top}"] = None
            elif mark == top or denials:
                reasons.update(dict.fromkeys(_words(*one) for one in denials or said))
    return tuple(reasons)


def _why_other(wish: Scope, levels: Iterable[_Level], groups: Sequence[str], *, admin: bool) -> tuple[str, ...]:
    if wish.name == GROUPS and wish.path is not None and wish.path not in groups:
        return (f"not a member of {wish.path}",)
    for level in levels:
        if said := [policy for policy in level if wish in policy.scopes]:
            denials = [policy for policy in said if policy.effect is Effect.deny]
            return tuple(dict.fromkeys(_words(policy, wish) for policy in denials or said))
    if wish.name.startswith(_ADMIN):
        return ("an administrator" if admin else "not an administrator",)
    return ("no policy speaks of it: the client's own list decides",)


def _words(policy: Policy, scope: Scope) -> str:
    whom = policy.account or (f"members of {policy.group}" if policy.group else "everybody")
    return f"{policy.effect} {scope} for {whom}"
