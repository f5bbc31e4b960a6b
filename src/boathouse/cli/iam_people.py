"""``iam user …`` and ``iam group …``: who is known, who is in which group, until when, and who decides that."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from boathouse.cli.common import Json, State, emit, err, out
from boathouse.cli.iam_desk import Commands, Reason, desk, done, until, when
from boathouse.cli.lakes import columns
from boathouse.cli.session import no_account
from boathouse.errors import InputError, NotFoundError
from boathouse.lake.iam import Iam, part
from boathouse.wlcg.scopes import group_name

Login = Annotated[str, typer.Argument(help="Login of the person.", metavar="LOGIN")]
GroupName = Annotated[str, typer.Argument(help="Of the group, e.g. /escape/cms.", metavar="GROUP")]
PasswordFile = Annotated[
    Path | None, typer.Option("--password-file", help="The password; `-` reads standard input.", dir_okay=False)
]
Until = Annotated[
    str | None, typer.Option("--until", help="Last day, time or duration: 2026-12-31, 2026-12-31T12:00, '90 d'.")
]

_INDIGO_USER = "urn:indigo-dc:scim:schemas:IndigoUser"
_INDIGO_GROUP = "urn:indigo-dc:scim:schemas:IndigoGroup"


def _people(iam: Iam, search: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = iam.call("GET", "/iam/accounts", search=search)["Resources"]
    return found


def _person(iam: Iam, login: str) -> dict[str, Any]:
    for one in _people(iam, login):
        if login in (one["login"], one["sub"]):
            return one
    raise NotFoundError("no such person", got=repr(login), remedy="boathouse iam user list")


def user_list(
    search: Annotated[str, typer.Argument(help="Part of login, name or address.", metavar="[WORD]")] = "",
    state: State = None,
    *,
    as_json: Json = False,
) -> None:
    """List people."""
    found = _people(desk(state), search)
    if as_json:
        emit(found)
        return
    columns(
        ("LOGIN", "NAME", "STATE", "OWNER", "GROUPS"),
        (
            (
                one["login"],
                one["name"],
                _standing(one) + (", administrator" if one["admin"] else ""),
                _owner(one["owner"]),
                " ".join(member["group"] for member in one["memberships"]),
            )
            for one in found
        ),
    )


def _standing(person: dict[str, Any]) -> str:
    if person["waiting"]:
        return "waits to be let in"
    return "active" if person["active"] else "disabled"


def _owner(owner: str) -> str:
    return {"seed": "facility file", "admin": "administrators"}.get(owner, owner)


def user_show(login: Login, state: State = None, *, as_json: Json = False) -> None:
    """Show a person: groups with their ends, and what clients hold."""
    iam = desk(state)
    one = _person(iam, login)
    held = iam.call("GET", f"/iam/account/{part(one['sub'])}/grants")
    if as_json:
        emit({**one, "grants": held})
        return
    out.print(f"[bold]{one['login']}[/bold] ({one['name']}) {one['email']}", highlight=False)
    out.print(f"subject {one['sub']}, {_standing(one)}, owner: {_owner(one['owner'])}")
    columns(
        ("GROUP", "UNTIL", "OWNER"),
        ((member["group"], when(member["expires_at"]), _owner(member["owner"])) for member in one["memberships"]),
    )
    if held:
        columns(
            ("CLIENT", "SINCE", "LAST USED"), ((g["client"], when(g["begun_at"]), when(g["used_at"])) for g in held)
        )


def user_add(
    login: Login,
    name: Annotated[str, typer.Option("--name", help="As it stands in tokens.")] = "",
    email: Annotated[str, typer.Option("--email", help="Address.")] = "",
    *,
    password_file: PasswordFile = None,
    reason: Reason = "",
    state: State = None,
    admin: Annotated[bool, typer.Option("--admin", help="May administer people, policies and clients.")] = False,
    as_json: Json = False,
) -> None:
    """Add a person, or change their name, address or rights to what is given.

    Without a password nobody can sign in as them, until one is set. They have tokens for storage, but no account in the
    catalogue: that one takes its accounts from the facility file.
    """
    iam = desk(state, reason)
    password = None if password_file is None else _password(login, password_file)
    try:
        there = _person(iam, login)
    except NotFoundError:
        document: dict[str, Any] = {"userName": login, "displayName": name, _INDIGO_USER: _roles(admin=admin)}
        if email:
            document["emails"] = [{"value": email}]
        if password is not None:
            document["password"] = password
        iam.call("POST", "/scim/Users", document)
        done(f"{login} is added", _person(iam, login), as_json=as_json)
        err.print(no_account(login), style="yellow", markup=False)
        return
    wanted = {"name": name or there["name"], "email": email or there["email"], "admin": admin or there["admin"]}
    if all(there[key] == value for key, value in wanted.items()):
        done(f"{login} is there", there, changed=False, as_json=as_json)
        return
    _change(iam, there["sub"], wanted)
    done(f"{login} is changed", _person(iam, login), as_json=as_json)


def _roles(*, admin: bool) -> dict[str, Any]:
    return {"authorities": ["ROLE_USER", *(["ROLE_ADMIN"] if admin else [])]}


def _change(iam: Iam, sub: str, wanted: dict[str, Any]) -> None:
    document: dict[str, Any] = {"displayName": wanted["name"], _INDIGO_USER: _roles(admin=wanted["admin"])}
    document["emails"] = [{"value": wanted["email"]}]
    iam.call("PUT", f"/scim/Users/{part(sub)}", document)


def user_change(
    login: Login,
    name: Annotated[str | None, typer.Option("--name", help="As it stands in tokens.")] = None,
    email: Annotated[str | None, typer.Option("--email", help="Address.")] = None,
    admin: Annotated[bool | None, typer.Option("--admin/--no-admin", help="May administer, or no more.")] = None,
    *,
    reason: Reason = "",
    state: State = None,
    as_json: Json = False,
) -> None:
    """Change a person; people of the facility file are changed there."""
    iam = desk(state, reason)
    there = _person(iam, login)
    wanted = {
        "name": there["name"] if name is None else name,
        "email": there["email"] if email is None else email,
        "admin": there["admin"] if admin is None else admin,
    }
    changed = any(there[key] != value for key, value in wanted.items())
    if changed:
        _change(iam, there["sub"], wanted)
    done(f"{login} is {'changed' if changed else 'so'}", _person(iam, login), changed=changed, as_json=as_json)


def user_disable(login: Login, reason: Reason = "", state: State = None, *, as_json: Json = False) -> None:
    """Switch a person off at once: no login, no token, no refresh. This holds for people of the facility file too.

    Somebody who waits to be let in is refused, whatever a rule says later.
    """
    _switch(login, reason, state, active=False, as_json=as_json)


def user_enable(login: Login, reason: Reason = "", state: State = None, *, as_json: Json = False) -> None:
    """Switch a person on again, who logs in anew; or let somebody in who waits."""
    _switch(login, reason, state, active=True, as_json=as_json)


def _switch(login: str, reason: str, state: Path | None, *, active: bool, as_json: bool) -> None:
    iam = desk(state, reason)
    there = _person(iam, login)
    changed = there["active"] != active or there["waiting"]
    if changed:
        operation = {"op": "replace", "path": "active", "value": active}
        iam.call("PATCH", f"/scim/Users/{part(there['sub'])}", {"Operations": [operation]})
    word = "active" if active else "disabled"
    done(f"{login} is {word}", {**there, "active": active, "waiting": False}, changed=changed, as_json=as_json)


def user_remove(login: Login, reason: Reason = "", state: State = None, *, as_json: Json = False) -> None:
    """Remove a person for good, with memberships and the policies on their account."""
    iam = desk(state, reason)
    try:
        there = _person(iam, login)
    except NotFoundError:
        done(f"{login} is gone", {"login": login}, changed=False, as_json=as_json)
        return
    iam.call("DELETE", f"/scim/Users/{part(there['sub'])}")
    done(f"{login} is gone", there, as_json=as_json)


def user_set_password(
    login: Login, password_file: PasswordFile = None, reason: Reason = "", state: State = None, *, as_json: Json = False
) -> None:
    """Set a person's password and end all their logins: browsers, and programs that renew by themselves.

    Tokens that are out live to their end, an hour at most; `disable` and `enable` end these too. The password among
    the facility's secrets works no more then.
    """
    iam = desk(state, reason)
    there = _person(iam, login)
    password = _password(login, password_file)
    operation = {"op": "replace", "path": "password", "value": password}
    iam.call("PATCH", f"/scim/Users/{part(there['sub'])}", {"Operations": [operation]})
    done(f"the password of {login} is set", {"login": login}, as_json=as_json)
    if there["owner"] == "seed":
        err.print(f"secrets/password-{login} in the state directory is not the password any more", style="yellow")


def _password(login: str, file: Path | None) -> str:
    try:
        if file is not None:
            text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
            return text.rstrip("\n")
    except OSError as error:
        raise InputError("cannot read the password", got=error.strerror or str(error), where=str(file)) from error
    if not sys.stdin.isatty():
        raise InputError("no password was given", expected="one typed at a terminal, or --password-file FILE")
    return getpass.getpass(f"New password of {login}: ", stream=sys.stderr)


# Groups


def group_list(state: State = None, *, as_json: Json = False) -> None:
    """List groups."""
    found = desk(state).call("GET", "/iam/groups")
    if as_json:
        emit(found)
        return
    columns(
        ("GROUP", "MEMBERS", "MANAGERS", "OWNER", "DESCRIPTION"),
        ((g["name"], str(g["size"]), " ".join(g["managers"]), _owner(g["owner"]), g["description"]) for g in found),
    )


def _group(iam: Iam, name: str) -> dict[str, Any]:
    for group in iam.call("GET", "/iam/groups"):
        if group["name"] == name:
            return dict(group)
    raise NotFoundError("no such group", got=repr(name), remedy="boathouse iam group list")


def group_show(name: GroupName, state: State = None, *, as_json: Json = False) -> None:
    """Show a group with its members, until when they are, and its managers."""
    iam = desk(state)
    found = iam.call("GET", f"/iam/groups/{_group(iam, name)['id']}/members")
    if as_json:
        emit(found)
        return
    out.print(f"[bold]{found['name']}[/bold] {found['description']}", highlight=False)
    out.print(f"managers: {' '.join(found['managers']) or 'none'}; owner: {_owner(found['owner'])}")
    columns(
        ("MEMBER", "UNTIL", "OWNER"),
        ((one["login"], when(one["expires_at"]), _owner(one["owner"])) for one in found["members"]),
    )


def group_add(
    name: GroupName,
    description: Annotated[str, typer.Option("--description", help="What it is for.")] = "",
    reason: Reason = "",
    state: State = None,
    *,
    optional: Annotated[bool, typer.Option("--optional", help="Tokens name it only when they are asked to.")] = False,
    as_json: Json = False,
) -> None:
    """Add a group."""
    group_name(name)
    iam = desk(state, reason)
    try:
        there = _group(iam, name)
    except NotFoundError:
        labels = [{"name": "wlcg.optional-group"}] if optional else []
        document = {"displayName": name, _INDIGO_GROUP: {"description": description, "labels": labels}}
        iam.call("POST", "/scim/Groups", document)
        done(f"{name} is added", _group(iam, name), as_json=as_json)
        return
    done(f"{name} is there", there, changed=False, as_json=as_json)


def group_remove(name: GroupName, reason: Reason = "", state: State = None, *, as_json: Json = False) -> None:
    """Remove a group, with its memberships and the policies on it."""
    iam = desk(state, reason)
    try:
        there = _group(iam, name)
    except NotFoundError:
        done(f"{name} is gone", {"name": name}, changed=False, as_json=as_json)
        return
    iam.call("DELETE", f"/scim/Groups/{there['id']}")
    done(f"{name} is gone", there, as_json=as_json)


def group_add_member(
    name: GroupName,
    login: Login,
    end: Until = None,
    reason: Reason = "",
    state: State = None,
    *,
    as_json: Json = False,
) -> None:
    """Make a person a member, for good or until then; again with another end changes it."""
    iam = desk(state, reason)
    ends = until(end)
    group, person = _group(iam, name), _person(iam, login)
    there = {member["group"]: member["expires_at"] for member in person["memberships"]}
    changed = name not in there or there[name] != ends
    if changed:
        iam.call("PUT", f"/iam/groups/{group['id']}/members/{part(person['sub'])}", {"until": ends})
    text = f"{login} is a member of {name}{f' until {when(ends)}' if ends else ''}"
    done(text, {"login": login, "group": name, "expires_at": ends}, changed=changed, as_json=as_json)


def group_remove_member(
    name: GroupName, login: Login, reason: Reason = "", state: State = None, *, as_json: Json = False
) -> None:
    """End a membership."""
    iam = desk(state, reason)
    group, person = _group(iam, name), _person(iam, login)
    changed = any(member["group"] == name for member in person["memberships"])
    if changed:
        iam.call("DELETE", f"/iam/groups/{group['id']}/members/{part(person['sub'])}")
    done(f"{login} is no member of {name}", {"login": login, "group": name}, changed=changed, as_json=as_json)


def group_add_manager(
    name: GroupName, login: Login, reason: Reason = "", state: State = None, *, as_json: Json = False
) -> None:
    """Let a person manage a group: on the issuer's pages they add and remove members and decide requests."""
    _manager("POST", name, login, reason, state, as_json=as_json)


