"""Tokens are exchanged at the issuer (RFC 8693) when they would run out, or when they are not for a copy door yet.

A token that would run out is exchanged for one of the same audience and scope. A token that somebody submits for a
*destination* with a copy door is exchanged for one of the door's audience: people cannot have such tokens, since the
door trusts the paths that it is asked for. A source's token is only if the source sends the file to a store, which does
not see it; a destination that fetches would.

Only a token of the person or client who submitted the job, for an element that the settings know, is exchanged at all;
whoever found somebody else's token gets nothing for it here that it is not good for by itself.

A token that has run out already cannot be exchanged; tokens of queued files are therefore exchanged in advance.

Whoever revokes a token means what it was exchanged for as well, of which nobody but this service knows. So a token
carries its origin, the one that was submitted, and is exchanged no more when that was revoked.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from http import HTTPStatus
from typing import Any
from weakref import WeakValueDictionary

import aiohttp

from boathouse.apps.transfers import jwt
from boathouse.apps.transfers.auth import subject_of
from boathouse.apps.transfers.failures import CopyError, ErrorClass, Failure, Side
from boathouse.apps.transfers.settings import Settings
from boathouse.apps.transfers.work import Revocations, Token, denied, unsigned
from boathouse.wlcg.urns import ACCESS_TOKEN, EXCHANGE_GRANT

log = logging.getLogger(__name__)

_TIMEOUT = aiohttp.ClientTimeout(total=15)
_ASK_AGAIN = timedelta(seconds=60)
_LEFT = 0.5
"""The part of its life that a token need not have left, however much is wanted: an issuer may give short ones only."""


class _NeverError(CopyError):
    """A token will not be exchanged, however often that is asked for."""


class Renewal:
    """Exchanges tokens; one exchange at a time for each. Open it inside the event loop; close it there.

    Args:
        settings: issuer, client and margins.
        current: reads a token again (another worker may have renewed it).
        store: keeps a token with a new value, and returns it so.
        revocations: which tokens count no more.
    """

    def __init__(
        self,
        settings: Settings,
        current: Callable[[Token], Awaitable[Token | None]],
        store: Callable[[Token, str], Awaitable[Token]],
        revocations: Revocations,
    ) -> None:
        self._settings = settings
        self._element = {door: element for element, door in settings.doors.items()}
        self._elements = settings.elements
        self._current = current
        self._store = store
        self._revocations = revocations
        self._locks: WeakValueDictionary[int, asyncio.Lock] = WeakValueDictionary()
        self._refused: dict[int, datetime] = {}
        self._endpoint: str | None = None
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=str(settings.ca_file)), limit=4),
            headers={"Authorization": aiohttp.encode_basic_auth(settings.client_id, settings.client_secret)},
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=_TIMEOUT,
            trust_env=False,
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def usable(self, token: Token | None, side: Side, margin_s: float, *, asked: bool = False) -> Token | None:
        """The token if it lives for ``margin_s`` more and its host takes it, else its successor.

        Args:
            token: the token.
            side: whose it is.
            margin_s: how long it is to live.
            asked: whether its host is asked to copy; no other server sees the token then.

        Raises:
            CopyError: it cannot be used, and there is no successor; the issuer's words are in the cause.
        """
        if token is None:
            return None
        if asked and not self._fits(token):
            return await self._renew(token, margin_s, audience=self._door_audience(token, side))
        if token.expires_at is None or _lives(token, margin_s):
            return token
        try:
            return await self._renew(token, margin_s)
        except CopyError as error:
            if _lives(token, 1.0):
                # It may do for a short copy; storage decides.
                return token
            cause = f"the token for {token.host} ended at {token.expires_at:%Y-%m-%dT%H:%M:%S}: {error.failure.cause}"
            raise CopyError(Failure(side, error.failure.kind, cause)) from error

    @property
    def refused(self) -> tuple[int, ...]:
        """Ids of tokens that are not to be tried in advance now."""
        now = datetime.now(UTC)
        self._refused = {token_id: until for token_id, until in self._refused.items() if until > now}
        return tuple(self._refused)

    async def denied(self, token: Token) -> str | None:
        """Why a token counts no more, by itself or because of what it was exchanged for; None if it does."""
        look = partial(denied, self._revocations, token)
        # Until the issuer's list has come the answer may be waited for.
        why = look() if self._revocations.informed else await asyncio.to_thread(look)
        if why and token.origin and not token.denied:
            # The list forgets a token that would have ended by now, and the successor lives on.
            await self._store(replace(token, denied=why), token.value)
        return why

    async def ahead(self, tokens: list[Token]) -> int:
        """Exchange tokens in advance, until the issuer cannot be reached. Returns how many were.

        One that is at fault itself is left alone until it ends: somebody may have thousands of them, and they would be
        looked at in place of others. Whatever else is refused is asked for again after a minute.
        """
        renewed = 0
        refused, margin_s = self.refused, self._settings.limits.renew_s
        for token in tokens:
            if token.token_id in refused or _lives(token, margin_s):
                continue
            try:
                await self._renew(token, margin_s)
                renewed += 1
            except CopyError as error:
                log.warning("token=%d job=%s not exchanged: %s", token.token_id, token.job_id, error.failure.cause)
                if error.failure.again:
                    break
                again_at = datetime.now(UTC) + _ASK_AGAIN
                self._refused[token.token_id] = (isinstance(error, _NeverError) and token.expires_at) or again_at
        return renewed

    async def _renew(self, token: Token, margin_s: float, *, audience: str | None = None) -> Token:
        """Exchange a token, for another audience if one is given."""
        # Whoever waits for the lock keeps it alive, so nobody gets another one meanwhile.
        async with self._locks.setdefault(token.token_id, asyncio.Lock()):
            stored = await self._current(token)
            if (
                stored is not None
                and stored.value != token.value
                and (audience is None or self._fits(stored))
                and _lives(stored, margin_s)
            ):
                return stored
            # What was claimed may have run out long ago, and its successor, stored by another worker, not yet.
            latest = stored or token
            if why := await self.denied(latest):
                raise _never(f"it counts no more: {why}")
            value = await self._exchange(latest, audience)
            log.info("token=%d job=%s host=%s exchanged", token.token_id, token.job_id, token.host)
            return await self._store(replace(latest, origin=latest.origin or unsigned(latest.value)), value)

    def _fits(self, token: Token) -> bool:
        """Whether its host takes it: a copy door wants a token of its own audience."""
        return token.host not in self._element or jwt.address(token.host) in jwt.audiences(jwt.payload(token.value))

    def _door_audience(self, token: Token, side: Side) -> str:
        """The audience of a door, for a token that opens the element itself.

        Raises:
            CopyError: it does not.
        """
        element = jwt.address(self._element[token.host])
        if element not in jwt.audiences(jwt.payload(token.value)):
            raise CopyError(Failure(side, ErrorClass.auth, f"the token is not for {element}"))
        return jwt.address(token.host)

    async def _exchange(self, token: Token, audience: str | None) -> str:
        claims = jwt.payload(token.value)
        if self._owner(claims) != token.owner:
            raise _never("it is of somebody else than the job")
        if token.host not in self._elements:
            raise _never(f"{token.host} is no storage element of this facility")
        form = {
            "grant_type": EXCHANGE_GRANT,
            "subject_token": token.value,
            "subject_token_type": ACCESS_TOKEN,
            "requested_token_type": ACCESS_TOKEN,
            "audience": audience or " ".join(jwt.audiences(claims)),
        }
        if claims["iss"] == self._settings.issuer:
            # What another issuer's scopes mean here, the facility's issuer knows.
            form["scope"] = _without_refresh(str(claims.get("scope", "")))
        try:
            async with self._session.post(await self._token_endpoint(), data=form, allow_redirects=False) as reply:
                answer = await _json(reply)
                status = reply.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            cause = f"the issuer cannot be reached: {type(error).__name__}: {error}"
            raise CopyError(Failure(Side.TRANSFER, ErrorClass.timeout, cause)) from error
        value = answer.get("access_token")
        if status != 200 or not isinstance(value, str):
            words = " ".join(str(answer.get(key, "")) for key in ("error", "error_description")).strip()
            cause = f"the issuer did not exchange it: HTTP {status} {words}".strip()
            if status == HTTPStatus.BAD_REQUEST:
                raise _never(cause)
            raise CopyError(Failure(Side.TRANSFER, ErrorClass.auth, cause))
        return value

    def _owner(self, claims: Mapping[str, Any]) -> str:
        """Whose token it is, as jobs name their owners.

        Raises:
            CopyError: it is of an issuer that nobody trusts.
        """
        issuer, subject = claims.get("iss"), str(claims.get("sub"))
        if issuer == self._settings.issuer:
            return subject
        other = next((one for one in self._settings.trusted if one.url == issuer), None)
        if other is None:
            raise _never(f"it is of another issuer, {issuer!r}")
        return subject_of(other, subject)

    async def _token_endpoint(self) -> str:
        if self._endpoint is None:
            url = f"{self._settings.issuer}/.well-known/openid-configuration"
            async with self._session.get(url, allow_redirects=False) as reply:
                endpoint = (await _json(reply)).get("token_endpoint")
            if not isinstance(endpoint, str) or not endpoint.startswith("https://"):
                cause = "the issuer names no token endpoint"
                raise CopyError(Failure(Side.TRANSFER, ErrorClass.auth, cause))
            self._endpoint = endpoint
        return self._endpoint


def _lives(token: Token, margin_s: float) -> bool:
    """Whether a token has some time left, or a good part of its own life."""
    if token.expires_at is None:
        return True
    if token.expires_at > datetime.now(UTC) + timedelta(seconds=margin_s):
        return True
    issued_at, end = jwt.payload(token.value).get("iat"), token.expires_at.timestamp()
    # Nobody has looked at what the token says: no number may be too large to reckon with.
    if isinstance(issued_at, int | float) and 0 < issued_at < end:
        margin_s = min(margin_s, (end - issued_at) * _LEFT)
    return token.expires_at > datetime.now(UTC) + timedelta(seconds=margin_s)


def _without_refresh(scope: str) -> str:
    return " ".join(each for each in scope.split() if each != "offline_access")


def _never(cause: str) -> _NeverError:
    return _NeverError(Failure(Side.TRANSFER, ErrorClass.auth, cause))


async def _json(reply: aiohttp.ClientResponse) -> dict[str, Any]:
    try:
        document = await reply.json(content_type=None)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
