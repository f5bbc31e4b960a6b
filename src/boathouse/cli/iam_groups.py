"""``iam group …``: who is in which group, until when, and who decides that."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from boathouse.cli.common import Json, State, emit, line, out
from boathouse.cli.iam_desk import Commands, Reason, desk, done, remove, until, when
from boathouse.cli.iam_people import Login, owner_of, person_of
from boathouse.cli.lakes import columns
from boathouse.errors import NotFoundError
from boathouse.lake.iam import Iam, part
from boathouse.wlcg.scopes import group_name

GroupName = Annotated[str, typer.Argument(help="Of the group, e.g. /escape/cms.", metavar="GROUP")]
Until = Annotated[
    str | None, typer.Option("--until", help="Last day, time or duration: 2026-12-31, 2026-12-31T12:00, '90 d'.")
]

_INDIGO_GROUP = "urn:indigo-dc:scim:schemas:IndigoGroup"


def group_list(state: State = None, *, as_json: Json = False) -> None:
    """List groups."""
    found = desk(state).call("GET", "/iam/groups")
    if as_json:
        emit(found)
        return
    columns(
        ("GROUP", "MEMBERS", "MANAGERS", "OWNER", "DESCRIPTION"),
        ((g["name"], str(g["size"]), " ".join(g["managers"]), owner_of(g["owner"]), g["description"]) for g in found),
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
    out.print(line((found["name"], "bold"), f" {found['description']}"))
    out.print(f"managers: {' '.join(found['managers']) or 'none'}; owner: {owner_of(found['owner'])}")
    columns(
        ("MEMBER", "UNTIL", "OWNER"),
        ((one["login"], when(one["expires_at"]), owner_of(one["owner"])) for one in found["members"]),
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

    def removal() -> dict[str, Any]:
        there = _group(iam, name)
        iam.call("DELETE", f"/scim/Groups/{there['id']}")
        return there

    remove(name, {"name": name}, removal, as_json=as_json)


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
    group, person = _group(iam, name), person_of(iam, login)
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
    group, person = _group(iam, name), person_of(iam, login)
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
    group, person = _group(iam, name), person_of(iam, login)
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