def group_remove_manager(
    name: GroupName, login: Login, reason: Reason = "", state: State = None, *, as_json: Json = False
) -> None:
    """Let a person manage a group no more."""
    _manager("DELETE", name, login, reason, state, as_json=as_json)


def _manager(method: str, name: str, login: str, reason: str, state: Path | None, *, as_json: bool) -> None:
    iam = desk(state, reason)
    group, person = _group(iam, name), _person(iam, login)
    changed = (login in group["managers"]) != (method == "POST")
    if changed:
        iam.call(method, f"/iam/account/{part(person['sub'])}/managed-groups/{group['id']}")
    verb = "manages" if method == "POST" else "does not manage"
    done(f"{login} {verb} {name}", {"login": login, "group": name}, changed=changed, as_json=as_json)


def group_requests(
    name: Annotated[str, typer.Argument(help="Only those to join this group.", metavar="[GROUP]")] = "",
    state: State = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="Decided ones too.")] = False,
    as_json: Json = False,
) -> None:
    """List requests to join groups."""
    found = list(desk(state).every("/iam/group_requests", groupName=name, status="" if every else "PENDING"))
    if as_json:
        emit(found)
        return
    columns(
        ("ID", "LOGIN", "GROUP", "STATUS", "BY", "WHY"),
        (
            (r["uuid"], r["username"], r["groupName"], r["status"], r["decidedBy"], r["motivation"] or r["notes"])
            for r in found
        ),
    )


