"""The account page: who am I, what am I in, who acts for me; and the few things that people change themselves."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from starlette.responses import Response

from boathouse.apps.tokens import sessions
from boathouse.apps.tokens.admin import grants, groups, requests, users
from boathouse.apps.tokens.pages.forms import Visit, link, page, value
from boathouse.apps.tokens.pages.render import message
from boathouse.apps.tokens.pages.words import Wish, in_words
from boathouse.apps.tokens.persistence import schema as t
from boathouse.apps.tokens.rights.policies import allowed
from boathouse.apps.tokens.sessions import Refusal
from boathouse.apps.tokens.web import Call
from boathouse.errors import InputError
from boathouse.wlcg.scopes import parse

_HOME = "/account"


def account(call: Call) -> Response:
    """The page."""
    actions = {
        "join": _join,
        "take-back": _take_back,
        "leave": _leave,
        "revoke": _revoke,
        "withdraw": _withdraw,
        "password": _password,
        "everywhere": _everywhere,
    }
    return page(call, _show, actions)


def _show(visit: Visit) -> Response:
    desk, user = visit.desk, visit.session.user
    everybody = groups.list_(desk)
    waiting = requests.list_(desk, status=requests.PENDING, who=user.sub)
    asked = {request.group for request in waiting}
    credential = desk.store.credential(user.login)
    return visit.render(
        "account",
        section="account",
        user=user,
        issuer=visit.call.issuer.settings.issuer,
        memberships=users.get(desk, user.sub).memberships,
        has_password=credential is not None and bool(credential.password),
        waiting=waiting,
        joinable=[group for group in everybody if group.name not in (*user.groups, *asked)],
        grants=[
            {"wishes": _told(visit, grant.scope), "audiences": grant.audience.split(), **grant.as_dict()}
            for grant in grants.list_(desk)
        ],
        consents=_consents(visit),
    )


def _told(visit: Visit, scope: str) -> list[Wish]:
    """What was agreed to, and what the policies of today leave of it."""
    user, scopes = visit.session.user, parse(scope)
    rules = visit.desk.store.policies(user)
    return in_words(scopes, allowed(scopes, account=user.login, groups=user.groups, admin=user.admin, policies=rules))


def _consents(visit: Visit) -> list[dict[str, Any]]:
    """Applications that ask no more, by name."""
    rows = visit.desk.connection.execute(
        select(t.consents.c.client_id, t.consents.c.scope, t.consents.c.given_at, t.clients.c.name)
        .join(t.clients, t.clients.c.client_id == t.consents.c.client_id)
        .where(t.consents.c.sub == visit.desk.sub)
        .order_by(t.clients.c.name, t.consents.c.client_id)
    ).mappings()
    return [{**row, "name": row["name"] or row["client_id"], "wishes": _told(visit, row["scope"])} for row in rows]


def _join(visit: Visit) -> str:
    requests.ask(visit.desk, value(visit, "group"), notes=value(visit, "notes"))
    return link(_HOME, "asked")


def _take_back(visit: Visit) -> str:
    requests.withdraw(visit.desk, value(visit, "id"))
    return link(_HOME, "withdrawn")


def _leave(visit: Visit) -> str:
    groups.remove_member(visit.desk, value(visit, "group"), visit.desk.sub)
    return link(_HOME, "saved")


def _revoke(visit: Visit) -> str:
    grants.revoke(visit.desk, value(visit, "family"))
    return link(_HOME, "revoked")


def _withdraw(visit: Visit) -> str:
    grants.revoke_client(visit.desk, value(visit, "client_id"))
    return link(_HOME, "revoked")


def _password(visit: Visit) -> Response | str:
    # Blanks around a password belong to it.
    form, login = dict(visit.call.form), visit.session.user.login
    new = form.get("password", "")
    if new != form.get("again_password", ""):
        raise InputError("the new password and its repetition differ")
    # As at a sign-in: whoever found an open browser must not guess for ever. The answer is given here, for an error
    # would take back what was counted.
    outcome = sessions.prove(visit.call, login, form.get("old_password", ""))
    if isinstance(outcome, Refusal):
        status, text = _OLD_PASSWORD[outcome]
        # As at a sign-in again: somebody who is locked out must not fill the log.
        if outcome is Refusal.locked:
            visit.call.server.sample("user.password-refused", login=login, reason=outcome.name)
        else:
            visit.call.server.audit("user.password-refused", login=login, reason=outcome.name)
        return _show(visit.refused("old_password", status, text))
    users.change_password(visit.desk, new)
    # All sessions ended with the old password; this browser goes on with a new one.
    response = visit.goto(link(_HOME, "password"))
    sessions.begin(visit.call, response, visit.desk.sub)
    return response


_OLD_PASSWORD = {
    Refusal.locked: (429, "Too many wrong passwords. Wait a little, then try again."),
    Refusal.wrong: (403, "The old password is wrong."),
    Refusal.disabled: (403, "Your account is disabled."),
    Refusal.busy: (503, "Too many passwords are being checked just now. Try again in a moment."),
}


def _everywhere(visit: Visit) -> Response:
    visit.desk.store.delete_sessions(visit.desk.sub)
    visit.desk.note("session.ended-everywhere", whom=visit.session.user.login)
    text = "You are signed out of all browsers. Applications that act for you go on until you withdraw it from them."
    response = message(visit.call, text, heading="Signed out")
    sessions.end(visit.call, response)
    return response
