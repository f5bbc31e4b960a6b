"""How a browser gets in: an authorization code of the lake's issuer with PKCE (RFC 7636), then a strict cookie.

The service is a public client of the issuer with one redirect URI. The state of a sign-in, and later the token itself,
lie in the browser only, sealed by the service: nothing has to be kept or cleaned here, and any worker can read it. A
cookie names its host (``__Host-``), no script sees it, and no other site can have it sent: the page after the sign-in
leads on by itself, because a redirect that began at the issuer would come without it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
import threading
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from boathouse.apps.transfers.auth import SCOPE, Gate
from boathouse.apps.transfers.seal import Seal
from boathouse.apps.transfers.settings import Pages, Settings
from boathouse.apps.transfers.store import Caller
from boathouse.errors import AuthError
from boathouse.wlcg.http import discover, pool, request_json

HOME = "/pages"
DONE = "/pages/done"
_SESSION, _PENDING = "__Host-transfers", "__Host-transfers-sign-in"
_PENDING_S = 600
_THERE = re.compile(r"/pages(/jobs/[0-9a-f-]{36})?(\?live=off)?")


class SignIn:
    """Signs browsers in.

    Args:
        settings: of the service.
        pages: where the pages are, and as which client.
        gate: verifies the token that comes of it.
    """

    def __init__(self, settings: Settings, pages: Pages, gate: Gate) -> None:
        self._settings = settings
        self._client = pages.client_id
        self._redirect = pages.url.rstrip("/") + DONE
        self._gate = gate
        self._seal = Seal(settings.store_key)
        self._http = pool(settings.ca_file)
        self._lock = threading.Lock()
        self._found: dict[str, Any] = {}

    def caller(self, request: Request) -> Caller | None:
        """Who has signed in; none if nobody has, or the token has ended.

        Raises:
            ServiceError: the issuer's keys cannot be had now.
        """
        token = self._opened(request, _SESSION)
        if token is None:
            return None
        try:
            return self._gate.caller(f"Bearer {token}")
        except AuthError:
            return None

    def begin(self, there: str) -> Response:
        """To the issuer, and after that to a page of ours."""
        state, verifier = secrets.token_urlsafe(24), secrets.token_urlsafe(48)
        digest = hashlib.sha256(verifier.encode()).digest()
        query = {
            "response_type": "code",
            "client_id": self._client,
            "redirect_uri": self._redirect,
            "scope": f"openid profile wlcg.groups {SCOPE}",
            "audience": self._settings.audience,
            "state": state,
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }
        pending = {"state": state, "verifier": verifier, "there": there if _THERE.fullmatch(there) else HOME}
        response = RedirectResponse(f"{self._metadata()['authorization_endpoint']}?{urlencode(query)}", 303)
        # The issuer sends the browser back from another site: a strict cookie would not come along.
        self._keep(response, _PENDING, json.dumps(pending), _PENDING_S, same_site="lax")
        return response

    def finish(self, request: Request) -> tuple[str, str, int]:
        """Take the code of a redirect.

        Returns:
            The token, the page to go to, and how long the token lives in seconds.

        Raises:
            AuthError: the sign-in was not begun in this browser, was refused, or gave no token for this service.
        """
        query = request.query_params
        pending = json.loads(self._opened(request, _PENDING) or "{}")
        if not pending or not hmac.compare_digest(pending["state"].encode(), query.get("state", "").encode()):
            raise AuthError("this sign-in was not begun in this browser, or too long ago")
        if query.get("iss", self._settings.issuer) != self._settings.issuer:
            raise AuthError("the answer is from another issuer", got=query["iss"][:200])
        if "code" not in query:
            raise AuthError("the issuer did not sign you in", got=query.get("error", "no code")[:200])
        form = {
            "grant_type": "authorization_code",
            "code": query["code"],
            "redirect_uri": self._redirect,
            "client_id": self._client,
            "code_verifier": pending["verifier"],
        }
        status, answer, _ = request_json(self._http, "POST", self._metadata()["token_endpoint"], form=form)
        token = answer.get("access_token")
        if status != 200 or not isinstance(token, str):
            raise AuthError("the issuer gave no token", got=str(answer.get("error", status))[:200])
        caller = self._gate.caller(f"Bearer {token}")
        return token, pending["there"], max(int((caller.expires_at - datetime.now(UTC)).total_seconds()), 1)

    def remember(self, response: Response, token: str, seconds: int) -> None:
        """Have the browser keep the token, sealed."""
        self._keep(response, _SESSION, token, seconds, same_site="strict")
        response.delete_cookie(_PENDING, path="/", secure=True, httponly=True, samesite="lax")

    @staticmethod
    def forget(response: Response) -> None:
        """Have the browser forget it."""
        response.delete_cookie(_SESSION, path="/", secure=True, httponly=True, samesite="strict")

    def _keep(self, response: Response, name: str, text: str, seconds: int, *, same_site: Any) -> None:
        value = base64.urlsafe_b64encode(self._seal.close(text, "pages", name)).decode()
        response.set_cookie(name, value, seconds, path="/", secure=True, httponly=True, samesite=same_site)

    def _opened(self, request: Request, name: str) -> str | None:
        try:
            return self._seal.open(base64.urlsafe_b64decode(request.cookies.get(name, "")), "pages", name)
        except (AuthError, ValueError):
            return None

    def _metadata(self) -> dict[str, Any]:
        with self._lock:
            if not self._found:
                self._found = discover(self._http, self._settings.issuer)
            return self._found