RequestId = Annotated[str, typer.Argument(help="Id of the request.", metavar="ID")]


def group_approve(
    request_id: RequestId, end: Until = None, reason: Reason = "", state: State = None, *, as_json: Json = False
) -> None:
    """Approve a request: the person becomes a member, for good or until then."""
    ends = until(end)
    iam = desk(state, reason)
    path = f"/iam/group_requests/{part(request_id)}"
    there = iam.call("GET", path)
    changed = there["status"] != "APPROVED"
    if changed:
        there = iam.call("POST", f"{path}/approve", until="" if ends is None else str(ends))
    done(f"{there['username']} is a member of {there['groupName']}", there, changed=changed, as_json=as_json)


def group_reject(request_id: RequestId, reason: Reason = "", state: State = None, *, as_json: Json = False) -> None:
    """Refuse a request; the person sees the reason."""
    iam = desk(state, reason)
    path = f"/iam/group_requests/{part(request_id)}"
    there = iam.call("GET", path)
    changed = there["status"] != "REJECTED"
    if changed:
        there = iam.call("POST", f"{path}/reject")
    text = f"the request of {there['username']} to join {there['groupName']} is refused"
    done(text, there, changed=changed, as_json=as_json)


def register(iam: typer.Typer) -> None:
    """Add the commands to ``iam``."""
    user = typer.Typer(no_args_is_help=True, help="People: who may sign in.")
    of_people: Commands = (
        ("list", user_list, "boathouse iam user list | boathouse iam user list adler"),
        ("show", user_show, "boathouse iam user show alice"),
        ("add", user_add, "boathouse iam user add carol --name 'Carol Chen' --password-file secret"),
        ("change", user_change, "boathouse iam user change carol --email carol@example.org"),
        ("disable", user_disable, "boathouse iam user disable bob --reason 'lost laptop'"),
        ("enable", user_enable, "boathouse iam user enable bob"),
        ("remove", user_remove, "boathouse iam user remove carol --reason left"),
        ("set-password", user_set_password, "boathouse iam user set-password carol"),
    )
    for name, function, example in of_people:
        user.command(name, epilog=f"Example: {example}")(function)
    iam.add_typer(user, name="user")
    group = typer.Typer(no_args_is_help=True, help="Groups, their members and managers, and requests to join.")
    of_groups: Commands = (
        ("list", group_list, "boathouse iam group list --json"),
        ("show", group_show, "boathouse iam group show /escape/cms"),
        ("add", group_add, "boathouse iam group add /escape/visitors --description 'guests of this summer'"),
        ("remove", group_remove, "boathouse iam group remove /escape/visitors"),
        ("add-member", group_add_member, "boathouse iam group add-member /escape/visitors carol --until 2026-12-31"),
        ("remove-member", group_remove_member, "boathouse iam group remove-member /escape/visitors carol"),
        ("add-manager", group_add_manager, "boathouse iam group add-manager /escape/visitors alice"),
        ("remove-manager", group_remove_manager, "boathouse iam group remove-manager /escape/visitors alice"),
        ("requests", group_requests, "boathouse iam group requests | boathouse iam group requests /escape/cms --all"),
        ("approve", group_approve, "boathouse iam group approve 6f1c0d3e-… --until '180 d' --reason 'my student'"),
        ("reject", group_reject, "boathouse iam group reject 6f1c0d3e-… --reason 'ask your supervisor first'"),
    )
    for name, function, example in of_groups:
        group.command(name, epilog=f"Example: {example}")(function)
    iam.add_typer(group, name="group")
