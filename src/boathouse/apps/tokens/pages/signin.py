"""Signing in and out."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlsplit

from starlette.responses import RedirectResponse, Response

from boathouse.apps.tokens import sessions
from boathouse.apps.tokens.pages.render import foreign_form, message, render
from boathouse.apps.tokens.providers import buttons
from boathouse.apps.tokens.sessions import Refusal
from boathouse.apps.tokens.web import Call

_NEXT = re.compile(r"/(authorize|device|account)(\?[\x21-\x7e]*)?")

_FAULTS = {
    Refusal.locked: (429, "Too many wrong passwords. Wait a little, then try again."),
    Refusal.wrong: (401, "Login or password is wrong."),
    Refusal.busy: (503, "Too many people sign in just now. Try again in a moment."),
}


def local_page(there: str) -> str:
    """The page to go on to after a sign-in: one of ours, else the account page."""
    return there if _NEXT.fullmatch(there) else "/account"


def login(call: Call) -> Response:
    """The sign-in page."""
    there = local_page(call.value("next"))
    ways = buttons(call.issuer.settings.providers, there)
    target = _redirect_target(call, there)
    if not call.is_post:
        return render(call, "login", target=target, fault="", username="", ways=ways)
    if not sessions.form_is_ours(call):
        return foreign_form(call)
    username, password = call.value("username").strip().lower(), dict(call.form).get("password", "")
    if not (username.isprintable() and len(username) <= 64 and len(password) <= 1024):
        return render(call, "login", 400, target=target, fault="That cannot be a login.", username="", ways=ways)
    outcome = sessions.sign_in(call, username, password)
    if isinstance(outcome, Refusal):
        status, fault = _FAULTS[outcome]
        return render(call, "login", status, target=target, fault=fault, username=username, ways=ways)
    response = RedirectResponse(there, 303)
    sessions.begin(call, response, outcome)
    return response


def logout(call: Call) -> Response:
    """End the session."""
    if not sessions.form_is_ours(call):
        return foreign_form(call)
    response = message(call, "You are signed out.")
    sessions.end(call, response)
    return response


def _redirect_target(call: Call, there: str) -> str:
    """Where a sign-in on the way to the authorization page may end."""
    parameters = dict(parse_qsl(urlsplit(there).query))
    client = call.store.client(parameters.get("client_id", "")) if there.startswith("/authorize") else None
    uri = parameters.get("redirect_uri", "")
    return uri if client and client.check_redirect_uri(uri) else ""
