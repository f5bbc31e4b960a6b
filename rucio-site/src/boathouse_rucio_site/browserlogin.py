"""Rucio's login by browser (``auth_type = oidc``), as far as it is safe: docs/decisions/0006 tells why.

Whoever begins such a login is not known, and gets a link that somebody else may be made to open. So the token goes to
nobody who only knows the link: the browser shows a code to the person who signed in, and only that code fetches the
token, once. Polling, where the link is enough, is refused.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from rucio.common.exception import CannotAuthenticate
from rucio.core import oidc
from rucio.core.authentication import validate_auth_token
from rucio.db.sqla import models
from sqlalchemy import delete, func, select

WAITING_AT_MOST = 1000
"""Logins of all people together that were begun and not ended; each is forgotten after five minutes."""

_stock_get_auth_oidc = oidc.get_auth_oidc


def get_auth_oidc(account: Any, *, session: Any, **kwargs: Any) -> str:
    """Replaces ``rucio.core.oidc.get_auth_oidc``: no polling, and a bound on what strangers write into the database.

    Raises:
        CannotAuthenticate: it asks for polling, or too many logins wait.
    """
    if kwargs.get("polling"):
        raise CannotAuthenticate("polling is refused: whoever made the link would get the token; log in without it")
    session.execute(delete(models.OAuthRequest).where(models.OAuthRequest.expired_at <= _now()))
    waiting = session.execute(select(func.count()).select_from(models.OAuthRequest)).scalar_one()
    if waiting >= WAITING_AT_MOST:
        raise CannotAuthenticate("too many logins wait; try again in five minutes")
    url: str = _stock_get_auth_oidc(account, session=session, **kwargs)
    return url


def redirect_auth_oidc(auth_code: str, fetchtoken: bool = False, *, session: Any) -> str | None:  # noqa: FBT001, FBT002
    """Replaces ``rucio.core.authentication.redirect_auth_oidc``: a login ends when Rucio says, and a code works once.

    Returns:
        Where the browser goes; or with ``fetchtoken`` the token; None if the code is wrong.
    """
    row = models.OAuthRequest
    alive = (row.access_msg == auth_code, row.expired_at > _now())
    found = session.execute(select(row).where(*alive).with_for_update()).scalar_one_or_none()
    if found is None or not found.redirect_msg:
        return None
    is_link = str(found.redirect_msg).startswith("https://")
    if is_link or fetchtoken is not True:
        return str(found.redirect_msg) if is_link and not fetchtoken else None
    token = str(found.redirect_msg)
    session.execute(delete(row).where(row.state == found.state))
    return token if validate_auth_token(token, session=session) else None


def save_validated_token(
    token: str, valid_dict: dict[str, Any], extra_dict: dict[str, Any] | None = None, *, session: Any
) -> dict[str, Any]:
    """Replaces ``rucio.core.oidc.__save_validated_token``: nothing is kept, as with tokens from elsewhere."""
    del extra_dict, session
    return {"token": token, "expires_at": valid_dict.get("lifetime")}


def _now() -> datetime:
    """As Rucio writes times: UTC, without saying so."""
    return datetime.utcnow()  # noqa: DTZ003
