"""Changes of replicas, metadata and new collections, with the checks for which the policy is told too little."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import flask
from rucio.common.constants import DEFAULT_VO
from rucio.common.exception import AccessDenied
from rucio.common.types import InternalAccount, InternalScope
from rucio.db.sqla.constants import DatabaseOperationType
from rucio.db.sqla.session import db_session
from rucio.gateway import did, replica

from boathouse_rucio_site.permission import (
    is_admin,
    why_not_attach,
    why_not_change,
    why_not_change_state,
    why_not_register,
)

_stock_add_did = did.add_did
_stock_delete_metadata = did.delete_metadata
_stock_set_metadata = did.set_metadata
_stock_set_metadata_bulk = did.set_metadata_bulk
_stock_add_replicas = replica.add_replicas
_stock_update_replicas_states = replica.update_replicas_states


def add_replicas(
    rse: str,
    files: Iterable[dict[str, Any]],
    issuer: str,
    ignore_availability: bool = False,  # noqa: FBT001, FBT002 - Rucio's signature
    vo: str = DEFAULT_VO,
) -> None:
    """Replaces ``rucio.gateway.replica.add_replicas``.

    Raises:
        AccessDenied: a file is in a scope into which the account may not write, its path is outside of the scope, or it
            is to have a state that is not for people.
    """
    known = list(files)
    account = InternalAccount(issuer, vo=vo)
    _require(account, "register files there", lambda session: why_not_register(account, rse, known, session=session))
    _stock_add_replicas(rse=rse, files=known, issuer=issuer, ignore_availability=ignore_availability, vo=vo)


def update_replicas_states(rse: str, files: Iterable[dict[str, Any]], issuer: str, vo: str = DEFAULT_VO) -> None:
    """Replaces ``rucio.gateway.replica.update_replicas_states``.

    Raises:
        AccessDenied: a file is in a scope into which the account may not write, belongs to somebody else, or is to have
            another state than available.
    """
    known = list(files)
    account = InternalAccount(issuer, vo=vo)
    _require(account, "change replicas there", lambda session: why_not_change_state(account, known, session=session))
    _stock_update_replicas_states(rse=rse, files=known, issuer=issuer, vo=vo)


def add_did(  # noqa: PLR0917 - Rucio's signature
    scope: str,
    name: str,
    did_type: str,
    issuer: str,
    account: str | None = None,
    statuses: dict[str, str] | None = None,
    meta: dict[str, str] | None = None,
    rules: Sequence[dict[str, Any]] | None = None,
    lifetime: str | None = None,
    dids: Sequence[dict[str, Any]] | None = None,
    rse: str | None = None,
    vo: str = DEFAULT_VO,
) -> None:
    """Replaces ``rucio.gateway.did.add_did``.

    Raises:
        AccessDenied: the account may not attach or register what the new collection is to hold.
    """
    if dids:
        who, content = InternalAccount(issuer, vo=vo), {"dids": dids, "rse": rse}
        _require(who, "attach that", lambda session: why_not_attach(who, [content], session=session))
    _stock_add_did(
        scope=scope,
        name=name,
        did_type=did_type,
        issuer=issuer,
        account=account,
        statuses=statuses,
        meta=meta,
        rules=rules,
        lifetime=lifetime,
        dids=dids,
        rse=rse,
        vo=vo,
    )


def set_metadata(  # noqa: PLR0917 - Rucio's signature
    scope: str,
    name: str,
    key: str,
    value: Any,
    issuer: str,
    recursive: bool = False,  # noqa: FBT001, FBT002 - Rucio's signature
    vo: str = DEFAULT_VO,
) -> None:
    """Replaces ``rucio.gateway.did.set_metadata``.

    Raises:
        AccessDenied: somebody who does not administer the lake wants to change what the DID holds as well.
    """
    _require_flat(InternalAccount(issuer, vo=vo), recursive=recursive)
    _stock_set_metadata(scope=scope, name=name, key=key, value=value, issuer=issuer, recursive=recursive, vo=vo)


def set_metadata_bulk(  # noqa: PLR0917 - Rucio's signature
    scope: str,
    name: str,
    meta: dict[str, Any],
    issuer: str,
    recursive: bool = False,  # noqa: FBT001, FBT002 - Rucio's signature
    vo: str = DEFAULT_VO,
) -> None:
    """Replaces ``rucio.gateway.did.set_metadata_bulk``.

    Raises:
        AccessDenied: as :func:`set_metadata`.
    """
    _require_flat(InternalAccount(issuer, vo=vo), recursive=recursive)
    _stock_set_metadata_bulk(scope=scope, name=name, meta=meta, issuer=issuer, recursive=recursive, vo=vo)


def delete_metadata(scope: str, name: str, key: str, vo: str = DEFAULT_VO) -> None:
    """Replaces ``rucio.gateway.did.delete_metadata``, which is not told who asks.

    Raises:
        AccessDenied: the DID belongs to somebody else.
    """
    account, of = InternalAccount(flask.request.environ["issuer"], vo=vo), InternalScope(scope, vo=vo)
    what = "change its metadata"
    _require(account, "delete metadata", lambda session: why_not_change(account, of, name, what, session=session))
    _stock_delete_metadata(scope=scope, name=name, key=key, vo=vo)


def _require_flat(account: Any, *, recursive: bool) -> None:
    if recursive:
        reason = "Only administrators may change what it holds as well."
        _require(account, "set metadata recursively", lambda _: reason)


def _require(account: Any, what: str, why_not: Callable[[Any], str | None]) -> None:
    """Refuse people something for a reason; administrators are not asked.

    Raises:
        AccessDenied: there is a reason.
    """
    with db_session(DatabaseOperationType.READ) as session:
        refusal = None if is_admin(account, session=session) else why_not(session)
    if refusal is not None:
        raise AccessDenied(f"Account {account.external} can not {what}. {refusal}")
