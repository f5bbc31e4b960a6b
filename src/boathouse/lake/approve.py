"""Approve a device login without a browser: fill in the issuer's own forms, as its user would.

For demonstrations and tests. It reads whatever forms the issuer shows (login, code, consent), fills in the fields
that it knows and presses the button that agrees; it never leaves the issuer's origin.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from http.cookies import SimpleCookie
from urllib.parse import urlencode, urljoin, urlsplit

import urllib3

from boathouse.errors import AuthError, BoathouseError, ServiceError
from boathouse.lake.http import ONCE, Http
from boathouse.lake.tokens import DeviceCode

_STEPS = 8
_REFUSALS = ("deny", "refuse", "cancel", "reject", "no")


@dataclass
class Form:
    """A form of a page."""

    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)
    """Values by name: hidden fields as they are, the others as the page pre-fills them."""
    password: str | None = None
    """Name of its password field."""
    text: list[str] = field(default_factory=list)
    """Names of its text fields, in order."""
    buttons: list[tuple[str, str]] = field(default_factory=list)
    """Name and value of its named submit buttons, in order."""

    @property
    def agreement(self) -> tuple[str, str] | None:
        """The button that agrees: the first that does not refuse."""
        return next((button for button in self.buttons if button[1].lower() not in _REFUSALS), None)


class _Forms(HTMLParser):
    """Collects the forms of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self._open = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a form, and what can be filled in or pressed."""
        values = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append(Form(values.get("action", ""), values.get("method", "get").upper()))
            self._open = True
        elif self._open and tag in ("input", "button"):
            self._control(tag, values)

    def handle_endtag(self, tag: str) -> None:
        """Note the end of a form."""
        if tag == "form":
            self._open = False

    def _control(self, tag: str, values: dict[str, str]) -> None:
        form, name = self.forms[-1], values.get("name", "")
        kind = values.get("type", "submit" if tag == "button" else "text").lower()
        if not name:
            return
        if kind == "submit":
            form.buttons.append((name, values.get("value", "")))
        elif kind == "password":
            form.password = name
        elif kind in ("checkbox", "radio"):
            if "checked" in values:
                form.fields[name] = values.get("value", "on")
        elif kind != "button":
            form.fields[name] = values.get("value", "")
            if kind != "hidden":
                form.text.append(name)


def forms(page: str) -> list[Form]:
    """Forms of an HTML page, in order."""
    parser = _Forms()
    parser.feed(page)
    return parser.forms


def approve(http: Http, code: DeviceCode, *, login: str, password: str) -> None:
    """Approve a device login as a user.

    Raises:
        AuthError: the issuer refused login or password, or hears no more passwords for a while; or its pages are not
            understood.
        ServiceError: it is too busy to look at a password.
    """
    walk = _Walk(http, code.verification_uri_complete)
    page, signed_in = walk.go("GET", code.verification_uri_complete), False
    for _ in range(_STEPS):
        form = _next_form(forms(page), signed_in=signed_in)
        if form is None:
            break
        if form.password is not None:
            if signed_in:
                raise _refused(walk, login)
            form.fields[form.password] = password
            form.fields |= dict.fromkeys(form.text, login)
            signed_in = True
        elif form.text:
            form.fields |= dict.fromkeys(form.text, code.user_code)
        if form.agreement is not None:
            form.fields[form.agreement[0]] = form.agreement[1]
        page = walk.go(form.method, urljoin(walk.here, form.action or walk.here), form.fields)
    else:
        raise AuthError("the issuer's pages do not come to an end", where=walk.here, remedy="log in with a browser")
    if not signed_in:
        raise AuthError("the issuer did not ask for a password", where=walk.here, remedy="log in with a browser")


def _refused(walk: _Walk, login: str) -> BoathouseError:
    """Why the page with the password came again: the status tells it (RFC 6585, 4; RFC 9110, 15.6.4)."""
    where = "://".join(urlsplit(walk.here)[:2])
    if walk.status == 429:
        return AuthError(
            "too many wrong passwords: the issuer hears none for a while",
            expected="a pause, of 30 s at first and of 15 min at most",
            got=f"another attempt as {login} from this address",
            where=where,
            remedy="wait, then try again; the password may be right",
        )
    if walk.status == 403:
        return AuthError(
            "this account is disabled", got=f"the right password of {login}", where=where, remedy="ask the operators"
        )
    if walk.status == 503:
        return ServiceError("too many people sign in just now", got=f"{login} was not looked at", where=where)
    return AuthError(
        "the issuer refused this login and password",
        got=f"wrong password or unknown user for {login}",
        where=where,
        remedy=f"boathouse login --user {login}, with the password of that user",
    )


def _next_form(found: list[Form], *, signed_in: bool) -> Form | None:
    """The form that leads on: the one with a password, else the one that asks for the code or for agreement."""
    for form in found:
        if form.password is not None:
            return form
    wanted = [form for form in found if form.agreement is not None or "code" in " ".join(form.text)]
    return wanted[0] if wanted and signed_in else None


class _Walk:
    """A visit to the issuer's pages, with its cookies."""

    def __init__(self, http: Http, start: str) -> None:
        self._http = http
        self._origin = urlsplit(start)[:2]
        self._cookies: SimpleCookie = SimpleCookie()
        self.here = start
        self.status = 0
        """Of the page that was shown last."""

    def go(self, method: str, url: str, fields: dict[str, str] | None = None) -> str:
        """Follow a link or send a form, and the redirects that follow; returns the page."""
        for _ in range(_STEPS):
            response = self._request(method, url, fields)
            self.here, self.status = url, response.status
            location = response.headers.get("Location")
            if response.status not in (301, 302, 303, 307, 308) or location is None:
                return response.data.decode("utf-8", "replace")
            url = urljoin(url, location)
            if response.status in (301, 302, 303):
                method, fields = "GET", None
        raise AuthError("the issuer redirects without end", where=self.here)

    def _request(self, method: str, url: str, fields: dict[str, str] | None) -> urllib3.BaseHTTPResponse:
        if urlsplit(url)[:2] != self._origin:
            raise AuthError(
                "the issuer sends its users elsewhere to log in", got=url, where=self.here, remedy="boathouse login"
            )
        headers = {"Accept": "text/html"}
        if self._cookies:
            headers["Cookie"] = "; ".join(f"{name}={morsel.value}" for name, morsel in self._cookies.items())
        body = None
        if method == "POST":
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            headers["Origin"] = "://".join(self._origin)
            body = urlencode(fields or {}).encode()
        response = self._http.request(method, url, headers=headers, body=body, retry=ONCE)
        for line in response.headers.getlist("Set-Cookie"):
            self._cookies.load(line)
        return response
