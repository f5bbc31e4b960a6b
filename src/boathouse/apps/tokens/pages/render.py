"""How a page is made: templates, the policy for browsers, and what several pages answer."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlencode, urlsplit

from jinja2 import Environment, PackageLoader
from starlette.responses import HTMLResponse, RedirectResponse, Response

from boathouse.apps.tokens import sessions
from boathouse.apps.tokens.web import Call

_TEMPLATES = Environment(loader=PackageLoader("boathouse.apps.tokens"), autoescape=True, auto_reload=False)
_CSP = "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'"


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
        title=call.issuer.settings.title, csrf=csrf, action=here(call), **values
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


def here(call: Call) -> str:
    """Path and query of a request."""
    return call.http.url.path + (f"?{call.http.url.query}" if call.http.url.query else "")


def message(call: Call, text: str, status: int = 200) -> Response:
    """A page with one sentence."""
    return render(call, "message", status, text=text)


def foreign_form(call: Call) -> Response:
    """What a form gets that no page of ours sent."""
    return message(
        call, "This form is out of date or came from another site. Go back, reload the page, try again.", 403
    )


def to_login(there: str) -> Response:
    """To the sign-in page, and back to ``there`` after it."""
    return RedirectResponse(f"/login?{urlencode({'next': there})}", 303)
