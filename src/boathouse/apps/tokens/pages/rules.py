"""The administrators' page about policies, with a place to try what they mean."""

from __future__ import annotations

from starlette.responses import Response

from boathouse.apps.tokens.admin import policies
from boathouse.apps.tokens.pages.forms import Visit, link, page, value
from boathouse.apps.tokens.web import Call
from boathouse.errors import InputError

_POLICIES = "/admin/policies"
_OPERATIONS = (
    ("storage.read", "read files in"),
    ("storage.create", "write new files in"),
    ("storage.modify", "write, change and delete files in"),
    ("storage.stage", "bring files from tape in"),
    ("storage.poll", "ask where files are in"),
)


def rules(call: Call) -> Response:
    """The page."""
    return page(call, _show, {"add": _add, "remove": _remove, "try": _try})


def _show(visit: Visit, verdict: policies.Verdict | None = None) -> Response:
    return visit.render(
        "admin_policies",
        section="admin",
        tab="policies",
        wide=True,
        policies=policies.list_(visit.desk),
        operations=_OPERATIONS,
        verdict=verdict,
    )


def _add(visit: Visit) -> str:
    policies.add(
        visit.desk,
        value(visit, "effect"),
        value(visit, "scopes"),
        account=value(visit, "login"),
        group=value(visit, "group"),
        description=value(visit, "description"),
    )
    return link(_POLICIES, "saved")


def _remove(visit: Visit) -> str:
    number = value(visit, "number")
    policies.remove(visit.desk, int(number) if number.isascii() and number.isdecimal() and len(number) < 19 else 0)
    return link(_POLICIES, "removed")


def _try(visit: Visit) -> Response:
    visit.desk.may_read()
    operation = value(visit, "operation")
    if operation not in dict(_OPERATIONS):
        raise InputError("unknown operation", expected=", ".join(dict(_OPERATIONS)))
    verdict = policies.test(visit.desk, value(visit, "who"), f"{operation}:{value(visit, 'scope')}")
    return _show(visit.with_typed(), verdict)
