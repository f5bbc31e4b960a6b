"""Pages of "Sign in with …": to the provider, and back with a person, who is known, admitted, waits, or must go."""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from starlette.requests import Request as HttpRequest
from starlette.responses import RedirectResponse, Response

from boathouse.apps.tokens import sessions
from boathouse.apps.tokens.issuer import Issuer
from boathouse.apps.tokens.pages.render import message
from boathouse.apps.tokens.pages.signin import local_page
from boathouse.apps.tokens.trail import history
from boathouse.apps.tokens.upstream.identities import Identities, Linked
from boathouse.apps.tokens.upstream.providers import Provider, admission
from boathouse.apps.tokens.upstream.relying import STALE, Flow, RefusedError, RelyingParty, new_flow
from boathouse.apps.tokens.web import Call, Pairs
from boathouse.errors import ServiceError

FLOW_COOKIE = "__Host-flow"
_FLOW_S = 600


@dataclass(frozen=True)
class Forth:
    """A sign-in that begins."""

    flow: Flow
    url: str


@dataclass(frozen=True)
class Back:
    """A sign-in that the provider answered."""

    flow: Flow
    claims: Mapping[str, Any]


def forth(issuer: Issuer, http: HttpRequest, query: Pairs) -> Forth | ServiceError | None:
    """What has to be asked of the provider before :func:`begin`: outside of any transaction, for it may take long."""
    party = issuer.parties.get(http.path_params["provider"])
    if party is None:
        return None
    there = local_page(dict(query).get("next", ""))
    flow = new_flow(party.provider.name, there, int(time.time()) + _FLOW_S)
    try:
        return Forth(flow, party.authorization_url(flow))
    except ServiceError as error:
        return error


def begin(call: Call) -> Response:
    """Send the browser to the provider, with a flow that only this browser can complete."""
    party, asked = _party(call), call.brought
    if party is None:
        return message(call, "There is no such way to sign in.", 404)
    if not isinstance(asked, Forth):
        return _unreachable(call, party, asked)
    response = RedirectResponse(asked.url, 303)
    _set_cookie(response, _seal(call.issuer, asked.flow), _FLOW_S)
    return response


def back(issuer: Issuer, http: HttpRequest, query: Pairs) -> Back | RefusedError | ServiceError | None:
    """What has to be asked of the provider before :func:`callback`, as in :func:`forth`."""
    party = issuer.parties.get(http.path_params["provider"])
    if party is None:
        return None
    try:
        flow = _open(issuer, http, party.provider)
        return Back(flow, party.claims(flow, dict(query)))
    except (RefusedError, ServiceError) as error:
        return error


def callback(call: Call) -> Response:
    """The browser comes back from the provider."""
    party = _party(call)
    if party is None:
        return message(call, "There is no such way to sign in.", 404)
    response = _complete(call, party)
    # A flow works once: its state, nonce and verifier go with the cookie.
    _set_cookie(response, "", 0)
    return response


def _complete(call: Call, party: RelyingParty) -> Response:
    answer = call.brought
    if isinstance(answer, RefusedError):
        call.server.sample("provider.refused", provider=party.provider.name, reason=str(answer.got))
        return message(call, f"Signing in with {party.provider.title} failed. {answer.what}", 403)
    if not isinstance(answer, Back):
        return _unreachable(call, party, answer)
    sub = _person(call, party.provider, answer.claims)
    if isinstance(sub, Response):
        return sub
    response = RedirectResponse(answer.flow.there, 303)
    sessions.begin(call, response, sub)
    return response


def _person(call: Call, provider: Provider, claims: Mapping[str, Any]) -> str | Response:
    """The subject that the session is for, or the page that says why there is none."""
    # As every change of people: the chain tells them in the order in which they count.
    call.store.lock_changes()
    links = Identities(call.store.connection, call.store.now)
    found = links.find(provider.issuer, claims["sub"])
    before = history.of_person(call.store.connection, found.sub) if found else {}
    outcome = _admit(call, provider, claims, links, found)
    if now := links.find(provider.issuer, claims["sub"]):
        changed = history.differences(before, history.of_person(call.store.connection, now.sub))
        who = {"who": f"provider {provider.name}", "address": call.address}
        call.store.changes += [(event, {**who, **detail}) for event, detail in changed]
    return outcome


def _admit(
    call: Call, provider: Provider, claims: Mapping[str, Any], links: Identities, found: Linked | None
) -> str | Response:
    decided = admission(provider.admit, claims)
    facts = {"provider": provider.name, "subject": claims["sub"]}
    if found is None:
        if not decided.admitted and provider.newcomers == "refuse":
            call.server.audit("provider.unknown", **facts)
            return message(
                call, f"{provider.title} knows you, but you have no account here. Ask the operators for one.", 403
            )
        sub, login = links.make(provider, claims, active=decided.admitted)
        call.server.audit("account.made", **facts, sub=sub, login=login, state="open" if decided.admitted else "waits")
        found = Linked(sub, decided.admitted, waiting=not decided.admitted)
    elif not found.active and found.waiting and decided.admitted:
        links.activate(found.sub)
        call.server.audit("account.opened", **facts, sub=found.sub)
        found = Linked(found.sub, active=True, waiting=True)
    if not found.active:
        return _closed(call, waiting=found.waiting, facts={**facts, "sub": found.sub})
    if found.waiting:
        links.let_in(provider.issuer, claims["sub"])
    links.set_groups(found.sub, provider, decided.groups)
    call.server.audit("login.succeeded", **facts, sub=found.sub)
    return found.sub


def _closed(call: Call, *, waiting: bool, facts: dict[str, Any]) -> Response:
    if waiting:
        call.server.audit("login.waits", **facts)
        return message(call, "Your account waits for the operators' approval. Sign in again once they gave it.", 403)
    call.server.audit("login.failed", **facts)
    return message(call, "Your account is closed.", 403)


def _party(call: Call) -> RelyingParty | None:
    return call.issuer.parties.get(call.http.path_params["provider"])


def _unreachable(call: Call, party: RelyingParty, error: ServiceError | None) -> Response:
    call.server.sample("provider.unreachable", provider=party.provider.name, reason=str(error))
    return message(
        call, f"{party.provider.title} does not answer just now. Try again later, or sign in another way.", 503
    )


def _set_cookie(response: Response, value: str, max_age_s: int) -> None:
    # Lax: the browser must send it with the redirect back, which begins at another site.
    response.set_cookie(FLOW_COOKIE, value, max_age=max_age_s, path="/", secure=True, httponly=True, samesite="lax")


def _seal(issuer: Issuer, flow: Flow) -> str:
    text = base64.urlsafe_b64encode(json.dumps(asdict(flow)).encode()).decode()
    return f"{text}.{_mark(issuer, text)}"


def _mark(issuer: Issuer, text: str) -> str:
    return issuer.hasher.hash(f"flow:{text}").hex()


def _open(issuer: Issuer, http: HttpRequest, provider: Provider) -> Flow:
    """The flow that this browser began.

    Raises:
        RefusedError: it began none with this provider, or too long ago.
    """
    text, _, mark = http.cookies.get(FLOW_COOKIE, "").partition(".")
    if not text or not hmac.compare_digest(mark.encode(), _mark(issuer, text).encode()):
        raise RefusedError(STALE, got="no flow in this browser")
    flow = Flow(**json.loads(base64.urlsafe_b64decode(text)))
    if flow.provider != provider.name or time.time() >= flow.expires_at:
        raise RefusedError(STALE, got="a flow with another provider" if flow.provider != provider.name else "too late")
    return flow
