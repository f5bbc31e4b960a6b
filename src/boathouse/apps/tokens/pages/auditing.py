"""The administrators' page of the audit log: what happened, by event, person, day; and whether the chain is whole."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from starlette.responses import Response

from boathouse.apps.tokens.pages.forms import Visit, link, page, wanted
from boathouse.apps.tokens.trail import audit, search
from boathouse.apps.tokens.web import Call
from boathouse.errors import InputError, StateError
from boathouse.units import end_of_day

_AUDIT = "/admin/audit"
_AT_ONCE = 100


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
    rows = search.newest(
        visit.desk.connection,
        _AT_ONCE,
        before=int(before) if before.isascii() and before.isdecimal() and len(before) < 19 else None,
        event=sought["event"],
        who=sought["who"],
        text=sought["text"],
        until_s=end_of_day(sought["until"]) if sought["until"] else None,
    )
    return [_told(row) for row in rows]


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
