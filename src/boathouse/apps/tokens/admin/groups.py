"""Groups: list, add, change, remove; their members, until when; their managers."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import delete, func, insert, or_, select, update

from boathouse.apps.tokens.admin import checks, users
from boathouse.apps.tokens.admin.desk import ADMIN, Desk, not_the_facility_files
from boathouse.apps.tokens.persistence import schema as t
from boathouse.errors import ConflictError, InputError, NotFoundError

_NAMESPACE = uuid.UUID("6f0a1c52-3e0b-4a53-9d7c-3a4f52c1b7aa")


def id_of(name: str) -> str:
    """A UUID that follows from a group's name, for APIs whose ids hold no slash."""
    return str(uuid.uuid5(_NAMESPACE, name))


@dataclass(frozen=True)
class Member:
    """A member of a group."""

    sub: str
    login: str
    expires_at: int | None
    owner: str


@dataclass(frozen=True)
class Group:
    """A group as administrators see it."""

    name: str
    description: str
    optional: bool
    """Whether a token names it only when it is asked for by name."""
    owner: str
    managers: tuple[str, ...]
    """Logins."""
    size: int
    """Memberships that have not ended."""

    @property
    def id(self) -> str:
        """A UUID that follows from the name, for APIs whose ids hold no slash."""
        return id_of(self.name)

    def as_dict(self) -> dict[str, Any]:
        """As a JSON object."""
        return {"id": self.id, **asdict(self)}


def list_(desk: Desk) -> list[Group]:
    """All groups by name; people who sign in may see them, to ask to join.

    Raises:
        AuthError: a client asks that may not read.
    """
    if desk.actor.user is None:
        desk.may_read()
    return _groups(desk, None)


def get(desk: Desk, name: str) -> Group:
    """A group by name, or by the id that follows from it.

    Raises:
        NotFoundError: there is none.
    """
    if desk.actor.user is None:
        desk.may_read()
    return find(desk, name)


def find(desk: Desk, name: str) -> Group:
    """As :func:`get`, and no right is asked for: this is for the other functions."""
    found = _groups(desk, name) if name.startswith("/") else [one for one in _groups(desk, None) if one.id == name]
    if not found:
        raise NotFoundError("no such group", got=repr(name[:80]))
    return found[0]


def _groups(desk: Desk, name: str | None) -> list[Group]:
    statement = select(t.groups).order_by(t.groups.c.name)
    managers: dict[str, list[str]] = {}
    held = select(t.managers.c.grp, t.users.c.login).join(t.users, t.users.c.sub == t.managers.c.sub)
    sizes = select(t.members.c.grp, func.count()).where(_alive(desk)).group_by(t.members.c.grp)
    if name is not None:
        statement = statement.where(t.groups.c.name == name)
        held, sizes = held.where(t.managers.c.grp == name), sizes.where(t.members.c.grp == name)
    for group, login in desk.connection.execute(held.order_by(t.users.c.login)):
        managers.setdefault(group, []).append(login)
    size = {row[0]: int(row[1]) for row in desk.connection.execute(sizes)}
    return [
        Group(
            **{column: row[column] for column in ("name", "description", "optional", "owner")},
            managers=tuple(managers.get(row["name"], ())),
            size=size.get(row["name"], 0),
        )
        for row in desk.connection.execute(statement).mappings()
    ]


def _alive(desk: Desk) -> Any:
    return or_(t.members.c.expires_at.is_(None), t.members.c.expires_at > desk.store.now)


def add(desk: Desk, name: str, *, description: str = "", optional: bool = False) -> Group:
    """Add a group, below one that is there: the facility file names the root, and tokens of other VOs are others'.

    Raises:
        ConflictError: it is there already.
        InputError: the group above it is not.
    """
    desk.may_write()
    checks.plain(checks.group_name(name), "group")
    checks.plain(description, "description")
    above = name.rpartition("/")[0]
    if not above or desk.connection.execute(select(t.groups.c.name).where(t.groups.c.name == above)).first() is None:
        raise InputError(
            "a group outside of the VO, or below a group that is not there",
            expected="a name below a group that is there",
            got=name,
            remedy=f"add the group {above} first" if above.count("/") > 1 else "boathouse iam group list",
        )
    if desk.connection.execute(select(t.groups.c.name).where(t.groups.c.name == name)).first():
        raise ConflictError("the group is there already", got=name)
    desk.connection.execute(insert(t.groups).values(name=name, description=description, optional=optional, owner=ADMIN))
    desk.changed("group.added", t.groups, name, whom=name)
    return find(desk, name)


def change(desk: Desk, name: str, *, description: str | None = None, optional: bool | None = None) -> Group:
    """Change a group; None leaves it as it is.

    Raises:
        ConflictError: it belongs to the facility file.
    """
    desk.may_write()
    group = find(desk, name)
    wanted: dict[str, Any] = {
        "description": group.description if description is None else checks.plain(description, "description"),
        "optional": group.optional if optional is None else optional,
    }
    changes = {key: value for key, value in wanted.items() if getattr(group, key) != value}
    if changes:
        not_the_facility_files(group.owner, group.name)
        desk.connection.execute(update(t.groups).where(t.groups.c.name == group.name).values(**changes))
        desk.changed("group.changed", t.groups, group.name, whom=group.name, changed=" ".join(changes))
    return find(desk, group.name)


