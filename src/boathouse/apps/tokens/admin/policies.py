"""Scope policies: list, add, remove; and what they mean for one person and one path."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import delete, insert, select

from boathouse.apps.tokens.admin import checks, groups, users
from boathouse.apps.tokens.admin.desk import ADMIN, Desk, not_the_facility_files
from boathouse.apps.tokens.persistence import schema as t
from boathouse.apps.tokens.rights.policies import Effect, allowed, deciding
from boathouse.errors import InputError, NotFoundError
from boathouse.wlcg.scopes import Scope


@dataclass(frozen=True)
class ScopePolicy:
    """A policy as administrators see it; with neither account nor group it holds for everybody."""

    id: int
    effect: str
    """``PERMIT`` or ``DENY``."""
    scopes: str
    """Separated by spaces."""
    account: str
    """Login of the person on whom it is."""
    group: str
    description: str
    owner: str

    def as_dict(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self) | {"scopes": self.scopes.split()}


@dataclass(frozen=True)
class Verdict:
    """Whether somebody may do something now, and why."""

    login: str
    scope: str
    allowed: bool
    """Whether a token with the whole scope would be issued."""
    granted: str
    """What of it would be issued, separated by spaces."""
    because: tuple[str, ...]
    """In words: the policies that decide."""

    def as_dict(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self) | {"granted": self.granted.split()}


_SELECT = select(
    t.policies.c.id,
    t.policies.c.effect,
    t.policies.c.scope.label("scopes"),
    t.policies.c.account,
    t.policies.c.grp.label("group"),
    t.policies.c.description,
    t.policies.c.owner,
).order_by(t.policies.c.id)


def list_(desk: Desk, *, account: str | None = None, group: str | None = None) -> list[ScopePolicy]:
    """Policies: all, or those on an account or a group; the empty name means those for everybody."""
    desk.may_read()
    statement = _SELECT
    if account is not None:
        statement = statement.where(t.policies.c.account == account)
    if group is not None:
        statement = statement.where(t.policies.c.grp == group)
    return [ScopePolicy(**row) for row in desk.connection.execute(statement).mappings()]


def get(desk: Desk, number: int) -> ScopePolicy:
    """A policy by its number.

    Raises:
        NotFoundError: there is none.
    """
    desk.may_read()
    return _find(desk, number)


def _find(desk: Desk, number: int) -> ScopePolicy:
    known = 0 < number < 1 << 63
    row = desk.connection.execute(_SELECT.where(t.policies.c.id == number)).mappings().first() if known else None
    if row is None:
        raise NotFoundError("no such policy", got=str(number))
    return ScopePolicy(**row)


def add(
    desk: Desk, effect: str, scopes: str, *, account: str = "", group: str = "", description: str = ""
) -> ScopePolicy:
    """Add a policy on an account, on a group, or (with neither) for everybody; if it is there already, that one.

    Raises:
        InputError: both account and group are named, or the effect or a scope is unknown.
        NotFoundError: no such account or group.
    """
    desk.may_write()
    if effect not in list(Effect):
        raise InputError("unknown effect", expected="PERMIT or DENY", got=repr(effect[:80]))
    if account and group:
        raise InputError("a policy on an account and on a group", expected="one of them, or neither")
    values = {
        "effect": effect,
        "scope": checks.known_scopes(scopes),
        "account": users.find(desk, account).login if account else "",
        "grp": groups.find(desk, group).name if group else "",
    }
    checks.plain(description, "description")
    same = [t.policies.c[name] == value for name, value in values.items()]
    there = desk.connection.execute(select(t.policies.c.id).where(*same)).scalars().first()
    if there is not None:
        return _find(desk, there)
    added = insert(t.policies).values(**values, description=description, owner=ADMIN).returning(t.policies.c.id)
    number = desk.connection.execute(added).scalar_one()
    desk.changed("policy.added", t.policies, number, whom=values["account"] or values["grp"] or "everybody")
    return _find(desk, number)


def remove(desk: Desk, number: int) -> None:
    """Remove a policy.

    Raises:
        ConflictError: it belongs to the facility file.
    """
    desk.may_write()
    policy = _find(desk, number)
    not_the_facility_files(policy.owner, f"policy {policy.id}")
    desk.connection.execute(delete(t.policies).where(t.policies.c.id == policy.id))
    desk.changed("policy.removed", t.policies, policy.id, whom=policy.account or policy.group or "everybody")


def test(desk: Desk, who: str, scope: str) -> Verdict:
    """Whether somebody would get a scope now, and why; everybody may ask about themselves.

    Raises:
        InputError: this is no scope that policies speak of.
        NotFoundError: there is no such person.
    """
    person = users.get(desk, who)
    wish = Scope.parse(checks.known_scopes(scope))
    user = desk.store.user(person.sub)
    if user is None:
        return Verdict(person.login, str(wish), allowed=False, granted="", because=(f"{person.login} is disabled",))
    rules = desk.store.policies(user)
    granted = allowed((wish,), account=user.login, groups=user.groups, admin=user.admin, policies=rules)
    return Verdict(
        person.login,
        str(wish),
        allowed=granted == (wish,),
        granted=" ".join(map(str, granted)),
        because=deciding(wish, account=user.login, groups=user.groups, admin=user.admin, policies=rules),
    )
