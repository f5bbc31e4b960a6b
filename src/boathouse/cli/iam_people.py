"""``iam user …``: who is known."""

from __future__ import annotations

import getpass
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from boathouse.cli.common import Json, State, emit, err, line, out
from boathouse.cli.iam_desk import Commands, Reason, desk, done, remove, when
from boathouse.cli.lakes import columns
from boathouse.cli.session import no_account
from boathouse.errors import InputError, NotFoundError
from boathouse.lake.iam import Iam, part

Login = Annotated[str, typer.Argument(help="Login of the person.", metavar="LOGIN")]
PasswordFile = Annotated[
    Path | None, typer.Option("--password-file", help="The password; `-` reads standard input.", dir_okay=False)
]

_INDIGO_USER = "urn:indigo-dc:scim:schemas:IndigoUser"


def _people(iam: Iam, search: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = iam.call("GET", "/iam/accounts", search=search)["Resources"]
    return found


def person_of(iam: Iam, login: str) -> dict[str, Any]:
    """A person by login or subject.

    Raises:
        NotFoundError: there is none.
    """
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
                owner_of(one["owner"]),
                " ".join(member["group"] for member in one["memberships"]),
            )
            for one in found
        ),
    )


def _standing(person: dict[str, Any]) -> str:
    if person["waiting"]:
        return "waits to be let in"
    return "active" if person["active"] else "disabled"


def owner_of(owner: str) -> str:
    """Who may change something, in words."""
    return {"seed": "facility file", "admin": "administrators"}.get(owner, owner)


def user_show(login: Login, state: State = None, *, as_json: Json = False) -> None:
    """Show a person: groups with their ends, and what clients hold."""
    iam = desk(state)
    one = person_of(iam, login)
    held = iam.call("GET", f"/iam/account/{part(one['sub'])}/grants")
    if as_json:
        emit({**one, "grants": held})
        return
    out.print(line((one["login"], "bold"), f" ({one['name']}) {one['email']}"))
    out.print(f"subject {one['sub']}, {_standing(one)}, owner: {owner_of(one['owner'])}")
    columns(
        ("GROUP", "UNTIL", "OWNER"),
        ((member["group"], when(member["expires_at"]), owner_of(member["owner"])) for member in one["memberships"]),
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
        there = person_of(iam, login)
    except NotFoundError:
        document: dict[str, Any] = {"userName": login, "displayName": name, _INDIGO_USER: _roles(admin=admin)}
        if email:
            document["emails"] = [{"value": email}]
        if password is not None:
            document["password"] = password
        iam.call("POST", "/scim/Users", document)
        done(f"{login} is added", person_of(iam, login), as_json=as_json)
        err.print(no_account(login), style="yellow")
        return
    wanted = {"name": name or there["name"], "email": email or there["email"], "admin": admin or there["admin"]}
    if all(there[key] == value for key, value in wanted.items()):
        done(f"{login} is there", there, changed=False, as_json=as_json)
        return
    _change(iam, there["sub"], wanted)
    done(f"{login} is changed", person_of(iam, login), as_json=as_json)


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
    there = person_of(iam, login)
    wanted = {
        "name": there["name"] if name is None else name,
        "email": there["email"] if email is None else email,
        "admin": there["admin"] if admin is None else admin,
    }
    changed = any(there[key] != value for key, value in wanted.items())
    if changed:
        _change(iam, there["sub"], wanted)
    done(f"{login} is {'changed' if changed else 'so'}", person_of(iam, login), changed=changed, as_json=as_json)


def user_disable(login: Login, reason: Reason = "", state: State = None, *, as_json: Json = False) -> None:
    """Switch a person off at once: no login, no token, no refresh. This holds for people of the facility file too.

    The catalogue and the transfer service refuse the tokens that are out at once. Storage and caches, which check
    tokens alone, take these to their end; the command says when that is.

    Somebody who waits to be let in is refused, whatever a rule says later.
    """
    _switch(login, reason, state, active=False, as_json=as_json)


def user_enable(login: Login, reason: Reason = "", state: State = None, *, as_json: Json = False) -> None:
    """Switch a person on again, who logs in anew; or let somebody in who waits."""
    _switch(login, reason, state, active=True, as_json=as_json)


def _switch(login: str, reason: str, state: Path | None, *, active: bool, as_json: bool) -> None:
    iam = desk(state, reason)
    there = person_of(iam, login)
    changed = there["active"] != active or there["waiting"]
    if changed:
        operation = {"op": "replace", "path": "active", "value": active}
        iam.call("PATCH", f"/scim/Users/{part(there['sub'])}", {"Operations": [operation]})
    text, now = f"{login} is {'active' if active else 'disabled'}", {**there, "active": active, "waiting": False}
    if changed and not active:
        now["storage_until"] = round(time.time() + iam.token_life_s)
        text += f"; storage and caches take tokens that are out until {when(now['storage_until'])} at the latest"
    done(text, now, changed=changed, as_json=as_json)


def user_remove(login: Login, reason: Reason = "", state: State = None, *, as_json: Json = False) -> None:
    """Remove a person for good, with memberships and the policies on their account."""
    iam = desk(state, reason)

    def removal() -> dict[str, Any]:
        there = person_of(iam, login)
        iam.call("DELETE", f"/scim/Users/{part(there['sub'])}")
        return there

    remove(login, {"login": login}, removal, as_json=as_json)


def user_set_password(
    login: Login, password_file: PasswordFile = None, reason: Reason = "", state: State = None, *, as_json: Json = False
) -> None:
    """Set a person's password and end all their logins: browsers, and programs that renew by themselves.

    Tokens that are out live to their end, an hour at most; `disable` and `enable` end these too. The password among
    the facility's secrets works no more then.
    """
    iam = desk(state, reason)
    there = person_of(iam, login)
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
