"""The administrators' pages about people."""

from __future__ import annotations

from starlette.responses import Response

from boathouse.apps.tokens.admin import grants, users
from boathouse.apps.tokens.pages.forms import Visit, link, page, value, wanted
from boathouse.apps.tokens.pages.words import in_words
from boathouse.apps.tokens.web import Call
from boathouse.wlcg.scopes import parse

_PEOPLE, _PERSON = "/admin/people", "/admin/person"
_AT_ONCE = 50


def people(call: Call) -> Response:
    """All people, and a form to add one."""
    return page(call, _show_people, {"add": _add})


def _show_people(visit: Visit) -> Response:
    search, text = wanted(visit, "search")[:100], wanted(visit, "start")
    start = int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0
    total, found = users.list_(visit.desk, search=search, start=start, count=_AT_ONCE)
    after = start + len(found)
    return visit.render(
        "admin_people",
        section="admin",
        tab="people",
        wide=True,
        search=search,
        start=start,
        total=total,
        people=found,
        more=link(_PEOPLE, search=search, start=str(after)) if after < total else "",
    )


def _add(visit: Visit) -> str:
    password = dict(visit.call.form).get("password") or None
    login = value(visit, "login")
    users.add(
        visit.desk,
        login,
        name=value(visit, "name"),
        email=value(visit, "email"),
        password=password,
        admin=value(visit, "admin") == "yes",
    )
    return link(_PERSON, "saved", who=login)


def person(call: Call) -> Response:
    """One person, and what may be done with them."""
    actions = {
        "change": _change,
        "admin": _change_admin,
        "disable": _disable,
        "enable": _enable,
        "remove": _remove,
        "password": _set_password,
        "revoke": _revoke,
    }
    return page(call, _show_person, actions)


def _show_person(visit: Visit) -> Response:
    visit.desk.may_read()
    found = users.get(visit.desk, wanted(visit, "who"))
    held = grants.list_(visit.desk, found.sub)
    return visit.render(
        "admin_person",
        section="admin",
        tab="people",
        wide=True,
        person=found,
        grants=[{"wishes": in_words(parse(grant.scope)), **grant.as_dict()} for grant in held],
    )


def _back(visit: Visit) -> str:
    return link(_PERSON, "saved", who=wanted(visit, "who"))


def _change(visit: Visit) -> str:
    users.change(visit.desk, wanted(visit, "who"), name=value(visit, "name"), email=value(visit, "email"))
    return _back(visit)


def _change_admin(visit: Visit) -> str:
    users.change(visit.desk, wanted(visit, "who"), admin=value(visit, "admin") == "yes")
    return _back(visit)


def _disable(visit: Visit) -> str:
    users.disable(visit.desk, wanted(visit, "who"))
    return _back(visit)


def _enable(visit: Visit) -> str:
    users.enable(visit.desk, wanted(visit, "who"))
    return _back(visit)


def _remove(visit: Visit) -> str:
    users.remove(visit.desk, wanted(visit, "who"))
    return link(_PEOPLE, "removed")


def _set_password(visit: Visit) -> str:
    users.set_password(visit.desk, wanted(visit, "who"), dict(visit.call.form).get("password", ""))
    return _back(visit)


def _revoke(visit: Visit) -> str:
    visit.desk.may_write()
    grants.revoke(visit.desk, value(visit, "family"))
    return _back(visit)
