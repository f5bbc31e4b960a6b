"""How a page is made: templates, the policy for browsers, and what several pages answer."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse, RedirectResponse, Response

from boathouse.apps.tokens import sessions
from boathouse.apps.tokens.sessions import Session
from boathouse.apps.tokens.trail import tracing
from boathouse.apps.tokens.web import Call

STYLE = (Path(__file__).parents[1] / "static" / "style.css").read_bytes()
"""The style sheet of all pages."""
_STYLE_URL = f"/static/style.css?{hashlib.sha256(STYLE).hexdigest()[:12]}"


def when(seconds: int) -> str:
    """A time since the epoch, in seconds, as people write it."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment.day} {moment:%B %Y, %H:%M} UTC"


def iso(seconds: int) -> str:
    """A time since the epoch, in seconds, for machines."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


_TEMPLATES = Environment(
    loader=PackageLoader("boathouse.apps.tokens"),
    autoescape=True,
    auto_reload=False,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=StrictUndefined,
)
_TEMPLATES.filters |= {"when": when, "iso": iso}
_CSP = "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'"


def render(
    call: Call, template: str, status: int = 200, *, session: Session | None = None, target: str = "", **values: Any
) -> Response:
    """A page.

    Args:
        call: the request.
        template: its file name without suffix.
        status: HTTP status.
        session: of the person who is signed in, for the bar at the top.
        target: redirect URI that a form of the page may end at; browsers apply ``form-action`` to redirects too.
        values: what the template shows; ``faults`` are what is wrong with a form, by field.
    """
    csrf = sessions.csrf_token(call)
    user = session.user if session else None
    # Managers administer the groups that they manage, and nothing else.
    admin_home = "/admin/people" if user and user.admin else "/admin/groups" if values.get("managed") else ""
    usual = {"faults": {}, "section": "", "wide": False}
    html = _TEMPLATES.get_template(f"{template}.html").render(
        title=call.issuer.settings.title,
        style=_STYLE_URL,
        request_name=tracing.current(),
        status=status,
        csrf=csrf,
        action=here(call),
        target=target,
        me=user,
        admin_home=admin_home,
        **usual | values,
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


def message(call: Call, text: str, status: int = 200, *, heading: str = "", session: Session | None = None) -> Response:
    """A page with one sentence."""
    heading = heading or ("That did not work" if status >= 400 else call.issuer.settings.title)
    return render(call, "message", status, session=session, heading=heading, text=text)


def foreign_form(call: Call) -> Response:
    """What a form gets that no page of ours sent."""
    text = "This form is out of date or came from another site. Go back, reload the page, try again."
    return message(call, text, 403, heading="Nothing was changed")


def to_login(there: str) -> Response:
    """To the sign-in page, and back to ``there`` after it."""
    return RedirectResponse(f"/login?{urlencode({'next': there})}", 303)
