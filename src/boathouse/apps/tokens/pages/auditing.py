"""The administrators' page of the audit log: what happened, by event, person, day; and whether the chain is whole."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Text, cast, or_, select
from starlette.responses import Response

from boathouse.apps.tokens.pages.forms import Visit, end_of_day, link, page, wanted
from boathouse.apps.tokens.persistence import schema as t
from boathouse.apps.tokens.trail import audit
from boathouse.apps.tokens.web import Call
from boathouse.errors import InputError, StateError

_AUDIT = "/admin/audit"
_AT_ONCE = 100
_WHO = ("who", "whom", "login", "sub", "client", "actor")


def auditing(call: Call) -> Response:
    """The page."""
    return page(call, _show, {"check": _check})


def _show(visit: Visit, chain: dict[str, Any] | None = None) -> Response:
    visit.desk.may_read()
    sought = {name: wanted(visit, name)[:255] for name in ("event", "who", "text", "until")}
    trouble, found = "", []
    try:
        found = _records(visit, sought, wanted(visit, "before"))
    except InputError as error:
        trouble = f"That is no day: expected {error.expected}."
    rest = {name: text for name, text in sought.items() if text}
    return visit.render(
        "admin_audit",
        section="admin",
        tab="audit",
        wide=True,
        chain=chain,
        sought=sought,
        records=found,
        search_trouble=trouble,
        more=link(_AUDIT, **rest, before=str(found[-1]["seq"])) if len(found) == _AT_ONCE else "",
    )


def _records(visit: Visit, sought: dict[str, str], before: str) -> list[dict[str, Any]]:
    """The newest records that match."""
    log = t.audit
    statement = select(log).order_by(log.c.seq.desc()).limit(_AT_ONCE)
    if before.isascii() and before.isdecimal() and len(before) < 19:
        statement = statement.where(log.c.seq < int(before))
    if sought["event"]:
        statement = statement.where(log.c.event.startswith(sought["event"], autoescape=True))
    if sought["who"]:
        statement = statement.where(or_(*(log.c.detail[name].astext == sought["who"] for name in _WHO)))
    if sought["text"]:
        statement = statement.where(cast(log.c.detail, Text).contains(sought["text"], autoescape=True))
    end = end_of_day(sought["until"])
    if end is not None:
        statement = statement.where(log.c.at_ms < (end + 1) * 1000)
    return [_told(row) for row in visit.desk.connection.execute(statement)]


def _told(row: Any) -> dict[str, Any]:
    moment = datetime.fromtimestamp(row.at_ms / 1000, UTC)
    detail = [(name, text if isinstance(text, str) else json.dumps(text)) for name, text in sorted(row.detail.items())]
    return {"seq": row.seq, "at": f"{moment:%Y-%m-%dT%H:%M:%SZ}", "event": row.event, "detail": detail}


def _check(visit: Visit) -> Response:
    visit.desk.may_read()
    try:
        count = audit.verify(visit.call.issuer.engine)
    except StateError as error:
        text = f"The chain is broken at {error.where}: expected {error.expected}, got {error.got}."
        return _show(visit, {"sound": False, "text": text})
    return _show(visit, {"sound": True, "text": f"The chain is whole: {count} records, none changed or taken out."})
