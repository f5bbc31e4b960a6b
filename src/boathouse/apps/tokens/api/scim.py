"""SCIM 2.0 (RFC 7643, 7644) as INDIGO IAM serves it, below ``/scim`` and ``/scim/v2``: ``Me``, ``Users``, ``Groups``.

Groups are called as in INDIGO IAM, without the first slash; both spellings are understood.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from starlette.responses import Response

from boathouse.apps.tokens.admin import groups, users
from boathouse.apps.tokens.admin.desk import Desk
from boathouse.apps.tokens.api.bearer import SCIM, desk, document, flag, page, text
from boathouse.apps.tokens.api.problems import SCIM_JSON
from boathouse.apps.tokens.web import Call
from boathouse.errors import AuthError, InputError

_CORE = "urn:ietf:params:scim:schemas:core:2.0"
_LIST = "urn:ietf:params:scim:api:messages:2.0:ListResponse"
_INDIGO_GROUP = "urn:indigo-dc:scim:schemas:IndigoGroup"
_INDIGO_USER = "urn:indigo-dc:scim:schemas:IndigoUser"
_OPTIONAL = "wlcg.optional-group"
_FILTER = re.compile(r'\s*([A-Za-z.]+)\s+(eq|co|sw)\s+("(?:[^"\\]|\\.)*"|true|false)\s*', re.IGNORECASE)
_MEMBER = re.compile(r'members\[\s*value\s+eq\s+"([^"]+)"\s*\]', re.IGNORECASE)


def _reply(body: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(json.dumps(body), status, dict(headers or {}), media_type=SCIM_JSON)


# Resources


def _user(call: Call, person: users.Person) -> dict[str, Any]:
    given, _, family = person.name.partition(" ")
    resource: dict[str, Any] = {
        "schemas": [f"{_CORE}:User", _INDIGO_USER],
        "id": person.sub,
        "meta": {"resourceType": "User", "location": f"{_base(call)}/Users/{person.sub}"},
        "userName": person.login,
        "name": {"formatted": person.name, "givenName": given, "familyName": family},
        "displayName": person.name,
        "active": person.active,
        "groups": [
            {
                "value": groups.id_of(one.group),
                "display": one.group.removeprefix("/"),
                "$ref": f"{_base(call)}/Groups/{groups.id_of(one.group)}",
            }
            for one in person.memberships
        ],
        _INDIGO_USER: {"authorities": ["ROLE_ADMIN", "ROLE_USER"] if person.admin else ["ROLE_USER"]},
    }
    if person.email:
        resource["emails"] = [{"type": "work", "value": person.email, "primary": True}]
    return resource


def _group(call: Call, group: groups.Group, members: Iterable[groups.Member] | None = None) -> dict[str, Any]:
    resource: dict[str, Any] = {
        "schemas": [f"{_CORE}:Group", _INDIGO_GROUP],
        "id": group.id,
        "meta": {"resourceType": "Group", "location": f"{_base(call)}/Groups/{group.id}"},
        "displayName": group.name.removeprefix("/"),
        _INDIGO_GROUP: {
            "description": group.description,
            "labels": [{"name": _OPTIONAL}] if group.optional else [],
        },
    }
    if members is not None:
        resource["members"] = [
            {"value": one.sub, "display": one.login, "type": "User", "$ref": f"{_base(call)}/Users/{one.sub}"}
            for one in members
        ]
    return resource


def _base(call: Call) -> str:
    version = "/v2" if call.http.url.path.startswith("/scim/v2/") else ""
    return f"{call.issuer.settings.issuer}/scim{version}"


def _slashed(name: str) -> str:
    return name if name.startswith("/") else f"/{name}"


# Lists


def _listed(resources: list[dict[str, Any]], total: int, start: int) -> Response:
    return _reply(
        {
            "schemas": [_LIST],
            "totalResults": total,
            "itemsPerPage": len(resources),
            "startIndex": start + 1,
            "Resources": resources,
        }
    )


def _filtered(call: Call, known: Mapping[str, Callable[[Any], str]]) -> Callable[[Any], bool]:
    """Whether a resource is in the list: one comparison of the RFC's filters (7644, 3.4.2.2).

    Raises:
        InputError: another filter is asked for.
    """
    asked = call.value("filter").strip()
    if not asked:
        return lambda _: True
    match = _FILTER.fullmatch(asked)
    names = {name.lower(): of for name, of in known.items()}
    if match is None or match[1].lower() not in names:
        raise InputError(
            "a filter that is not served", expected=f'ATTRIBUTE eq|co|sw "value"; {", ".join(known)}', got=asked[:80]
        )
    of, operator = names[match[1].lower()], match[2].lower()
    wanted = str(json.loads(match[3]) if match[3].startswith('"') else match[3]).lower()

    def fits(resource: Any) -> bool:
        has = of(resource).lower()
        if operator == "eq":
            return has == wanted
        return has.startswith(wanted) if operator == "sw" else wanted in has

    return fits


_OF_USERS: dict[str, Callable[[users.Person], str]] = {
    "userName": lambda one: one.login,
    "id": lambda one: one.sub,
    "displayName": lambda one: one.name,
    "name.formatted": lambda one: one.name,
    "emails.value": lambda one: one.email,
    "active": lambda one: str(one.active),
}
_OF_GROUPS: dict[str, Callable[[groups.Group], str]] = {
    "displayName": lambda one: one.name.removeprefix("/"),
    "id": lambda one: one.id,
}


# Endpoints


def me(call: Call) -> Response:
    """Who the token's person is; any token with ``openid`` will do."""
    at = desk(call, SCIM)
    if at.actor.user is None:
        raise AuthError("no person is behind this token", expected="the token of a person, with the scope openid")
    return _reply(_user(call, users.get(at, at.sub)))


