"""The authorization page: what an application asks for, and the answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode, urlsplit

from authlib.oauth2.base import OAuth2Error
from authlib.oidc.core.errors import ConsentRequiredError
from starlette.responses import Response

from boathouse.apps.tokens import sessions
from boathouse.apps.tokens.pages.render import foreign_form, message, render, to_login
from boathouse.apps.tokens.pages.words import duration, in_words
from boathouse.apps.tokens.persistence.records import REFRESH, Client
from boathouse.apps.tokens.protocol.grants import client_scopes
from boathouse.apps.tokens.protocol.oauth import Request, permitted
from boathouse.apps.tokens.rights.policies import allowed
from boathouse.apps.tokens.sessions import Session
from boathouse.apps.tokens.web import Call
from boathouse.wlcg.scopes import Scope, covers, format_scopes, parse


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
        return to_login(_without_prompt(call))
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
            return foreign_form(call)
        form = dict(call.form)
        agreed = form.get("decision") == "allow"
        if agreed and form.get("remember") == "yes":
            call.store.remember_consent(user.sub, client.client_id, format_scopes(scopes))
        call.server.audit("consent.given" if agreed else "consent.refused", client=client.client_id, sub=user.sub)
        return agreed
    remembered = parse(call.store.consent(user.sub, client.client_id))
    if not (must_ask or client.asks_always) and (client.trusted or all(covers(remembered, scope) for scope in scopes)):
        return True
    if request.payload.data.get("prompt") == "none":
        raise ConsentRequiredError
    target = request.payload.redirect_uri or client.redirect_uris[0]
    return ask(call, "consent", client, session, scopes, audience=request.payload.audience(), target=target)


def ask(
    call: Call,
    template: str,
    client: Client,
    session: Session,
    scopes: Sequence[Scope],
    *,
    audience: Sequence[str],
    target: str = "",
    **more: Any,
) -> Response:
    """The page that asks a person whether a client may have these scopes at these audiences."""
    user, settings = session.user, call.issuer.settings
    left = allowed(scopes, account=user.login, groups=user.groups, admin=user.admin, policies=call.store.policies(user))
    return render(
        call,
        template,
        session=session,
        target=target,
        client=client.name,
        client_id=client.client_id,
        registered=client.registered,
        hands_over=client.hands_over,
        goes_to=urlsplit(target).netloc or urlsplit(target).scheme,
        may_remember=not (client.asks_always or client.trusted),
        scope=format_scopes(scopes),
        wishes=in_words(scopes, left),
        audience=audience,
        renews=client.check_grant_type(REFRESH) and Scope("offline_access") in scopes,
        lifetime=duration(settings.token_lifetime_s),
        renewal=duration(settings.refresh_lifetime_s),
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
    return message(call, text, 400, heading="You cannot go on to the application")


def _too_old(call: Call, request: Request, session: Session) -> bool:
    age = request.payload.data.get("max_age", "")
    return age.isdecimal() and len(age) < 10 and call.store.now - session.auth_time > int(age)


def _without_prompt(call: Call) -> str:
    """This page again, without what would ask for one more sign-in after the next one."""
    kept = [(name, value) for name, value in call.query if name not in ("prompt", "max_age")]
    return f"/authorize?{urlencode(kept)}"
