"""``/iam/…``: policies, requests to join groups, managers and memberships, clients, token exchange, the audit log."""

from __future__ import annotations

import time
import uuid
from typing import Any

from sqlalchemy import select
from starlette.responses import JSONResponse, Response

from boathouse.apps.tokens.admin import clients, grants, groups, policies, requests, users
from boathouse.apps.tokens.admin.desk import Desk
from boathouse.apps.tokens.api.bearer import IAM, desk, document, flag, listing, number, text, texts
from boathouse.apps.tokens.persistence import schema as t
from boathouse.apps.tokens.rights import whocould
from boathouse.apps.tokens.trail import audit, search
from boathouse.apps.tokens.web import Call
from boathouse.errors import InputError, NotFoundError
from boathouse.wlcg.scopes import Scope, normalise_path

_EXCHANGE = uuid.UUID("0f2f64b4-5f3f-4f1c-9b8e-7d0c6a1f4f10")
_DONE = 204


def _key(call: Call, name: str = "id") -> str:
    return str(call.http.path_params[name])


# Scope policies


def policy_list(call: Call) -> Response:
    """``GET`` all scope policies, ``POST`` a new one."""
    at = desk(call, IAM)
    if not call.is_post:
        return JSONResponse([_policy(at, one) for one in policies.list_(at)])
    values = document(call)
    if values.get("matchingPolicy", "PATH") not in ("EQ", "PATH"):
        raise InputError("unknown matchingPolicy", expected="EQ or PATH: paths match segment by segment")
    made = policies.add(
        at,
        text(values, "rule"),
        " ".join(texts(values, "scopes")),
        account=_named(values, "account", "username"),
        group=_named(values, "group", "name"),
        description=text(values, "description", ""),
    )
    return JSONResponse(_policy(at, made), 201)


def _named(values: dict[str, Any], what: str, name: str) -> str:
    """Who is meant: ``{"uuid": …}`` or ``{"username": …}``; empty if nobody is named."""
    found = values.get(what)
    if found is None:
        return ""
    if not isinstance(found, dict):
        raise InputError(f"{what} is wrong", expected=f"an object with uuid or {name}")
    return text(found, "uuid" if "uuid" in found else name)


def _policy(at: Desk, policy: policies.ScopePolicy) -> dict[str, Any]:
    account = group = None
    if policy.account:
        row = at.connection.execute(select(t.users.c.sub).where(t.users.c.login == policy.account)).first()
        account = {"uuid": row.sub if row else None, "username": policy.account}
    if policy.group:
        group = {"uuid": groups.id_of(policy.group), "name": policy.group}
    return {
        "id": policy.id,
        "description": policy.description,
        "rule": policy.effect,
        "matchingPolicy": "PATH",
        "scopes": policy.scopes.split(),
        "account": account,
        "group": group,
        "owner": policy.owner,
    }


def policy_one(call: Call) -> Response:
    """``GET`` or ``DELETE`` a scope policy."""
    at = desk(call, IAM)
    key = number(_key(call), "id")
    if call.http.method == "GET":
        return JSONResponse(_policy(at, policies.get(at, key)))
    policies.remove(at, key)
    return Response(status_code=_DONE)


def policy_test(call: Call) -> Response:
    """``GET`` whether a person would get a scope now, and why; for everybody about themselves."""
    at = desk(call, IAM)
    who = call.value("user") or at.sub
    return JSONResponse(policies.test(at, who, call.value("scope")).as_dict())


# Requests to join groups


def request_list(call: Call) -> Response:
    """``GET`` requests, ``POST`` a new one for oneself."""
    at = desk(call, IAM)
    if call.is_post:
        values = document(call)
        made = requests.ask(at, _group(at, text(values, "groupName")), notes=text(values, "notes", ""))
        return JSONResponse(_request(made))
    group = call.value("groupName")
    found = requests.list_(
        at, status=call.value("status"), group=_group(at, group) if group else "", who=call.value("username")
    )
    return JSONResponse(listing(call, [_request(one) for one in found]))


def _group(at: Desk, name: str) -> str:
    """A group's name, with the slash that INDIGO IAM leaves out."""
    return groups.get(at, name if name.startswith("/") else f"/{name}").name


def _request(request: requests.JoinRequest) -> dict[str, Any]:
    return {
        "uuid": request.id,
        "userUuid": request.sub,
        "username": request.login,
        "userFullName": request.name,
        "groupUuid": groups.id_of(request.group),
        "groupName": request.group,
        "status": request.status,
        "notes": request.notes,
        "motivation": request.motivation,
        "creationTime": request.created_at * 1000,
        "lastUpdateTime": (request.decided_at or request.created_at) * 1000,
        "decidedBy": request.decided_by,
    }


def request_one(call: Call) -> Response:
    """``GET`` a request, or ``DELETE`` it: to take it back."""
    at = desk(call, IAM)
    if call.http.method == "GET":
        return JSONResponse(_request(requests.get(at, _key(call))))
    requests.withdraw(at, _key(call))
    return Response(status_code=_DONE)