def user_list(call: Call) -> Response:
    """``GET`` people by page and filter, ``POST`` a new one."""
    at = desk(call, SCIM)
    if call.is_post:
        values = document(call)
        password = text(values, "password") if "password" in values else None
        made = users.add(
            at,
            text(values, "userName"),
            name=_name(values) or "",
            email=_email(values) or "",
            password=password,
            admin=_is_admin(values) or False,
        )
        if not flag(values, "active", default=True):
            made = users.disable(at, made.sub)
        location = {"Location": f"{_base(call)}/Users/{made.sub}"}
        return _reply(_user(call, made), 201, location)
    start, count = page(call)
    fits = _filtered(call, _OF_USERS)
    if not call.value("filter").strip():
        total, found = users.list_(at, start=start, count=count)
        return _listed([_user(call, one) for one in found], total, start)
    everybody = [one for one in users.list_(at, count=1 << 31)[1] if fits(one)]
    part = everybody[start : start + count]
    return _listed([_user(call, one) for one in part], len(everybody), start)


def user_one(call: Call) -> Response:
    """``GET``, ``PUT``, ``PATCH`` or ``DELETE`` a person."""
    at = desk(call, SCIM)
    key = str(call.http.path_params["id"])
    if call.http.method == "DELETE":
        users.remove(at, key)
        return Response(status_code=204)
    if call.http.method == "PUT":
        _change_user(at, key, document(call))
    elif call.http.method == "PATCH":
        for operation, path, value in _operations(call):
            if operation == "remove":
                raise InputError("nothing of a person can be removed", expected="replace or add", got=path)
            _change_user(at, key, {path: value} if path else _object(value))
        if call.http.headers.get("prefer") != "return=representation":
            return Response(status_code=204)
    return _reply(_user(call, users.get(at, key)))


def _change_user(at: Desk, key: str, values: dict[str, Any]) -> None:
    person = users.get(at, key)
    if values.get("userName", person.login) != person.login:
        raise InputError("a login does not change", expected=person.login, got=repr(values["userName"])[:80])
    users.change(at, person.sub, name=_name(values), email=_email(values), admin=_is_admin(values))
    if "password" in values:
        users.set_password(at, person.sub, text(values, "password"))
    if "active" in values:
        (users.enable if flag(values, "active", default=True) else users.disable)(at, person.sub)


def _object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError("value is wrong", expected="an object where no path is given")
    return value


def _name(values: dict[str, Any]) -> str | None:
    if "displayName" in values:
        return text(values, "displayName")
    if "name.formatted" in values:
        return text(values, "name.formatted")
    if "name" not in values:
        return None
    name = _object(values["name"])
    if "formatted" in name:
        return text(name, "formatted")
    return f"{text(name, 'givenName', '')} {text(name, 'familyName', '')}".strip()


def _email(values: dict[str, Any]) -> str | None:
    if "emails" not in values:
        return None
    found = values["emails"]
    if not isinstance(found, list):
        raise InputError("emails is wrong", expected='[{"value": "alice@example.org"}]')
    every = [_object(one) for one in found]
    first = next((one for one in every if one.get("primary")), every[0] if every else {"value": ""})
    return text(first, "value")


