"""The page where a person types the code that a device shows (RFC 8628, 3.3)."""

from __future__ import annotations

import re

from starlette.responses import Response

from boathouse.apps.tokens import sessions
from boathouse.apps.tokens.pages.consent import ask
from boathouse.apps.tokens.pages.render import foreign_form, here, message, render, to_login
from boathouse.apps.tokens.persistence.records import Device
from boathouse.apps.tokens.sessions import Session
from boathouse.apps.tokens.web import Call
from boathouse.wlcg.scopes import parse

_ATTEMPTS = 10
_LOCK_S = 600


def device(call: Call) -> Response:
    """The page."""
    session = sessions.current(call)
    if session is None:
        return to_login("/device" if call.is_post else here(call))
    if call.is_post and not sessions.form_is_ours(call):
        return foreign_form(call)
    code = _user_code(call.value("user_code"))
    found = _pending(call, session, code) if code else _form(call, session)
    if isinstance(found, Response):
        return found
    decision = dict(call.form).get("decision")
    if decision in ("allow", "deny"):
        return _decide(call, session, found, agreed=decision == "allow")
    client = call.store.client(found.client_id)
    if client is None:
        return message(call, "The application was switched off.", 400, heading="Not connected", session=session)
    scopes = parse(found.scope)
    audience = found.audience.split()
    return ask(
        call,
        "device_confirm",
        client,
        session,
        scopes,
        audience=audience,
        user_code=code,
        address=found.address,
        begun_at=found.begun_at,
    )


def _form(call: Call, session: Session, status: int = 200, *, code: str = "", fault: str = "") -> Response:
    faults = {"user_code": fault} if fault else {}
    return render(call, "device", status, session=session, user_code=code, faults=faults)


def _user_code(text: str) -> str:
    letters = re.sub(r"[^A-Z]", "", text.upper())[:8]
    return f"{letters[:4]}-{letters[4:]}" if letters else ""


def _pending(call: Call, session: Session, code: str) -> Device | Response:
    key = f"device:{session.user.sub}"
    if call.store.locked_until(key):
        return _form(call, session, 429, code=code, fault="Too many wrong codes. Wait ten minutes.")
    found = call.store.device_by_user_code(code)
    if found is None or found.is_expired() or found.status != "pending":
        if call.store.count_failure(key, forget_s=_LOCK_S) >= _ATTEMPTS:
            call.store.lock(key, call.store.now + _LOCK_S)
        fault = "No device waits with this code. It may have expired: start again on the device."
        return _form(call, session, 400, code=code, fault=fault)
    return found


def _decide(call: Call, session: Session, found: Device, *, agreed: bool) -> Response:
    call.store.update_device(
        found.hash, status="approved" if agreed else "denied", sub=session.user.sub, auth_time=session.auth_time
    )
    call.server.audit("device.approved" if agreed else "device.denied", client=found.client_id, sub=session.user.sub)
    if agreed:
        text = "Done. You can close this page and go back to the device."
        return message(call, text, heading="Connected", session=session)
    return message(call, "The device gets nothing.", heading="Refused", session=session)
