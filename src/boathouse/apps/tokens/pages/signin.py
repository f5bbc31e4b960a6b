"""Signing in and out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import parse_qsl, unquote, urlsplit

from starlette.responses import RedirectResponse, Response

from boathouse.apps.tokens import sessions
from boathouse.apps.tokens.pages.render import foreign_form, message, render
from boathouse.apps.tokens.sessions import Refusal
from boathouse.apps.tokens.texts import storable
from boathouse.apps.tokens.upstream.providers import buttons
from boathouse.apps.tokens.web import Call

_NEXT = re.compile(r"/(authorize|device|account|admin/[a-z]+)(\?[\x21-\x7e]*)?")

_FAULTS = {
    Refusal.locked: (429, "Too many wrong passwords. Wait a little, then try again."),
    Refusal.wrong: (401, "Login or password is wrong."),
    Refusal.disabled: (403, "Your account is disabled. Ask the operators of the facility."),
    Refusal.busy: (503, "Too many people sign in just now. Try again in a moment."),
}


def local_page(there: str) -> str:
    """The page to go on to after a sign-in: one of ours, whose parameters are text, else the account page."""
    return there if _NEXT.fullmatch(there) and storable(unquote(there)) else "/account"


def login(call: Call) -> Response:
    """The sign-in page."""
    there = local_page(call.value("next"))
    if not call.is_post:
        return _form(call, there)
    if not sessions.form_is_ours(call):
        return foreign_form(call)
    username, password = call.value("username").strip().lower(), dict(call.form).get("password", "")
    if not (username.isprintable() and len(username) <= 64 and len(password) <= 1024):
        return _form(call, there, 400, faults={"username": "That cannot be a login."})
    outcome = sessions.sign_in(call, username, password)
    if isinstance(outcome, Refusal):
        status, fault = _FAULTS[outcome]
        return _form(call, there, status, username=username, faults={"password": fault})
    response = RedirectResponse(there, 303)
    sessions.begin(call, response, outcome)
    return response


def _form(
    call: Call, there: str, status: int = 200, *, username: str = "", faults: Mapping[str, str] | None = None
) -> Response:
    """The form, which names the application that the person is on the way to."""
    parameters = dict(parse_qsl(urlsplit(there).query))
    client = call.store.client(parameters.get("client_id", "")) if there.startswith("/authorize") else None
    uri = parameters.get("redirect_uri", "")
    proved = client is not None and client.check_redirect_uri(uri)
    return render(
        call,
        "login",
        status,
        target=uri if proved else "",
        client=client.name if client and proved else "",
        username=username,
        faults=faults or {},
        ways=buttons(call.issuer.settings.providers, there),
    )


def logout(call: Call) -> Response:
    """End the session."""
    if not sessions.form_is_ours(call):
        return foreign_form(call)
    response = message(call, "You are signed out of this browser.", heading="Signed out")
    sessions.end(call, response)
    return response