def remove(desk: Desk, name: str) -> None:
    """Remove a group, with its memberships, its managers and the policies on it.

    Raises:
        ConflictError: it belongs to the facility file.
    """
    desk.may_write()
    group = find(desk, name)
    not_the_facility_files(group.owner, group.name)
    for table, noun in ((t.members, "member"), (t.managers, "manager")):
        gone = delete(table).where(table.c.grp == group.name).returning(table.c.sub)
        for (sub,) in desk.connection.execute(gone).all():
            desk.changed(f"{noun}.removed", table, sub, group.name, whom=sub, group=group.name)
    policies = delete(t.policies).where(t.policies.c.grp == group.name).returning(t.policies.c.id)
    for (number,) in desk.connection.execute(policies).all():
        desk.changed("policy.removed", t.policies, number, whom=group.name)
    desk.connection.execute(delete(t.requests).where(t.requests.c.grp == group.name))
    desk.connection.execute(delete(t.groups).where(t.groups.c.name == group.name))
    desk.changed("group.removed", t.groups, group.name, whom=group.name)


# Members and managers


def manages(desk: Desk, name: str) -> bool:
    """Whether the actor is a manager of a group."""
    table = t.managers
    held = select(table.c.grp).where(table.c.sub == desk.sub, table.c.grp == name)
    return desk.actor.manages and desk.connection.execute(held).first() is not None


def managed(desk: Desk) -> list[str]:
    """Groups that the actor manages, by name."""
    if not desk.actor.manages:
        return []
    held = select(t.managers.c.grp).where(t.managers.c.sub == desk.sub).order_by(t.managers.c.grp)
    return list(desk.connection.execute(held).scalars())


def _may_manage(desk: Desk, name: str) -> None:
    if not desk.actor.writes and not manages(desk, name):
        desk.refuse(f"change the members of {name}")
    desk.lock()


def members(desk: Desk, name: str) -> list[Member]:
    """Who is in a group, by login; for its managers and whoever may read."""
    group = find(desk, name)
    if not desk.actor.reads and not manages(desk, group.name):
        desk.refuse(f"see the members of {group.name}")
    rows = desk.connection.execute(
        select(t.users.c.sub, t.users.c.login, t.members.c.expires_at, t.members.c.owner)
        .join(t.members, t.members.c.sub == t.users.c.sub)
        .where(t.members.c.grp == group.name, t.users.c.active, _alive(desk))
        .order_by(t.users.c.login)
    )
    return [Member(**row) for row in rows.mappings()]


def add_member(desk: Desk, name: str, who: str, *, until: int | None = None) -> None:
    """Make somebody a member, or change when the membership ends; for administrators and the group's managers.

    Args:
        desk: who acts.
        name: of the group.
        who: login or subject.
        until: seconds since the epoch; None for as long as nobody ends it.

    Raises:
        ConflictError: the facility file makes them a member, without an end.
    """
    group = find(desk, name)
    _may_manage(desk, group.name)
    person = users.find(desk, who)
    checks.until(until, desk.store.now)
    table = t.members
    here = (table.c.sub == person.sub) & (table.c.grp == group.name)
    there = desk.connection.execute(select(table.c.expires_at, table.c.owner).where(here)).one_or_none()
    if there is not None and there.expires_at == until:
        return
    if there is None:
        after = select(func.coalesce(func.max(table.c.position) + 1, 0)).where(table.c.sub == person.sub)
        position = desk.connection.execute(after).scalar_one()
        values = {"sub": person.sub, "grp": group.name, "position": position, "expires_at": until, "owner": ADMIN}
        desk.connection.execute(insert(table).values(**values))
    else:
        not_the_facility_files(there.owner, f"the membership of {person.login} in {group.name}")
        desk.connection.execute(update(table).where(here).values(expires_at=until))
    event = "member.added" if there is None else "member.changed"
    desk.changed(event, table, person.sub, group.name, whom=person.login, group=group.name)


def remove_member(desk: Desk, name: str, who: str) -> None:
    """End a membership; for administrators, the group's managers, and oneself.

    Raises:
        ConflictError: the facility file makes them a member.
    """
    group = find(desk, name)
    person = users.find(desk, who)
    if desk.sub != person.sub:
        _may_manage(desk, group.name)
    desk.lock()
    table = t.members
    here = (table.c.sub == person.sub) & (table.c.grp == group.name)
    owner = desk.connection.execute(select(table.c.owner).where(here)).scalar_one_or_none()
    if owner is None:
        return
    not_the_facility_files(owner, f"the membership of {person.login} in {group.name}")
    desk.connection.execute(delete(table).where(here))
    desk.changed("member.removed", table, person.sub, group.name, whom=person.login, group=group.name)


def set_members(desk: Desk, name: str, subs: Iterable[str]) -> None:
    """Make these people, and no others, the members.

    Raises:
        ConflictError: somebody else is a member by the facility file.
    """
    wanted = {users.find(desk, sub).sub for sub in subs}
    there = {member.sub for member in members(desk, name)}
    for sub in sorted(there - wanted):
        remove_member(desk, name, sub)
    for sub in sorted(wanted - there):
        add_member(desk, name, sub)


def add_manager(desk: Desk, name: str, who: str) -> None:
    """Make somebody a manager of a group: they see its members, add and remove them, and decide requests."""
    desk.may_write()
    group, person = find(desk, name), users.find(desk, who)
    if person.login in group.managers:
        return
    desk.connection.execute(insert(t.managers).values(sub=person.sub, grp=group.name))
    desk.changed("manager.added", t.managers, person.sub, group.name, whom=person.login, group=group.name)


def remove_manager(desk: Desk, name: str, who: str) -> None:
    """Let somebody be a manager of a group no more."""
    desk.may_write()
    group, person = find(desk, name), users.find(desk, who)
    table = t.managers
    gone = delete(table).where(table.c.sub == person.sub, table.c.grp == group.name)
    if desk.connection.execute(gone).rowcount:
        desk.changed("manager.removed", table, person.sub, group.name, whom=person.login, group=group.name)
