"""The pages for people: sign in, consent, device code, account. They work without scripts."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from authlib.oauth2.base import OAuth2Error
from authlib.oidc.core.errors import ConsentRequiredError
from jinja2 import Environment, PackageLoader
from starlette.responses import HTMLResponse, RedirectResponse, Response

from boathouse.apps.tokens import sessions
from boathouse.apps.tokens.grants import client_scopes
from boathouse.apps.tokens.oauth import Request, permitted
from boathouse.apps.tokens.records import Client, Device
from boathouse.apps.tokens.sessions import Refusal, Session
from boathouse.apps.tokens.web import Call
from boathouse.wlcg.scopes import Scope, covers, format_scopes, parse

_TEMPLATES = Environment(loader=PackageLoader("boathouse.apps.tokens"), autoescape=True, auto_reload=False)
_CSP = "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'"
_NEXT = re.compile(r"/(authorize|device|account)(\?[\x21-\x7e]*)?")
_DEVICE_ATTEMPTS = 10
_DEVICE_LOCK_S = 600

_WORDS = {
    "openid": "know who you are",
    "profile": "see your name and login",
    "email": "see your e-mail address",
    "offline_access": "keep doing this while you are away, until you withdraw it",
    "wlcg": "get tokens of the WLCG profile",
    "wlcg.groups": "see your groups",
    "fts": "submit file transfers for you",
    "storage.read": "read files in",
    "storage.create": "write new files in",
    "storage.modify": "write, change and delete files in",
    "storage.stage": "bring files from tape in",
    "storage.poll": "ask where files are in",
    "compute.read": "look at your batch jobs",
    "compute.create": "submit batch jobs for you",
    "compute.modify": "change your batch jobs",
    "compute.cancel": "cancel your batch jobs",
}

_FAULTS = {
    Refusal.locked: (429, "Too many wrong passwords. Wait a little, then try again."),
    Refusal.wrong: (401, "Login or password is wrong."),
    Refusal.busy: (503, "Too many people sign in just now. Try again in a moment."),
}


def in_words(scopes: Iterable[Scope]) -> list[str]:
    """What scopes mean, for people."""
    return [
        f"{_WORDS[scope.name]} {scope.path}"
        if scope.path and scope.name in _WORDS
        else _WORDS.get(scope.name, str(scope))
        for scope in scopes
    ]


def render(call: Call, template: str, status: int = 200, *, target: str = "", **values: Any) -> Response:
    """A page.

    Args:
        call: the request.
        template: its file name without suffix.
        status: HTTP status.
        target: redirect URI that a form of the page may end at; browsers apply ``form-action`` to redirects too.
        values: what the template shows.
    """
    csrf = sessions.csrf_token(call)
    html = _TEMPLATES.get_template(f"{template}.html").render(
        title=call.issuer.settings.title, csrf=csrf, action=_here(call), **values
    )
    response = HTMLResponse(html, status, {"Content-Security-Policy": _CSP + _source(target)})
    sessions.set_csrf(call, response, csrf)
    return response


def _source(target: str) -> str:
    """A redirect URI as a source in a policy: its origin, or its scheme where it has no host."""
    parts = urlsplit(target)
    if not parts.scheme:
        return ""
    source = f"{parts.scheme}://{parts.netloc}" if parts.netloc else f"{parts.scheme}:"
    return f" {source}" if re.fullmatch(r"[A-Za-z0-9.+:/\[\]\-]+", source) else ""


def _here(call: Call) -> str:
    return call.http.url.path + (f"?{call.http.url.query}" if call.http.url.query else "")


def message(call: Call, text: str, status: int = 200) -> Response:
    """A page with one sentence."""
    return render(call, "message", status, text=text)


def _foreign_form(call: Call) -> Response:
    return message(
        call, "This form is out of date or came from another site. Go back, reload the page, try again.", 403
    )


def _to_login(there: str) -> Response:
    return RedirectResponse(f"/login?{urlencode({'next': there})}", 303)


# Signing in


def login(call: Call) -> Response:
    """The sign-in page."""
    there = call.value("next")
    there = there if _NEXT.fullmatch(there) else "/account"
    target = _redirect_target(call, there)
    if not call.is_post:
        return render(call, "login", target=target, fault="", username="")
    if not sessions.form_is_ours(call):
        return _foreign_form(call)
    username, password = call.value("username").strip().lower(), dict(call.form).get("password", "")
    if not (username.isprintable() and len(username) <= 64 and len(password) <= 1024):
        return render(call, "login", 400, target=target, fault="That cannot be a login.", username="")
    outcome = sessions.sign_in(call, username, password)
    if isinstance(outcome, Refusal):
        status, fault = _FAULTS[outcome]
        return render(call, "login", status, target=target, fault=fault, username=username)
    response = RedirectResponse(there, 303)
    sessions.begin(call, response, outcome)
    return response


def logout(call: Call) -> Response:
    """End the session."""
    if not sessions.form_is_ours(call):
        return _foreign_form(call)
    response = message(call, "You are signed out.")
    sessions.end(call, response)
    return response


def _redirect_target(call: Call, there: str) -> str:
    """Where a sign-in on the way to the authorization page may end."""
    parameters = dict(parse_qsl(urlsplit(there).query))
    client = call.store.client(parameters.get("client_id", "")) if there.startswith("/authorize") else None
    uri = parameters.get("redirect_uri", "")
    return uri if client and client.check_redirect_uri(uri) else ""


# Consent


def authorize(call: Call) -> Response:
    """The authorization page (RFC 6749, 4.1.1; OpenID Connect Core 3.1.2)."""
    session = sessions.current(call)
    try:
        request = call.oauth(form=())
        request.auth_time = session.auth_time if session else None
        grant = call.server.get_consent_grant(request, end_user=session.user if session else None)
    except OAuth2Error as error:
        return _authorization_error(call, error)
    if session is None or grant.prompt == "login" or _too_old(call, request, session):
        return _to_login(_without_prompt(call))
    assert request.client is not None
    try:
        permitted(request.client, request.payload.audience())
        scopes = client_scopes(request.client, request.payload.scope)
        decision = _decision(call, request, session, scopes, must_ask=grant.prompt == "consent")
    except OAuth2Error as error:
        error.redirect_uri, error.state = grant.redirect_uri, request.payload.state
        return _authorization_error(call, error)
    if isinstance(decision, Response):
        return decision
    response: Response = call.server.create_authorization_response(
        request, grant_user=session.user if decision else None, grant=grant
    )
    return response


def _decision(
    call: Call, request: Request, session: Session, scopes: tuple[Scope, ...], *, must_ask: bool
) -> bool | Response:
    """Whether the person consents, or the page that asks."""
    client, user = request.client, session.user
    assert client is not None
    if call.is_post:
        if not sessions.form_is_ours(call):
            return _foreign_form(call)
        agreed = call.value("decision") == "allow"
        if agreed:
            call.store.remember_consent(user.sub, client.client_id, format_scopes(scopes))
        call.server.audit("consent.given" if agreed else "consent.refused", client=client.client_id, sub=user.sub)
        return agreed
    remembered = parse(call.store.consent(user.sub, client.client_id))
    if not must_ask and (client.trusted or all(covers(remembered, scope) for scope in scopes)):
        return True
    if request.payload.data.get("prompt") == "none":
        raise ConsentRequiredError
    target = request.payload.redirect_uri or client.redirect_uris[0]
    return _ask(call, "consent", client, session, scopes, target=target)


def _ask(call: Call, template: str, client: Client, session: Session, scopes: Iterable[Scope], **more: Any) -> Response:
    return render(
        call,
        template,
        target=more.pop("target", ""),
        client=client.name,
        login=session.user.login,
        wishes=in_words(scopes),
        **more,
    )


def _authorization_error(call: Call, error: OAuth2Error) -> Response:
    """Back to the client if its redirect URI was proved, else a page: never a redirect to somewhere unknown."""
    call.server.sample(
        "authorization.refused",
        client=call.value("client_id"),
        reason=f"{error.error}: {error.get_error_description() or ''}",
    )
    if error.redirect_uri:
        status, _, headers = error()
        return Response(status_code=status, headers=dict(headers))
    text = f"The request of the application is wrong: {error.get_error_description() or error.error}"
    return message(call, text, 400)


def _too_old(call: Call, request: Request, session: Session) -> bool:
    age = request.payload.data.get("max_age", "")
    return age.isdecimal() and len(age) < 10 and call.store.now - session.auth_time > int(age)


def _without_prompt(call: Call) -> str:
    """This page again, without what would ask for one more sign-in after the next one."""
    kept = [(name, value) for name, value in call.query if name not in ("prompt", "max_age")]
    return f"/authorize?{urlencode(kept)}"


# Device codes


def device(call: Call) -> Response:
    """The page where a person types the code that a device shows (RFC 8628, 3.3)."""
    session = sessions.current(call)
    if session is None:
        return _to_login("/device" if call.is_post else _here(call))
    if call.is_post and not sessions.form_is_ours(call):
        return _foreign_form(call)
    code = _user_code(call.value("user_code"))
    found = _pending(call, session, code) if code else render(call, "device", login=session.user.login, fault="")
    if isinstance(found, Response):
        return found
    decision = dict(call.form).get("decision")
    if decision in ("allow", "deny"):
        return _decide_device(call, session, found, agreed=decision == "allow")
    client = call.store.client(found.client_id)
    if client is None:
        return message(call, "The application was switched off.", 400)
    return _ask(call, "device_confirm", client, session, parse(found.scope), user_code=code)


def _user_code(text: str) -> str:
    letters = re.sub(r"[^A-Z]", "", text.upper())[:8]
    return f"{letters[:4]}-{letters[4:]}" if letters else ""


def _pending(call: Call, session: Session, code: str) -> Device | Response:
    key = f"device:{session.user.sub}"
    if call.store.locked_until(key):
        return render(call, "device", 429, login=session.user.login, fault="Too many wrong codes. Wait ten minutes.")
    found = call.store.device_by_user_code(code)
    if found is None or found.is_expired() or found.status != "pending":
        if call.store.count_failure(key, forget_s=_DEVICE_LOCK_S) >= _DEVICE_ATTEMPTS:
            call.store.lock(key, call.store.now + _DEVICE_LOCK_S)
        fault = "No device waits with this code. It may have expired: start again on the device."
        return render(call, "device", 400, login=session.user.login, fault=fault)
    return found


def _decide_device(call: Call, session: Session, found: Device, *, agreed: bool) -> Response:
    call.store.update_device(
        found.hash, status="approved" if agreed else "denied", sub=session.user.sub, auth_time=session.auth_time
    )
    call.server.audit("device.approved" if agreed else "device.denied", client=found.client_id, sub=session.user.sub)
    if agreed:
        return message(call, "Done. You can close this page and go back to the device.")
    return message(call, "Refused. The device gets nothing.")


# Account


def account(call: Call) -> Response:
    """Who am I, what am I in, who acts for me."""
    session = sessions.current(call)
    if session is None:
        return _to_login("/account")
    if call.is_post:
        if not sessions.form_is_ours(call):
            return _foreign_form(call)
        client_id = call.value("client_id")[:255]
        call.store.revoke_consent(session.user.sub, client_id)
        call.server.audit("consent.withdrawn", client=client_id, sub=session.user.sub)
        return RedirectResponse("/account", 303)
    grants = [
        grant | {"wishes": in_words(parse(grant["scope"])), "name": grant["name"] or grant["client_id"]}
        for grant in call.store.grants_of(session.user.sub)
    ]
    return render(call, "account", user=session.user, issuer=call.issuer.settings.issuer, grants=grants)
