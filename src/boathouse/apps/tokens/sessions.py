"""Signing in: passwords with lock-out, browser sessions, protection of forms against other sites."""

from __future__ import annotations

import hmac
import ipaddress
from dataclasses import dataclass
from enum import Enum, auto

from starlette.responses import Response

from boathouse.apps.tokens.passwords import TooBusyError, check_password, fingerprint, random_token
from boathouse.apps.tokens.persistence.records import User
from boathouse.apps.tokens.web import Call

# The prefix makes browsers insist on TLS, on this very host and on the path "/".
SESSION_COOKIE = "__Host-session"
CSRF_COOKIE = "__Host-csrf"

_LOCK_AT_MOST_S = 900
_FORGET_S = 3600
_ADDRESS_ATTEMPTS = 100
_FROM_EVERYWHERE = 10
"""How many times as many wrong passwords from all addresses together slow a login down as from one lock it."""


class Refusal(Enum):
    """Why a sign-in failed."""

    locked = auto()
    wrong = auto()
    disabled = auto()
    """The password is right, and the person is switched off: nobody else may learn that there is such an account."""
    busy = auto()


@dataclass(frozen=True)
class Session:
    """Who sits before the browser."""

    user: User
    auth_time: int


def current(call: Call) -> Session | None:
    """The session of a request, if it is alive and its person not switched off."""
    token = call.http.cookies.get(SESSION_COOKIE)
    found = call.store.session(fingerprint(token)) if token else None
    user = call.store.user(found[0]) if found else None
    return Session(user, found[1]) if user and found else None


def begin(call: Call, response: Response, sub: str) -> None:
    """Start a session under a name that was never used before; the one that the browser had ends."""
    _forget(call)
    token = random_token()
    lifetime_s = call.issuer.settings.session_lifetime_s
    call.store.add_session(fingerprint(token), sub, call.store.now + lifetime_s)
    _set(response, SESSION_COOKIE, token, lifetime_s)


def end(call: Call, response: Response) -> None:
    """End the session of a request."""
    _forget(call)
    response.delete_cookie(SESSION_COOKIE, path="/", secure=True, httponly=True, samesite="lax")


def _forget(call: Call) -> None:
    if token := call.http.cookies.get(SESSION_COOKIE):
        call.store.delete_session(fingerprint(token))


def csrf_token(call: Call) -> str:
    """The token that each form carries and that the browser holds in a cookie as well."""
    return call.http.cookies.get(CSRF_COOKIE) or random_token()


def set_csrf(call: Call, response: Response, token: str) -> None:
    """Give the token to a browser that has none."""
    if call.http.cookies.get(CSRF_COOKIE) != token:
        _set(response, CSRF_COOKIE, token, None)


def form_is_ours(call: Call) -> bool:
    """Whether a form was sent from a page of ours: the cookie's token in it, and no other origin."""
    origin = call.http.headers.get("origin")
    if origin is not None and origin != call.issuer.settings.issuer:
        return False
    kept, sent = call.http.cookies.get(CSRF_COOKIE, ""), dict(call.form).get("csrf", "")
    return bool(kept) and hmac.compare_digest(kept.encode(), sent.encode())


def _set(response: Response, name: str, value: str, max_age: int | None) -> None:
    response.set_cookie(name, value, max_age=max_age, path="/", secure=True, httponly=True, samesite="lax")


@dataclass(frozen=True)
class Limit:
    """After how many wrong passwords a key is locked, and for how long."""

    key: str
    attempts: int
    lock_s: int
    lock_at_most_s: int

    def locked_s(self, failures: int) -> int:
        """How long the key is locked after so many failures in a row, in seconds; 0 if it is not."""
        beyond = failures - self.attempts
        return 0 if beyond < 0 else min(self.lock_at_most_s, self.lock_s * 2 ** min(beyond, 10))


def limits(login: str, address: str, attempts: int, lock_s: int) -> tuple[Limit, ...]:
    """What bounds the guesses at a password.

    A login is locked for the address that guesses, longer each time. Guesses from many addresses slow it down for
    all, by a pause that does not grow: whoever knows the password gets in between. An address that tries many
    logins is locked, but never a loopback one: everybody on this machine shares it, and a guesser could take
    another of the 16 million.

    Args:
        login: as typed.
        address: where the request comes from.
        attempts: wrong passwords from one address that lock a login.
        lock_s: the first lock, in seconds.
    """
    bounds = (
        Limit(f"login:{login}@{address}", attempts, lock_s, _LOCK_AT_MOST_S),
        Limit(f"login:{login}", attempts * _FROM_EVERYWHERE, lock_s, lock_s),
    )
    if _is_loopback(address):
        return bounds
    return (*bounds, Limit(f"address:{address}", _ADDRESS_ATTEMPTS, lock_s, _LOCK_AT_MOST_S))


def _is_loopback(address: str) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return (mapped or parsed).is_loopback


def sign_in(call: Call, login: str, password: str) -> str | Refusal:
    """Check a password at the sign-in page, within the :func:`limits`.

    Returns:
        The subject, or why not.
    """
    outcome = prove(call, login, password)
    if outcome is Refusal.locked:
        call.server.sample("login.locked", login=login)
    elif outcome is Refusal.wrong:
        call.server.audit("login.failed", login=login)
    elif outcome is Refusal.disabled:
        call.server.audit("login.disabled", login=login)
    elif not isinstance(outcome, Refusal):
        call.server.audit("login.succeeded", login=login, sub=outcome)
    return outcome


def prove(call: Call, login: str, password: str) -> str | Refusal:
    """Check a password within the :func:`limits`; a wrong one counts, and the caller keeps a record.

    Returns:
        The subject, or why not.
    """
    store, settings = call.store, call.issuer.settings
    bounds = limits(login, call.address, settings.login_attempts, settings.login_lock_s)
    if any(store.locked_until(limit.key) for limit in bounds):
        return Refusal.locked
    credential = store.credential(login)
    try:
        right = check_password(password, credential.password if credential else None)
    except TooBusyError:
        return Refusal.busy
    if right and credential:
        # Guesses from elsewhere stay counted.
        store.clear_failures(bounds[0].key)
        return Refusal.disabled if credential.suspended else credential.sub
    for limit in bounds:
        failures = store.count_failure(limit.key, forget_s=_FORGET_S)
        if lock_s := limit.locked_s(failures):
            store.lock(limit.key, store.now + lock_s)
    return Refusal.wrong
