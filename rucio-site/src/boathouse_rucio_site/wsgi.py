"""The application that a server process runs: Rucio's own, with some restrictions.

Only tokens of the issuer log in: Rucio's other ways are not there. Bodies have a limit. A refusal is a 403; Rucio says
401 in some places, to which a client answers by asking its user to log in again, and 500 in others. A bad token is a
401, also where a client only asks whether it is good. Caches are emptied when another process changes the
configuration.
"""

from __future__ import annotations

import os
from pathlib import Path

import flask

from boathouse_rucio_site import logs, patches, settings

settings.load(Path(os.environ["RUCIO_CONFIG"]))
patches.apply()
logs.configure()

# Importing Rucio's application reads the configuration: it comes after the patches.
from rucio.web.rest.flaskapi.v1.common import generate_http_error_flask  # noqa: E402
from rucio.web.rest.flaskapi.v1.main import application  # noqa: E402

from boathouse_rucio_site import cache, denials, events, jwt, pool, waiting  # noqa: E402

logs.configure()


_STATUS = {"AccessDenied": 403, "CannotAuthenticate": 401, "InvalidObject": 400}
"""Known but not allowed; not known; not understood (RFC 9110 sections 15.5.4, 15.5.2 and 15.5.1)."""

BODY_LIMIT = 32 * 2**20
"""Bytes of a request's body: twenty times the largest bulk of a thousand files."""
application.config["MAX_CONTENT_LENGTH"] = BODY_LIMIT

_LOGINS = ("/auth/userpass", "/auth/x509", "/auth/x509_proxy", "/auth/gss", "/auth/ssh", "/auth/ssh_challenge_token")
_BROWSER_LOGINS = ("/auth/saml", "/auth/oidc_token", "/auth/oidc_refresh")
"""Of those by OpenID Connect, the one with a code stays: see :mod:`boathouse_rucio_site.browserlogin`."""


@application.before_request
def only_tokens_log_in() -> tuple[str, int] | None:
    """No passwords, and no tokens that Rucio would keep and renew."""
    path = flask.request.path
    if any(path == login or path.startswith(f"{login}/") for login in (*_LOGINS, *_BROWSER_LOGINS)):
        return "Log in with a token of the issuer.\n", 404
    return None


@application.before_request
def denied_tokens_are_refused() -> flask.Response | None:
    """Before Rucio looks into its cache, where a token that was good stays for a while."""
    if denials.lists.hold(flask.request.headers.get("X-Rucio-Auth-Token", "")):
        return generate_http_error_flask(401, "CannotAuthenticate", "The token was revoked.")
    return None


@application.before_request
def bodies_have_a_limit() -> tuple[str, int] | None:
    """A body of known length is refused before any of it is read; one of unknown length while it is read."""
    if (flask.request.content_length or 0) > BODY_LIMIT:
        return f"A request's body may have {BODY_LIMIT} bytes.\n", 413
    return None


@application.after_request
def refusal_is_forbidden(response: flask.Response) -> flask.Response:
    """The status that belongs to the kind of refusal."""
    response.status_code = _STATUS.get(response.headers.get("ExceptionClass", ""), response.status_code)
    return response


def _heard(topic: str) -> None:
    if topic == events.CONFIGURATION:
        cache.flush()


application.register_blueprint(waiting.blueprint())
pool.watch()
denials.lists.follow(jwt.issuers())
events.Listener(_heard, cache.flush).start()

__all__ = ["application"]