def _is_admin(values: dict[str, Any]) -> bool | None:
    if _INDIGO_USER not in values:
        return None
    roles = _object(values[_INDIGO_USER]).get("authorities")
    if roles is None:
        return None
    if not isinstance(roles, list):
        raise InputError("authorities is wrong", expected='["ROLE_USER", "ROLE_ADMIN"]')
    return "ROLE_ADMIN" in roles


def _operations(call: Call) -> list[tuple[str, str, Any]]:
    """The operations of a PATCH (RFC 7644, 3.5.2): verb, path and value."""
    listed = document(call)
    found = listed.get("Operations", listed.get("operations"))
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise InputError("Operations is wrong", expected='[{"op": "add", "path": "members", "value": […]}]')
    result = []
    for one in found:
        verb = text(one, "op").lower()
        if verb not in ("add", "replace", "remove"):
            raise InputError("unknown op", expected="add, replace or remove", got=verb[:80])
        result.append((verb, text(one, "path", ""), one.get("value")))
    return result


def group_list(call: Call) -> Response:
    """``GET`` groups by page and filter, ``POST`` a new one."""
    at = desk(call, SCIM)
    if call.is_post:
        values = document(call)
        more = _object(values.get(_INDIGO_GROUP, {}))
        made = groups.add(
            at,
            _slashed(text(values, "displayName")),
            description=text(more, "description", ""),
            optional=_is_optional(more),
        )
        groups.set_members(at, made.name, _members(values.get("members", [])))
        location = {"Location": f"{_base(call)}/Groups/{made.id}"}
        return _reply(_group(call, made, groups.members(at, made.name)), 201, location)
    at.may_read()
    start, count = page(call)
    found = [one for one in groups.list_(at) if _filtered(call, _OF_GROUPS)(one)]
    return _listed([_group(call, one) for one in found[start : start + count]], len(found), start)


def group_one(call: Call) -> Response:
    """``GET``, ``PUT``, ``PATCH`` or ``DELETE`` a group."""
    at = desk(call, SCIM)
    at.may_read()
    group = groups.get(at, _by_id(str(call.http.path_params["id"])))
    if call.http.method == "DELETE":
        groups.remove(at, group.name)
        return Response(status_code=204)
    if call.http.method == "PATCH":
        for operation, path, value in _operations(call):
            _patch_members(at, group, operation, path, value)
        return Response(status_code=204)
    if call.http.method == "PUT":
        values = document(call)
        if _slashed(text(values, "displayName", group.name)) != group.name:
            raise InputError("a group does not change its name", expected=group.name)
        more = _object(values.get(_INDIGO_GROUP, {}))
        if more:
            groups.change(
                at, group.name, description=text(more, "description", group.description), optional=_is_optional(more)
            )
        if "members" in values:
            groups.set_members(at, group.name, _members(values["members"]))
    return _reply(_group(call, groups.get(at, group.name), groups.members(at, group.name)))


def _by_id(key: str) -> str:
    # A name would do for the functions below, and would be another address for the same thing.
    if key.startswith("/"):
        raise InputError("not an id", expected="a UUID", got=repr(key[:80]))
    return key


def _is_optional(more: dict[str, Any]) -> bool:
    labels = more.get("labels", [])
    if not isinstance(labels, list):
        raise InputError("labels is wrong", expected=f'[{{"name": "{_OPTIONAL}"}}]')
    return any(isinstance(one, dict) and one.get("name") == _OPTIONAL for one in labels)


def _members(found: object) -> list[str]:
    if not isinstance(found, list):
        raise InputError("members is wrong", expected='[{"value": "id of a person"}]')
    return [text(_object(one), "value") for one in found]


def _patch_members(at: Desk, group: groups.Group, operation: str, path: str, value: object) -> None:
    if one := _MEMBER.fullmatch(path):
        if operation != "remove":
            raise InputError("one member can only be removed so", expected="remove", got=operation)
        groups.remove_member(at, group.name, one[1])
        return
    if not path and isinstance(value, dict) and set(value) == {"members"}:
        path, value = "members", value["members"]
    if path != "members":
        raise InputError("only members of a group can be patched", expected="path members", got=path[:80])
    named = [] if value is None else _members(value)
    if operation == "replace":
        groups.set_members(at, group.name, named)
    elif operation == "add":
        for sub in named:
            groups.add_member(at, group.name, sub)
    else:
        for sub in named or [one.sub for one in groups.members(at, group.name)]:
            groups.remove_member(at, group.name, sub)