def request_decide(call: Call) -> Response:
    """``POST …/approve`` (``?until=`` seconds since the epoch) or ``…/reject`` (``?motivation=``)."""
    at = desk(call, IAM)
    reason = call.value("motivation") or at.reason
    at = Desk(at.store, at.actor, reason=reason, address=at.address)
    decision = call.http.path_params["decision"]
    if decision == "approve":
        until = call.value("until")
        return JSONResponse(_request(requests.approve(at, _key(call), until=number(until, "until") if until else None)))
    if decision == "reject":
        return JSONResponse(_request(requests.reject(at, _key(call))))
    raise NotFoundError("no such decision", expected="approve or reject", got=decision[:80])


# Groups: memberships with an end, managers


def member(call: Call) -> Response:
    """``PUT`` a membership, with ``until`` or without an end; ``DELETE`` it."""
    at = desk(call, IAM)
    name, who = _key(call), _key(call, "user")
    if call.http.method == "DELETE":
        groups.remove_member(at, name, who)
        return Response(status_code=_DONE)
    until = document(call).get("until")
    groups.add_member(at, name, who, until=None if until is None else number(until, "until"))
    return Response(status_code=_DONE)


def members(call: Call) -> Response:
    """``GET`` who is in a group, until when, and who manages it."""
    at = desk(call, IAM)
    group = groups.get(at, _key(call))
    there = groups.members(at, group.name)
    return JSONResponse({**group.as_dict(), "members": [vars(one) for one in there]})


def manager(call: Call) -> Response:
    """``POST`` or ``DELETE`` that a person manages a group."""
    at = desk(call, IAM)
    change = groups.add_manager if call.is_post else groups.remove_manager
    change(at, _key(call, "group"), _key(call))
    return Response(status_code=_DONE)


def group_list(call: Call) -> Response:
    """``GET`` all groups with their managers and sizes."""
    return JSONResponse([one.as_dict() for one in groups.list_(desk(call, IAM))])


# People: what SCIM has no word for


def account_list(call: Call) -> Response:
    """``GET`` people with memberships and their ends; ``?search=``."""
    total, found = users.list_(desk(call, IAM), search=call.value("search"), count=1 << 31)
    return JSONResponse({"totalResults": total, "Resources": [one.as_dict() for one in found]})


def account_grants(call: Call) -> Response:
    """``GET`` what clients hold of a person, or ``DELETE`` all of one client (``?client=``)."""
    at = desk(call, IAM)
    if call.http.method == "DELETE":
        grants.revoke_client(at, call.value("client"), _key(call))
        return Response(status_code=_DONE)
    return JSONResponse([one.as_dict() for one in grants.list_(at, _key(call))])


# Clients


def client_list(call: Call) -> Response:
    """``GET`` clients, ``POST`` a new one; its secret is in the reply, and nowhere else."""
    at = desk(call, IAM)
    if not call.is_post:
        return JSONResponse(listing(call, [_client(one) for one in clients.list_(at)]))
    values = document(call)
    made, secret = clients.add(
        at,
        text(values, "client_id", str(uuid.uuid4())),
        name=text(values, "client_name", ""),
        grants=texts(values, "grant_types"),
        scopes=text(values, "scope"),
        redirect_uris=texts(values, "redirect_uris") if "redirect_uris" in values else (),
        audiences=texts(values, "audiences") if values.get("audiences") is not None else None,
        trusted=flag(values, "trusted", default=False),
        public=values.get("token_endpoint_auth_method") == "none",
    )
    return JSONResponse(_client(made) | ({"client_secret": secret} if secret else {}), 201)


def _client(client: clients.Registration) -> dict[str, Any]:
    return {
        "client_id": client.client_id,
        "client_name": client.name,
        "grant_types": list(client.grants),
        "scope": client.scopes,
        "redirect_uris": list(client.redirect_uris),
        "token_endpoint_auth_method": "none" if client.public else "client_secret_basic",
        "audiences": None if client.audiences is None else list(client.audiences),
        "exchange_from": list(client.exchange_from),
        "trusted": client.trusted,
        "active": client.active,
        "owner": client.owner,
    }


def client_one(call: Call) -> Response:
    """``GET`` a client, ``PUT`` what is to be changed of it, ``DELETE`` it."""
    at = desk(call, IAM)
    client_id = _key(call)
    if call.http.method == "GET":
        return JSONResponse(_client(clients.get(at, client_id)))
    if call.http.method == "DELETE":
        clients.remove(at, client_id)
        return Response(status_code=_DONE)
    values = document(call)
    audiences = values.get("audiences", ())
    changed = clients.change(
        at,
        client_id,
        name=text(values, "client_name") if "client_name" in values else None,
        grants=texts(values, "grant_types") if "grant_types" in values else None,
        scopes=text(values, "scope") if "scope" in values else None,
        redirect_uris=texts(values, "redirect_uris") if "redirect_uris" in values else None,
        audiences=texts(values, "audiences") if audiences not in ((), None) else None,
        any_audience=audiences is None,
        trusted=flag(values, "trusted", default=False) if "trusted" in values else None,
    )
    return JSONResponse(_client(changed))


