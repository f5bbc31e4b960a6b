"""The account page: who am I, what am I in, who acts for me."""

from __future__ import annotations

from starlette.responses import RedirectResponse, Response

from boathouse.apps.tokens import sessions
from boathouse.apps.tokens.pages.render import foreign_form, render, to_login
from boathouse.apps.tokens.pages.words import in_words
from boathouse.apps.tokens.web import Call
from boathouse.wlcg.scopes import parse


def account(call: Call) -> Response:
    """Who am I, what am I in, who acts for me."""
    session = sessions.current(call)
    if session is None:
        return to_login("/account")
    if call.is_post:
        if not sessions.form_is_ours(call):
            return foreign_form(call)
        client_id = call.value("client_id")[:255]
        call.store.revoke_consent(session.user.sub, client_id)
        call.server.audit("consent.withdrawn", client=client_id, sub=session.user.sub)
        return RedirectResponse("/account", 303)
    grants = [
        grant | {"wishes": in_words(parse(grant["scope"])), "name": grant["name"] or grant["client_id"]}
        for grant in call.store.grants_of(session.user.sub)
    ]
    return render(
        call,
        "account",
        session=session,
        section="account",
        user=session.user,
        issuer=call.issuer.settings.issuer,
        grants=grants,
    )
