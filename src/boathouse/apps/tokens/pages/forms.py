"""Pages with forms that change something: who is there, whether the form is ours, and what becomes of a refusal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol
from urllib.parse import urlencode

from starlette.responses import RedirectResponse, Response

from boathouse.apps.tokens import sessions
from boathouse.apps.tokens.admin import groups
from boathouse.apps.tokens.admin.desk import Actor, Desk
from boathouse.apps.tokens.pages.render import foreign_form, here, message, render, to_login
from boathouse.apps.tokens.passwords import TooBusyError
from boathouse.apps.tokens.sessions import Session
from boathouse.apps.tokens.web import Call
from boathouse.errors import AuthError, BoathouseError, ConflictError, InputError, NotFoundError
from boathouse.units import end_of_day

# The word in an error that tells which field of a form it is about, the telling ones first.
_FIELDS = (
    ("new password", "again_password"),
    ("password", "password"),
    ("redirect URI", "redirect_uris"),
    ("audience", "audiences"),
    ("e-mail", "email"),
    ("scope", "scopes"),
    ("scope", "scope"),
    ("grant", "grants"),
    ("membership", "until"),
    ("reason", "notes"),
    ("description", "description"),
    ("login", "login"),
    ("person", "who"),
    ("client", "client_id"),
    ("group", "group"),
    ("member", "group"),
    ("asked", "group"),
    ("name", "name"),
    ("path", "scope"),
)


class Typed(dict[str, str]):
    """Fields of a form; one that is not there is empty."""

    def __missing__(self, key: str) -> str:
        """Nothing."""
        return ""


@dataclass(frozen=True)
class Visit:
    """One request for a page by somebody who has signed in."""

    call: Call
    session: Session
    desk: Desk
    status: int = 200
    typed: Typed = field(default_factory=Typed)
    """What was typed into a form that was refused."""
    faults: Typed = field(default_factory=Typed)
    """What is wrong with it, by ``<action>-<field>``; by the action alone if it is no field's fault."""

    def render(self, template: str, **values: Any) -> Response:
        """The page, with the bar at the top and what is wrong with a form."""
        return render(
            self.call,
            template,
            self.status,
            session=self.session,
            managed=self.managed,
            typed=self.typed,
            faults=self.faults,
            trouble=self.faults[self.typed["do"]],
            done=_DONE.get(dict(self.call.query).get("done", ""), ""),
            **values,
        )

    def with_typed(self) -> Visit:
        """The same visit, whose page shows again what was typed."""
        return replace(self, typed=_typed(dict(self.call.form)))

    def refused(self, name: str, status: int, text: str) -> Visit:
        """The same visit, whose page says what is wrong with a field of the form; passwords are typed again."""
        typed = _typed(dict(self.call.form))
        key = f"{typed['do']}-{name}" if name else typed["do"]
        return Visit(self.call, self.session, self.desk, status, typed, Typed({key: text}))

    def goto(self, there: str) -> Response:
        """To another page, which is loaded and not sent again when it is reloaded."""
        return RedirectResponse(there, 303)

    @property
    def managed(self) -> list[str]:
        """Groups that the person manages."""
        return groups.managed(self.desk)


_DONE = {
    "saved": "Saved.",
    "asked": "Your request was sent to the managers of the group.",
    "withdrawn": "Withdrawn.",
    "revoked": "It acts for you no more.",
    "password": "Your password was changed, and all browsers but this one were signed out.",
    "decided": "The request was decided.",
    "removed": "Removed.",
}
"""What a page says after a change; only the key stands in the URL."""


class Show(Protocol):
    """Makes the page."""

    def __call__(self, visit: Visit) -> Response:
        """The page as it is now."""


Action = Callable[[Visit], str | Response]
"""Does what a form asks for; says where to go on, or answers itself."""


def page(call: Call, show: Show, actions: Mapping[str, Action]) -> Response:
    """Answer a request for a page; its forms say in ``do`` what they want.

    An action that is refused leaves nothing behind, neither rows nor records.
    """
    session = sessions.current(call)
    if session is None:
        return to_login("/account" if call.is_post else here(call))
    if call.is_post and not sessions.form_is_ours(call):
        return foreign_form(call)
    try:
        reason = dict(call.form).get("reason", "").strip()
        desk = Desk(call.store, Actor.person(session.user), reason=reason, address=call.address)
        visit = Visit(call, session, desk)
        return _act(visit, show, actions) if call.is_post else show(visit)
    except AuthError as error:
        return message(call, _sentence(error), 403, heading="This is not yours to see", session=session)
    except NotFoundError as error:
        return message(call, _sentence(error), 404, heading="Not found", session=session)
    except InputError as error:
        return message(call, _sentence(error), 400, session=session)


def _act(visit: Visit, show: Show, actions: Mapping[str, Action]) -> Response:
    form = dict(visit.call.form)
    action = actions.get(form.get("do", ""))
    if action is None:
        raise InputError("unknown form")
    noted = len(visit.desk.store.changes)
    try:
        with visit.desk.connection.begin_nested():
            there = action(visit)
    except AuthError:
        del visit.desk.store.changes[noted:]
        raise
    except (InputError, ConflictError, NotFoundError) as error:
        del visit.desk.store.changes[noted:]
        of = next((name for word, name in _FIELDS if word in error.what and name in form), "")
        return show(visit.refused(of, _STATUS[type(error)], _sentence(error)))
    except TooBusyError:
        return show(visit.refused("", 503, "Too many passwords are being checked just now. Try again in a moment."))
    return there if isinstance(there, Response) else visit.goto(there)


_STATUS: Mapping[type[BoathouseError], int] = {InputError: 400, NotFoundError: 404, ConflictError: 409}


def _typed(form: Mapping[str, str]) -> Typed:
    return Typed({name: text for name, text in form.items() if "password" not in name and name != "csrf"})


def _sentence(error: BoathouseError) -> str:
    """An error for people; what was typed they see in the field."""
    text = error.what[0].upper() + error.what[1:]
    if error.expected:
        text += f": expected {error.expected}"
    return f"{text}. {error.remedy[0].upper()}{error.remedy[1:]}." if error.remedy else f"{text}."


def value(visit: Visit, name: str) -> str:
    """A field of the form, without blanks around it."""
    return dict(visit.call.form).get(name, "").strip()


def wanted(visit: Visit, name: str) -> str:
    """A parameter of the URL."""
    return dict(visit.call.query).get(name, "").strip()


def link(path: str, done: str = "", **parameters: str) -> str:
    """A page of ours, and what it says that was done."""
    query = {**parameters, **({"done": done} if done else {})}
    return f"{path}?{urlencode(query)}" if query else path


def last_day(text: str) -> int | None:
    """The end of the day that was typed, in seconds since the epoch; None if none was.

    Raises:
        InputError: it is no day.
    """
    try:
        return end_of_day(text) if text else None
    except InputError as error:
        raise InputError("a membership cannot end then", expected=error.expected) from error
