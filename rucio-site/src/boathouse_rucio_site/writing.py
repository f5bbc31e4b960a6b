"""Registration of replicas and of new collections, with the checks for which the policy is told too little."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rucio.common.constants import DEFAULT_VO
from rucio.common.exception import AccessDenied
from rucio.common.types import InternalAccount
from rucio.db.sqla.constants import DatabaseOperationType
from rucio.db.sqla.session import db_session
from rucio.gateway import did, replica

from boathouse_rucio_site.permission import is_admin, why_not_attach, why_not_register

_stock_add_did = did.add_did
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
        AccessDenied: a file is in a scope into which the account may not write, or its path is outside of the scope.
    """
    known = list(files)
    _require_writable(issuer, rse, known, vo)
    _stock_add_replicas(rse=rse, files=known, issuer=issuer, ignore_availability=ignore_availability, vo=vo)


def update_replicas_states(rse: str, files: Iterable[dict[str, Any]], issuer: str, vo: str = DEFAULT_VO) -> None:
    """Replaces ``rucio.gateway.replica.update_replicas_states``.

    Raises:
        AccessDenied: a file is in a scope into which the account may not write.
    """
    known = list(files)
    _require_writable(issuer, rse, known, vo)
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
        who = InternalAccount(issuer, vo=vo)
        with db_session(DatabaseOperationType.READ) as session:
            if not is_admin(who, session=session):
                refusal = why_not_attach(who, [{"dids": dids, "rse": rse}], session=session)
                if refusal is not None:
                    raise AccessDenied(f"Account {issuer} can not attach that. {refusal}")
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


def _require_writable(issuer: str, rse: str, files: list[dict[str, Any]], vo: str) -> None:
    account = InternalAccount(issuer, vo=vo)
    with db_session(DatabaseOperationType.READ) as session:
        if is_admin(account, session=session):
            return
        refusal = why_not_register(account, rse, files, session=session)
        if refusal is not None:
            raise AccessDenied(f"Account {issuer} can not register files there. {refusal}")
