"""The pages about groups, for administrators and for the managers of each."""

from __future__ import annotations

from starlette.responses import Response

from boathouse.apps.tokens.admin import groups, requests
from boathouse.apps.tokens.pages.forms import Visit, last_day, link, page, value, wanted
from boathouse.apps.tokens.web import Call
from boathouse.errors import InputError

_GROUPS, _GROUP = "/admin/groups", "/admin/group"


def all_groups(call: Call) -> Response:
    """The groups that somebody looks after, and who asks to join them."""
    return page(call, _show_groups, {"add": _add, "decide": _decide})


def _show_groups(visit: Visit) -> Response:
    desk, managed = visit.desk, visit.managed
    if not managed:
        desk.may_read()
    seen = [group for group in groups.list_(desk) if desk.actor.reads or group.name in managed]
    waiting = requests.list_(desk, status=requests.PENDING)
    names = {group.name for group in seen}
    return visit.render(
        "admin_groups",
        section="admin",
        tab="groups",
        wide=True,
        groups=seen,
        # Managers see their own requests to join other groups on their account page.
        requests=[request for request in waiting if request.group in names],
    )


def _add(visit: Visit) -> str:
    name = value(visit, "group")
    optional = value(visit, "optional") == "yes"
    groups.add(visit.desk, name, description=value(visit, "description"), optional=optional)
    return link(_GROUP, "saved", name=name)


def _decide(visit: Visit) -> str:
    request_id, decision = value(visit, "id"), value(visit, "decision")
    if decision == "approve":
        requests.approve(visit.desk, request_id, until=last_day(value(visit, "until")))
    elif decision == "reject":
        requests.reject(visit.desk, request_id)
    else:
        raise InputError("unknown decision", expected="approve or reject")
    return link(_GROUPS, "decided")


def group(call: Call) -> Response:
    """One group: its members and managers."""
    actions = {
        "add-member": _add_member,
        "remove-member": _remove_member,
        "add-manager": _add_manager,
        "remove-manager": _remove_manager,
        "change": _change,
        "remove": _remove,
    }
    return page(call, _show_group, actions)


def _show_group(visit: Visit) -> Response:
    found = groups.get(visit.desk, wanted(visit, "name"))
    members = groups.members(visit.desk, found.name)
    return visit.render("admin_group", section="admin", tab="groups", wide=True, group=found, members=members)


def _back(visit: Visit) -> str:
    return link(_GROUP, "saved", name=wanted(visit, "name"))


def _add_member(visit: Visit) -> str:
    until = last_day(value(visit, "until"))
    groups.add_member(visit.desk, wanted(visit, "name"), value(visit, "who"), until=until)
    return _back(visit)


def _remove_member(visit: Visit) -> str:
    groups.remove_member(visit.desk, wanted(visit, "name"), value(visit, "who"))
    return _back(visit)


def _add_manager(visit: Visit) -> str:
    groups.add_manager(visit.desk, wanted(visit, "name"), value(visit, "who"))
    return _back(visit)


def _remove_manager(visit: Visit) -> str:
    groups.remove_manager(visit.desk, wanted(visit, "name"), value(visit, "who"))
    return _back(visit)


def _change(visit: Visit) -> str:
    groups.change(visit.desk, wanted(visit, "name"), description=value(visit, "description"))
    return _back(visit)


def _remove(visit: Visit) -> str:
    groups.remove(visit.desk, wanted(visit, "name"))
    return link(_GROUPS, "removed")
