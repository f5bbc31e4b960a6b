"""People: list, add, change, disable, remove, set a password."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import exists, func, insert, or_, select, update

from boathouse.apps.tokens.admin import checks
from boathouse.apps.tokens.admin.desk import ADMIN, Desk, not_the_facility_files
from boathouse.apps.tokens.passwords import hash_typed
from boathouse.apps.tokens.persistence import departures
from boathouse.apps.tokens.persistence import schema as t
from boathouse.apps.tokens.trail import history
from boathouse.errors import AuthError, ConflictError, NotFoundError

_COLUMNS = (
    *(t.users.c.sub, t.users.c.login, t.users.c.name, t.users.c.email),
    *(t.users.c.admin, t.users.c.active, t.users.c.suspended, t.users.c.owner),
    exists().where(t.identities.c.sub == t.users.c.sub, t.identities.c.waiting).label("waiting"),
)


@dataclass(frozen=True)
class Membership:
    """Of a person in a group."""

    group: str
    expires_at: int | None
    """Seconds since the epoch; None if it does not end."""
    owner: str
    """``seed`` for the facility file, ``admin`` for administrators and managers."""


@dataclass(frozen=True)
class Person:
    """A person as administrators see them."""

    sub: str
    login: str
    name: str
    email: str
    admin: bool
    active: bool
    """Whether the person may sign in: neither disabled nor removed."""
    waiting: bool
    """Whether the person signed in elsewhere, and nobody has decided yet whether to let them in."""
    owner: str
    memberships: tuple[Membership, ...]
    """Those that have not ended."""

    def as_dict(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)


def list_(desk: Desk, *, search: str = "", start: int = 0, count: int = 1000) -> tuple[int, list[Person]]:
    """People by login, disabled ones too; removed ones are not listed.

    Args:
        desk: whoever may read.
        search: part of login, name or e-mail address; or a whole subject.
        start: how many to leave out.
        count: how many at most.

    Returns:
        How many there are in all, and those of this page.
    """
    desk.may_read()
    where: Any = t.users.c.active
    if search:
        part = "%" + search.replace("\\", "\\\\").replace("%", r"\%").replace("_", r"\_") + "%"
        columns = (t.users.c.login, t.users.c.name, t.users.c.email)
        where = where & or_(t.users.c.sub == search, *(column.ilike(part, escape="\\") for column in columns))
    total = desk.connection.execute(select(func.count()).select_from(t.users).where(where)).scalar_one()
    rows = desk.connection.execute(
        select(*_COLUMNS).where(where).order_by(t.users.c.login).offset(start).limit(count)
    ).mappings()
    return total, _persons(desk, [dict(row) for row in rows])


def _persons(desk: Desk, rows: Sequence[dict[str, Any]]) -> list[Person]:
    of: dict[str, list[Membership]] = {row["sub"]: [] for row in rows}
    table = t.members
    members = select(table.c.sub, table.c.grp, table.c.expires_at, table.c.owner).where(
        table.c.sub.in_(list(of)), or_(table.c.expires_at.is_(None), table.c.expires_at > desk.store.now)
    )
    for member in desk.connection.execute(members.order_by(table.c.position, table.c.grp)):
        of[member.sub].append(Membership(member.grp, member.expires_at, member.owner))
    return [
        Person(
            **{name: row[name] for name in ("sub", "login", "name", "email", "admin", "owner")},
            active=not row["suspended"],
            waiting=row["waiting"] and row["suspended"],
            memberships=tuple(of[row["sub"]]),
        )
        for row in rows
    ]


def find(desk: Desk, who: str) -> Person:
    """A person by login or subject; no right is asked for, this is for the other functions.

    Raises:
        NotFoundError: there is none, or they were removed.
    """
    where = t.users.c.active & or_(t.users.c.login == who, t.users.c.sub == who)
    row = desk.connection.execute(select(*_COLUMNS).where(where)).mappings().first()
    if row is None:
        raise NotFoundError("no such person", got=repr(who[:80]))
    return _persons(desk, [dict(row)])[0]


def get(desk: Desk, who: str) -> Person:
    """A person by login or subject; everybody may see themselves."""
    if not desk.actor.reads and (desk.actor.user is None or who not in (desk.sub, desk.actor.user.login)):
        desk.refuse("see this")
    return find(desk, who)


def add(
    desk: Desk,
    login: str,
    *,
    name: str = "",
    email: str = "",
    password: str | None = None,
    admin: bool = False,
) -> Person:
    """Add a person; without a password nobody can sign in as them until one is set.

    Raises:
        ConflictError: the login is taken.
    """
    desk.must_write()
    # Before the lock: it takes long on purpose.
    hashed = "" if password is None else hash_typed(checks.password(password))
    desk.may_write()
    values = {
        "login": checks.login(login),
        "name": checks.plain(name, "name") or login,
        "email": checks.plain(email, "e-mail address"),
    }
    if desk.connection.execute(select(t.users.c.sub).where(t.users.c.login == login)).first():
        raise ConflictError("the login is taken", got=login)
    sub = str(uuid.uuid4())
    desk.connection.execute(
        insert(t.users).values(sub=sub, **values, password=hashed, admin=admin, active=True, owner=ADMIN)
    )
    desk.changed("user.added", t.users, sub, whom=login)
    return find(desk, sub)


def change(
    desk: Desk, who: str, *, name: str | None = None, email: str | None = None, admin: bool | None = None
) -> Person:
    """Change what is known of a person; None leaves it as it is.

    Raises:
        ConflictError: the person belongs to the facility file.
    """
    desk.may_write()
    person = find(desk, who)
    wanted: dict[str, Any] = {
        "name": person.name if name is None else checks.plain(name, "name"),
        "email": person.email if email is None else checks.plain(email, "e-mail address"),
        "admin": person.admin if admin is None else admin,
    }
    changes = {key: value for key, value in wanted.items() if getattr(person, key) != value}
    if changes:
        not_the_facility_files(person.owner, person.login)
        desk.connection.execute(update(t.users).where(t.users.c.sub == person.sub).values(**changes))
        desk.changed("user.changed", t.users, person.sub, whom=person.login, changed=" ".join(changes))
    return find(desk, person.sub)


def disable(desk: Desk, who: str) -> Person:
    """Switch a person off: no login, no token, no refresh; browsers and refresh tokens end for good.

    This works for people of the facility file too, and stays until :func:`enable`: who waited to be let in is refused.
    """
    desk.may_write()
    person = find(desk, who)
    if person.active or person.waiting:
        desk.connection.execute(update(t.users).where(t.users.c.sub == person.sub).values(suspended=True))
        _decided(desk, person.sub)
        departures.end_logins(desk.connection, [person.sub])
        desk.changed("user.disabled", t.users, person.sub, whom=person.login)
    return find(desk, person.sub)


def enable(desk: Desk, who: str) -> Person:
    """Switch a person on again, who signs in anew; or let somebody in who waits."""
    desk.may_write()
    person = find(desk, who)
    if not person.active:
        desk.connection.execute(update(t.users).where(t.users.c.sub == person.sub).values(suspended=False))
        _decided(desk, person.sub)
        desk.changed("user.enabled", t.users, person.sub, whom=person.login)
    return find(desk, person.sub)


def _decided(desk: Desk, sub: str) -> None:
    """Let nobody wait any more: an administrator's word counts more than a provider's rule, now and later."""
    desk.connection.execute(update(t.identities).where(t.identities.c.sub == sub).values(waiting=False))


def remove(desk: Desk, who: str) -> None:
    """Remove a person: all that :func:`disable` ends, their memberships and the policies on their account.

    The login becomes free for somebody else; the subject never does (WLCG profile 2.1.1), and neither does what they
    are at another provider: who was removed does not come back by that door.

    Raises:
        ConflictError: the person belongs to the facility file.
    """
    desk.may_write()
    person = find(desk, who)
    not_the_facility_files(person.owner, person.login)
    departures.end_logins(desk.connection, [person.sub])
    for table, sub, group in departures.take_rights(desk.connection, [person.sub]):
        noun = history.NOUNS[table.name]
        desk.changed(f"{noun}.removed", table, sub, group, whom=person.login, group=group)
    for number in departures.remove_policies(desk.connection, t.policies.c.account == person.login):
        desk.changed("policy.removed", t.policies, number, whom=person.login)
    blank = {"active": False, "login": person.sub, "password": "", "email": "", "name": ""}
    desk.connection.execute(update(t.users).where(t.users.c.sub == person.sub).values(**blank))
    desk.changed("user.removed", t.users, person.sub, whom=person.login)


def set_password(desk: Desk, who: str, password: str) -> None:
    """Set somebody else's password, and end all their logins: browsers, and programs that renew by themselves.

    A password of the facility file stays replaced until the file's own one changes.

    Raises:
        AuthError: it is the own one, for which the old one must be known.
        TooBusyError: too many passwords are being hashed.
    """
    if desk.actor.user is not None and who in (desk.sub, desk.actor.user.login):
        raise AuthError(
            "to change one's own password, the old password is needed",
            expected="another person",
            got=desk.actor.user.login,
            remedy="change it on the account page",
        )
    desk.must_write()
    hashed = hash_typed(checks.password(password))
    desk.may_write()
    person = find(desk, who)
    _keep_password(desk, person, hashed)
    departures.end_logins(desk.connection, [person.sub])


def change_password(desk: Desk, password: str) -> None:
    """Change the own password; the caller has made sure that the old one was known. Browsers are signed out.

    Raises:
        TooBusyError: too many passwords are being hashed.
    """
    hashed = hash_typed(checks.password(password))
    desk.lock()
    person = find(desk, desk.sub)
    _keep_password(desk, person, hashed)
    desk.store.delete_sessions(person.sub)


def _keep_password(desk: Desk, person: Person, hashed: str) -> None:
    desk.connection.execute(update(t.users).where(t.users.c.sub == person.sub).values(password=hashed))
    desk.note("user.password-set", whom=person.login)