def client_switch(call: Call) -> Response:
    """``PATCH …/enable`` or ``…/disable``; ``POST …/secret`` gives a new one."""
    at = desk(call, IAM)
    client_id, verb = _key(call), _key(call, "verb")
    if (verb == "secret") != call.is_post or verb not in ("enable", "disable", "secret"):
        raise NotFoundError("nothing of that name", expected="PATCH enable, PATCH disable, POST secret", got=verb[:80])
    if verb == "secret":
        secret = clients.new_secret(at, client_id)
        return JSONResponse(_client(clients.get(at, client_id)) | {"client_secret": secret})
    switch = clients.enable if verb == "enable" else clients.disable
    return JSONResponse(_client(switch(at, client_id)))


# Token exchange: client x client


def exchange_list(call: Call) -> Response:
    """``GET`` who may exchange whose tokens, ``POST`` a new pair."""
    at = desk(call, IAM)
    if not call.is_post:
        return JSONResponse(_exchanges(at))
    values = document(call)
    if values.get("rule", "PERMIT") != "PERMIT":
        raise InputError("unknown rule", expected="PERMIT: what no policy permits is denied")
    actor, origin = (_party(values, name) for name in ("destinationClient", "originClient"))
    clients.allow_exchange(at, actor, origin)
    return JSONResponse(_exchange(actor, origin), 201)


def _party(values: dict[str, Any], name: str) -> str:
    found = values.get(name)
    if not isinstance(found, dict) or found.get("type", "BY_ID") != "BY_ID":
        raise InputError(f"{name} is wrong", expected='{"type": "BY_ID", "matchParam": "a client"}')
    return text(found, "matchParam")


def _exchange(actor: str, origin: str) -> dict[str, Any]:
    return {
        "id": str(uuid.uuid5(_EXCHANGE, f"{actor} {origin}")),
        "rule": "PERMIT",
        "originClient": {"type": "BY_ID", "matchParam": origin},
        "destinationClient": {"type": "BY_ID", "matchParam": actor},
    }


def _exchanges(at: Desk) -> list[dict[str, Any]]:
    return [_exchange(one.client_id, origin) for one in clients.list_(at) for origin in one.exchange_from]


def exchange_one(call: Call) -> Response:
    """``DELETE`` that a client may exchange tokens of another one."""
    at = desk(call, IAM)
    for pair in _exchanges(at):
        if pair["id"] == _key(call):
            clients.forbid_exchange(at, pair["destinationClient"]["matchParam"], pair["originClient"]["matchParam"])
            return Response(status_code=_DONE)
    raise NotFoundError("no such policy of token exchange", got=repr(_key(call)[:80]))


# The audit log


def audit_list(call: Call) -> Response:
    """``GET`` records, the latest first: ``?before=`` a record, ``?event=`` a prefix, ``?count=``."""
    desk(call, IAM).may_read()
    before = call.value("before")
    rows = search.newest(
        call.store.connection,
        min(1000, number(call.value("count") or "100", "count")),
        before=number(before, "before") if before else None,
        event=call.value("event"),
    )
    return JSONResponse(
        [
            {"seq": row.seq, "at": row.at_ms / 1000, "event": row.event, **row.detail, "hash": row.hash.hex()}
            for row in rows
        ]
    )


def audit_verify(call: Call) -> Response:
    """``GET`` whether a part of the chain holds (``?after=&hash=``); at its end, whether the tables agree with it."""
    desk(call, IAM).may_read()
    digest = call.value("hash") or audit.START
    if len(digest) != 64 or any(letter not in "0123456789abcdef" for letter in digest):
        raise InputError("hash is wrong", expected="64 hexadecimal digits")
    after = number(call.value("after") or "0", "after")
    checked = audit.verify_part(call.store.connection, after=after, digest=digest)
    unrecorded = audit.unrecorded(call.store.connection) if checked.at_end else []
    return JSONResponse({**vars(checked), "unrecorded": unrecorded})


def audit_who_could(call: Call) -> Response:
    """``GET`` who could do something on a path at some time: ``?path=&at=&capability=``."""
    desk(call, IAM).may_read()
    capability = call.value("capability") or "storage.read"
    scope = Scope.parse(f"{capability}:{normalise_path(call.value('path'))}")
    if not scope.is_storage:
        raise InputError("not a capability on storage", got=capability[:80])
    at = call.value("at")
    try:
        when = float(at) if at else time.time()
    except ValueError as error:
        raise InputError("at is wrong", expected="seconds since the epoch", got=at[:80]) from error
    if not 0 <= when < 1 << 40:
        raise InputError("at is wrong", expected="seconds since the epoch", got=at[:80])
    return JSONResponse(whocould.who_could(call.store.connection, scope, when).as_dict())
